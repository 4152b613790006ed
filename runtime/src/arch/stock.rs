//! The network's steps as ggml's own operations. Positions and views of the cache are part of the graph, so each batch gets a
//! new one; weights of types that this ggml lacks are widened to f32 once.
use super::emit::{self, Emit, ExpertWeights};
use super::{Engine, EngineError, Head};
use crate::ggml::{Backend, Builder, GgmlError, Graph, Region, Tensor};
use crate::kv::{KvCache, KvType};
use crate::model::{Ffn, Model, Weight};
use crate::rope::Scaling;
use qwren_quant::block::codec;
use qwren_quant::dtype::DType;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use zerocopy::{FromBytes, IntoBytes};

type Result<T> = std::result::Result<T, GgmlError>;

/// The cache of one layer.
struct Cache {
    /// `[ctx, kv_heads * head_dim]`
    k: Rc<Region>,
    /// `[kv_heads * head_dim, ctx]`: transposed, so that a row meets the attention weights.
    v: Rc<Region>,
}

/// Computes a session's batches with ggml's own operations, on one thread.
pub struct StockEngine<'m> {
    model: &'m Model,
    ctx: usize,
    type_k: DType,
    type_v: DType,
    cache: Vec<Cache>,
    /// Weights by name, as f32.
    widened: HashMap<&'m str, Rc<Region>>,
    /// The last batch's graph, for its results.
    last: Option<(Graph<'m, ()>, Vec<Tensor>)>,
    backend: Backend,
}

/// The type of a cache. Values are kept transposed, so that a position's lie apart: no format in blocks.
fn dtype(kind: KvType) -> Result<DType> {
    match kind {
        KvType::F32 => Ok(DType::F32),
        KvType::F16 => Ok(DType::F16),
        KvType::Q8_0 => Err(GgmlError::Cache(kind.name())),
    }
}

impl<'m> StockEngine<'m> {
    /// An engine with an empty cache of `ctx` positions.
    ///
    /// # Errors
    /// When there is no memory, or when the model has something that ggml's own operations can't do.
    pub fn new(model: &'m Model, ctx: usize, type_k: KvType, type_v: KvType) -> Result<StockEngine<'m>> {
        let hp = model.hparams();
        if hp.rope.scaling != Scaling::None {
            return Err(GgmlError::RopeScaling);
        }
        let (k, v) = (dtype(type_k)?, dtype(type_v)?);
        let bytes = |kind: KvType| {
            let elements = ctx.checked_mul(hp.kv_heads * hp.head_dim).ok_or(GgmlError::Memory)?;
            usize::try_from(kind.bytes(elements as u64)).map_err(|_| GgmlError::Memory)
        };
        let zeros = |kind| Region::new(bytes(kind)?, |_| ());
        let cache =
            (0..hp.layers).map(|_| Ok(Cache { k: zeros(type_k)?, v: zeros(type_v)? })).collect::<Result<_>>()?;
        let mut widened = HashMap::new();
        for weight in weights(model).filter(|w| w.info.dtype == DType::BF16) {
            widened.insert(weight.info.name.as_str(), widen(model, weight)?);
        }
        Ok(StockEngine { model, ctx, type_k: k, type_v: v, cache, widened, last: None, backend: Backend::new()? })
    }

    /// Runs layers; the results wait in `self.last`.
    fn run(
        &mut self,
        range: Range<usize>,
        start: usize,
        x: &[f32],
        every: bool,
        stop: &AtomicBool,
    ) -> std::result::Result<(), EngineError> {
        let hp = self.model.hparams();
        let (n, layers) = (x.len() / hp.hidden, self.model.layers());
        let kv = start + n;
        let each = 96 + 4 * hp.moe.as_ref().map_or(0, |m| m.used);
        let mut b = Builder::new(layers.len() * each + 16)?;
        let input = b.input([hp.hidden, n])?;
        let (pos, mask) = (b.input_i32(n)?, b.input([kv, n])?);
        let mut e = Stock { engine: self, b, n, start, pos, mask };
        let outputs = emit::layers(&mut e, layers, range, input, every)?;
        let mut graph = e.b.finish(&outputs)?;
        graph.input(input).copy_from_slice(x);
        graph.input_i32(pos).iter_mut().zip(start..).for_each(|(p, at)| *p = at as i32);
        for (t, row) in graph.input(mask).chunks_exact_mut(kv).enumerate() {
            let (seen, hidden) = row.split_at_mut(start + t + 1);
            seen.fill(0.0);
            hidden.fill(f32::NEG_INFINITY);
        }
        graph.compute(&mut self.backend, &mut (), stop)?;
        self.last = Some((graph, outputs));
        Ok(())
    }

    fn results(&self) -> impl Iterator<Item = &[f32]> {
        self.last.iter().flat_map(|(graph, outputs)| outputs.iter().map(|&t| graph.output(t)))
    }
}

/// All matrices that graphs use.
fn weights(model: &Model) -> impl Iterator<Item = &Weight> {
    let layers = model.layers().iter().flat_map(|l| {
        let ffn: Vec<&Weight> = match &l.ffn {
            Ffn::Dense { gate, up, down } => vec![gate, up, down],
            Ffn::Experts { router, gate, up, down } => vec![router, gate, up, down],
        };
        [&l.q, &l.k, &l.v, &l.o].into_iter().chain(ffn)
    });
    layers.chain([model.output()])
}

fn widen(model: &Model, weight: &Weight) -> Result<Rc<Region>> {
    let codec = codec(weight.info.dtype).ok_or(GgmlError::Type(weight.info.dtype.name()))?;
    let elements = weight.count * weight.rows * weight.cols;
    let fill = |bytes: &mut [u8]| {
        // A map starts on a page and holds whole floats.
        if let Ok(out) = <[f32]>::mut_from_bytes(bytes) {
            codec.dequantize(model.bytes(weight), out);
        }
    };
    Region::new(elements.checked_mul(4).ok_or(GgmlError::Memory)?, fill)
}

impl Engine for StockEngine<'_> {
    fn layers(
        &mut self,
        range: Range<usize>,
        start: usize,
        x: &[f32],
        stop: &AtomicBool,
    ) -> std::result::Result<&[f32], EngineError> {
        self.run(range, start, x, false, stop)?;
        Ok(self.results().next().unwrap_or(&[]))
    }

