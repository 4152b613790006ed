//! Runs of qwren with a program in the place of qwren-gpu.
use std::path::Path;
use std::process::Command;

use crate::cli::{Run, qwren, run};

/// `qwren COMMAND -m MODEL ARGS…` with `program` as its qwren-gpu.
pub fn with_gpu(program: &Path, command: &str, model: &Path, args: &[&str]) -> Command {
    let mut c = qwren([command]);
    c.arg("-m").arg(model).args(args).env("QWREN_GPU", program);
    c
}

/// Runs `qwren logits` for some tokens; gives the array's bytes and how the run went.
///
/// # Panics
/// When it fails.
pub fn logits(mut command: Command, ids: &[u32]) -> (Vec<u8>, Run) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("logits.npy");
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    command.arg("--ids").arg(ids.join(",")).arg("-o").arg(&file);
    let ended = run(command, "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    (std::fs::read(file).expect("an array"), ended)
}

/// What a run told on stderr, line by line, but for what ggml says of its memory in builds for debugging.
pub fn told(ended: &Run) -> Vec<&str> {
    ended.stderr.lines().filter(|line| !line.starts_with("ggml_")).collect()
}

/// The floats of an array that `qwren logits` wrote.
pub fn floats(npy: &[u8]) -> Vec<f32> {
    let header = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    npy[header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
