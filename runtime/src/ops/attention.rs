//! Causal attention with grouped queries over the KV cache: `softmax(q kᵀ / √head_dim) v`.
//!
//! Positions are taken in ranges of fixed bounds, as the cache keeps them. A range gives each query the largest of its scores,
//! the sum of their exponentials and the sum of the values that these weigh; ranges are joined in order. So the result is the
//! same bits whether one worker takes a head's ranges one after the other or several take some each.
use super::State;
use super::crew::{Scratch, sized};
use crate::ggml::{Fault, Io, Op, Tiles};
use crate::kv::{Head, HeadMut, KvCache, RANGE};
use qwren_quant::kernel::{Ahead, VecOps};
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
/// a block of keys in the L1 cache. Twelve tokens fill the kernels' tiles of six queries for any size of a group.
const TOKENS: usize = 12;

/// Positions in a block of keys or values: 32 of 128 f16 are 8 KiB, so that a block and the one asked for behind it
/// share an L1 cache.
const BLOCK: usize = 32;

/// Rows up to which reading the keys and values takes longer than the arithmetic, so that they are asked for ahead.
const FEW: usize = 4;

/// With fewer tiles than so many for each worker they are cut further: the last one to end would keep the others waiting.
const TILES_PER_WORKER: usize = 4;

impl Op<State> for Attention {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        let (q, k, v) = (io.src(0), io.src(1), io.src(2));
        self.store(st, &io, k, v)?;
        let mut partial = std::mem::take(&mut st.partial);
        let (start, vec) = (st.start, st.vec);
        let kv = &st.kv;
        let width = kv.heads() * self.group * self.head_dim;
        let n = q.len() / width;
        let job = Job { op: self, kv, vec, q, width, start };
        let tiles = n.div_ceil(TOKENS) * kv.heads();
        let ranges = (start + n).div_ceil(RANGE);
        // In a long batch there are tiles enough, and room for all their parts would be large.
        let result = if tiles < st.crew.active() * TILES_PER_WORKER && ranges > 1 {
            let cols = width / self.head_dim * (self.head_dim + 2);
            let parts = sized(&mut partial, ranges * n * cols);
            let bands = (0..=ranges).map(|r| r * n).collect();
            let tiles = Tiles::new(parts, cols, bands, self.group * (self.head_dim + 2));
            let done = st.crew.tiles(io.stop, &mut [tiles], |scratch, _, mut tile| {
                let (range, head) = (tile.band(), tile.cols().start / tile.cols().len());
                let mut rows = Rows::new(&job, head, 0..n, scratch);
                rows.range(range);
                for t in 0..n {
                    rows.save(t, tile.row_mut(t));
                }
            });
            done.map(|()| job.join(parts, n, cols, io.dst))
        } else {
            let bands = (0..n).step_by(TOKENS).chain([n]).collect();
            let tiles = Tiles::new(io.dst, width, bands, self.group * self.head_dim);
            st.crew.tiles(io.stop, &mut [tiles], |scratch, _, mut tile| {
                let (tokens, cols) = (tile.rows(), tile.cols());
                let mut rows = Rows::new(&job, cols.start / cols.len(), tokens.clone(), scratch);
                for range in 0..(start + tokens.end).div_ceil(RANGE) {
                    rows.range(range);
                }
                for t in 0..tokens.len() {
                    rows.finish(t, tile.row_mut(t));
                }
            })
        };
        st.partial = partial;
        result
    }
}

/// What the tiles of one run share.
struct Job<'a> {
    op: &'a Attention,
    kv: &'a KvCache,
    vec: &'static VecOps,
    /// `[n, width]`
    q: &'a [f32],
    width: usize,
    start: usize,
}

impl Job<'_> {
    /// Joins the parts `[ranges, n, heads * (head_dim + 2)]` to `out` `[n, width]`.
    fn join(&self, parts: &[f32], n: usize, cols: usize, out: &mut [f32]) {
        let dim = self.op.head_dim;
        let heads = out.chunks_exact_mut(dim).enumerate();
        for (i, out) in heads {
            let (t, head) = (i / (self.width / dim), i % (self.width / dim));
            let mut sum = Softmax::EMPTY;
            out.fill(0.0);
            for range in parts.chunks_exact(n * cols) {
                let part = &range[t * cols + head * (dim + 2)..][..dim + 2];
                sum.join(self.vec, out, Softmax { max: part[dim], sum: part[dim + 1] }, &part[..dim]);
            }
            self.vec.scale(out, 1.0 / sum.sum);
        }
    }
}

