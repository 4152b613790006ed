//! Layers on the device: weights read from the model's files, and the KV cache.
use crate::ggml::{self, Backend, Buffer, Context, Kept};
use qwren_offload::message::{Layer, Matrix, Open, Refusal, Shape};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Read and copied at a time.
const PIECE: usize = 8 << 20;
/// The cache is looked at in whole runs of so many positions, so that a graph serves for as long.
pub const RUN: usize = 256;

/// The norms of a layer.
#[derive(Clone, Copy)]
pub struct Norms {
    /// `[hidden]`, before attention
    pub attn: Kept,
    /// Of queries and of keys, `[head_dim]` each, where there are such.
    pub heads: Option<[Kept; 2]>,
    /// `[hidden]`, before the feed-forward part
    pub ffn: Kept,
}

/// A layer's tensors. Shapes in ggml's order, columns first.
pub struct OnDevice {
    /// Norms.
    pub norms: Norms,
    /// `[hidden, heads * head_dim]`
    pub q: Kept,
    /// `[hidden, kv_heads * head_dim]`
    pub k: Kept,
    /// `[hidden, kv_heads * head_dim]`
    pub v: Kept,
    /// `[heads * head_dim, hidden]`
    pub o: Kept,
    /// `[hidden, experts]`, where there are experts
    pub router: Option<Kept>,
    /// `[hidden, ff, experts]`
    pub gate: Kept,
    /// `[hidden, ff, experts]`
    pub up: Kept,
    /// `[ff, hidden, experts]`
    pub down: Kept,
    /// Experts: 1 without a router.
    pub experts: usize,
    /// `[kv_heads * head_dim, positions]`, after RoPE
    pub cache_k: Kept,
    /// `[kv_heads * head_dim, positions]`
    pub cache_v: Kept,
    _buffer: Buffer,
    // Last, since the tensors live in it.
    _context: Context,
}

/// Positions of a cache.
pub fn positions(ctx: usize) -> usize {
    ctx.next_multiple_of(RUN)
}

impl OnDevice {
    /// Reads a layer.
    ///
    /// # Errors
    /// There is no room, or a file can't be read or is of another shape.
    pub fn load(
        backend: &Backend,
        open: &Open,
        layer: &Layer,
        norms: &[f32],
        files: &[File],
    ) -> Result<OnDevice, Refusal> {
        let shape = &open.shape;
        check(shape, layer)?;
        let heads = if shape.qk_norm { 2 * shape.head_dim } else { 0 };
        if norms.len() != 2 * shape.hidden + heads {
            return Err(Refusal::new("a layer's norms are of another size"));
        }
        let context = Context::new(16);
        let vector = |len| context.new_tensor(ggml::F32, [len, 1, 1]).keep();
        let matrix = |m: &Matrix| context.new_tensor(m.dtype, [m.cols, m.rows, m.count]).keep();
        let cache = |dtype| context.new_tensor(dtype, [shape.kv_heads * shape.head_dim, positions(open.ctx), 1]).keep();
        let norm_tensors = Norms {
            attn: vector(shape.hidden),
            heads: shape.qk_norm.then(|| [vector(shape.head_dim), vector(shape.head_dim)]),
            ffn: vector(shape.hidden),
        };
        let (cache_k, cache_v) = (cache(open.type_k), cache(open.type_v));
        let [q, k, v, o] = [&layer.q, &layer.k, &layer.v, &layer.o].map(matrix);
        let router = layer.router.as_ref().map(matrix);
        let [gate, up, down] = [&layer.gate, &layer.up, &layer.down].map(matrix);
        let buffer = context.allot(backend).ok_or_else(|| Refusal::memory("the device has no memory for a layer"))?;
        let mut rest = norms;
        let in_order = [norm_tensors.attn].into_iter().chain(norm_tensors.heads.into_iter().flatten());
        for tensor in in_order.chain([norm_tensors.ffn]) {
            let (values, later) = rest.split_at(tensor.bytes() / size_of::<f32>());
            tensor.set_floats(values);
            rest = later;
        }
        let tensors = [q, k, v, o].into_iter().chain(router).chain([gate, up, down]);
        for (tensor, m) in tensors.zip(layer.matrices()) {
            read(tensor, m, files)?;
        }
        let norms = norm_tensors;
        Ok(OnDevice {
            norms,
            q,
            k,
            v,
            o,
            router,
            gate,
            up,
            down,
            experts: layer.gate.count,
            cache_k,
            cache_v,
            _buffer: buffer,
            _context: context,
        })
    }
}

