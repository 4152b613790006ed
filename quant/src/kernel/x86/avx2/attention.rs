//! Attention over consecutive positions of one KV head, for one or several queries.
use std::arch::x86_64::*;
use std::ops::Range;

use half::f16;

use super::float::{load_f16, tiles};
use super::lanes::*;
use crate::kernel::Ahead;
use crate::kernel::x86::Stream;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dots_f32(k: &[f32], stride: usize, q: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
    dots(k, stride, q, dim, out, ahead, |x| load_f32(x));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dots_f16(k: &[f16], stride: usize, q: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
    dots(k, stride, q, dim, out, ahead, |x| load_f16(x));
}

/// `out[j * n + i]` = row i · query j.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dots<E: Copy + Default>(
    k: &[E],
    stride: usize,
    q: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
    load: impl Fn(&[E; 8]) -> __m256,
) {
    let queries = q.len() / dim;
    let n = out.len() / queries;
    let row = |i: usize| &k[i * stride..][..dim];
    let query = |j: usize| &q[j * dim..][..dim];
    tiles(n, row, queries, query, &load, Stream(ahead), |i, j, dot| out[j * n + i] = dot);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn weighted_rows_f32(
    v: &[f32],
    stride: usize,
    p: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
) {
    weighted_rows(v, stride, p, dim, out, ahead, |x| load_f32(x), |x| x);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn weighted_rows_f16(
    v: &[f16],
    stride: usize,
    p: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
) {
    let widen = |x: f16| _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(x.to_bits().into())));
    weighted_rows(v, stride, p, dim, out, ahead, |x| load_f16(x), widen);
}

/// Rows whose weights are put in order at once.
const ROWS: usize = 32;

/// `out[j][c] += Σ p[j][i] · v[i][c]`, fused, positions ascending: each element's chain of sums is the same in every
/// tile, so queries, columns and rows may be taken together in any way.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn weighted_rows<E: Copy>(
    v: &[E],
    stride: usize,
    p: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
    load: impl Fn(&[E; 8]) -> __m256,
    widen: impl Fn(E) -> f32,
) {
    let n = p.len() / (out.len() / dim);
    for first in (0..n).step_by(ROWS) {
        let some = first..n.min(first + ROWS);
        let mut stream = Stream(ahead).skip(first * dim * size_of::<E>());
        let v = &v[first * stride..];
        let mut j = 0;
        while j * dim < out.len() {
            let (p, out) = (&p[j * n..], &mut out[j * dim..]);
            let weights = (p, n, some.clone());
            // As many queries share each load of a row as there are registers for their sums.
            j += match out.len() / dim {
                6.. => Rows::<E, 6>::new(v, stride, weights).add::<2>(out, dim, &mut stream, &load, &widen),
                4.. => Rows::<E, 4>::new(v, stride, weights).add::<2>(out, dim, &mut stream, &load, &widen),
                2.. => Rows::<E, 2>::new(v, stride, weights).add::<4>(out, dim, &mut stream, &load, &widen),
                _ => Rows::<E, 1>::new(v, stride, weights).add::<8>(out, dim, &mut stream, &load, &widen),
            };
            stream = Stream(None);
        }
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

impl<'a, E: Copy, const Q: usize> Rows<'a, E, Q> {
    /// The rows `v`, with the weights `rows` of each `n` of `p`.
    #[inline]
    fn new(v: &'a [E], stride: usize, (p, n, rows): (&[f32], usize, Range<usize>)) -> Self {
        let mut weights = [[0.0; Q]; ROWS];
        for j in 0..Q {
            let p = &p[j * n..][rows.clone()];
            weights.iter_mut().zip(p).for_each(|(row, p)| row[j] = *p);
        }
        Rows { v, stride, weights, n: rows.len() }
    }

    /// Adds them to `out` `[Q, dim]`, `D` vectors of columns at once while there are that many. Returns `Q`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn add<const D: usize>(
        &self,
        out: &mut [f32],
        dim: usize,
        stream: &mut Stream,
        load: &impl Fn(&[E; 8]) -> __m256,
        widen: &impl Fn(E) -> f32,
    ) -> usize {
        let mut c = 0;
        while c + 8 * D <= dim {
            self.columns::<D>(c, out, dim, stream, load);
            c += 8 * D;
        }
        while c + 8 <= dim {
            self.columns::<1>(c, out, dim, stream, load);
            c += 8;
        }
        for c in c..dim {
            for (i, weights) in self.weights[..self.n].iter().enumerate() {
                for j in 0..Q {
                    out[j * dim + c] = weights[j].mul_add(widen(self.v[i * self.stride + c]), out[j * dim + c]);
                }
            }
        }
        Q
    }

    /// The `D` vectors of columns from column `c` on.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn columns<const D: usize>(
        &self,
        c: usize,
        out: &mut [f32],
        dim: usize,
        stream: &mut Stream,
        load: &impl Fn(&[E; 8]) -> __m256,
    ) {
        let mut sums = [[_mm256_setzero_ps(); D]; Q];
        for j in 0..Q {
            let out = out[j * dim + c..].as_chunks::<8>().0;
            for d in 0..D {
                sums[j][d] = load_f32(&out[d]);
            }
        }
        for (i, weights) in self.weights[..self.n].iter().enumerate() {
            stream.next(size_of::<[[E; 8]; D]>());
            let v = &self.v[i * self.stride + c..][..8 * D].as_chunks::<8>().0;
            let mut values = [_mm256_setzero_ps(); D];
            for d in 0..D {
                values[d] = load(&v[d]);
            }
            for j in 0..Q {
                let weight = _mm256_set1_ps(weights[j]);
                for d in 0..D {
                    sums[j][d] = _mm256_fmadd_ps(weight, values[d], sums[j][d]);
                }
            }
        }
        for j in 0..Q {
            let out = out[j * dim + c..].as_chunks_mut::<8>().0;
            for d in 0..D {
                store_f32(&mut out[d], sums[j][d]);
            }
        }
    }
}
