//! What the layers compute, as a graph of ggml's operations. Shapes in ggml's order, columns first; `n` tokens, `kv` positions.
use crate::ggml::{self, Context, Graph, Kept, RopeParams, Tensor};
use crate::layers::OnDevice;
use half::f16;
use qwren_offload::message::Shape;

/// Nodes of a layer at most, and of a layer's experts for each that a token uses.
const NODES: usize = 64;
const NODES_EXPERT: usize = 2;

/// How the layers are computed.
pub struct Plan {
    /// Sizes.
    pub shape: Shape,
    /// Attention in one operation, where the device takes it.
    pub flash: bool,
}

/// A graph for batches of `n` tokens that see `kv` positions.
pub struct Built {
    /// Which layers, tokens, positions.
    pub key: (usize, usize, usize, usize),
    /// The graph.
    pub graph: Graph,
    x: Kept,
    positions: Kept,
    rows: Kept,
    mask: Kept,
    y: Kept,
    /// The experts that tokens go to, I32 `[used, n]`, where one layer is computed and has some.
    experts: Option<Kept>,
    // Last, since the others live in it.
    _context: Context,
}

impl Built {
    /// Fills the inputs for tokens `x` `[hidden, n]` at positions from `start` on.
    pub fn fill(&self, start: usize, x: &[f32]) {
        let (_, _, n, kv) = self.key;
        let at = start..start + n;
        self.x.set_floats(x);
        self.positions.set(0, &le(at.clone().map(|p| (p as i32).to_le_bytes())));
        self.rows.set(0, &le(at.map(|p| (p as i64).to_le_bytes())));
        let seen = |i: usize| if i % kv <= start + i / kv { f16::ZERO } else { f16::NEG_INFINITY };
        self.mask.set(0, &le((0..n * kv).map(|i| seen(i).to_le_bytes())));
    }

    /// Reads the result.
    pub fn read(&self, y: &mut [f32]) {
        self.y.get_floats(y);
    }

    /// Reads the numbers of the experts that tokens went to.
    pub fn read_experts(&self) -> Vec<u32> {
        let Some(experts) = self.experts else { return Vec::new() };
        let mut bytes = vec![0; experts.bytes()];
        experts.get(0, &mut bytes);
        bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
    }
}

fn le<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    values.flatten().collect()
}

impl Plan {
    /// The graph of `layers`, of which the first is layer `first`.
    pub fn build(&self, layers: &[OnDevice], first: usize, n: usize, kv: usize) -> Built {
        let nodes = layers.len() * (NODES + NODES_EXPERT * self.shape.experts_used) + 16;
        let c = Context::new(nodes);
        let graph = c.graph(nodes);
        let x = c.input(ggml::F32, [self.shape.hidden, n, 1]);
        let positions = c.input(ggml::I32, [n, 1, 1]);
        let rows = c.input(ggml::I64, [n, 1, 1]);
        let mask = c.input(ggml::F16, [kv, n, 1]);
        let step = Step { plan: self, c: &c, graph: &graph, n, kv, positions, rows, mask };
        let (y, experts) = layers.iter().fold((x, None), |(x, _), layer| step.layer(layer, x));
        graph.output(y);
        // A copy and last, so that the graph before it is the same as without.
        let experts = experts.filter(|_| layers.len() == 1).map(|experts| c.cont(experts).keep());
        experts.into_iter().for_each(|experts| graph.output(experts));
        let key = (first, first + layers.len(), n, kv);
        let [x, positions, rows, mask, y] = [x, positions, rows, mask, y].map(Tensor::keep);
        Built { key, graph, x, positions, rows, mask, y, experts, _context: c }
    }

    fn rope(&self) -> RopeParams {
        let rope = &self.shape.rope;
        // ggml multiplies by this on its own under YaRN.
        let own = if rope.ext_factor == 0.0 { 1.0 } else { 1.0 + 0.1 * (1.0 / rope.scale).ln() };
        RopeParams {
            neighbours: rope.neighbours,
            head_dim: self.shape.head_dim,
            original_ctx: rope.original_ctx,
            theta: rope.theta,
            scale: rope.scale,
            ext_factor: rope.ext_factor,
            attn_factor: rope.magnitude / own,
            beta: (rope.beta_fast, rope.beta_slow),
        }
    }
}

/// A graph in the making.
struct Step<'c> {
    plan: &'c Plan,
    c: &'c Context,
    graph: &'c Graph,
    n: usize,
    kv: usize,
    positions: Tensor<'c>,
    rows: Tensor<'c>,
    mask: Tensor<'c>,
}

