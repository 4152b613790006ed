//! Attention over consecutive positions of one KV head, for one or several queries.
use std::arch::aarch64::*;

use half::f16;

use super::float::{Eight, fma, load_8, load_f16, store_8, tiles};
use super::lanes::half_in_all;
use crate::kernel::Ahead;

#[target_feature(enable = "neon")]
pub(super) fn dots_f32(k: &[f32], stride: usize, q: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    dots(k, stride, q, dim, out, |x| load_8(x));
}

#[target_feature(enable = "neon")]
pub(super) fn dots_f16(k: &[f16], stride: usize, q: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    dots(k, stride, q, dim, out, |x| load_f16(x));
}

/// `out[j * n + i]` = row i · query j.
#[inline]
#[target_feature(enable = "neon")]
fn dots<E: Copy + Default>(
    k: &[E],
    stride: usize,
    q: &[f32],
    dim: usize,
    out: &mut [f32],
    load: impl Fn(&[E; 8]) -> Eight,
) {
    let queries = q.len() / dim;
    let n = out.len() / queries;
    let row = |i: usize| &k[i * stride..][..dim];
    tiles(n, row, queries, |j| &q[j * dim..][..dim], &load, |i, j, dot| out[j * n + i] = dot);
}

#[target_feature(enable = "neon")]
pub(super) fn weighted_rows_f32(v: &[f32], stride: usize, p: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    weighted_rows(v, stride, p, dim, out, |x| load_8(x), |x| x);
}

#[target_feature(enable = "neon")]
pub(super) fn weighted_rows_f16(v: &[f16], stride: usize, p: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    weighted_rows(v, stride, p, dim, out, |x| load_f16(x), |x| vgetq_lane_f32::<0>(half_in_all(x)));
}

/// `out[j][c] += Σ p[j][i] · v[i][c]`, fused, positions ascending: each element's chain of sums is the same in every
/// tile, so queries and columns may be taken together in any way.
#[inline]
#[target_feature(enable = "neon")]
fn weighted_rows<E: Copy>(
    v: &[E],
    stride: usize,
    p: &[f32],
    dim: usize,
    out: &mut [f32],
    load: impl Fn(&[E; 8]) -> Eight,
    widen: impl Fn(E) -> f32,
) {
    let n = p.len() / (out.len() / dim);
    let rows = Rows { v, stride, n };
    let (mut p, mut out) = (p, out);
    // Four queries share each load of a row while there are as many.
    while !out.is_empty() {
        let queries = match out.len() / dim {
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let (p_now, p_rest) = p.split_at(queries * n);
        let (out_now, out_rest) = out.split_at_mut(queries * dim);
        let mut c = 0;
        match queries {
            4 => rows.columns::<4, 2>(&mut c, p_now, out_now, dim, &load),
            2 => rows.columns::<2, 4>(&mut c, p_now, out_now, dim, &load),
            _ => rows.columns::<1, 8>(&mut c, p_now, out_now, dim, &load),
        }
        match queries {
            4 => rows.columns::<4, 1>(&mut c, p_now, out_now, dim, &load),
            2 => rows.columns::<2, 1>(&mut c, p_now, out_now, dim, &load),
            _ => rows.columns::<1, 1>(&mut c, p_now, out_now, dim, &load),
        }
        for (p, out) in p_now.chunks_exact(n).zip(out_now.chunks_exact_mut(dim)) {
            for c in c..dim {
                for i in 0..n {
                    out[c] = p[i].mul_add(widen(v[i * stride + c]), out[c]);
                }
            }
        }
        (p, out) = (p_rest, out_rest);
    }
}

struct Rows<'a, E> {
    v: &'a [E],
    stride: usize,
    n: usize,
}

impl<E: Copy> Rows<'_, E> {
    /// Adds up `D` times eight columns of `Q` queries at once, from column `c` on, while there are that many.
    #[inline]
    #[target_feature(enable = "neon")]
    fn columns<const Q: usize, const D: usize>(
        &self,
        c: &mut usize,
        p: &[f32],
        out: &mut [f32],
        dim: usize,
        load: &impl Fn(&[E; 8]) -> Eight,
    ) {
        let p: [&[f32]; Q] = std::array::from_fn(|j| &p[j * self.n..][..self.n]);
        while *c + 8 * D <= dim {
            let mut sums = [[[vdupq_n_f32(0.0); 2]; D]; Q];
            for j in 0..Q {
                let out = out[j * dim + *c..].as_chunks::<8>().0;
                for d in 0..D {
                    sums[j][d] = load_8(&out[d]);
                }
            }
            for i in 0..self.n {
                let v = &self.v[i * self.stride + *c..][..8 * D].as_chunks::<8>().0;
                for d in 0..D {
                    let v = load(&v[d]);
                    for j in 0..Q {
                        sums[j][d] = fma(sums[j][d], v, [vdupq_n_f32(p[j][i]); 2]);
                    }
                }
            }
            for j in 0..Q {
                let out = out[j * dim + *c..].as_chunks_mut::<8>().0;
                for d in 0..D {
                    store_8(&mut out[d], sums[j][d]);
                }
            }
            *c += 8 * D;
        }
    }
}
