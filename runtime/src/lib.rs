//! A lean runtime for Qwen3 GGUF files.

pub mod terminal;
