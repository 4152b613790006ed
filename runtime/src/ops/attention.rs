//! Causal attention with grouped queries: `softmax(q kᵀ / √head_dim) v`, with an exact softmax, over the KV cache.
use super::State;
use super::crew::sized;
use crate::ggml::{Fault, Io, Op, Tiles};
use crate::kv::{Head, HeadMut};
use qwren_quant::kernel::VecOps;
use std::ops::Range;

/// From q `[n, heads * head_dim]`, k and v `[n, kv_heads * head_dim]` to `[n, heads * head_dim]`. Writes k and v to the
/// layer's cache at the batch's positions first.
pub struct Attention {
    /// The layer whose cache it uses.
    pub layer: usize,
    /// Query heads for each KV head; query head `h` reads KV head `h / group`.
    pub group: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

/// Tokens that share a pass over the keys and values: with the query heads of their KV head enough rows to make good use of
/// a block of keys in the L1 cache, and scores for them that stay in the L2 cache up to some thousand positions.
const TOKENS: usize = 8;

/// Positions in a block of keys or values: 64 of 128 f16 are 16 KiB, half an L1 cache.
const BLOCK: usize = 64;

impl Op<State> for Attention {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        let Attention { group, head_dim, .. } = *self;
        let (q, k, v) = (io.src(0), io.src(1), io.src(2));
        self.store(st, &io, k, v)?;
        let kv = &st.kv.layers[self.layer];
        let kv_heads = kv.k.heads();
        let width = kv_heads * group * head_dim;
        let n = q.len() / width;
        let bands = (0..n).step_by(TOKENS).chain([n]).collect();
        let tiles = Tiles::new(io.dst, width, bands, group * head_dim);
        let (vec, start) = (st.vec, st.start);
        let scale = 1.0 / (head_dim as f32).sqrt();
        st.crew.tiles(io.stop, &[tiles], |scratch, _, mut tile| {
            let (tokens, cols) = (tile.rows(), tile.cols());
            let head = cols.start / cols.len();
            let (keys, values) = (kv.k.head(head), kv.v.head(head));
            // A row is a query: a token's heads, then the next token's. Each sees the positions up to its own; `common` ones
            // are seen by all.
            let rows = tokens.len() * group;
            let (common, most) = (start + tokens.start + 1, start + tokens.end);
            let scores = sized(&mut scratch.a, rows * most);
            let buffers = sized(&mut scratch.b, rows * (2 * head_dim + BLOCK));
            let (queries, buffers) = buffers.split_at_mut(rows * head_dim);
            let (sums, block) = buffers.split_at_mut(rows * head_dim);

            for (t, to) in queries.chunks_exact_mut(cols.len()).enumerate() {
                let from = &q[(tokens.start + t) * width + cols.start..][..cols.len()];
                to.iter_mut().zip(from).for_each(|(y, x)| *y = x * scale);
            }
            for piece in pieces(rows, group, common, most) {
                let queries = &queries[piece.rows.start * head_dim..piece.rows.end * head_dim];
                let block = &mut block[..piece.rows.len() * piece.positions.len()];
                dots(vec, keys, piece.positions.clone(), queries, head_dim, block);
                for (row, block) in piece.rows.clone().zip(block.chunks_exact(piece.positions.len())) {
                    scores[row * most..][piece.positions.clone()].copy_from_slice(block);
                }
            }
            for row in 0..rows {
                vec.softmax(&mut scores[row * most..][..common + row / group]);
            }
            sums.fill(0.0);
            for piece in pieces(rows, group, common, most) {
                let block = &mut block[..piece.rows.len() * piece.positions.len()];
                for (row, block) in piece.rows.clone().zip(block.chunks_exact_mut(piece.positions.len())) {
                    block.copy_from_slice(&scores[row * most..][piece.positions.clone()]);
                }
                let sums = &mut sums[piece.rows.start * head_dim..piece.rows.end * head_dim];
                add_weighted(vec, values, piece.positions, block, head_dim, sums);
            }
            for (t, sums) in sums.chunks_exact(cols.len()).enumerate() {
                tile.row_mut(t).copy_from_slice(sums);
            }
        })
    }
}