/// The largest of some scores, and the sum of the scores' exponentials over that of the largest.
#[derive(Clone, Copy, Debug)]
struct Softmax {
    max: f32,
    sum: f32,
}

impl Softmax {
    /// Of no scores.
    const EMPTY: Softmax = Softmax { max: f32::NEG_INFINITY, sum: 0.0 };

    /// Takes in the next positions, whose weighted values are `part`; `sums` are those of the positions so far.
    fn join(&mut self, vec: &VecOps, sums: &mut [f32], next: Softmax, part: &[f32]) {
        if next.sum == 0.0 {
            return;
        }
        if self.sum == 0.0 {
            *self = next;
            sums.copy_from_slice(part);
            return;
        }
        let mut factors = [self.max, next.max];
        let max = vec.max(&factors);
        vec.exp_sum(&mut factors, max);
        vec.scale(sums, factors[0]);
        vec.weighted_rows_f32(part, part.len(), &factors[1..], sums.len(), sums, None);
        *self = Softmax { max, sum: self.sum * factors[0] + next.sum * factors[1] };
    }
}

/// The queries of some tokens for one KV head. A row is a query: a token's heads, then the next token's. Each sees the
/// positions up to its token's.
struct Rows<'a> {
    job: &'a Job<'a>,
    /// The KV head.
    head: usize,
    count: usize,
    /// Positions that all rows see: those up to the first token's.
    common: usize,
    /// Scaled, `[rows, head_dim]`
    queries: &'a mut [f32],
    /// `[rows, head_dim]`, of all ranges so far
    sums: &'a mut [f32],
    /// `[rows, head_dim]`, of the range at hand
    part: &'a mut [f32],
    /// `[rows, RANGE]`
    scores: &'a mut [f32],
    /// `[rows, BLOCK]`
    block: &'a mut [f32],
    /// `[rows]`
    softmax: Vec<Softmax>,
}

impl<'a> Rows<'a> {
    fn new(job: &'a Job<'a>, head: usize, tokens: Range<usize>, scratch: &'a mut Scratch) -> Rows<'a> {
        let (dim, group) = (job.op.head_dim, job.op.group);
        let count = tokens.len() * group;
        let scores = sized(&mut scratch.a, count * RANGE);
        let (queries, rest) = sized(&mut scratch.b, count * (3 * dim + BLOCK)).split_at_mut(count * dim);
        let (sums, rest) = rest.split_at_mut(count * dim);
        let (part, block) = rest.split_at_mut(count * dim);
        let scale = 1.0 / (dim as f32).sqrt();
        for (t, to) in tokens.clone().zip(queries.chunks_exact_mut(group * dim)) {
            let from = &job.q[t * job.width + head * group * dim..][..group * dim];
            to.iter_mut().zip(from).for_each(|(y, x)| *y = x * scale);
        }
        let (common, softmax) = (job.start + tokens.start + 1, vec![Softmax::EMPTY; count]);
        Rows { job, head, count, common, queries, sums, part, scores, block, softmax }
    }

    /// Positions that row `row` sees.
    fn seen(&self, row: usize) -> usize {
        self.common + row / self.job.op.group
    }

    /// Takes in the positions of range `index`, after all ranges before it or alone.
    fn range(&mut self, index: usize) {
        let (vec, dim, group) = (self.job.vec, self.job.op.head_dim, self.job.op.group);
        let (kv, layer) = (self.job.kv, self.job.op.layer);
        let (keys, values) = (kv.keys(layer, self.head, index), kv.values(layer, self.head, index));
        let (first, end) = (index * RANGE, ((index + 1) * RANGE).min(self.seen(self.count - 1)));
        // After a block of keys comes the next one, after the last the values, after these the next head's keys.
        let ahead = |head: Head<'_>, then: Option<Ahead>, positions: &Range<usize>| {
            let next = positions.start + BLOCK;
            (self.count <= FEW).then(|| if next < end { Some(head.ahead(next - first, dim)) } else { then }).flatten()
        };
        let next_head = (self.head + 1 < kv.heads()).then(|| kv.keys(layer, self.head + 1, index).ahead(0, dim));
        for piece in pieces(self.count, group, self.common, first..end) {
            let queries = &self.queries[piece.rows.start * dim..piece.rows.end * dim];
            let len = piece.positions.len();
            let block = &mut self.block[..piece.rows.len() * len];
            let ahead = ahead(keys, Some(values.ahead(0, dim)), &piece.positions);
            dots(vec, keys, piece.within(first), queries, dim, block, ahead);
            for (row, block) in piece.rows.clone().zip(block.chunks_exact(len)) {
                self.scores[row * RANGE + piece.positions.start - first..][..len].copy_from_slice(block);
            }
        }
        let mut softmax = vec![Softmax::EMPTY; self.count];
        for (row, softmax) in softmax.iter_mut().enumerate() {
            let len = self.seen(row).min(end).saturating_sub(first);
            let scores = &mut self.scores[row * RANGE..][..len];
            let max = vec.max(scores);
            *softmax = Softmax { max, sum: vec.exp_sum(scores, max) };
        }
        self.part.fill(0.0);
        for piece in pieces(self.count, group, self.common, first..end) {
            let len = piece.positions.len();
            let block = &mut self.block[..piece.rows.len() * len];
            for (row, block) in piece.rows.clone().zip(block.chunks_exact_mut(len)) {
                block.copy_from_slice(&self.scores[row * RANGE + piece.positions.start - first..][..len]);
            }
            let part = &mut self.part[piece.rows.start * dim..piece.rows.end * dim];
            add_weighted(
                vec,
                values,
                piece.within(first),
                block,
                dim,
                part,
                ahead(values, next_head, &piece.positions),
            );
        }
        let rows = self.sums.chunks_exact_mut(dim).zip(self.part.chunks_exact(dim));
        for ((sums, part), (all, next)) in rows.zip(self.softmax.iter_mut().zip(softmax)) {
            all.join(vec, sums, next, part);
        }
    }

