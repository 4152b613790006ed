//! Dot products of float32, float16 and bfloat16 rows with float32 vectors: matrix products and attention scores.
//!
//! Every result is eight fused sums, lane i over the elements i, i + 8, …, added up at the end in one order, whatever tile
//! it is computed in.
use std::arch::aarch64::*;

use half::f16;

use super::instructions::{fcvtl, fcvtl2};
use super::lanes::*;
use crate::act::ActView;

/// Rows taken through all vectors before the next ones: at most 128 KiB of 4,096 columns in F16, so that they stay in
/// the second-level cache.
const ROWS: usize = 16;

/// Eight floats.
pub(super) type Eight = [float32x4_t; 2];

#[target_feature(enable = "neon")]
pub(super) fn mul_f32(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let load = |x: &[[u8; 4]; 8]| {
        let x = x.as_chunks::<4>().0;
        [0, 1].map(|i| vreinterpretq_f32_u8(load_u8(zerocopy::transmute_ref!(&x[i]))))
    };
    multiply(w.as_chunks::<4>().0, acts, out, load);
}

#[target_feature(enable = "neon")]
pub(super) fn mul_f16(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    multiply(w.as_chunks::<2>().0, acts, out, |x: &[[u8; 2]; 8]| widen_8(vreinterpretq_u16_u8(load_16_bytes(x))));
}

#[target_feature(enable = "neon")]
pub(super) fn mul_bf16(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // A bfloat16 is the upper half of a float32.
    let load = |x: &[[u8; 2]; 8]| {
        let x = vreinterpretq_u16_u8(load_16_bytes(x));
        let (low, high) = (vshll_n_u16::<16>(vget_low_u16(x)), vshll_high_n_u16::<16>(x));
        [vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high)]
    };
    multiply(w.as_chunks::<2>().0, acts, out, load);
}

/// Eight floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_8(x: &[f32; 8]) -> Eight {
    let x = x.as_chunks().0;
    [load_f32(&x[0]), load_f32(&x[1])]
}

/// Writes eight floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_8(x: &mut [f32; 8], v: Eight) {
    let x = x.as_chunks_mut().0;
    store_f32(&mut x[0], v[0]);
    store_f32(&mut x[1], v[1]);
}

/// Eight halves.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_f16(x: &[f16; 8]) -> Eight {
    // SAFETY: 16 readable bytes; the load takes any alignment, and f16 is 16 bits.
    widen_8(unsafe { vld1q_u16(x.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "neon")]
fn load_16_bytes(x: &[[u8; 2]; 8]) -> uint8x16_t {
    load_u8(zerocopy::transmute_ref!(x))
}

#[inline]
#[target_feature(enable = "neon")]
fn widen_8(x: uint16x8_t) -> Eight {
    [fcvtl(vget_low_u16(x)), fcvtl2(x)]
}

/// `acc + a·b`, fused.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn fma(acc: Eight, a: Eight, b: Eight) -> Eight {
    [vfmaq_f32(acc[0], a[0], b[0]), vfmaq_f32(acc[1], a[1], b[1])]
}

/// The sum of eight floats, added as `scalar::add_lanes` does.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn sum_8(v: Eight) -> f32 {
    let fours = vpaddq_f32(v[0], v[1]);
    let pairs = vpadd_f32(vget_low_f32(fours), vget_high_f32(fours));
    vget_lane_f32::<0>(pairs) + vget_lane_f32::<1>(pairs)
}

/// `out[t * rows + r]` for elements `E` that `load` widens eight at a time.
#[inline]
#[target_feature(enable = "neon")]
fn multiply<E: Copy + Default>(w: &[E], acts: ActView<'_>, out: &mut [f32], load: impl Fn(&[E; 8]) -> Eight) {
    let cols = acts.cols();
    let rows = w.len() / cols;
    for first in (0..rows).step_by(ROWS) {
        let n = ROWS.min(rows - first);
        let row = |r: usize| &w[(first + r) * cols..][..cols];
        tiles(n, row, acts.tokens(), |t| acts.floats(t), &load, |r, t, dot| out[t * rows + first + r] = dot);
    }
}