/// Rows of the cache.
impl OnDevice {
    /// Bytes of `n` positions' keys and of their values.
    fn row_bytes(&self, ctx: usize, n: usize) -> [usize; 2] {
        [self.cache_k, self.cache_v].map(|cache| cache.bytes() / positions(ctx) * n)
    }

    /// Sets `bytes` to those of the keys, then of the values, of `range`, positions of a context of `ctx`.
    pub fn fetch(&self, ctx: usize, range: Range<usize>, bytes: &mut Vec<u8>) {
        let ([k, v], [k_start, v_start]) = (self.row_bytes(ctx, range.len()), self.row_bytes(ctx, range.start));
        bytes.resize(k + v, 0);
        let (keys, values) = bytes.split_at_mut(k);
        self.cache_k.get(k_start, keys);
        self.cache_v.get(v_start, values);
    }

    /// The reverse of [`OnDevice::fetch`]. False when there aren't as many bytes.
    pub fn store(&self, ctx: usize, range: Range<usize>, bytes: &[u8]) -> bool {
        let ([k, v], [k_start, v_start]) = (self.row_bytes(ctx, range.len()), self.row_bytes(ctx, range.start));
        if bytes.len() != k + v {
            return false;
        }
        self.cache_k.set(k_start, &bytes[..k]);
        self.cache_v.set(v_start, &bytes[k..]);
        true
    }
}

/// Whether a layer's matrices fit the model and each other: ggml ends the process where they don't.
fn check(shape: &Shape, l: &Layer) -> Result<(), Refusal> {
    let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let (ff, experts) = (l.gate.rows, l.router.as_ref().map_or(1, |r| r.rows));
    let of = |m: &Matrix, count, rows, cols| (m.count, m.rows, m.cols) == (count, rows, cols) && ggml::is_type(m.dtype);
    let right = of(&l.q, 1, q, shape.hidden)
        && of(&l.k, 1, kv, shape.hidden)
        && of(&l.v, 1, kv, shape.hidden)
        && of(&l.o, 1, shape.hidden, q)
        && l.router.as_ref().is_none_or(|r| of(r, 1, experts, shape.hidden) && shape.experts_used <= experts)
        && l.router.is_some() == (shape.experts_used > 0)
        && of(&l.gate, experts, ff, shape.hidden)
        && of(&l.up, experts, ff, shape.hidden)
        && of(&l.down, experts, shape.hidden, ff);
    if right { Ok(()) } else { Err(Refusal::new("a layer's matrices are of another shape")) }
}

/// Reads a matrix from its file.
pub fn read(tensor: Kept, m: &Matrix, files: &[File]) -> Result<(), Refusal> {
    let file = files.get(m.file).filter(|_| m.bytes == tensor.bytes() as u64);
    let file = file.ok_or_else(|| Refusal::new("a matrix is of another size"))?;
    let mut piece = vec![0; PIECE.min(tensor.bytes())];
    let mut done = 0;
    while done < tensor.bytes() {
        let now = piece.len().min(tensor.bytes() - done);
        let bytes = &mut piece[..now];
        file.read_exact_at(bytes, m.offset + done as u64)
            .map_err(|e| Refusal::new(format!("the model can't be read: {e}")))?;
        tensor.set(done, bytes);
        done += now;
    }
    Ok(())
}
