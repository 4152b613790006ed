//! Attention over int8 keys and values with a scale per 32.
use std::ops::Range;

use half::f16;

use super::{Element, Register};
use crate::kernel::x86::Stream;
use crate::kernel::{Ahead, Q8_BLOCK, Q8Rows};

/// Scales that are widened together: those of 32 rows of 128 values.
const SCALES: usize = 128;

/// Registers that hold a block, at most.
const MOST: usize = 4;

/// `out[j * n + i]` = row i · query j: each 32 products in fused lanes, which the block's scale weighs as they join the
/// row's lanes, in any tile.
#[inline(always)]
pub(in crate::kernel::x86) fn dots_q8<R: Register<L>, const L: usize>(
    token: R::Token,
    k: Q8Rows<'_>,
    q: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
) {
    let queries = q.len() / dim;
    let n = out.len() / queries;
    let per_row = dim / Q8_BLOCK;
    let mut scales = [0.0; SCALES];
    for rows in chunks(n, per_row) {
        widen::<R, L>(token, &k.scales[rows.start * per_row..rows.end * per_row], &mut scales);
        let mut stream = Stream(ahead).skip(rows.start * dim);
        let chunk = Chunk { q: k.q, scales: &scales, rows };
        let mut j = 0;
        while j < queries {
            // Four queries share each conversion of a key, two rows each load of a query.
            let many = queries - j;
            for i in chunk.rows.clone().step_by(2) {
                match many {
                    4.. => chunk.tile::<R, L, 4>(token, i, q, j, dim, &mut stream, out),
                    2.. => chunk.tile::<R, L, 2>(token, i, q, j, dim, &mut stream, out),
                    _ => chunk.tile::<R, L, 1>(token, i, q, j, dim, &mut stream, out),
                }
            }
            stream = Stream(None);
            j += match many {
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
        }
    }
}

/// The rows `0..n`, as many at a time as scales are widened together.
fn chunks(n: usize, per_row: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = SCALES / per_row;
    (0..n).step_by(rows).map(move |first| first..(first + rows).min(n))
}

/// `scales` as floats.
#[inline(always)]
fn widen<R: Register<L>, const L: usize>(token: R::Token, scales: &[f16], out: &mut [f32; SCALES]) {
    let (whole, rest) = scales.as_chunks::<L>();
    let out = out.as_chunks_mut::<L>().0;
    for (scales, out) in whole.iter().zip(&mut *out) {
        f16::load::<R, L>(token, scales).store(out);
    }
    if !rest.is_empty() {
        let mut last = [f16::ZERO; L];
        last[..rest.len()].copy_from_slice(rest);
        f16::load::<R, L>(token, &last).store(&mut out[whole.len()]);
    }
}

/// Some of the keys.
struct Chunk<'a> {
    /// Of all keys, `[n, dim]`.
    q: &'a [i8],
    /// Of these alone, `[rows, dim / 32]`.
    scales: &'a [f32],
    rows: Range<usize>,
}

impl Chunk<'_> {
    /// The rows `i` and `i + 1` (or twice the last one) and the queries `first …`.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    fn tile<R: Register<L>, const L: usize, const Q: usize>(
        &self,
        token: R::Token,
        i: usize,
        q: &[f32],
        first: usize,
        dim: usize,
        stream: &mut Stream,
        out: &mut [f32],
    ) {
        let (per_row, n) = (dim / Q8_BLOCK, out.len() / (q.len() / dim));
        let rows = [i, (i + 1).min(self.rows.end - 1)];
        // Indexed within one known length: no checks, and no calls, in the loop.
        let q8 = self.q.as_chunks::<Q8_BLOCK>().0;
        let [k0, k1] = [&q8[rows[0] * per_row..][..per_row], &q8[rows[1] * per_row..][..per_row]];
        let at = [rows[0] - self.rows.start, rows[1] - self.rows.start];
        let [s0, s1] = [&self.scales[at[0] * per_row..][..per_row], &self.scales[at[1] * per_row..][..per_row]];
        let mut queries: [&[[f32; Q8_BLOCK]]; Q] = [&[]; Q];
        for j in 0..Q {
            queries[j] = &q[(first + j) * dim..][..dim].as_chunks().0[..per_row];
        }
        let mut sums = [[R::all(token, 0.0); Q]; 2];
        for b in 0..per_row {
            stream.next(2 * Q8_BLOCK);
            let mut block = [[R::all(token, 0.0); Q]; 2];
            let (k0, k1) = (k0[b].as_chunks::<L>().0, k1[b].as_chunks::<L>().0);
            for g in 0..Q8_BLOCK / L {
                let (v0, v1): (R, R) = (i8::load(token, &k0[g]), i8::load(token, &k1[g]));
                for j in 0..Q {
                    let query = f32::load(token, &queries[j][b].as_chunks().0[g]);
                    block[0][j] = block[0][j].add_product(v0, query);
                    block[1][j] = block[1][j].add_product(v1, query);
                }
            }
            let (scale0, scale1) = (R::all(token, s0[b]), R::all(token, s1[b]));
            for j in 0..Q {
                sums[0][j] = sums[0][j].add_product(scale0, block[0][j]);
                sums[1][j] = sums[1][j].add_product(scale1, block[1][j]);
            }
        }
        if Q == 2 {
            let dots = R::sums([sums[0][0], sums[0][1], sums[1][0], sums[1][1]]);
            for (i, dot) in dots.into_iter().enumerate() {
                out[(first + i % 2) * n + rows[i / 2]] = dot;
            }
            return;
        }
        for r in 0..2 {
            for j in 0..Q {
                out[(first + j) * n + rows[r]] = sums[r][j].sum();
            }
        }
    }
}