    fn every_layer(
        &mut self,
        range: Range<usize>,
        start: usize,
        x: &[f32],
        stop: &AtomicBool,
    ) -> std::result::Result<Vec<Vec<f32>>, EngineError> {
        self.run(range, start, x, true, stop)?;
        Ok(self.results().map(<[f32]>::to_vec).collect())
    }

    fn kv(&self) -> Option<&KvCache> {
        None
    }

    fn kv_mut(&mut self) -> Option<&mut KvCache> {
        None
    }

    fn head(&mut self, x: &[f32], stop: &AtomicBool) -> std::result::Result<Head<'_>, EngineError> {
        let model = self.model;
        let n = x.len() / model.hparams().hidden;
        let mut b = Builder::new(16)?;
        let input = b.input([model.hparams().hidden, n])?;
        // The end of the network has neither positions nor a mask.
        let mut e = Stock { engine: self, b, n, start: 0, pos: input, mask: input };
        let (normed, logits) = emit::head(&mut e, model, input)?;
        let mut graph = e.b.finish(&[normed, logits])?;
        graph.input(input).copy_from_slice(x);
        graph.compute(&mut self.backend, &mut (), stop)?;
        self.last = Some((graph, vec![normed, logits]));
        let mut results = self.results();
        let mut next = || results.next().unwrap_or(&[]);
        Ok(Head { normed: next(), logits: next() })
    }
}

/// Builds the graph of one batch.
struct Stock<'e, 'm> {
    engine: &'e StockEngine<'m>,
    b: Builder<'m, ()>,
    n: usize,
    start: usize,
    /// `[n]`
    pos: Tensor,
    /// `[n, start + n]`: 0 where a token may look, −∞ elsewhere
    mask: Tensor,
}

impl<'m> Stock<'_, 'm> {
    fn weight(&mut self, w: &'m Weight) -> Result<Tensor> {
        let ne = [w.cols, w.rows, w.count];
        match self.engine.widened.get(w.info.name.as_str()) {
            Some(region) => self.b.region(region, DType::F32, ne),
            None => self.b.weight(w.info.dtype, ne, self.engine.model.bytes(w)),
        }
    }

    /// `x` over the root of its rows' mean square, times `weight`.
    fn norm(&mut self, x: Tensor, weight: &'m [f32]) -> Result<Tensor> {
        let w = self.b.weight(DType::F32, [weight.len(), 1, 1], weight.as_bytes())?;
        let x = self.b.rms_norm(x, self.engine.model.hparams().rms_eps)?;
        self.b.mul(x, w)
    }

    /// RoPE on `x` `[head_dim, heads, n]`.
    fn turn(&mut self, x: Tensor) -> Result<Tensor> {
        let rope = &self.engine.model.hparams().rope;
        self.b.rope(x, self.pos, rope.theta as f32, rope.pairing)
    }
}

// Shapes here are ggml's: columns first.
impl<'m> Emit<'m> for Stock<'_, 'm> {
    fn rms_norm(&mut self, x: Tensor, weight: &'m [f32]) -> Result<Tensor> {
        self.norm(x, weight)
    }

