//! Model architectures: which stored tensor becomes which GGUF tensor, and the keys that describe the model.

pub mod qwen3;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::Config;
use crate::decode::Encoding;
use crate::error::Error;

/// A tensor of the output and where its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// GGUF name.
    pub name: String,
    /// Number of the layer; `None` for tensors outside of the layers.
    pub layer: Option<u32>,
    /// Dimensions in ggml's order: `[cols]`, `[cols, rows]` or `[cols, rows, experts]`.
    pub shape: Vec<u64>,
    /// Stored rows, which follow each other in the output.
    pub parts: Vec<Part>,
}

/// Consecutive rows of one stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Index in [`Checkpoint::tensors`] of the stored tensor that holds the weights themselves.
    pub tensor: usize,
    /// The first row, with all dimensions but the last flattened.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// How they are stored.
    pub encoding: Encoding,
}

impl Target {
    /// Length of a row.
    pub fn cols(&self) -> u64 {
        self.shape[0]
    }

    /// Elements of the tensor. Shapes were compared with stored tensors, so that the product can't overflow.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A checkpoint's tensors under their GGUF names.
#[derive(Debug)]
pub struct Mapped {
    /// Sorted as llama-quantize writes them: outside of the layers first, then by layer, then by name.
    pub targets: Vec<Target>,
    /// Width of an attention head, settled by config.json and shapes.
    pub head_dim: u32,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

/// Maps a checkpoint's tensors; `tie` drops the output matrix in favour of the embedding.
///
/// # Errors
/// A tensor is missing, unknown, or of another shape or type than config.json implies.
pub fn map(checkpoint: &Checkpoint, config: &Config, tie: bool) -> Result<Mapped, Error> {
    qwen3::map(checkpoint, config, tie)
}
