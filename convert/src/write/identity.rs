//! What decides the bytes of an output, as one digest: an unfinished output is taken up only by a run that has the same.

use qwren_quant::block;
use qwren_quant::dtype::DType;
use qwren_quant::manifest::Digest;
use sha2::{Digest as _, Sha256};

use super::TOOL;
use crate::plan::Plan;

/// The identity of what `plan` makes.
pub(super) fn of(plan: &Plan, allow_nonfinite: bool) -> Digest {
    let mut all = Fields(Sha256::new());
    all.field(TOOL.as_bytes());
    // Headers have every key, name, type, shape and offset, and so the whole tokenizer.
    for file in &plan.files {
        all.field(&file.layout.header);
    }
    all.field(format!("{:?} {allow_nonfinite}", plan.options).as_bytes());
    all.field(plan.importances.as_ref().map_or("", |all| all.sha256()).as_bytes());
    for (target, _) in &plan.tensors {
        all.field(format!("{target:?}").as_bytes());
    }
    for stored in plan.checkpoint.tensors() {
        all.field(format!("{stored:?}").as_bytes());
    }
    for (path, _, stamp) in plan.checkpoint.weight_files() {
        all.field(path.file_name().unwrap_or_default().as_encoded_bytes());
        // Without the device, whose number may be another after a restart.
        all.field(format!("{} {:?} {}", stamp.len, stamp.mtime, stamp.inode).as_bytes());
    }
    for dtype in types(plan) {
        all.field(&specimen(dtype));
    }
    Digest(all.0.finalize().into())
}

/// Every type that is written, once.
fn types(plan: &Plan) -> Vec<DType> {
    let mut types = Vec::new();
    for (_, choice) in &plan.tensors {
        if !types.contains(&choice.dtype) {
            types.push(choice.dtype);
        }
    }
    types
}

/// What the quantizer of a type makes of some values: two builds of one version may differ, and a file must not be half of
/// one and half of the other.
fn specimen(dtype: DType) -> Vec<u8> {
    let Some(codec) = block::codec(dtype) else { return Vec::new() };
    let values: Vec<f32> = (0..1024u32).map(|i| (i as f32 * 0.37).sin() * (1.0 + (i % 97) as f32)).collect();
    let mut bytes = vec![0; values.len() / dtype.block_len() * dtype.block_bytes()];
    codec.quantize(&values, &mut bytes, None);
    bytes
}

/// A digest of fields, each with its length, so that none can run into the next.
struct Fields(Sha256);

impl Fields {
    fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}