    fn project<const N: usize>(&mut self, weights: [&'m Weight; N], x: Tensor) -> Result<[Tensor; N]> {
        let mut out = [x; N];
        for (y, w) in out.iter_mut().zip(weights) {
            let w = self.weight(w)?;
            *y = self.b.mul_mat(w, x)?;
        }
        Ok(out)
    }

    fn norm_rope(&mut self, x: Tensor, weight: &'m [f32]) -> Result<Tensor> {
        let (head_dim, heads) = (weight.len(), self.b.shape(x)?[0] / weight.len());
        let x = self.b.reshape(x, [head_dim, heads, self.n])?;
        let x = self.norm(x, weight)?;
        self.turn(x) // [head_dim, heads, n]
    }

    fn rope(&mut self, x: Tensor) -> Result<Tensor> {
        let head_dim = self.engine.model.hparams().head_dim;
        let heads = self.b.shape(x)?[0] / head_dim;
        let x = self.b.reshape(x, [head_dim, heads, self.n])?;
        self.turn(x) // [head_dim, heads, n]
    }

    fn attention(&mut self, layer: usize, q: Tensor, k: Tensor, v: Tensor) -> Result<Tensor> {
        let (hp, engine, n, start) = (self.engine.model.hparams(), self.engine, self.n, self.start);
        let (hd, width, ctx, kv) = (hp.head_dim, hp.kv_heads * hp.head_dim, engine.ctx, start + n);
        let b = &mut self.b;
        let kc = b.region(&engine.cache[layer].k, engine.type_k, [width, ctx, 1])?;
        let vc = b.region(&engine.cache[layer].v, engine.type_v, [ctx, width, 1])?;

        // The writes come before the reads because they are put into the graph first: no edge says so.
        let to = b.view(kc, [hd, hp.kv_heads, n], [hd, width], start * width)?;
        let write = b.copy(k, to)?;
        b.expand(write)?;
        let to = b.view(vc, [n, width, 1], [ctx, ctx * width], start)?;
        let turned = b.transpose(v)?;
        let write = b.copy(turned, to)?;
        b.expand(write)?;

        let q = b.swap_12(q)?; //                                        [head_dim, n, heads]
        let keys = b.view(kc, [hd, kv, hp.kv_heads], [width, hd], 0)?; // [head_dim, kv, kv_heads]
        let scores = b.mul_mat(keys, q)?; //                             [kv, n, heads]
        let probs = b.soft_max(scores, Some(self.mask), 1.0 / (hd as f32).sqrt())?;
        let values = b.view(vc, [kv, hd, hp.kv_heads], [ctx, ctx * hd], 0)?; // [kv, head_dim, kv_heads]
        let a = b.mul_mat(values, probs)?; //                            [head_dim, n, heads]
        let a = b.swap_12(a)?; //                                        [head_dim, heads, n]
        let a = b.cont(a)?;
        b.reshape(a, [hp.heads * hd, n, 1])
    }

    fn project_add(&mut self, weight: &'m Weight, x: Tensor, residual: Tensor) -> Result<Tensor> {
        let [y] = self.project([weight], x)?;
        self.b.add(y, residual)
    }

    fn swiglu(&mut self, gate: &'m Weight, up: &'m Weight, x: Tensor) -> Result<Tensor> {
        let [g, u] = self.project([gate, up], x)?;
        let g = self.b.silu(g)?;
        self.b.mul(g, u)
    }

    fn experts(&mut self, w: ExpertWeights<'m>, h: Tensor, residual: Tensor) -> Result<Tensor> {
        let (n, hidden) = (self.n, self.engine.model.hparams().hidden);
        let (used, norm) = self.engine.model.hparams().moe.as_ref().map_or((1, false), |m| (m.used, m.norm_weights));
        let [scores] = self.project([w.router], h)?; //                  [experts, n]
        let probs = self.b.soft_max(scores, None, 1.0)?;
        let ids = self.b.top_k(probs, used)?; //                         [used, n]
        let mut weights = self.b.pick(probs, ids)?; //                   [used, n]
        if norm {
            let sum = self.b.sum_rows(weights)?;
            weights = self.b.div(weights, sum)?;
        }
        let (gate, up, down) = (self.weight(w.gate)?, self.weight(w.up)?, self.weight(w.down)?);
        let b = &mut self.b;
        let weights = b.reshape(weights, [1, used, n])?;
        let h = b.reshape(h, [hidden, 1, n])?;
        let g = b.mul_mat_id(gate, h, ids)?; //                          [moe_ff, used, n]
        let u = b.mul_mat_id(up, h, ids)?;
        let g = b.silu(g)?;
        let m = b.mul(g, u)?;
        let y = b.mul_mat_id(down, m, ids)?; //                          [hidden, used, n]
        let y = b.mul(y, weights)?;
        let mut sum = residual;
        for i in 0..used {
            let part = b.view(y, [hidden, n, 1], [hidden * used, hidden * used * n], i * hidden)?;
            sum = b.add(part, sum)?;
        }
        Ok(sum)
    }
}
