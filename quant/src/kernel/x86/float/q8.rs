//! Attention over int8 keys and values with a scale per 32.
//!
//! A value is its level times its scale, which float32 holds exactly (8 bits times 11). So results have the bits of float32
//! rows' of the same values, whether a row is converted for each tile or once for all.
use std::mem::MaybeUninit;
use std::ops::Range;

use half::f16;

use super::rows::{ROWS, add_rows};
use super::tiles::{put_sums, tiles};
use super::{Element, Register};
use crate::kernel::x86::Stream;
use crate::kernel::{Ahead, Q8_BLOCK, Q8Rows};

/// Blocks that are taken at once: those of 32 rows of 128 values.
const BLOCKS: usize = 128;

/// Queries from which on rows are converted once for all, to the L1 cache: float32's tiles take six.
const MANY: usize = 6;

/// `out[j * n + i]` = row i · query j.
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
    for rows in chunks(n, dim) {
        let query = |j: usize| &q[j * dim..][..dim];
        let chunk = Chunk::new::<R, L>(token, k.rows(rows.clone(), dim), dim);
        let mut stream = Stream(ahead).skip(rows.start * dim);
        let mut put = |i: usize, j: usize, dots: &[f32]| {
            out[j * n + rows.start + i..][..dots.len()].copy_from_slice(dots);
        };
        if queries >= MANY {
            let mut room = Room::NEW;
            let values = chunk.values::<R, L>(token, &mut room);
            tiles::<R, f32, L>(token, rows.len(), |i| &values[i * dim..][..dim], queries, query, stream, put);
            continue;
        }
        let mut j = 0;
        while j < queries {
            j += match queries - j {
                4.. => chunk.dots::<R, L, 2, 4>(
                    token,
                    [query(j), query(j + 1), query(j + 2), query(j + 3)],
                    &mut stream,
                    |i, t, dots| put(i, j + t, dots),
                ),
                2.. => chunk
                    .dots::<R, L, 4, 2>(token, [query(j), query(j + 1)], &mut stream, |i, t, dots| put(i, j + t, dots)),
                _ => chunk.dots::<R, L, 4, 1>(token, [query(j)], &mut stream, |i, t, dots| put(i, j + t, dots)),
            };
            stream = Stream(None);
        }
    }
}

/// The rows `0..n`, as many at a time as make up [`BLOCKS`].
fn chunks(n: usize, dim: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = ROWS.min(BLOCKS * Q8_BLOCK / dim);
    (0..n).step_by(rows).map(move |first| first..(first + rows).min(n))
}

/// Some rows.
struct Chunk<'a> {
    /// `[n, per_row]`
    q: &'a [[i8; Q8_BLOCK]],
    /// The scales as floats, `[n, per_row]`
    scales: [f32; BLOCKS],
    /// Blocks of a row.
    per_row: usize,
    n: usize,
}

