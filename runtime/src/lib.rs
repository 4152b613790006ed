//! A lean runtime for Qwen3 GGUF files.

pub mod arch;
pub mod ggml;
pub mod kv;
pub mod machine;
pub mod model;
pub mod ops;
pub mod pool;
pub mod repeat;
pub mod rope;
pub mod sampler;
pub mod session;
pub mod stream;
pub mod template;
pub mod terminal;
pub mod thinking;
pub mod vocab;