/// `out[j][c] += Σ (p[j][i] · scale) · v[i][c]`, fused, positions ascending: each element's chain of sums is the same in
/// every tile.
#[inline(always)]
pub(in crate::kernel::x86) fn weighted_rows_q8<R: Register<L>, const L: usize>(
    token: R::Token,
    v: Q8Rows<'_>,
    p: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
) {
    let n = p.len() / (out.len() / dim);
    let per_row = dim / Q8_BLOCK;
    let mut scales = [0.0; SCALES];
    for rows in chunks(n, per_row) {
        widen::<R, L>(token, &v.scales[rows.start * per_row..rows.end * per_row], &mut scales);
        let q = &v.q.as_chunks::<Q8_BLOCK>().0[rows.start * per_row..rows.end * per_row];
        let (mut p, mut out) = (p, &mut *out);
        let mut stream = Stream(ahead).skip(rows.start * dim);
        while !out.is_empty() {
            let queries = match out.len() / dim {
                2.. => 2,
                _ => 1,
            };
            let (p_now, p_rest) = p.split_at(queries * n);
            let (out_now, out_rest) = out.split_at_mut(queries * dim);
            let first = &p_now[rows.clone()];
            for b in 0..per_row {
                let columns = Columns { q, scales: &scales, b, per_row };
                match queries {
                    2 => columns.add::<R, L, 2>(token, [first, &p_now[n..][rows.clone()]], out_now, &mut stream),
                    _ => columns.add::<R, L, 1>(token, [first], out_now, &mut stream),
                }
            }
            stream = Stream(None);
            (p, out) = (p_rest, out_rest);
        }
    }
}

/// The columns of block `b` of rows of `per_row` blocks each.
struct Columns<'a> {
    q: &'a [[i8; Q8_BLOCK]],
    scales: &'a [f32; SCALES],
    b: usize,
    per_row: usize,
}

impl Columns<'_> {
    /// Adds them to `out` `[Q, dim]` for `Q` queries, which weigh the rows by `p`.
    #[inline(always)]
    fn add<R: Register<L>, const L: usize, const Q: usize>(
        &self,
        token: R::Token,
        p: [&[f32]; Q],
        out: &mut [f32],
        stream: &mut Stream,
    ) {
        const { assert!(Q8_BLOCK / L <= MOST) };
        let (b, registers) = (self.b, Q8_BLOCK / L);
        let (n, dim) = (self.q.len() / self.per_row, self.per_row * Q8_BLOCK);
        // Apart, so that the sums below read them in one run.
        let mut weights = [[0.0; Q]; SCALES];
        for i in 0..n {
            for j in 0..Q {
                weights[i][j] = p[j][i] * self.scales[(i * self.per_row + b) % SCALES];
            }
        }
        let mut sums = [[R::all(token, 0.0); MOST]; Q];
        for j in 0..Q {
            let out = out[j * dim + b * Q8_BLOCK..].as_chunks::<L>().0;
            for g in 0..registers {
                sums[j][g] = f32::load(token, &out[g]);
            }
        }
        let mut at = b;
        for weights in &weights[..n] {
            stream.next(Q8_BLOCK);
            let row = self.q[at].as_chunks::<L>().0;
            at += self.per_row;
            let mut values = [R::all(token, 0.0); MOST];
            for g in 0..registers {
                values[g] = i8::load(token, &row[g]);
            }
            for j in 0..Q {
                let weight = R::all(token, weights[j]);
                for g in 0..registers {
                    sums[j][g] = sums[j][g].add_product(weight, values[g]);
                }
            }
        }
        for j in 0..Q {
            let out = out[j * dim + b * Q8_BLOCK..].as_chunks_mut::<L>().0;
            for g in 0..registers {
                sums[j][g].store(&mut out[g]);
            }
        }
    }
}