impl<'a> Chunk<'a> {
    #[inline(always)]
    fn new<R: Register<L>, const L: usize>(token: R::Token, rows: Q8Rows<'a>, dim: usize) -> Chunk<'a> {
        let mut scales = [0.0; BLOCKS];
        let (whole, rest) = rows.scales.as_chunks::<L>();
        let wide = scales.as_chunks_mut::<L>().0;
        for (scales, wide) in whole.iter().zip(&mut *wide) {
            f16::load::<R, L>(token, scales).store(wide);
        }
        if !rest.is_empty() {
            let mut last = [f16::ZERO; L];
            last[..rest.len()].copy_from_slice(rest);
            f16::load::<R, L>(token, &last).store(&mut wide[whole.len()]);
        }
        Chunk { q: rows.q.as_chunks().0, scales, per_row: dim / Q8_BLOCK, n: rows.q.len() / dim }
    }

    /// All rows as floats.
    #[inline(always)]
    fn values<'r, R: Register<L>, const L: usize>(&self, token: R::Token, room: &'r mut Room) -> &'r [f32] {
        for ((block, scale), wide) in self.q.iter().zip(&self.scales).zip(&mut room.0) {
            let scale = R::all(token, *scale);
            let mut values = [0.0; Q8_BLOCK];
            for (levels, values) in block.as_chunks::<L>().0.iter().zip(values.as_chunks_mut::<L>().0) {
                i8::load::<R, L>(token, levels).times(scale).store(values);
            }
            wide.write(values);
        }
        let written = &room.0[..self.q.len()];
        // SAFETY: the loop went over all of `q`, which has no more blocks than there are scales or than there is room for,
        // or the slice above would not exist; `MaybeUninit` has the layout of what it holds.
        unsafe { std::slice::from_raw_parts(written.as_ptr().cast(), written.len() * Q8_BLOCK) }
    }

    /// Calls `put(row, query, dot products)` for some rows from `row` on, `M` at a time. Returns `T`.
    #[inline(always)]
    fn dots<R: Register<L>, const L: usize, const M: usize, const T: usize>(
        &self,
        token: R::Token,
        queries: [&[f32]; T],
        stream: &mut Stream,
        mut put: impl FnMut(usize, usize, &[f32]),
    ) -> usize {
        let mut i = 0;
        while i + M <= self.n {
            self.tile::<R, L, M, T>(token, i, queries, stream, &mut put);
            i += M;
        }
        while i < self.n {
            self.tile::<R, L, 1, T>(token, i, queries, stream, &mut put);
            i += 1;
        }
        T
    }

    /// The dot products of `M` rows, from `first` on, with `T` queries.
    #[inline(always)]
    fn tile<R: Register<L>, const L: usize, const M: usize, const T: usize>(
        &self,
        token: R::Token,
        first: usize,
        queries: [&[f32]; T],
        stream: &mut Stream,
        mut put: impl FnMut(usize, usize, &[f32]),
    ) {
        let per_row = self.per_row;
        // Slices of one length: no checks in the loop.
        let mut rows: [&[[i8; Q8_BLOCK]]; M] = [&[]; M];
        let mut scales: [&[f32]; M] = [&[]; M];
        for r in 0..M {
            rows[r] = &self.q[(first + r) * per_row..][..per_row];
            scales[r] = &self.scales[(first + r) * per_row..][..per_row];
        }
        let mut vectors: [&[[f32; Q8_BLOCK]]; T] = [&[]; T];
        for t in 0..T {
            vectors[t] = &queries[t].as_chunks().0[..per_row];
        }
        let mut sums = [[R::all(token, 0.0); T]; M];
        for b in 0..per_row {
            stream.next(M * Q8_BLOCK);
            for g in 0..Q8_BLOCK / L {
                let mut values = [R::all(token, 0.0); M];
                for r in 0..M {
                    values[r] =
                        i8::load::<R, L>(token, &rows[r][b].as_chunks().0[g]).times(R::all(token, scales[r][b]));
                }
                for t in 0..T {
                    let x: R = f32::load(token, &vectors[t][b].as_chunks().0[g]);
                    for r in 0..M {
                        sums[r][t] = sums[r][t].add_product(values[r], x);
                    }
                }
            }
        }
        put_sums(&sums, |t, dots| put(first, t, dots));
    }
}

/// A chunk's values.
struct Room([MaybeUninit<[f32; Q8_BLOCK]>; BLOCKS]);

impl Room {
    const NEW: Room = Room([MaybeUninit::uninit(); BLOCKS]);
}

