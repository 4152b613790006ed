//! The GGUF form: tensors `NAME.in_sum2` `[experts, cols]` and `NAME.counts` `[experts, 1]`, both float32.

use std::collections::BTreeMap;

use super::{Counts, ENTRIES_CAP, Entry, Floats, Imatrix, ImatrixError, ReadAt};
use crate::dtype::DType;
use crate::gguf::{Array, HEADER_CAP, Header, Quoted, TensorInfo, Value};

pub(super) const SUMS: &str = ".in_sum2";
pub(super) const COUNTS: &str = ".counts";
pub(super) const DATASETS_KEY: &str = "imatrix.datasets";
pub(super) const CHUNK_COUNT_KEY: &str = "imatrix.chunk_count";

/// The table of a file that starts with GGUF's magic.
pub(super) fn read<S: ReadAt>(source: S, len: u64) -> Result<Imatrix<S>, ImatrixError> {
    let mut start = vec![0; len.min(HEADER_CAP as u64) as usize];
    source.read_exact_at(&mut start, 0)?;
    let header = Header::parse(&start, len)?;
    drop(start);

    let mut pairs = BTreeMap::<&str, [Option<&TensorInfo>; 2]>::new();
    for t in header.tensors() {
        if let Some(name) = t.name.strip_suffix(SUMS) {
            pairs.entry(name).or_default()[0] = Some(t);
        } else if let Some(name) = t.name.strip_suffix(COUNTS) {
            pairs.entry(name).or_default()[1] = Some(t);
        }
    }
    if pairs.is_empty() {
        return Err(ImatrixError::NotImatrix { found: "a GGUF file without a tensor NAME.in_sum2" });
    }
    if pairs.len() > ENTRIES_CAP {
        return Err(ImatrixError::Count { what: "the number of entries".into(), value: pairs.len() as i64 });
    }
    let entries = pairs.iter().map(|(name, pair)| entry(&header, name, pair)).collect::<Result<_, _>>()?;
    let datasets = match header.get(DATASETS_KEY) {
        Some(Value::Array(Array::String(texts))) => texts.clone(),
        _ => Vec::new(),
    };
    let chunks = header.u32(CHUNK_COUNT_KEY)?.unwrap_or(0);
    Ok(Imatrix { source, entries, datasets, chunks })
}

fn entry(header: &Header, name: &str, pair: &[Option<&TensorInfo>; 2]) -> Result<Entry, ImatrixError> {
    let floats = |t: &TensorInfo| Floats { at: header.data_offset + t.offset, len: t.bytes / 4 };
    match *pair {
        [Some(sums), Some(counts)] if sums.dtype == DType::F32 && counts.dtype == DType::F32 => {
            let (sums, counts) = (floats(sums), floats(counts));
            if sums.len.is_multiple_of(counts.len) {
                return Ok(Entry { name: name.to_owned(), sums, counts: Counts::Stored(counts) });
            }
        }
        _ => {}
    }
    Err(ImatrixError::Unpaired { name: Quoted::new(name) })
}
