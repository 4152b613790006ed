//! The heads of Q4_K and Q5_K, of eight rows at once: a lane is a row. The packing of their scales is described in
//! block/scales.rs.
use std::arch::x86_64::*;

use super::lanes::*;

/// The scales of the sub-blocks 0 … 3 and 4 … 7, one a byte, from the words 1 and 3 of the blocks.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scales(first: __m256i, low: __m256i) -> [__m256i; 2] {
    [six_bits(first), _mm256_or_si256(low_nibbles(low), top_bits(first))]
}

/// `d · dots − dmin · Σ min·(Σ a)`, from the words 0, 2 and 3 of the blocks. `sums` are the activations' per 16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn value(units: __m256i, min: __m256i, low: __m256i, sums: &[i16; 16], dots: __m256i) -> __m256 {
    let mins = [six_bits(min), _mm256_or_si256(high_nibbles(low), top_bits(min))];
    // Bytes 0 and 2 of each lane, then 1 and 3, with the sums of the activations that they are for.
    let sums = load_i16(sums);
    let sums = _mm_hadd_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let sums = _mm_shufflehi_epi16::<0b11_01_10_00>(_mm_shufflelo_epi16::<0b11_01_10_00>(sums));
    let pair = |v| _mm256_broadcastd_epi32(v);
    let even = |v| _mm256_and_si256(v, _mm256_set1_epi32(0x00ff_00ff));
    let odd = |v| _mm256_srli_epi16::<8>(v);
    let offset = _mm256_add_epi32(
        _mm256_add_epi32(
            _mm256_madd_epi16(even(mins[0]), pair(sums)),
            _mm256_madd_epi16(odd(mins[0]), pair(_mm_shuffle_epi32::<1>(sums))),
        ),
        _mm256_add_epi32(
            _mm256_madd_epi16(even(mins[1]), pair(_mm_shuffle_epi32::<2>(sums))),
            _mm256_madd_epi16(odd(mins[1]), pair(_mm_shuffle_epi32::<3>(sums))),
        ),
    );
    let (d, dmin) = unit_pairs(units);
    _mm256_sub_ps(_mm256_mul_ps(d, _mm256_cvtepi32_ps(dots)), _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(offset)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn six_bits(v: __m256i) -> __m256i {
    _mm256_and_si256(v, _mm256_set1_epi8(63))
}

/// The upper two bits of each byte, as bits 4 and 5.
#[inline]
#[target_feature(enable = "avx2")]
fn top_bits(v: __m256i) -> __m256i {
    _mm256_and_si256(_mm256_srli_epi32::<2>(v), _mm256_set1_epi8(0x30))
}

/// The byte `j` of each lane, as two int16.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn twice(v: __m256i, j: usize) -> __m256i {
    /// `[j]`: where each byte comes from.
    static PLACES: [[u8; 32]; 4] = {
        let mut places = [[0x80; 32]; 4];
        let mut i = 0;
        while i < 4 * 16 {
            let (j, pair) = (i / 16, i % 16);
            places[j][2 * pair] = (pair % 8 / 2 * 4 + j) as u8;
            i += 1;
        }
        places
    };
    _mm256_shuffle_epi8(v, load_u8(&PLACES[j]))
}
