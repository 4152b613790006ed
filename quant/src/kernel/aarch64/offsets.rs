//! What the minimums of a block come to.
use std::arch::aarch64::*;

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