    /// Writes token `t`'s rows `[group, head_dim]`.
    fn finish(&self, t: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.sums[t * out.len()..][..out.len()]);
        let group = self.job.op.group;
        for (out, softmax) in out.chunks_exact_mut(self.job.op.head_dim).zip(&self.softmax[t * group..]) {
            self.job.vec.scale(out, 1.0 / softmax.sum);
        }
    }

    /// Writes token `t`'s rows to be joined: `[group, head_dim + 2]`.
    fn save(&self, t: usize, out: &mut [f32]) {
        let (dim, group) = (self.job.op.head_dim, self.job.op.group);
        for (row, out) in (t * group..(t + 1) * group).zip(out.chunks_exact_mut(dim + 2)) {
            let Softmax { max, sum } = self.softmax[row];
            out[..dim].copy_from_slice(&self.sums[row * dim..][..dim]);
            out[dim..].copy_from_slice(&[max, sum]);
        }
    }
}

/// Some rows that all see some positions.
struct Piece {
    rows: Range<usize>,
    positions: Range<usize>,
}

impl Piece {
    /// Its positions in a range that begins at `first`.
    fn within(&self, first: usize) -> Range<usize> {
        self.positions.start - first..self.positions.end - first
    }
}

/// Cuts what `rows` see of `range`: blocks of the first `common` positions, which all do, then for each token (`group` rows)
/// those that are left up to its own.
fn pieces(rows: usize, group: usize, common: usize, range: Range<usize>) -> impl Iterator<Item = Piece> {
    let (first, end) = (range.start, range.end);
    let shared = common.clamp(first, end);
    let blocks =
        (first..shared).step_by(BLOCK).map(move |b| Piece { rows: 0..rows, positions: b..(b + BLOCK).min(shared) });
    let own = (1..rows / group).map(move |token| Piece {
        rows: token * group..(token + 1) * group,
        positions: shared..(common + token).clamp(shared, end),
    });
    blocks.chain(own.filter(|piece| !piece.positions.is_empty()))
}

