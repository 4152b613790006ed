//! A lean runtime for Qwen3 GGUF files.

pub mod template;
pub mod terminal;
pub mod vocab;
