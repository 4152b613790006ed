//! What the minimums of a block come to.
use std::arch::aarch64::*;

use super::instructions::sdot_group;
use super::lanes::load_i16;

/// `Σ min·(Σ a)` out of the sums per 16.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn offset<const P: usize>(mins: &[int16x8_t; P], sums: &[i16; 16]) -> int32x4_t {
    let sums = sums.as_chunks().0;
    let (low, high) = (load_i16(&sums[0]), load_i16(&sums[1]));
    let mut sum = vdupq_n_s32(0);
    match mins.as_chunks::<4>().0 {
        [mins] => sum = add_offset(sum, mins, vpaddq_s16(low, high)),
        [mins_low, mins_high] => sum = add_offset(add_offset(sum, mins_low, low), mins_high, high),
        _ => {}
    }
    sum
}

#[inline]
#[target_feature(enable = "neon")]
fn add_offset(mut sum: int32x4_t, mins: &[int16x8_t; 4], a: int16x8_t) -> int32x4_t {
    sum = vmlal_laneq_s16::<0>(sum, vget_low_s16(mins[0]), a);
    sum = vmlal_high_laneq_s16::<1>(sum, mins[0], a);
    sum = vmlal_laneq_s16::<2>(sum, vget_low_s16(mins[1]), a);
    sum = vmlal_high_laneq_s16::<3>(sum, mins[1], a);
    sum = vmlal_laneq_s16::<4>(sum, vget_low_s16(mins[2]), a);
    sum = vmlal_high_laneq_s16::<5>(sum, mins[2], a);
    sum = vmlal_laneq_s16::<6>(sum, vget_low_s16(mins[3]), a);
    vmlal_high_laneq_s16::<7>(sum, mins[3], a)
}

/// The same with minimums that are bytes -64 … 63, `[4 rows][4 bytes]` in each of the first `P / 2` vectors.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn offset_of_bytes<const P: usize>(mins: &[int16x8_t; P], sums: &[i16; 16]) -> int32x4_t {
    let sums = sums.as_chunks().0;
    let (first, second) = (load_i16(&sums[0]), load_i16(&sums[1]));
    // A sum is less than 2¹³: 128 times one byte, and another.
    let mut sum = vdupq_n_s32(0);
    if P == 4 {
        let pairs = vpaddq_s16(first, second);
        let x = low_bytes(vshrq_n_s16::<7>(pairs), vandq_s16(pairs, vdupq_n_s16(127)));
        let m = [vreinterpretq_s8_s16(mins[0]), vreinterpretq_s8_s16(mins[1])];
        sum = vshlq_n_s32::<7>(sdot_group::<1>(sdot_group::<0>(sum, m[0], x), m[1], x));
        return sdot_group::<3>(sdot_group::<2>(sum, m[0], x), m[1], x);
    }
    let m = [0, 1, 2, 3].map(|i| mins[i]);
    sum = vshlq_n_s32::<7>(dot_of_16(sum, m, low_bytes(vshrq_n_s16::<7>(first), vshrq_n_s16::<7>(second))));
    let low = vdupq_n_s16(127);
    dot_of_16(sum, m, low_bytes(vandq_s16(first, low), vandq_s16(second, low)))
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_of_16(mut sum: int32x4_t, m: [int16x8_t; 4], x: int8x16_t) -> int32x4_t {
    sum = sdot_group::<0>(sum, vreinterpretq_s8_s16(m[0]), x);
    sum = sdot_group::<1>(sum, vreinterpretq_s8_s16(m[1]), x);
    sum = sdot_group::<2>(sum, vreinterpretq_s8_s16(m[2]), x);
    sdot_group::<3>(sum, vreinterpretq_s8_s16(m[3]), x)
}

/// The lower bytes of all.
#[inline]
#[target_feature(enable = "neon")]
fn low_bytes(first: int16x8_t, second: int16x8_t) -> int8x16_t {
    vuzp1q_s8(vreinterpretq_s8_s16(first), vreinterpretq_s8_s16(second))
}
