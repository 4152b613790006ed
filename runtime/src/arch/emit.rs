//! What the architectures share: the steps of which their layers are made ([`Emit`]), the walk over the layers, and the
//! end of the network. Shapes: `n` tokens; rows are tokens, `[n, width]`.
use super::{llama, qwen3};
use crate::ggml::{GgmlError, Tensor};
use crate::model::{Ffn, Layer, Model, Weight};
use std::ops::Range;

pub(super) type Result<T> = std::result::Result<T, GgmlError>;

/// The experts of a layer.
#[derive(Clone, Copy)]
pub struct ExpertWeights<'m> {
    /// `[experts, hidden]`
    pub router: &'m Weight,
    /// `[experts, moe_ff, hidden]`
    pub gate: &'m Weight,
    /// `[experts, moe_ff, hidden]`
    pub up: &'m Weight,
    /// `[experts, hidden, moe_ff]`
    pub down: &'m Weight,
}

/// Turns the steps of the network into nodes of a graph.
pub trait Emit<'m> {
    /// `x / √(mean x² + ε) * weight`, row by row.
    fn rms_norm(&mut self, x: Tensor, weight: &'m [f32]) -> Result<Tensor>;

    /// `W x` for several matrices that share their input.
    fn project<const N: usize>(&mut self, weights: [&'m Weight; N], x: Tensor) -> Result<[Tensor; N]>;

    /// The norm over each head of `x` `[n, heads * head_dim]`, then RoPE at the token's position.
    fn norm_rope(&mut self, x: Tensor, weight: &'m [f32]) -> Result<Tensor>;

    /// RoPE at the token's position on each head of `x` `[n, heads * head_dim]`.
    fn rope(&mut self, x: Tensor) -> Result<Tensor>;

    /// Puts k and v into the layer's cache, then `softmax(q kᵀ / √head_dim) v` over all positions up to each token's own.
    fn attention(&mut self, layer: usize, q: Tensor, k: Tensor, v: Tensor) -> Result<Tensor>;

    /// `W x + residual`.
    fn project_add(&mut self, weight: &'m Weight, x: Tensor, residual: Tensor) -> Result<Tensor>;

    /// `silu(gate x) * (up x)`.
    fn swiglu(&mut self, gate: &'m Weight, up: &'m Weight, x: Tensor) -> Result<Tensor>;

    /// Each token's best experts by `softmax(router h)`: `Σ weight · down (silu(gate h) * (up h)) + residual`.
    fn experts(&mut self, weights: ExpertWeights<'m>, h: Tensor, residual: Tensor) -> Result<Tensor>;
}

/// The second half of a layer: `x + feed-forward(rms_norm(x))`.
pub(super) fn feed_forward<'m>(e: &mut impl Emit<'m>, l: &'m Layer, x: Tensor) -> Result<Tensor> {
    let h = e.rms_norm(x, &l.ffn_norm)?; //                        [n, hidden]
    match &l.ffn {
        Ffn::Dense { gate, up, down } => {
            let m = e.swiglu(gate, up, h)?; //                     [n, ff]
            e.project_add(down, m, x) //                           [n, hidden]
        }
        Ffn::Experts { router, gate, up, down } => {
            e.experts(ExpertWeights { router, gate, up, down }, h, x) // [n, hidden]
        }
    }
}

/// Those of `layers` in `range`, from `x` `[n, hidden]` on: the residual stream after the last one, or after every one.
pub fn layers<'m>(
    e: &mut impl Emit<'m>,
    layers: &'m [Layer],
    range: Range<usize>,
    x: Tensor,
    every: bool,
) -> Result<Vec<Tensor>> {
    let mut outputs = Vec::new();
    let mut last = x;
    let end = range.end;
    for (i, l) in layers.iter().enumerate().take(end).skip(range.start) {
        last = match &l.qk_norm {
            Some(norm) => qwen3::layer(e, i, l, norm, last)?,
            None => llama::layer(e, i, l, last)?,
        };
        if every || i + 1 == end {
            outputs.push(last);
        }
    }
    Ok(outputs)
}

/// The end of the network: the final norm of `x` `[n, hidden]` and the logits `[n, vocab]`.
pub fn head<'m>(e: &mut impl Emit<'m>, model: &'m Model, x: Tensor) -> Result<(Tensor, Tensor)> {
    let h = e.rms_norm(x, model.output_norm())?; //                [n, hidden]
    let [logits] = e.project([model.output()], h)?; //             [n, vocab]
    Ok((h, logits))
}
