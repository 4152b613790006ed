//! The heavy operations of a layer as nodes of a ggml graph: our kernels on our threads. Activations are f32, row-major, a
//! row a token: `[n, width]`.
//!
//! Each output element is computed in one fixed order whatever the batch, the threads or the tiles, so logits are
//! bit-identical across them.
pub mod attention;
pub mod crew;
pub mod fed;
pub mod linear;
pub mod mlp;
pub mod moe;
pub mod norm;

use crate::kv::KvCache;
use crate::rope::Angles;
use qwren_quant::kernel::{Level, VecOps};

pub use crew::{Crew, Scratch};

/// What the nodes of a session share.
pub struct State {
    /// Threads and their scratch.
    pub crew: Crew,
    /// What this CPU can do.
    pub level: Level,
    /// Vector operations at that level.
    pub vec: &'static VecOps,
    /// Quantized inputs of the matrix product at hand.
    pub acts: linear::ActSets,
    /// Keys and values of the positions before this batch, and in the layers done of this batch too.
    pub kv: KvCache,
    /// Rotations for the batch's positions.
    pub angles: Angles,
    /// Position of the batch's first token.
    pub start: usize,
    /// Attention over ranges of positions, before the ranges are joined.
    pub partial: Vec<f32>,
    /// Scratch of the expert layers.
    pub moe: moe::MoeScratch,
    /// Sums over what the matrices are fed, where somebody asks for them.
    pub fed: Option<fed::Fed>,
}