impl<'c> Step<'c> {
    /// From the residual stream `x` `[hidden, n]` to the next, and the experts that were chosen.
    fn layer(&self, l: &OnDevice, x: Tensor<'c>) -> (Tensor<'c>, Option<Tensor<'c>>) {
        let (c, s) = (self.c, &self.plan.shape);
        let rope = self.plan.rope();
        let h = c.rms_norm(x, l.norms.attn, s.rms_eps); //                                    [hidden, n]
        let heads = |w, count| c.reshape(c.mul_mat(w, h), [s.head_dim, count, self.n]); //    [head_dim, count, n]
        let normed = |x, norm: Option<Kept>| norm.map_or(x, |norm| c.rms_norm(x, norm, s.rms_eps));
        let turned = |x, norm| c.rope(normed(x, norm), self.positions, &rope);
        let [norm_q, norm_k] = l.norms.heads.map_or([None; 2], |norms| norms.map(Some));
        let q = turned(heads(l.q, s.heads), norm_q);
        let k = turned(heads(l.k, s.kv_heads), norm_k);
        let v = c.mul_mat(l.v, h); //                                                         [kv_heads * head_dim, n]
        let a = self.attention(l, q, k, v); //                                                [heads * head_dim, n]
        let x = c.add(c.mul_mat(l.o, a), x); //                                               [hidden, n]
        let h = c.rms_norm(x, l.norms.ffn, s.rms_eps);
        let (added, experts) = match l.router {
            None => (c.mul_mat(l.down, c.swiglu(c.mul_mat(l.gate, h), c.mul_mat(l.up, h))), None),
            Some(router) => self.experts(l, router, h),
        };
        (c.add(added, x), experts)
    }

    /// Puts k and v into the cache, and looks at all of it up to each token's own position.
    fn attention(&self, l: &OnDevice, q: Tensor<'c>, k: Tensor<'c>, v: Tensor<'c>) -> Tensor<'c> {
        let (c, s) = (self.c, &self.plan.shape);
        let width = s.kv_heads * s.head_dim;
        self.graph.add(c.set_rows(l.cache_k, c.reshape(k, [width, self.n, 1]), self.rows));
        self.graph.add(c.set_rows(l.cache_v, v, self.rows));
        let k = c.heads(l.cache_k, s.head_dim, self.kv, s.kv_heads); //                       [head_dim, kv, kv_heads]
        let v = c.heads(l.cache_v, s.head_dim, self.kv, s.kv_heads);
        let q = c.permute(q, [0, 2, 1]); //                                                   [head_dim, n, heads]
        let scale = 1.0 / (s.head_dim as f32).sqrt();
        let a = if self.plan.flash {
            c.flash_attention([q, k, v], self.mask, scale) //                                 [head_dim, heads, n]
        } else {
            let p = c.soft_max(c.mul_mat(k, q), Some(self.mask), scale); //                   [kv, n, heads]
            let v = c.cont(c.permute(v, [1, 0, 2])); //                                       [kv, head_dim, kv_heads]
            c.cont(c.permute(c.mul_mat(v, p), [0, 2, 1])) //                                  [head_dim, heads, n]
        };
        c.reshape(a, [s.heads * s.head_dim, self.n, 1])
    }

    /// Each token's best experts: `Σ weight · down (silu(gate h) * (up h))`, weights from the softmax over all of them; and which
    /// they are, I32 `[used, n]`.
    fn experts(&self, l: &OnDevice, router: Kept, h: Tensor<'c>) -> (Tensor<'c>, Option<Tensor<'c>>) {
        let (c, s) = (self.c, &self.plan.shape);
        let (used, n) = (s.experts_used, self.n);
        let logits = c.mul_mat(router, h); //                                                 [experts, n]
        let probabilities = c.soft_max(logits, None, 1.0);
        let ids = c.top_k(probabilities, used); //                                            [used, n]
        let columns = c.reshape(probabilities, [1, l.experts, n]); //                       [1, experts, n]
        let weights = c.reshape(c.get_rows(columns, ids), [used, n, 1]);
        let weights = if s.norm_weights { c.div(weights, c.sum_rows(weights)) } else { weights };
        let weights = c.reshape(weights, [1, used, n]);
        let h = c.reshape(h, [s.hidden, 1, n]);
        let act = c.swiglu(c.mul_mat_id(l.gate, h, ids), c.mul_mat_id(l.up, h, ids)); //      [ff, used, n]
        let y = c.mul(c.mul_mat_id(l.down, act, ids), weights); //                            [hidden, used, n]
        let sum = (1..used).fold(c.middle(y, 0), |sum, i| c.add(sum, c.middle(y, i))); //     [hidden, n]
        (sum, Some(ids))
    }
}
