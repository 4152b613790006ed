//! The finished table, read back by our own reader and then by an independent one.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use gguf_rs::{ByteOrder, GGUFContainer};
use qwren_quant::gguf::Header;

use crate::error::Problem;
use crate::plan::Plan;

/// Array elements that gguf-rs keeps of each key; it reads past the rest.
const KEPT: u64 = 1;

/// Compares keys and tensor table of file `file` of the plan, which lies at `path`, with the plan.
///
/// gguf-rs trusts more than it should: it sees the file only after our own reader accepted it.
pub(super) fn verify(plan: &Plan, file: usize, path: &Path) -> Result<(), Problem> {
    ours(plan, file, path).and_then(|()| theirs(plan, file, path)).map_err(Problem::Verify)
}

/// The header alone, not a map of the file: that would need as much address space as the model is large.
fn ours(plan: &Plan, file: usize, path: &Path) -> Result<(), String> {
    let layout = &plan.files[file].layout;
    let mut read = File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = vec![0; layout.header.len()];
    read.read_exact(&mut bytes).map_err(|e| e.to_string())?;
    let file_len = read.seek(std::io::SeekFrom::End(0)).map_err(|e| e.to_string())?;
    if bytes != layout.header || file_len != layout.file_bytes {
        return Err(format!("{file_len} bytes instead of {}, or another header", layout.file_bytes));
    }
    let header = Header::parse(&bytes, file_len).map_err(|e| e.to_string())?;
    let same = header.metadata().eq(plan.keys_of(file));
    if !same || header.tensors() != layout.tensors || header.data_offset != layout.data_offset {
        return Err("keys or tensor table differ".to_owned());
    }
    Ok(())
}

fn theirs(plan: &Plan, file: usize, path: &Path) -> Result<(), String> {
    let layout = &plan.files[file].layout;
    let mut read = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut magic = [0; 4];
    read.read_exact(&mut magic).map_err(|e| e.to_string())?;
    let mut container = GGUFContainer::new(ByteOrder::LE, Box::new(read), KEPT);
    let model = container.decode().map_err(|e| format!("gguf-rs: {e}"))?;
    if &magic != b"GGUF" || model.data_offset() != layout.data_offset {
        return Err("gguf-rs finds the data elsewhere".to_owned());
    }
    if model.num_kv() != plan.keys_of(file).count() as u64 || model.tensors().len() != layout.tensors.len() {
        return Err("gguf-rs counts otherwise".to_owned());
    }
    if let Some((key, _)) = plan.keys_of(file).find(|(key, _)| !model.metadata().contains_key(*key)) {
        return Err(format!("gguf-rs lacks the key {key}"));
    }
    for (read, planned) in model.tensors().iter().zip(&layout.tensors) {
        let same = read.name == planned.name
            && read.shape == planned.shape
            && read.kind == planned.dtype.ggml_id()
            && read.offset == planned.offset;
        if !same {
            return Err(format!("gguf-rs reads tensor {} as {read:?}", planned.name));
        }
    }
    Ok(())
}
