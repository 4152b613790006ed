//! Four dot products at once, a lane each: of four rows, or of four sub-blocks of one.
use std::arch::aarch64::*;

use super::gemv::START;
use super::instructions::{sdot, settled, settled_ref, smlal2};
use super::lanes::{load_i32, sum4};

/// `N` vectors of levels times `N` of activations, four times, without dot product instructions. `MAX`: the largest magnitude
/// of a level; that of an activation is 127.
///
/// What a multiplication makes are int16, and they are added up as such while they fit: a lane takes 2·N products, then
/// pairs of lanes, then fours.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn multiply<const N: usize, const MAX: i32>(w: [[int8x16_t; N]; 4], x: [[int8x16_t; N]; 4]) -> int32x4_t {
    let lane = const { 2 * N as i32 * MAX * 127 };
    if lane > i16::MAX as i32 {
        let mut sums = [vdupq_n_s32(0); 4];
        for r in 0..4 {
            sums[r] = vpaddlq_s16(products([w[r][0]], [x[r][0]]));
            for i in 1..N {
                sums[r] = vpadalq_s16(sums[r], products([w[r][i]], [x[r][i]]));
            }
        }
        return sum4(sums);
    }
    let p = [products(w[0], x[0]), products(w[1], x[1]), products(w[2], x[2]), products(w[3], x[3])];
    if 2 * lane > i16::MAX as i32 {
        return sum4([vpaddlq_s16(p[0]), vpaddlq_s16(p[1]), vpaddlq_s16(p[2]), vpaddlq_s16(p[3])]);
    }
    let (low, high) = (vpaddq_s16(p[0], p[1]), vpaddq_s16(p[2], p[3]));
    if 4 * lane > i16::MAX as i32 {
        vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))
    } else {
        vpaddlq_s16(vpaddq_s16(low, high))
    }
}

/// The same with one vector of activations, as floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn multiply_to_floats<const N: usize, const MAX: i32>(
    w: [[int8x16_t; N]; 4],
    x: [int8x16_t; N],
) -> float32x4_t {
    if const { 2 * N as i32 * MAX * 127 <= i16::MAX as i32 } {
        return vcvtq_f32_s32(multiply::<N, MAX>(w, [x; 4]));
    }
    // Sums start from memory: SADALP takes the pipe of a Cortex-A72 that doesn't multiply, SADDLP the one that is free.
    const { assert!(16 * N as i32 * MAX * 127 < 1 << 22) };
    static STARTS: [[i32; 4]; 4] = [[START.to_bits() as i32 / 4; 4]; 4];
    let starts = settled_ref(&STARTS);
    let mut sums = [vdupq_n_s32(0); 4];
    for r in 0..4 {
        sums[r] = load_i32(&starts[r]);
        for i in 0..N {
            let low = vmull_s8(vget_low_s8(w[r][i]), vget_low_s8(x[i]));
            sums[r] = vpadalq_s16(sums[r], smlal2(low, w[r][i], x[i]));
        }
    }
    vsubq_f32(vreinterpretq_f32_s32(sum4(sums)), vdupq_n_f32(START))
}

/// `sum` and the dot products of four sub-blocks of a row, each times its scale, spread over the lanes. `scales` has each
/// twice; `centre` is taken away before.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_four<const N: usize, const MAX: i32>(
    sum: int32x4_t,
    w: [[int8x16_t; N]; 4],
    x: [[int8x16_t; N]; 4],
    scales: int16x8_t,
    centre: Option<int16x8_t>,
) -> int32x4_t {
    if const { 8 * N as i32 * MAX * 127 > i16::MAX as i32 } {
        return vmlaq_s32(sum, multiply::<N, MAX>(w, x), vshrq_n_s32::<16>(vreinterpretq_s32_s16(scales)));
    }
    let mut dots = halves_of_four(w, x);
    if let Some(centre) = centre {
        // The compiler would subtract before the last addition, and take that apart.
        dots = vsubq_s16(settled(dots), centre);
    }
    vmlal_high_s16(vmlal_s16(sum, vget_low_s16(dots), vget_low_s16(scales)), dots, scales)
}

/// Four dot products in two parts each, modulo 2¹⁶.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn halves_of_four<const N: usize>(w: [[int8x16_t; N]; 4], x: [[int8x16_t; N]; 4]) -> int16x8_t {
    let p = [products(w[0], x[0]), products(w[1], x[1]), products(w[2], x[2]), products(w[3], x[3])];
    vpaddq_s16(vpaddq_s16(p[0], p[1]), vpaddq_s16(p[2], p[3]))
}

/// Lane i: the products i and i + 8 of each pair of vectors.
#[inline]
#[target_feature(enable = "neon")]
fn products<const N: usize>(w: [int8x16_t; N], x: [int8x16_t; N]) -> int16x8_t {
    let mut sum = vmull_s8(vget_low_s8(w[0]), vget_low_s8(x[0]));
    sum = vmlal_high_s8(sum, w[0], x[0]);
    for i in 1..N {
        sum = vmlal_s8(sum, vget_low_s8(w[i]), vget_low_s8(x[i]));
        sum = vmlal_high_s8(sum, w[i], x[i]);
    }
    sum
}

/// Adds the products to the rows' `sums` and gives what they come to: all products so far.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn run_on<const N: usize>(
    sums: &mut [int32x4_t; 4],
    w: [[int8x16_t; N]; 4],
    x: [int8x16_t; N],
) -> int32x4_t {
    for r in 0..4 {
        for i in 0..N {
            sums[r] = sdot(sums[r], w[r][i], x[i]);
        }
    }
    sum4(*sums)
}
