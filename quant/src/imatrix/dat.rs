//! The older form. All numbers are little-endian and 32 bits wide: the number of entries; for each the length of its name, the
//! name, calls, the number of values, values (mean squares times calls); then, if the writer was not too old, the calls of
//! all and the name of the text.

use super::{Counts, ENTRIES_CAP, Entry, Floats, Imatrix, ImatrixError, ReadAt, cut_off};
use crate::gguf::{GgufError, recognise};

/// Longest name of a matrix, as of a GGUF tensor.
const NAME_CAP: i64 = 255;
/// Longest name of a text.
const DATASET_CAP: i64 = 64 << 10;
/// The fewest bytes of an entry: length, one letter, calls, number of values, one value.
const LEAST_ENTRY: u64 = 4 + 1 + 4 + 4 + 4;

/// The table of a file that doesn't start with GGUF's magic.
pub(super) fn read<S: ReadAt>(source: S, len: u64) -> Result<Imatrix<S>, ImatrixError> {
    let mut cursor = Cursor { source: &source, at: 0, len };
    let count = match cursor.number("the number of entries") {
        Ok(n) if (1..=ENTRIES_CAP as i64).contains(&n) && n as u64 <= cursor.left() / LEAST_ENTRY => n,
        _ => return Err(not_this(&source, len)),
    };
    let mut entries = Vec::new();
    for i in 1..=count as usize {
        entries.push(cursor.entry(i)?);
    }
    let (mut chunks, mut datasets) = (0, Vec::new());
    if cursor.left() > 0 {
        chunks = cursor.within("the number of calls", 0..=i64::from(i32::MAX))? as u32;
    }
    if cursor.left() > 0 {
        let len = cursor.within("the length of the text's name", 0..=DATASET_CAP)?;
        let name = cursor.bytes(len as usize, || "the text's name".into())?;
        if !name.is_empty() {
            // A path, and for people to read.
            datasets.push(String::from_utf8_lossy(&name).into_owned());
        }
    }
    match cursor.left() {
        0 => Ok(Imatrix { source, entries, datasets, chunks }),
        rest => Err(ImatrixError::Rest(rest)),
    }
}

/// What a file is whose first number can't be right.
fn not_this(source: &impl ReadAt, len: u64) -> ImatrixError {
    let mut start = vec![0; len.min(1024) as usize];
    if source.read_exact_at(&mut start, 0).is_ok()
        && let e @ GgufError::LfsPointer { .. } = recognise(&start)
    {
        return e.into();
    }
    ImatrixError::NotImatrix { found: "neither a GGUF file nor one of the older form" }
}

struct Cursor<'s, S> {
    source: &'s S,
    at: u64,
    len: u64,
}

impl<S: ReadAt> Cursor<'_, S> {
    fn left(&self) -> u64 {
        self.len - self.at
    }

    fn skip(&mut self, bytes: u64, what: impl FnOnce() -> String) -> Result<u64, ImatrixError> {
        if bytes > self.left() {
            return Err(cut_off(what()));
        }
        self.at += bytes;
        Ok(self.at - bytes)
    }

    fn bytes(&mut self, n: usize, what: impl FnOnce() -> String) -> Result<Vec<u8>, ImatrixError> {
        let at = self.skip(n as u64, what)?;
        let mut bytes = vec![0; n];
        self.source.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn number(&mut self, what: &str) -> Result<i64, ImatrixError> {
        let at = self.skip(4, || what.to_owned())?;
        let mut bytes = [0; 4];
        self.source.read_exact_at(&mut bytes, at)?;
        Ok(i32::from_le_bytes(bytes).into())
    }

    fn within(&mut self, what: &str, range: std::ops::RangeInclusive<i64>) -> Result<i64, ImatrixError> {
        match self.number(what)? {
            n if range.contains(&n) => Ok(n),
            value => Err(ImatrixError::Count { what: what.to_owned(), value }),
        }
    }

    /// Entry number `i`, from 1.
    fn entry(&mut self, i: usize) -> Result<Entry, ImatrixError> {
        let len = self.within(&format!("the length of the name of entry {i}"), 1..=NAME_CAP)?;
        let name = self.bytes(len as usize, || format!("the name of entry {i}"))?;
        let name = String::from_utf8(name).map_err(|_| ImatrixError::Name(i))?;
        let calls = self.within(&format!("the calls of entry {i}"), 0..=i64::from(i32::MAX))?;
        let values = self.within(&format!("the number of values of entry {i}"), 1..=i64::from(i32::MAX))? as u64;
        let at = self.skip(values * 4, || format!("the values of entry {i}"))?;
        // Without calls the values are taken as they are, as llama-quantize takes them.
        let counts = Counts::All(if calls > 0 { calls as f32 } else { 1.0 });
        Ok(Entry { name, sums: Floats { at, len: values }, counts })
    }
}
