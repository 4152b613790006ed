//! Attention over consecutive positions of one KV head, for one or several queries.
use std::arch::aarch64::*;

use half::f16;

use super::float::{Eight, fma, load_8, load_f16, store_8, tiles};
use super::gemv::lane;
use super::instructions::settled_float;
use super::lanes::{half_in_all, load_f32};
use super::unroll::unrolled;
use crate::kernel::Ahead;

#[target_feature(enable = "neon")]
pub(super) fn dots_f32(k: &[f32], stride: usize, q: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    dots(k, stride, q, dim, out, |x| load_8(x));
}

#[target_feature(enable = "neon")]
pub(super) fn dots_f16(k: &[f16], stride: usize, q: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    match widened(k, stride, dim, q.len() / dim) {
        Some(k) => dots_f32(k.as_flattened(), dim, q, dim, out, None),
        None => dots(k, stride, q, dim, out, |x| load_f16(x)),
    }
}

/// From this many queries on, rows are converted once for all and not once for four: a conversion takes as long as two
/// multiplications, on one pipe of a Cortex-A76.
pub(super) const WIDEN: usize = 9;

/// The rows as floats, where it pays and they lie one after the other.
#[inline]
#[target_feature(enable = "neon")]
fn widened(rows: &[f16], stride: usize, dim: usize, queries: usize) -> Option<Vec<[f32; 8]>> {
    (queries >= WIDEN && stride == dim && dim.is_multiple_of(8)).then(|| {
        let widen = |x: &[f16; 8]| {
            let mut wide = [0.0; 8];
            store_8(&mut wide, load_f16(x));
            wide
        };
        rows.as_chunks().0.iter().map(widen).collect()
    })
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
    let put = |i: usize, j: usize, dots: &[f32]| out[j * n + i..][..dots.len()].copy_from_slice(dots);
    tiles(n, row, queries, |j| &q[j * dim..][..dim], &load, put);
}

#[target_feature(enable = "neon")]
pub(super) fn weighted_rows_f32(v: &[f32], stride: usize, p: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    weighted_rows(v, stride, p, dim, out, |x| load_8(x), |x| x);
}

#[target_feature(enable = "neon")]
pub(super) fn weighted_rows_f16(v: &[f16], stride: usize, p: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    match widened(v, stride, dim, out.len() / dim) {
        Some(v) => weighted_rows_f32(v.as_flattened(), dim, p, dim, out, None),
        None => weighted_rows(v, stride, p, dim, out, |x| load_f16(x), |x| vgetq_lane_f32::<0>(half_in_all(x))),
    }
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
            let add = |i: usize, p: [float32x4_t; Q], sums: &mut [[Eight; D]; Q]| {
                let v = &self.v[i * self.stride + *c..][..8 * D].as_chunks::<8>().0;
                for d in 0..D {
                    let v = load(&v[d]);
                    for j in 0..Q {
                        sums[j][d] = fma(sums[j][d], v, [p[j]; 2]);
                    }
                }
                for sum in sums.as_flattened_mut().as_flattened_mut() {
                    // Position by position: several at once would not fit the registers.
                    *sum = settled_float(*sum);
                }
            };
            // Four weights in a load, and products by element: to have one in all lanes takes more than a load. With fewer
            // queries the conversions take longer.
            let fours = if Q == 4 { self.n / 4 } else { 0 };
            for k in 0..fours {
                let p = p.map(|p| load_f32(&p.as_chunks().0[k]));
                unrolled!(4, |i| {
                    add(4 * k + i, p.map(|p| lane(p, i)), &mut sums);
                });
            }
            for i in 4 * fours..self.n {
                add(i, p.map(|p| vdupq_n_f32(p[i])), &mut sums);
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
