//! A lean runtime for Qwen3 GGUF files.
#![deny(unsafe_code)]

pub mod arch;
pub mod constraint;
pub mod date;
#[expect(unsafe_code, reason = "the one place that calls C")]
pub mod ggml;
pub mod gpu;
pub mod kv;
pub mod machine;
pub mod model;
pub mod ops;
#[expect(unsafe_code, reason = "lends borrowed closures to its threads")]
pub mod pool;
pub mod prompt_cache;
pub mod repeat;
pub mod rope;
pub mod sampler;
pub mod session;
pub mod stream;
pub mod template;
pub mod terminal;
pub mod thinking;
pub mod vocab;
