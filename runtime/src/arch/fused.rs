//! The network's steps as our own operations. Positions and the cache live in [`State`], not in the graph, so a graph serves
//! every batch of its size.
use super::emit::{self, Emit, ExpertWeights};
use super::{Engine, EngineError, Head};
use crate::ggml::{Backend, Builder, GgmlError, Graph, Tensor};
use crate::kv::KvCache;
use crate::machine;
use crate::model::{Model, Weight};
use crate::ops::State;
use crate::ops::attention::Attention;
use crate::ops::fed::{Fed, Watch};
use crate::ops::linear::{Mat, Project, ProjectAdd};
use crate::ops::mlp::SwiGlu;
use crate::ops::moe::{Choice, Experts};
use crate::ops::norm::{NormRope, RmsNorm, Rotate};
use crate::session::Threads;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

type Result<T> = std::result::Result<T, GgmlError>;

/// Graphs that are kept: for decoding, and for the last other size of batch, whose activations take tens of megabytes.
const KEPT: usize = 2;

/// A graph for batches of `n` tokens.
struct Sized<'m> {
    n: usize,
    /// The layers that it computes.
    range: Range<usize>,
    graph: Graph<'m, State>,
    x: Tensor,
    outputs: Vec<Tensor>,
}

/// Computes a session's batches with our own operations.
pub struct FusedEngine<'m> {
    model: &'m Model,
    /// The file is larger than the memory: ask for what is needed next.
    ahead: bool,
    threads: Threads,
    state: State,
    /// Most recently used last.
    bodies: Vec<Sized<'m>>,
    heads: Vec<Sized<'m>>,
    backend: Backend,
}

impl<'m> FusedEngine<'m> {
    /// An engine that works on `state`.
    ///
    /// # Errors
    /// When ggml gives no backend.
    pub fn new(model: &'m Model, state: State, threads: Threads) -> Result<FusedEngine<'m>> {
        let ahead = !machine::has_room_for(model.gguf().file_len());
        Ok(FusedEngine {
            model,
            ahead,
            threads,
            state,
            bodies: Vec::new(),
            heads: Vec::new(),
            backend: Backend::new()?,
        })
    }

    fn emitter(&self, n: usize, tensors: usize) -> Result<Fused<'m, '_>> {
        Ok(Fused { engine: self, n, b: Builder::new(tensors)? })
    }

    fn body(&self, range: Range<usize>, n: usize, every: bool) -> Result<Sized<'m>> {
        let layers = self.model.layers();
        // At most 11 nodes and views a layer, and 4 that sum.
        let mut e = self.emitter(n, layers.len() * 16 + 8)?;
        let x = e.b.input([self.model.hparams().hidden, n])?;
        let outputs = emit::layers(&mut e, layers, range.clone(), x, every)?;
        Ok(Sized { n, range, graph: e.b.finish(&outputs)?, x, outputs })
    }

    fn tail(&self, n: usize) -> Result<Sized<'m>> {
        let mut e = self.emitter(n, 8)?;
        let x = e.b.input([self.model.hparams().hidden, n])?;
        let (normed, logits) = emit::head(&mut e, self.model, x)?;
        Ok(Sized { n, range: 0..0, graph: e.b.finish(&[normed, logits])?, x, outputs: vec![normed, logits] })
    }

    /// Moves the graph of these layers for `n` tokens, if it was kept, to the end.
    fn recall(list: &mut Vec<Sized<'m>>, range: &Range<usize>, n: usize) -> bool {
        if let Some(i) = list.iter().position(|s| s.n == n && s.range == *range) {
            list[i..].rotate_left(1);
            return true;
        }
        if list.len() == KEPT {
            // The decoding graph is small and always needed again.
            let victim = if list[0].n == 1 { 1 } else { 0 };
            list.remove(victim);
        }
        false
    }

    fn set_batch(&mut self, start: usize, n: usize) {
        let threads = if n == 1 { self.threads.decode } else { self.threads.prefill };
        self.state.crew.set_active(threads);
        self.state.start = start;
    }
}

impl Engine for FusedEngine<'_> {
    fn layers(
        &mut self,
        range: Range<usize>,
        start: usize,
        x: &[f32],
        stop: &AtomicBool,
    ) -> std::result::Result<&[f32], EngineError> {
        let n = x.len() / self.model.hparams().hidden;
        self.set_batch(start, n);
        self.state.angles.set(start, n);
        if !Self::recall(&mut self.bodies, &range, n) {
            self.bodies.push(self.body(range, n, false)?);
        }
        let i = self.bodies.len() - 1;
        let body = &mut self.bodies[i];
        body.graph.input(body.x).copy_from_slice(x);
        body.graph.compute(&mut self.backend, &mut self.state, stop)?;
        Ok(body.graph.output(body.outputs[0]))
    }

    fn every_layer(
        &mut self,
        range: Range<usize>,
        start: usize,
        x: &[f32],
        stop: &AtomicBool,
    ) -> std::result::Result<Vec<Vec<f32>>, EngineError> {
        let n = x.len() / self.model.hparams().hidden;
        self.set_batch(start, n);
        self.state.angles.set(start, n);
        let mut body = self.body(range, n, true)?;
        body.graph.input(body.x).copy_from_slice(x);
        body.graph.compute(&mut self.backend, &mut self.state, stop)?;
        Ok(body.outputs.iter().map(|&t| body.graph.output(t).to_vec()).collect())
    }

    fn kv(&self) -> Option<&KvCache> {
        Some(&self.state.kv)
    }

    fn kv_mut(&mut self) -> Option<&mut KvCache> {
        Some(&mut self.state.kv)
    }

    fn head(&mut self, x: &[f32], stop: &AtomicBool) -> std::result::Result<Head<'_>, EngineError> {
        let n = x.len() / self.model.hparams().hidden;
        self.set_batch(self.state.start, n);
        if !Self::recall(&mut self.heads, &(0..0), n) {
            self.heads.push(self.tail(n)?);
        }
        let i = self.heads.len() - 1;
        let tail = &mut self.heads[i];
        tail.graph.input(tail.x).copy_from_slice(x);
        tail.graph.compute(&mut self.backend, &mut self.state, stop)?;
        Ok(Head { normed: tail.graph.output(tail.outputs[0]), logits: tail.graph.output(tail.outputs[1]) })
    }

    fn watch(&mut self, fed: Fed) -> std::result::Result<(), Fed> {
        self.state.fed = Some(fed);
        // Graphs without nodes that sum.
        self.bodies.clear();
        self.heads.clear();
        Ok(())
    }

    fn choice(&mut self) -> Option<&mut Choice> {
        self.model.hparams().moe.is_some().then_some(&mut self.state.moe.choice)
    }

    fn fed(&self) -> Option<&Fed> {
        self.state.fed.as_ref()
    }
}

