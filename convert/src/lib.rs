//! Conversion of a Hugging Face Qwen3 checkpoint into one GGUF file.
//!
//! [`plan::Plan`] reads and checks everything but the weights and lays the file out; [`write::write`] streams the weights
//! into it.
//!
//! ```text
//! folder → checkpoint (every name, type, shape, span) → arch (GGUF names, keys) → recipe (a type each)
//!        → plan (all offsets) → write (read | decode | check | quantize | hash | sync | verify | rename)
//! ```

pub mod arch;
mod card;
pub mod checkpoint;
mod decode;
pub mod error;
pub mod glob;
pub mod importance;
mod naming;
pub mod plan;
pub mod recipe;
mod sampling;
pub mod split;
pub mod tokenizer;
pub mod write;

/// Keys of a GGUF file and their values, in file order.
pub type Keys = Vec<(String, qwren_quant::gguf::Value)>;
