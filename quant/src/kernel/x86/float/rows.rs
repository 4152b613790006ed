//! Weighted sums of rows.
use std::ops::Range;

use super::{Element, Register};
use crate::kernel::Ahead;
use crate::kernel::x86::Stream;

/// Rows whose weights are put in order at once.
pub(super) const ROWS: usize = 32;

/// `out[j][c] += Σ p[j][i] · v[i][c]`, fused, positions ascending: each element's chain of sums is the same in every
/// tile, so queries, columns and rows may be taken together in any way.
#[inline(always)]
pub(in crate::kernel::x86) fn weighted_rows<R: Register<L>, E: Element, const L: usize>(
    token: R::Token,
    v: &[E],
    stride: usize,
    p: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
) {
    let n = p.len() / (out.len() / dim);
    for first in (0..n).step_by(ROWS) {
        let some = first..n.min(first + ROWS);
        let stream = Stream(ahead).skip(first * dim * size_of::<E>());
        add_rows::<R, E, L>(token, &v[first * stride..], stride, (p, n, some), dim, out, stream);
    }
}

/// Adds the rows `v`, at most [`ROWS`], to `out`: `[queries, dim]`. The weights are those of `some` of the `n` of each query.
#[inline(always)]
pub(super) fn add_rows<R: Register<L>, E: Element, const L: usize>(
    token: R::Token,
    v: &[E],
    stride: usize,
    (p, n, some): (&[f32], usize, Range<usize>),
    dim: usize,
    out: &mut [f32],
    mut stream: Stream,
) {
    let mut j = 0;
    while j * dim < out.len() {
        let (p, out) = (&p[j * n..], &mut out[j * dim..]);
        let weights = (p, n, some.clone());
        // As many queries share each load of a row as there are registers for their sums.
        j += match out.len() / dim {
            6.. if R::WIDE => Rows::<E, 6>::new(v, stride, weights).add::<R, L, 4>(token, out, dim, &mut stream),
            6.. => Rows::<E, 6>::new(v, stride, weights).add::<R, L, 2>(token, out, dim, &mut stream),
            4.. => Rows::<E, 4>::new(v, stride, weights).add::<R, L, 2>(token, out, dim, &mut stream),
            2.. => Rows::<E, 2>::new(v, stride, weights).add::<R, L, 4>(token, out, dim, &mut stream),
            _ => Rows::<E, 1>::new(v, stride, weights).add::<R, L, 8>(token, out, dim, &mut stream),
        };
        stream = Stream(None);
    }
}

/// Some rows and what `Q` queries weigh them with.
struct Rows<'a, E, const Q: usize> {
    v: &'a [E],
    stride: usize,
    /// A row's together: the sums read them in one run.
    weights: [[f32; Q]; ROWS],
    n: usize,
}

impl<'a, E: Element, const Q: usize> Rows<'a, E, Q> {
    /// The rows `v`, with the weights `rows` of each `n` of `p`.
    #[inline(always)]
    fn new(v: &'a [E], stride: usize, (p, n, rows): (&[f32], usize, Range<usize>)) -> Self {
        let mut columns: [&[f32]; Q] = [&[]; Q];
        for j in 0..Q {
            columns[j] = &p[j * n..][rows.clone()];
        }
        let mut weights = [[0.0; Q]; ROWS];
        for (i, row) in weights[..rows.len()].iter_mut().enumerate() {
            // Row by row: by columns the compiler scatters them, which takes longer than what they are for.
            for j in 0..Q {
                row[j] = columns[j][i];
            }
        }
        Rows { v, stride, weights, n: rows.len() }
    }

    /// Adds them to `out` `[Q, dim]`, `D` registers of columns at once while there are that many. Returns `Q`.
    #[inline(always)]
    fn add<R: Register<L>, const L: usize, const D: usize>(
        &self,
        token: R::Token,
        out: &mut [f32],
        dim: usize,
        stream: &mut Stream,
    ) -> usize {
        let mut c = 0;
        while c + L * D <= dim {
            self.columns::<R, L, D>(token, c, out, dim, stream);
            c += L * D;
        }
        while c + L <= dim {
            self.columns::<R, L, 1>(token, c, out, dim, stream);
            c += L;
        }
        if c < dim {
            self.last_columns::<R, L>(token, c, out, dim);
        }
        Q
    }

    /// The `D` registers of columns from column `c` on.
    #[inline(always)]
    fn columns<R: Register<L>, const L: usize, const D: usize>(
        &self,
        token: R::Token,
        c: usize,
        out: &mut [f32],
        dim: usize,
        stream: &mut Stream,
    ) {
        let mut sums = [[R::all(token, 0.0); D]; Q];
        for j in 0..Q {
            let out = out[j * dim + c..].as_chunks::<L>().0;
            for d in 0..D {
                sums[j][d] = f32::load(token, &out[d]);
            }
        }
        for (i, weights) in self.weights[..self.n].iter().enumerate() {
            stream.next(size_of::<[[E; L]; D]>());
            let v = &self.v[i * self.stride + c..][..L * D].as_chunks::<L>().0;
            let mut values = [R::all(token, 0.0); D];
            for d in 0..D {
                values[d] = E::load(token, &v[d]);
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

    /// The columns from column `c` on, fewer than a register holds.
    #[inline(always)]
    fn last_columns<R: Register<L>, const L: usize>(&self, token: R::Token, c: usize, out: &mut [f32], dim: usize) {
        for j in 0..Q {
            let out = &mut out[j * dim + c..(j + 1) * dim];
            let mut lanes = [0.0; L];
            lanes[..out.len()].copy_from_slice(out);
            let mut sum: R = f32::load(token, &lanes);
            for (i, weights) in self.weights[..self.n].iter().enumerate() {
                let mut v = [E::default(); L];
                v[..out.len()].copy_from_slice(&self.v[i * self.stride + c..][..out.len()]);
                sum = sum.add_product(R::all(token, weights[j]), E::load(token, &v));
            }
            sum.store(&mut lanes);
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}