/// Builds a graph for batches of `n` tokens.
struct Fused<'m, 'e> {
    engine: &'e FusedEngine<'m>,
    n: usize,
    b: Builder<'m, State>,
}

impl<'m> Fused<'m, '_> {
    fn mat(&self, weight: &'m Weight) -> Mat<'m> {
        Mat::one(self.engine.model, weight, self.engine.state.level)
    }

    /// The number of the entry in which what `weight` is fed is summed, if anybody asked for it.
    fn watched(&self, weight: &Weight) -> Option<usize> {
        self.engine.state.fed.as_ref()?.find(weight)
    }

    /// Sums what `weight`, and all that share its input, are fed, if anybody asked for it.
    fn watch(&mut self, weight: &Weight, x: Tensor) -> Result<()> {
        let Some(entry) = self.watched(weight) else { return Ok(()) };
        let node = self.b.custom(&[x], [1, 1], Watch { entry, cols: weight.cols })?;
        // Nothing needs its result, so it is named.
        self.b.expand(node)
    }
}

impl<'m> Emit<'m> for Fused<'m, '_> {
    fn rms_norm(&mut self, x: Tensor, weight: &'m [f32]) -> Result<Tensor> {
        let eps = self.engine.model.hparams().rms_eps;
        self.b.custom(&[x], [weight.len(), self.n], RmsNorm { weight, eps })
    }

    fn project<const N: usize>(&mut self, weights: [&'m Weight; N], x: Tensor) -> Result<[Tensor; N]> {
        self.watch(weights[0], x)?;
        let mats = weights.map(|w| self.mat(w)).to_vec();
        let width: usize = weights.iter().map(|w| w.rows).sum();
        // One product after the other, so that each is contiguous: not a row of all of them for each token.
        let all = self.b.custom(&[x], [width, self.n], Project { mats })?;
        let mut parts = [all; N];
        let mut offset = 0;
        for (part, w) in parts.iter_mut().zip(weights).filter(|_| N > 1) {
            *part = self.b.part(all, offset, [w.rows, self.n])?;
            offset += w.rows * self.n;
        }
        Ok(parts)
    }

    fn norm_rope(&mut self, x: Tensor, weight: &'m [f32]) -> Result<Tensor> {
        let width = self.b.shape(x)?[0];
        let (eps, heads) = (self.engine.model.hparams().rms_eps, width / weight.len());
        self.b.custom(&[x], [width, self.n], NormRope { weight, eps, heads })
    }

    fn rope(&mut self, x: Tensor) -> Result<Tensor> {
        let width = self.b.shape(x)?[0];
        self.b.custom(&[x], [width, self.n], Rotate { head_dim: self.engine.model.hparams().head_dim, width })
    }

    fn attention(&mut self, layer: usize, q: Tensor, k: Tensor, v: Tensor) -> Result<Tensor> {
        let hp = self.engine.model.hparams();
        let op = Attention { layer, group: hp.heads / hp.kv_heads, head_dim: hp.head_dim };
        self.b.custom(&[q, k, v], [hp.heads * hp.head_dim, self.n], op)
    }

    fn project_add(&mut self, weight: &'m Weight, x: Tensor, residual: Tensor) -> Result<Tensor> {
        self.watch(weight, x)?;
        let mat = self.mat(weight);
        self.b.custom(&[x, residual], [weight.rows, self.n], ProjectAdd { mat })
    }

    fn swiglu(&mut self, gate: &'m Weight, up: &'m Weight, x: Tensor) -> Result<Tensor> {
        self.watch(gate, x)?;
        let op = SwiGlu { gate: self.mat(gate), up: self.mat(up) };
        self.b.custom(&[x], [gate.rows, self.n], op)
    }

    fn experts(&mut self, w: ExpertWeights<'m>, h: Tensor, residual: Tensor) -> Result<Tensor> {
        let hp = self.engine.model.hparams();
        let (used, norm_weights) = hp.moe.as_ref().map_or((0, false), |m| (m.used, m.norm_weights));
        self.watch(w.router, h)?;
        let watched = self.watched(w.gate).zip(self.watched(w.down)).map(|(first, second)| [first, second]);
        let all = |weight| Mat::all(self.engine.model, weight, self.engine.state.level);
        let (gate, up, down) = (all(w.gate), all(w.up), all(w.down));
        let ahead = self.engine.ahead.then(|| self.engine.model.gguf());
        let op = Experts { router: self.mat(w.router), gate, up, down, used, norm_weights, ahead, watched };
        self.b.custom(&[h, residual], [hp.hidden, self.n], op)
    }
}