/// `out[j][c] += Σ p[j][i] · v[i][c]`, fused, positions ascending: each element's chain of sums is the same in every tile.
#[inline(always)]
pub(in crate::kernel::x86) fn weighted_rows_q8<R: Register<L>, const L: usize>(
    token: R::Token,
    v: Q8Rows<'_>,
    p: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
) {
    let queries = out.len() / dim;
    let n = p.len() / queries;
    for rows in chunks(n, dim) {
        let chunk = Chunk::new::<R, L>(token, v.rows(rows.clone(), dim), dim);
        let mut stream = Stream(ahead).skip(rows.start * dim);
        if queries >= MANY {
            let mut room = Room::NEW;
            let values = chunk.values::<R, L>(token, &mut room);
            add_rows::<R, f32, L>(token, values, dim, (p, n, rows), dim, out, stream);
            continue;
        }
        let mut j = 0;
        while j < queries {
            let (p, out) = (&p[j * n..], &mut out[j * dim..]);
            let p = |j: usize| &p[j * n..][rows.clone()];
            // As many queries share each conversion as there are registers for their sums.
            j += match queries - j {
                4.. => chunk.add::<R, L, 4, 2>(token, [p(0), p(1), p(2), p(3)], out, &mut stream),
                2.. => chunk.add::<R, L, 2, 4>(token, [p(0), p(1)], out, &mut stream),
                _ => chunk.add::<R, L, 1, 4>(token, [p(0)], out, &mut stream),
            };
            stream = Stream(None);
        }
    }
}

impl Chunk<'_> {
    /// Adds the rows, which `Q` queries weigh by `p`, to `out` `[Q, dim]`, `D` registers of columns at once. Returns `Q`.
    #[inline(always)]
    fn add<R: Register<L>, const L: usize, const Q: usize, const D: usize>(
        &self,
        token: R::Token,
        p: [&[f32]; Q],
        out: &mut [f32],
        stream: &mut Stream,
    ) -> usize {
        // A row's together: the sums read them in one run.
        let mut weights = [[0.0; Q]; ROWS];
        for (i, row) in weights[..self.n].iter_mut().enumerate() {
            for j in 0..Q {
                row[j] = p[j][i];
            }
        }
        let (weights, dim) = (&weights[..self.n], self.per_row * Q8_BLOCK);
        let mut c = 0;
        while c + L * D <= dim {
            self.columns::<R, L, Q, D>(token, c, weights, out, stream);
            c += L * D;
        }
        while c < dim {
            self.columns::<R, L, Q, 1>(token, c, weights, out, stream);
            c += L;
        }
        Q
    }

    /// The `D` registers of columns from column `c` on: whole blocks or parts of one.
    #[inline(always)]
    fn columns<R: Register<L>, const L: usize, const Q: usize, const D: usize>(
        &self,
        token: R::Token,
        c: usize,
        weights: &[[f32; Q]],
        out: &mut [f32],
        stream: &mut Stream,
    ) {
        const { assert!(Q8_BLOCK.is_multiple_of(L * D) || (L * D).is_multiple_of(Q8_BLOCK)) };
        let dim = self.per_row * Q8_BLOCK;
        let mut sums = [[R::all(token, 0.0); D]; Q];
        for j in 0..Q {
            let out = out[j * dim + c..].as_chunks::<L>().0;
            for d in 0..D {
                sums[j][d] = f32::load(token, &out[d]);
            }
        }
        for (i, weights) in weights.iter().enumerate() {
            stream.next(L * D);
            let levels = self.q.as_flattened()[i * dim + c..][..L * D].as_chunks::<L>().0;
            let scales = i * self.per_row + c / Q8_BLOCK;
            let mut values = [R::all(token, 0.0); D];
            for d in 0..D {
                let scale = self.scales[(scales + d * L / Q8_BLOCK) % BLOCKS];
                values[d] = i8::load::<R, L>(token, &levels[d]).times(R::all(token, scale));
            }
            for j in 0..Q {
                let weight = R::all(token, weights[j]);
                for d in 0..D {
                    sums[j][d] = sums[j][d].add_product(weight, values[d]);
                }
            }
        }
        for j in 0..Q {
            let out = out[j * dim + c..].as_chunks_mut::<L>().0;
            for d in 0..D {
                sums[j][d].store(&mut out[d]);
            }
        }
    }
}
