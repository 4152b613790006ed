//! Q2_K, Q3_K, IQ4_XS times one token: integer sums of eight rows at a time, straight from the blocks.
use std::arch::x86_64::*;

use super::gemv_small::levels_4_bits;
use super::gemv_super::{ActBlock, ROWS, Repeat, even_odd, gemv};
use super::lanes::*;
use crate::act::ActView;
use crate::block::{BlockIq4Xs, BlockQ2K, BlockQ3K};

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q3_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let repeat = Repeat::new();
    gemv(w, acts, out, |w: [&BlockQ3K; ROWS], a, ahead| {
        let sums = load_i16(a.sums);
        let mut dots = [_mm256_setzero_si256(); ROWS];
        for r in 0..ROWS {
            ahead.step(ROWS);
            dots[r] = dot_q3_k(w[r], a, sums, &repeat);
        }
        _mm256_mul_ps(halves8(w.map(|w| w.d.bits())), _mm256_cvtepi32_ps(sum8_i32(dots)))
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q2_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let repeat = Repeat::new();
    gemv(w, acts, out, |w: [&BlockQ2K; ROWS], a, ahead| {
        let sums = load_i16(a.sums);
        let mut dots = [_mm256_setzero_si256(); ROWS];
        let mut offsets = [_mm256_setzero_si256(); ROWS];
        for r in 0..ROWS {
            ahead.step(ROWS);
            (dots[r], offsets[r]) = dot_q2_k(w[r], a, sums, &repeat);
        }
        let (d, dmin) = (halves8(w.map(|w| w.d.bits())), halves8(w.map(|w| w.dmin.bits())));
        let (dot, offset) = (_mm256_cvtepi32_ps(sum8_i32(dots)), _mm256_cvtepi32_ps(sum8_i32(offsets)));
        _mm256_sub_ps(_mm256_mul_ps(d, dot), _mm256_mul_ps(dmin, offset))
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn iq4_xs(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let repeat = Repeat::new();
    gemv(w, acts, out, |w: [&BlockIq4Xs; ROWS], a, ahead| {
        let mut dots = [_mm256_setzero_si256(); ROWS];
        for r in 0..ROWS {
            ahead.step(ROWS);
            dots[r] = dot_iq4_xs(w[r], a, &repeat);
        }
        _mm256_mul_ps(halves8(w.map(|w| w.d.bits())), _mm256_cvtepi32_ps(sum8_i32(dots)))
    });
}

/// The lanes of Σ scale·(q·a). Levels are taken as 0 … 7 and 4 times the scaled sums of the activations subtracted.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_q3_k(w: &BlockQ3K, a: &ActBlock<'_>, sums: __m256i, repeat: &Repeat) -> __m256i {
    let scales = scales_q3_k(&w.scales);
    let offset = _mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), sums);
    let mut dot = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32::<2>(offset));
    let scales = _mm256_cvtepi8_epi16(even_odd(scales));
    let hmask = load_u8(&w.hmask);
    for (n, qs) in w.qs.as_chunks::<32>().0.iter().enumerate() {
        for (i, low) in levels_2_bits(load_u8(qs)).into_iter().enumerate() {
            let j = 4 * n + i;
            let products = _mm256_maddubs_epi16(_mm256_or_si256(low, third_bit(hmask, j)), load_i8(&a.q[j]));
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(products, repeat.scale(scales, j)));
        }
    }
    dot
}

/// The sixteen scales -32 … 31 of a block of Q3_K as int8; the layout is described in block/q3_k.rs.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scales_q3_k(packed: &[u8; 12]) -> __m128i {
    let word = |i: usize| u32::from_le_bytes([packed[i], packed[i + 1], packed[i + 2], packed[i + 3]]);
    let (first, second, high) = (word(0), word(4), word(8));
    // Four numbers at once.
    let join = |low: u32, high: u32| (low & 0x0f0f_0f0f | (high & 0x0303_0303) << 4) as i32;
    let scales = _mm_setr_epi32(
        join(first, high),
        join(second, high >> 2),
        join(first >> 4, high >> 4),
        join(second >> 4, high >> 6),
    );
    _mm_sub_epi8(scales, _mm_set1_epi8(32))
}

/// The lanes of Σ scale·(q·a), and of Σ min·(Σ a).
#[inline]
#[target_feature(enable = "avx2")]
fn dot_q2_k(w: &BlockQ2K, a: &ActBlock<'_>, sums: __m256i, repeat: &Repeat) -> (__m256i, __m256i) {
    let both = load_u8_half(&w.scales);
    let low_nibbles = |v| _mm_and_si128(v, _mm_set1_epi8(15));
    let scales = _mm256_cvtepu8_epi16(even_odd(low_nibbles(both)));
    let mins = _mm256_cvtepu8_epi16(low_nibbles(_mm_srli_epi16::<4>(both)));
    let offset = _mm256_madd_epi16(mins, sums);
    let mut dot = _mm256_setzero_si256();
    for (n, qs) in w.qs.as_chunks::<32>().0.iter().enumerate() {
        for (i, levels) in levels_2_bits(load_u8(qs)).into_iter().enumerate() {
            let j = 4 * n + i;
            let products = _mm256_maddubs_epi16(levels, load_i8(&a.q[j]));
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(products, repeat.scale(scales, j)));
        }
    }
    (dot, offset)
}

/// The lanes of Σ scale·(q·a).
#[inline]
#[target_feature(enable = "avx2")]
fn dot_iq4_xs(w: &BlockIq4Xs, a: &ActBlock<'_>, repeat: &Repeat) -> __m256i {
    let scales = _mm_cvtepi8_epi16(_mm_set_epi64x(0, i64::from_le_bytes(w.unpack_scales().map(|s| s as u8))));
    let scales = _mm256_broadcastsi128_si256(scales);
    let mut dot = _mm256_setzero_si256();
    for (j, qs) in w.qs.iter().enumerate() {
        let products = signed_products(non_linear(levels_4_bits(qs)), load_i8(&a.q[j]));
        dot = _mm256_add_epi32(dot, _mm256_madd_epi16(products, repeat.scale(scales, j)));
    }
    dot
}
