//! Cuts a GGUF file into parts as llama.cpp's gguf-split does.
use std::fs::File;
use std::path::{Path, PathBuf};

use qwren_quant::gguf::{GgufFile, Plan, TensorInfo, Writer};

/// Writes `file` as `count` parts `NAME-00001-of-…` into `dir`, tensors shared out evenly in their order; gives the paths.
///
/// # Panics
/// When something can't be read or written.
pub fn split(file: &Path, dir: &Path, name: &str, count: usize) -> Vec<PathBuf> {
    let file = GgufFile::open(file).expect("a sound file");
    let tensors = file.header().tensors();
    let write = |(no, part): (usize, &[TensorInfo])| {
        let path = dir.join(format!("{name}-{:05}-of-{count:05}.gguf", no + 1));
        let mut plan = Plan::new(32);
        if no == 0 {
            file.header().metadata().for_each(|(key, value)| plan.push_kv(key, value.clone()));
        }
        plan.push_kv("split.no", no as u16);
        plan.push_kv("split.count", count as u16);
        plan.push_kv("split.tensors.count", tensors.len() as i32);
        for t in part {
            plan.push_tensor(&t.name, &t.shape, t.dtype).expect("a sound tensor");
        }
        let layout = plan.layout().expect("a sound plan");
        let mut out = Writer::new(File::create(&path).expect("a new file"), &layout).expect("a writable file");
        for t in part {
            out.write(file.data(t)).expect("a writable file");
            out.end_tensor().expect("a writable file");
        }
        out.finish().expect("a writable file");
        path
    };
    let parts: Vec<PathBuf> = tensors.chunks(tensors.len().div_ceil(count)).enumerate().map(write).collect();
    assert_eq!(parts.len(), count, "the tensors don't fill {count} parts");
    parts
}
