//! The finished table, read back by our own reader and then by an independent one.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use gguf_rs::{ByteOrder, GGUFContainer};
use qwren_quant::gguf::GgufFile;

use crate::error::Problem;
use crate::plan::Plan;

/// Array elements that gguf-rs keeps of each key; it reads past the rest.
const KEPT: u64 = 1;

/// Compares keys and tensor table of the file at `path` with the plan.
///
/// gguf-rs trusts more than it should: it sees the file only after our own reader accepted it.
pub(super) fn verify(plan: &Plan, path: &Path) -> Result<(), Problem> {
    ours(plan, path).and_then(|()| theirs(plan, path)).map_err(Problem::Verify)
}

fn ours(plan: &Plan, path: &Path) -> Result<(), String> {
    let file = GgufFile::open(path).map_err(|e| e.to_string())?;
    let header = file.header();
    let mut keys = header.metadata().zip(&plan.metadata);
    if let Some(((found, _), (key, _))) = keys.find(|((k, v), (key, value))| k != key || *v != value) {
        return Err(format!("key {key} was read as {found}, or with another value"));
    }
    if header.metadata().len() != plan.metadata.len() || header.tensors() != plan.layout.tensors {
        return Err("the tensor table differs".to_owned());
    }
    if file.file_len() != plan.layout.file_bytes || header.data_offset != plan.layout.data_offset {
        return Err(format!("{} bytes instead of {}", file.file_len(), plan.layout.file_bytes));
    }
    Ok(())
}

fn theirs(plan: &Plan, path: &Path) -> Result<(), String> {
    let mut file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut magic = [0; 4];
    file.read_exact(&mut magic).map_err(|e| e.to_string())?;
    let mut container = GGUFContainer::new(ByteOrder::LE, Box::new(file), KEPT);
    let model = container.decode().map_err(|e| format!("gguf-rs: {e}"))?;
    if &magic != b"GGUF" || model.data_offset() != plan.layout.data_offset {
        return Err("gguf-rs finds the data elsewhere".to_owned());
    }
    if model.num_kv() != plan.metadata.len() as u64 || model.tensors().len() != plan.layout.tensors.len() {
        return Err("gguf-rs counts otherwise".to_owned());
    }
    if let Some((key, _)) = plan.metadata.iter().find(|(key, _)| !model.metadata().contains_key(key)) {
        return Err(format!("gguf-rs lacks the key {key}"));
    }
    for (read, planned) in model.tensors().iter().zip(&plan.layout.tensors) {
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
