//! A lean runtime for Qwen3 GGUF files.

pub mod repeat;
pub mod sampler;
pub mod stream;
pub mod template;
pub mod terminal;
pub mod thinking;
pub mod vocab;
