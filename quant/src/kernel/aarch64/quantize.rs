//! Activations to int8: the bits of the scalar definition, since every operation here is exact or the same.
use std::arch::aarch64::*;

use super::lanes::*;

/// A scale and a sum per 32 values.
#[target_feature(enable = "neon")]
pub(super) fn quantize_32(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i16]) {
    let blocks = x.as_chunks::<32>().0.iter().zip(q.as_chunks_mut::<32>().0);
    for (((x, q), scale), sum) in blocks.zip(scales).zip(sums) {
        let per_unit;
        (*scale, per_unit) = scale_of(x.as_chunks().0);
        let parts = x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0);
        *sum = parts.map(|(x, q)| quantize(x, q, per_unit)).sum();
    }
}

/// A scale per 256 values and a sum per 16.
#[target_feature(enable = "neon")]
pub(super) fn quantize_256(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i16]) {
    let blocks = x.as_chunks::<256>().0.iter().zip(q.as_chunks_mut::<256>().0);
    for (((x, q), scale), sums) in blocks.zip(scales).zip(sums.as_chunks_mut::<16>().0) {
        let per_unit;
        (*scale, per_unit) = scale_of(x.as_chunks().0);
        let parts = x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0);
        for ((x, q), sum) in parts.zip(sums) {
            *sum = quantize(x, q, per_unit);
        }
    }
}

/// (scale, levels per unit).
#[inline]
#[target_feature(enable = "neon")]
fn scale_of(x: &[[f32; 4]]) -> (f32, f32) {
    let mut most = vdupq_n_u32(0);
    for x in x {
        let magnitude = vandq_u32(vreinterpretq_u32_f32(load_f32(x)), vdupq_n_u32(0x7fff_ffff));
        most = vmaxq_u32(most, magnitude);
    }
    crate::act::scale_of_largest(f32::from_bits(vmaxvq_u32(most)))
}

/// Writes 16 levels; returns their sum. `per_unit` 0 means zeros, whatever the values.
#[inline]
#[target_feature(enable = "neon")]
fn quantize(x: &[f32; 16], q: &mut [i8; 16], per_unit: f32) -> i16 {
    if per_unit == 0.0 {
        *q = [0; 16];
        return 0;
    }
    let x = x.as_chunks::<4>().0;
    let level = |i: usize| vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(load_f32(&x[i]), per_unit)));
    let (low, high) = (vcombine_s16(level(0), level(1)), vcombine_s16(level(2), level(3)));
    store_i8(q, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    vaddvq_s16(vaddq_s16(low, high))
}
