//! Activations to int8: the bits of the scalar definition, since every operation here is exact or the same.
use std::arch::x86_64::*;

use super::lanes::*;

/// A scale and a sum per 32 values.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantize_32(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i16]) {
    let blocks = x.as_chunks::<32>().0.iter().zip(q.as_chunks_mut::<32>().0);
    for (((x, q), scale), sum) in blocks.zip(scales).zip(sums) {
        let per_unit;
        (*scale, per_unit) = scale_of(x.as_chunks().0);
        let [low, high] = quantize(x, q, per_unit);
        *sum = low + high;
    }
}

/// A scale per 256 values and a sum per 16.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantize_256(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i16]) {
    let blocks = x.as_chunks::<256>().0.iter().zip(q.as_chunks_mut::<256>().0);
    for (((x, q), scale), sums) in blocks.zip(scales).zip(sums.as_chunks_mut::<16>().0) {
        let per_unit;
        (*scale, per_unit) = scale_of(x.as_chunks().0);
        let parts = x.as_chunks::<32>().0.iter().zip(q.as_chunks_mut::<32>().0);
        for ((x, q), sums) in parts.zip(sums.as_chunks_mut::<2>().0) {
            *sums = quantize(x, q, per_unit);
        }
    }
}

/// (scale, levels per unit).
#[inline]
#[target_feature(enable = "avx2")]
fn scale_of(x: &[[f32; 8]]) -> (f32, f32) {
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    let mut most = _mm256_setzero_si256();
    for x in x {
        most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(load_f32(x)), magnitude));
    }
    let most = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
    let most = _mm_max_epu32(most, _mm_shuffle_epi32::<0b01_00_11_10>(most));
    let most = _mm_max_epu32(most, _mm_shuffle_epi32::<0b10_11_00_01>(most));
    crate::act::scale_of_largest(f32::from_bits(_mm_cvtsi128_si32(most) as u32))
}

/// Writes 32 levels; returns the sums of both halves. `per_unit` 0 means zeros, whatever the values.
#[inline]
#[target_feature(enable = "avx2")]
fn quantize(x: &[f32; 32], q: &mut [i8; 32], per_unit: f32) -> [i16; 2] {
    if per_unit == 0.0 {
        *q = [0; 32];
        return [0; 2];
    }
    let x = x.as_chunks::<8>().0;
    let per_unit = _mm256_set1_ps(per_unit);
    let level = |i: usize| _mm256_cvtps_epi32(_mm256_mul_ps(load_f32(&x[i]), per_unit));
    let packed = _mm256_packs_epi16(_mm256_packs_epi32(level(0), level(1)), _mm256_packs_epi32(level(2), level(3)));
    // Packing works within halves: words come out as 0, 2, 4, 6 | 1, 3, 5, 7.
    let levels = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    store_i8(q, levels);
    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), levels);
    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    let eights = _mm256_hadd_epi32(fours, fours);
    let sums = _mm256_hadd_epi32(eights, eights);
    [_mm256_extract_epi32::<0>(sums) as i16, _mm256_extract_epi32::<4>(sums) as i16]
}