/// Calls `put(row, vector, dot product)` for every pair.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn tiles<'a, E: Copy + Default + 'a>(
    rows: usize,
    row: impl Fn(usize) -> &'a [E],
    vectors: usize,
    vector: impl Fn(usize) -> &'a [f32],
    load: &impl Fn(&[E; 8]) -> Eight,
    mut put: impl FnMut(usize, usize, f32),
) {
    // Tiles of 2 × 4, then 4 × 2, then 4 × 1: the sums and operands of each fit the 32 registers, and a row's conversion
    // serves four vectors.
    let mut t = 0;
    while t + 4 <= vectors {
        let four = [vector(t), vector(t + 1), vector(t + 2), vector(t + 3)];
        let mut r = 0;
        while r + 2 <= rows {
            tile::<E, 2, 4>([row(r), row(r + 1)], four, load, |i, j, dot| put(r + i, t + j, dot));
            r += 2;
        }
        if r < rows {
            tile::<E, 1, 4>([row(r)], four, load, |_, j, dot| put(r, t + j, dot));
        }
        t += 4;
    }
    while t < vectors {
        let pair = t + 2 <= vectors;
        let mut r = 0;
        while r + 4 <= rows {
            let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
            if pair {
                tile::<E, 4, 2>(four, [vector(t), vector(t + 1)], load, |i, j, dot| put(r + i, t + j, dot));
            } else {
                tile::<E, 4, 1>(four, [vector(t)], load, |i, _, dot| put(r + i, t, dot));
            }
            r += 4;
        }
        for r in r..rows {
            if pair {
                tile::<E, 1, 2>([row(r)], [vector(t), vector(t + 1)], load, |_, j, dot| put(r, t + j, dot));
            } else {
                tile::<E, 1, 1>([row(r)], [vector(t)], load, |_, _, dot| put(r, t, dot));
            }
        }
        t += if pair { 2 } else { 1 };
    }
}

/// The dot products of `R` rows with `T` vectors of the same length.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn tile<E: Copy + Default, const R: usize, const T: usize>(
    rows: [&[E]; R],
    vectors: [&[f32]; T],
    load: &impl Fn(&[E; 8]) -> Eight,
    mut put: impl FnMut(usize, usize, f32),
) {
    let len = rows[0].len();
    let (rows_8, vectors_8) = (eights(rows, len / 8), eights(vectors, len / 8));
    let mut sums = [[[vdupq_n_f32(0.0); 2]; T]; R];
    for c in 0..len / 8 {
        let mut w = [[vdupq_n_f32(0.0); 2]; R];
        for r in 0..R {
            w[r] = load(&rows_8[r][c]);
        }
        for t in 0..T {
            let x = load_8(&vectors_8[t][c]);
            for r in 0..R {
                sums[r][t] = fma(sums[r][t], w[r], x);
            }
        }
    }
    if !len.is_multiple_of(8) {
        for r in 0..R {
            let w = load(&padded(rows[r]));
            for t in 0..T {
                sums[r][t] = fma(sums[r][t], w, load_8(&padded(vectors[t])));
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            put(r, t, sum_8(sums[r][t]));
        }
    }
}

/// The first `8 * n` elements of each.
#[inline]
fn eights<E, const N: usize>(slices: [&[E]; N], n: usize) -> [&[[E; 8]]; N] {
    slices.map(|slice| &slice.as_chunks().0[..n])
}

/// The last `len % 8` elements, then zeros.
#[inline]
fn padded<E: Copy + Default>(x: &[E]) -> [E; 8] {
    let rest = x.as_chunks::<8>().1;
    std::array::from_fn(|i| rest.get(i).copied().unwrap_or_default())
}
