//! The network as ggml graphs.
//!
//! * [`qwen3`], [`llama`]: what a layer computes, once
//! * [`emit`]: the steps that they are made of, and what they share
//! * [`fused`]: its steps as our own operations (the default)
//! * [`stock`]: its steps as ggml's own operations (`--stock-ops`), a second opinion
pub mod emit;
pub mod fused;
pub mod llama;
pub mod qwen3;
pub mod stock;

use crate::ggml::{Fault, GgmlError};
use crate::kv::KvCache;
use crate::ops::fed::Fed;
use crate::ops::moe::Choice;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

/// Why a batch wasn't evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The graph could not be built.
    #[error(transparent)]
    Ggml(#[from] GgmlError),
    /// Its computation stopped.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Computes graphs for one session: it owns the KV cache, and the positions it writes to are the caller's choice.
pub trait Engine {
    /// Runs the layers of `range`, which must not be empty, on the residual stream `x` `[n, hidden]` before them, of tokens at
    /// positions from `start` on, which must be in the context. Gives the stream after them, `[n, hidden]`.
    fn layers(
        &mut self,
        range: Range<usize>,
        start: usize,
        x: &[f32],
        stop: &AtomicBool,
    ) -> Result<&[f32], EngineError>;

    /// As [`Engine::layers`], giving the residual stream after each layer.
    fn every_layer(
        &mut self,
        range: Range<usize>,
        start: usize,
        x: &[f32],
        stop: &AtomicBool,
    ) -> Result<Vec<Vec<f32>>, EngineError>;

    /// The cache, where it is ours.
    fn kv(&self) -> Option<&KvCache>;

    /// The cache, where it is ours, to be filled from elsewhere.
    fn kv_mut(&mut self) -> Option<&mut KvCache>;

    /// The final norm of rows `x` `[n, hidden]` of the residual stream, and their logits `[n, vocab]`.
    fn head(&mut self, x: &[f32], stop: &AtomicBool) -> Result<Head<'_>, EngineError>;

    /// Sums what the matrices are fed from now on. The sums come back where this engine can't do it.
    fn watch(&mut self, fed: Fed) -> Result<(), Fed> {
        Err(fed)
    }

    /// Which experts tokens go to, where the layers have any and the operations are ours.
    fn choice(&mut self) -> Option<&mut Choice> {
        None
    }

    /// What was summed so far, where somebody asked for it.
    fn fed(&self) -> Option<&Fed> {
        None
    }
}

/// What [`Engine::head`] gives.
pub struct Head<'a> {
    /// `[n, hidden]`
    pub normed: &'a [f32],
    /// `[n, vocab]`
    pub logits: &'a [f32],
}
