//! The memory that a run needs.

use qwren::kv::KvType;
use qwren::model::Hparams;
use qwren::session::{DEFAULT_CTX, WORK_BYTES};
use qwren_quant::gguf::GgufFile;
use serde::Serialize;

/// Bytes for a context of some length. A full cache is counted, though it is taken as it fills.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Tokens in the context.
    pub context: usize,
    /// The mapped file.
    pub file_bytes: u64,
    /// The cache in 16-bit floats, the default.
    pub cache_f16_bytes: u64,
    /// The cache in 8-bit integers.
    pub cache_q8_0_bytes: u64,
    /// The cache in 32-bit floats.
    pub cache_f32_bytes: u64,
    /// Tokenizer and scratch, at most.
    pub work_bytes: u64,
}

impl Memory {
    /// For `ctx` tokens; see [`Args`](super::Args). Text: why the file can't run here.
    pub fn new(file: &GgufFile, ctx: Option<usize>) -> Result<Memory, String> {
        let hparams = Hparams::read(file.header()).map_err(|why| why.to_string())?;
        let trained = hparams.ctx_train;
        let context = match ctx {
            None => DEFAULT_CTX.min(trained),
            Some(0) => trained,
            Some(n) => n,
        };
        let cache = |kind: KvType| hparams.kv_bytes_per_position(kind, kind).saturating_mul(context as u64);
        Ok(Memory {
            context,
            file_bytes: file.file_len(),
            cache_f16_bytes: cache(KvType::F16),
            cache_q8_0_bytes: cache(KvType::Q8_0),
            cache_f32_bytes: cache(KvType::F32),
            work_bytes: WORK_BYTES,
        })
    }
}
