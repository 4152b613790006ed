//! Helpers shared by the tests that drive the programs and the public interfaces.
pub mod cli;
pub mod fixtures;
pub mod generated;
pub mod ggml;
pub mod models;
pub mod offload;
pub mod programs;
pub mod pty;
pub mod safetensors;
pub mod split;
pub mod tiny;
pub mod tokenizer;

pub use fixtures::{converted, data, qwen3_tokenizer, reference_checkpoints, smollm2, target_dir};
pub use programs::bin;