/// Some rows that all see some positions.
struct Piece {
    rows: Range<usize>,
    positions: Range<usize>,
}

/// Cuts what `rows` see: blocks of the first `common` positions, which all do, then for each token (`group` rows) those that
/// are left up to its own.
fn pieces(rows: usize, group: usize, common: usize, most: usize) -> impl Iterator<Item = Piece> {
    let blocks =
        (0..common).step_by(BLOCK).map(move |b| Piece { rows: 0..rows, positions: b..(b + BLOCK).min(common) });
    let own = (common + 1..=most).map(move |end| {
        let token = end - common;
        Piece { rows: token * group..(token + 1) * group, positions: common..end }
    });
    blocks.chain(own)
}

impl Attention {
    /// Writes the batch's keys and values to the cache.
    fn store(&self, st: &mut State, io: &Io<'_>, k: &[f32], v: &[f32]) -> Result<(), Fault> {
        let (head_dim, start) = (self.head_dim, st.start);
        let layer = &mut st.kv.layers[self.layer];
        let heads: Vec<_> = layer.k.heads_mut().into_iter().zip(layer.v.heads_mut()).enumerate().collect();
        let width = heads.len() * head_dim;
        let n = k.len() / width;
        let vec = st.vec;
        let put = |(h, (mut keys, mut values)): (usize, (HeadMut<'_>, HeadMut<'_>))| {
            for t in 0..n {
                let from = t * width + h * head_dim..t * width + (h + 1) * head_dim;
                let to = (start + t) * head_dim..(start + t + 1) * head_dim;
                for (head, x) in [(&mut keys, &k[from.clone()]), (&mut values, &v[from])] {
                    match head {
                        HeadMut::F32(head) => head[to.clone()].copy_from_slice(x),
                        HeadMut::F16(head) => vec.f32_to_f16(x, &mut head[to.clone()]),
                    }
                }
            }
        };
        if n == 1 {
            // Not worth waking anybody.
            heads.into_iter().for_each(put);
            return Ok(());
        }
        st.crew.items(io.stop, heads.into_iter(), |_, head| put(head))
    }
}

/// `out[j, i] = ⟨key i of the span, query j⟩`
fn dots(vec: &VecOps, keys: Head<'_>, span: Range<usize>, queries: &[f32], dim: usize, out: &mut [f32]) {
    let span = span.start * dim..span.end * dim;
    match keys {
        Head::F32(k) => vec.dots_f32(&k[span], dim, queries, dim, out),
        Head::F16(k) => vec.dots_f16(&k[span], dim, queries, dim, out),
    }
}

/// `sums[j] += Σ weights[j, i] · value i of the span`, in the order of positions.
fn add_weighted(vec: &VecOps, values: Head<'_>, span: Range<usize>, weights: &[f32], dim: usize, sums: &mut [f32]) {
    let span = span.start * dim..span.end * dim;
    match values {
        Head::F32(v) => vec.weighted_rows_f32(&v[span], dim, weights, dim, sums),
        Head::F16(v) => vec.weighted_rows_f16(&v[span], dim, weights, dim, sums),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_what_each_row_sees_in_order() {
        // 3 tokens of 2 heads after 70 positions.
        let mut seen = vec![0; 6];
        for piece in pieces(6, 2, 71, 73) {
            assert!(piece.positions.len() <= BLOCK && !piece.positions.is_empty());
            for row in piece.rows {
                assert_eq!(seen[row], piece.positions.start);
                seen[row] = piece.positions.end;
            }
        }
        assert_eq!(seen, [71, 71, 72, 72, 73, 73]);
    }
}
