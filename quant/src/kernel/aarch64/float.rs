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

/// Four of those sums.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn sums_8(v: &[Eight; 4]) -> float32x4_t {
    let fours = |i: usize| vpaddq_f32(v[i][0], v[i][1]);
    vpaddq_f32(vpaddq_f32(fours(0), fours(1)), vpaddq_f32(fours(2), fours(3)))
}

/// The sums of all, in as few steps as there are.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn sums<const R: usize, const T: usize>(v: &[[Eight; R]; T]) -> [[f32; R]; T] {
    let mut out = [[0.0; R]; T];
    let (fours, rest) = v.as_flattened().as_chunks();
    let (fours_out, rest_out) = out.as_flattened_mut().as_chunks_mut();
    for (v, out) in fours.iter().zip(fours_out) {
        store_f32(out, sums_8(v));
    }
    for (v, out) in rest.iter().zip(rest_out) {
        *out = sum_8(*v);
    }
    out
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
        tiles(
            n,
            row,
            acts.tokens(),
            |t| acts.floats(t),
            &load,
            |r, t, dots| {
                out[t * rows + first + r..][..dots.len()].copy_from_slice(dots);
            },
        );
    }
}

/// Calls `put(row, vector, dot products of this row and the next ones)` until it has been told all.
///
/// Tiles of 2 × 4, then 4 × 2, then 4 × 1: the sums and operands of each fit the 32 registers, and a row's conversion serves four
/// vectors.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn tiles<'a, E: Copy + Default + 'a>(
    rows: usize,
    row: impl Fn(usize) -> &'a [E],
    vectors: usize,
    vector: impl Fn(usize) -> &'a [f32],
    load: &impl Fn(&[E; 8]) -> Eight,
    mut put: impl FnMut(usize, usize, &[f32]),
) {
    let mut t = 0;
    while t + 4 <= vectors {
        let four = [vector(t), vector(t + 1), vector(t + 2), vector(t + 3)];
        let mut r = 0;
        while r + 2 <= rows {
            tile::<E, 2, 4>([row(r), row(r + 1)], four, load, |j, dots| put(r, t + j, dots));
            r += 2;
        }
        if r < rows {
            tile::<E, 1, 4>([row(r)], four, load, |j, dots| put(r, t + j, dots));
        }
        t += 4;
    }
    while t < vectors {
        let pair = t + 2 <= vectors;
        let mut r = 0;
        while r + 4 <= rows {
            let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
            if pair {
                tile::<E, 4, 2>(four, [vector(t), vector(t + 1)], load, |j, dots| put(r, t + j, dots));
            } else {
                tile::<E, 4, 1>(four, [vector(t)], load, |_, dots| put(r, t, dots));
            }
            r += 4;
        }
        for r in r..rows {
            if pair {
                tile::<E, 1, 2>([row(r)], [vector(t), vector(t + 1)], load, |j, dots| put(r, t + j, dots));
            } else {
                tile::<E, 1, 1>([row(r)], [vector(t)], load, |_, dots| put(r, t, dots));
            }
        }
        t += if pair { 2 } else { 1 };
    }
}

/// Calls `put(vector, its dot products with the rows)` for `R` rows and `T` vectors of the same length.
#[inline]
#[target_feature(enable = "neon")]
fn tile<E: Copy + Default, const R: usize, const T: usize>(
    rows: [&[E]; R],
    vectors: [&[f32]; T],
    load: &impl Fn(&[E; 8]) -> Eight,
    mut put: impl FnMut(usize, &[f32; R]),
) {
    let len = rows[0].len();
    let (rows_8, vectors_8) = (eights(rows, len / 8), eights(vectors, len / 8));
    let mut totals = [[[vdupq_n_f32(0.0); 2]; R]; T];
    let add = |w: [&[E; 8]; R], x: [&[f32; 8]; T], totals: &mut [[Eight; R]; T]| {
        let mut wide = [[vdupq_n_f32(0.0); 2]; R];
        for r in 0..R {
            wide[r] = load(w[r]);
        }
        for t in 0..T {
            let x = load_8(x[t]);
            for r in 0..R {
                totals[t][r] = fma(totals[t][r], wide[r], x);
            }
        }
    };
    // Two at a time: with each a pointer a row and a vector is moved on.
    let (rows_16, vectors_16) = (rows_8.map(|row| row.as_chunks::<2>().0), vectors_8.map(|x| x.as_chunks::<2>().0));
    for c in 0..len / 16 {
        let (w, x) = (rows_16.map(|row| &row[c]), vectors_16.map(|x| &x[c]));
        add(w.map(|w| &w[0]), x.map(|x| &x[0]), &mut totals);
        add(w.map(|w| &w[1]), x.map(|x| &x[1]), &mut totals);
    }
    for c in len / 16 * 2..len / 8 {
        add(rows_8.map(|row| &row[c]), vectors_8.map(|x| &x[c]), &mut totals);
    }
    if !len.is_multiple_of(8) {
        let (w, x) = (rows.map(padded), vectors.map(padded));
        add(w.each_ref(), x.each_ref(), &mut totals);
    }
    for (t, sums) in sums(&totals).iter().enumerate() {
        put(t, sums);
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