impl Attention {
    /// Writes the batch's keys and values to the cache.
    fn store(&self, st: &mut State, io: &Io<'_>, k: &[f32], v: &[f32]) -> Result<(), Fault> {
        let (head_dim, start, vec) = (self.head_dim, st.start, st.vec);
        let width = st.kv.heads() * head_dim;
        let end = start + k.len() / width;
        for range in start / RANGE..end.div_ceil(RANGE) {
            let first = range * RANGE;
            let positions = start.max(first)..end.min(first + RANGE);
            let put = |(h, (mut keys, mut values)): (usize, (HeadMut<'_>, HeadMut<'_>))| {
                for position in positions.clone() {
                    let from =
                        (position - start) * width + h * head_dim..(position - start) * width + (h + 1) * head_dim;
                    let row = position - first;
                    let to = row * head_dim..(row + 1) * head_dim;
                    for (head, x) in [(&mut keys, &k[from.clone()]), (&mut values, &v[from])] {
                        match head {
                            HeadMut::F32(head) => head[to.clone()].copy_from_slice(x),
                            HeadMut::F16(head) => vec.f32_to_f16(x, &mut head[to.clone()]),
                            HeadMut::Q8(head) => vec.f32_to_q8(x, head.rows(row..row + 1, head_dim)),
                        }
                    }
                }
            };
            let heads = st.kv.heads_mut(self.layer, range).enumerate();
            if positions.len() == 1 {
                // Not worth waking anybody.
                heads.for_each(put);
            } else {
                let heads: Vec<_> = heads.collect();
                st.crew.items(io.stop, heads.into_iter(), |_, head| put(head))?;
            }
        }
        Ok(())
    }
}

/// `out[j, i] = ⟨key i of the span, query j⟩`
fn dots(
    vec: &VecOps,
    keys: Head<'_>,
    span: Range<usize>,
    queries: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
) {
    let flat = span.start * dim..span.end * dim;
    match keys {
        Head::F32(k) => vec.dots_f32(&k[flat], dim, queries, dim, out, ahead),
        Head::F16(k) => vec.dots_f16(&k[flat], dim, queries, dim, out, ahead),
        Head::Q8(k) => vec.dots_q8(k.rows(span, dim), queries, dim, out, ahead),
    }
}

/// `sums[j] += Σ weights[j, i] · value i of the span`, in the order of positions.
fn add_weighted(
    vec: &VecOps,
    values: Head<'_>,
    span: Range<usize>,
    weights: &[f32],
    dim: usize,
    sums: &mut [f32],
    ahead: Option<Ahead>,
) {
    let flat = span.start * dim..span.end * dim;
    match values {
        Head::F32(v) => vec.weighted_rows_f32(&v[flat], dim, weights, dim, sums, ahead),
        Head::F16(v) => vec.weighted_rows_f16(&v[flat], dim, weights, dim, sums, ahead),
        Head::Q8(v) => vec.weighted_rows_q8(v.rows(span, dim), weights, dim, sums, ahead),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwren_quant::kernel::{Level, vec_ops};

    #[test]
    fn pieces_cover_what_each_row_sees_in_order() {
        // 3 tokens of 2 heads after 70 positions; ranges that end before, within and after what all see.
        for bounds in [[0, 73, 73], [0, 30, 73], [0, 71, 73], [0, 72, 73]] {
            let mut seen = vec![0; 6];
            for range in bounds.windows(2) {
                for piece in pieces(6, 2, 71, range[0]..range[1]) {
                    assert!(piece.positions.len() <= BLOCK && !piece.positions.is_empty());
                    for row in piece.rows {
                        assert_eq!(seen[row], piece.positions.start, "{bounds:?}");
                        seen[row] = piece.positions.end;
                    }
                }
            }
            assert_eq!(seen, [71, 71, 72, 72, 73, 73], "{bounds:?}");
        }
    }

    #[test]
    fn joined_ranges_are_a_softmax_over_all() {
        let vec = vec_ops(Level::Scalar);
        let (scores, values) = ([3.0f32, -2.0, 88.0, 90.0, 1.0], [1.0f32, 5.0, -2.0, 4.0, 9.0]);
        let (mut all, mut sums) = (Softmax::EMPTY, [0.0]);
        for range in [0..2, 2..2, 2..4, 4..5] {
            let mut weights = scores[range.clone()].to_vec();
            let max = vec.max(&weights);
            let next = Softmax { max, sum: vec.exp_sum(&mut weights, max) };
            let part: f32 = weights.iter().zip(&values[range]).map(|(w, v)| w * v).sum();
            all.join(vec, &mut sums, next, &[part]);
        }
        let weight = |s: &f32| (f64::from(*s) - 90.0).exp();
        let total: f64 = scores.iter().map(weight).sum();
        let want = scores.iter().zip(values).map(|(s, v)| weight(s) * f64::from(v)).sum::<f64>() / total;
        assert!((f64::from(sums[0] / all.sum) - want).abs() < 1e-6 && all.max == 90.0);
    }
}
