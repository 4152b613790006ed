//! The most int8 multiply-adds that a level can do, on registers alone.
use std::arch::aarch64::*;

use super::instructions::{sdot, settled, smmla};

/// Independent sums, as many as hide an instruction's latency.
const SUMS: usize = 8;

/// A function that does `rounds` of an instruction with this many multiply-adds and gives their number.
macro_rules! speed {
    ($name:ident, $features:literal, $each:literal, $sum:ty, $zero:expr, $step:expr) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name(rounds: usize) -> u64 {
            let (w, a) = std::hint::black_box((vdupq_n_s8(3), vdupq_n_s8(5)));
            let mut sums: [$sum; SUMS] = [$zero; SUMS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $step(*sum, w, a);
                }
            }
            std::hint::black_box(sums);
            (SUMS * $each) as u64 * rounds as u64
        }
    };
}

speed!(neon, "neon", 8, int16x8_t, vdupq_n_s16(0), |sum, w, a| settled(vmlal_s8(sum, vget_low_s8(w), vget_low_s8(a))));
speed!(dotprod, "neon,dotprod", 16, int32x4_t, vdupq_n_s32(0), |sum, w, a| sdot(sum, w, a));
speed!(i8mm, "neon,i8mm", 32, int32x4_t, vdupq_n_s32(0), |sum, w, a| smmla(sum, w, a));
