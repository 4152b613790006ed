//! Q4_K, Q5_K, Q6_K times one token: integer sums of four rows at a time, straight from the blocks.
use std::arch::x86_64::*;

use super::lanes::{self, *};
use crate::act::ActView;
use crate::block::{Block, BlockQ4K, BlockQ5K, BlockQ6K, SUPER, blocks};

/// Rows whose sums are reduced together: four vectors of eight lanes make one of four totals.
const ROWS: usize = 4;

/// One block of a token's row.
struct ActBlock<'a> {
    /// The 256 values, 32 at a time.
    q: &'a [[i8; 32]; 8],
    /// Sums per 16.
    sums16: __m256i,
    /// Sums per 32, in order.
    sums32: __m128i,
}

/// The int32 lanes of a row's block: Σ scale·(q·a), and Σ min·(Σ a).
struct Sums {
    dot: __m256i,
    offset: __m128i,
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q4_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let repeat = Repeat::new();
    gemv(w, acts, out, |w: &BlockQ4K, a| sums_q4_k(w, a, &repeat), |w| (w.d.bits(), w.dmin.bits()));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let repeat = Repeat::new();
    gemv(w, acts, out, |w: &BlockQ5K, a| sums_q5_k(w, a, &repeat), |w| (w.d.bits(), w.dmin.bits()));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q6_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let repeat = Repeat::new();
    gemv(w, acts, out, |w: &BlockQ6K, a| sums_q6_k(w, a, &repeat), |w| (w.d.bits(), 0));
}

/// `sum += da · (d · dot − dmin · offset)` block by block, as the scalar definition has it.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn gemv<B: Block>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    sums: impl Fn(&B, &ActBlock<'_>) -> Sums,
    units: impl Fn(&B) -> (u16, u16),
) {
    let per_row = acts.cols() / SUPER;
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    for first in (0..rows).step_by(ROWS) {
        let w: [&[B]; ROWS] = lanes::rows(w, per_row, first);
        let step = ROWS * size_of::<B>();
        for t in 0..acts.tokens() {
            let q = acts.quants(t).as_chunks::<32>().0.as_chunks::<8>().0;
            let sums16 = acts.sums(t).as_chunks::<16>().0;
            let scales = acts.scales(t);
            let mut total = _mm_setzero_ps();
            for b in 0..per_row {
                if t == 0 {
                    // A block of each row further on: the rows to come lie right behind these.
                    prefetch(w[0], (per_row + b) * step, step);
                }
                let sums16 = load_i16(&sums16[b]);
                let sums32 = _mm_hadd_epi16(_mm256_castsi256_si128(sums16), _mm256_extracti128_si256::<1>(sums16));
                let a = ActBlock { q: &q[b], sums16, sums32 };
                let s: [Sums; ROWS] = [sums(&w[0][b], &a), sums(&w[1][b], &a), sums(&w[2][b], &a), sums(&w[3][b], &a)];
                let u = [units(&w[0][b]), units(&w[1][b]), units(&w[2][b]), units(&w[3][b])];
                let dot = sum4_i32([s[0].dot, s[1].dot, s[2].dot, s[3].dot]);
                let offset = sum4_i32_half([s[0].offset, s[1].offset, s[2].offset, s[3].offset]);
                let value = _mm_sub_ps(
                    _mm_mul_ps(halves4([u[0].0, u[1].0, u[2].0, u[3].0]), _mm_cvtepi32_ps(dot)),
                    _mm_mul_ps(halves4([u[0].1, u[1].1, u[2].1, u[3].1]), _mm_cvtepi32_ps(offset)),
                );
                total = _mm_add_ps(total, _mm_mul_ps(_mm_set1_ps(scales[b]), value));
            }
            let mut totals = [0.0; ROWS];
            store_f32_half(&mut totals, total);
            let n = ROWS.min(rows - first);
            out[t * rows + first..][..n].copy_from_slice(&totals[..n]);
        }
    }
}

/// The packed scales (low half) and minimums (high half) of a block as int16.
#[inline]
#[target_feature(enable = "avx2")]
fn scales_and_mins(packed: &[u8; 12]) -> __m256i {
    let word = |i: usize| u32::from_le_bytes([packed[i], packed[i + 1], packed[i + 2], packed[i + 3]]);
    let (scale, min, low) = (word(0), word(4), word(8));
    // Four 6-bit numbers at once; the layout is described in block/scales.rs.
    _mm256_cvtepu8_epi16(_mm_setr_epi32(
        (scale & 0x3f3f_3f3f) as i32,
        (low & 0x0f0f_0f0f | (scale >> 6 & 0x0303_0303) << 4) as i32,
        (min & 0x3f3f_3f3f) as i32,
        (low >> 4 & 0x0f0f_0f0f | (min >> 6 & 0x0303_0303) << 4) as i32,
    ))
}

/// Shuffles that put the int16 number j of each half in every place of the half.
struct Repeat(&'static [[u8; 32]; 8]);

impl Repeat {
    fn new() -> Repeat {
        static PLACES: [[u8; 32]; 8] = {
            let mut places = [[0; 32]; 8];
            let mut i = 0;
            while i < 8 * 32 {
                places[i / 32][i % 32] = (2 * (i / 32) + i % 2) as u8;
                i += 1;
            }
            places
        };
        // Hidden from the compiler, which makes two instructions of a shuffle that it knows.
        Repeat(std::hint::black_box(&PLACES))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn scale(&self, scales: __m256i, j: usize) -> __m256i {
        _mm256_shuffle_epi8(scales, load_u8(&self.0[j]))
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sums_q4_k(w: &BlockQ4K, a: &ActBlock<'_>, repeat: &Repeat) -> Sums {
    let both = scales_and_mins(&w.scales);
    let scales = _mm256_permute2x128_si256::<0x00>(both, both);
    let mut dot = _mm256_setzero_si256();
    for (i, qs) in w.qs.as_chunks::<32>().0.iter().enumerate() {
        let qs = load_u8(qs);
        let low = _mm256_maddubs_epi16(low_nibbles(qs), load_i8(&a.q[2 * i]));
        let high = _mm256_maddubs_epi16(high_nibbles(qs), load_i8(&a.q[2 * i + 1]));
        dot = _mm256_add_epi32(dot, _mm256_madd_epi16(low, repeat.scale(scales, 2 * i)));
        dot = _mm256_add_epi32(dot, _mm256_madd_epi16(high, repeat.scale(scales, 2 * i + 1)));
    }
    Sums { dot, offset: _mm_madd_epi16(_mm256_extracti128_si256::<1>(both), a.sums32) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sums_q5_k(w: &BlockQ5K, a: &ActBlock<'_>, repeat: &Repeat) -> Sums {
    let both = scales_and_mins(&w.scales);
    let scales = _mm256_permute2x128_si256::<0x00>(both, both);
    let qh = load_u8(&w.qh);
    let mut dot = _mm256_setzero_si256();
    for (i, qs) in w.qs.as_chunks::<32>().0.iter().enumerate() {
        let qs = load_u8(qs);
        let low = _mm256_or_si256(low_nibbles(qs), fifth_bit(qh, 2 * i));
        let high = _mm256_or_si256(high_nibbles(qs), fifth_bit(qh, 2 * i + 1));
        let low = _mm256_maddubs_epi16(low, load_i8(&a.q[2 * i]));
        let high = _mm256_maddubs_epi16(high, load_i8(&a.q[2 * i + 1]));
        dot = _mm256_add_epi32(dot, _mm256_madd_epi16(low, repeat.scale(scales, 2 * i)));
        dot = _mm256_add_epi32(dot, _mm256_madd_epi16(high, repeat.scale(scales, 2 * i + 1)));
    }
    Sums { dot, offset: _mm_madd_epi16(_mm256_extracti128_si256::<1>(both), a.sums32) }
}

/// Levels are taken as 0 … 63 and 32 times the scaled sums of the activations subtracted.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_q6_k(w: &BlockQ6K, a: &ActBlock<'_>, repeat: &Repeat) -> Sums {
    let scales = load_u8_half(zerocopy::transmute_ref!(&w.scales));
    let offset = _mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), a.sums16);
    let mut dot = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32::<5>(offset));
    // A vector of 32 values is two sub-blocks: the even scales go to the low half, the odd ones to the high half.
    let even_odd = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    let scales = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, even_odd));
    let (ql, qh) = (w.ql.as_chunks::<32>().0, w.qh.as_chunks::<32>().0);
    for n in 0..2 {
        let levels = levels_q6_k(load_u8(&ql[2 * n]), load_u8(&ql[2 * n + 1]), load_u8(&qh[n]));
        for (i, levels) in levels.into_iter().enumerate() {
            let j = 4 * n + i;
            let products = _mm256_maddubs_epi16(levels, load_i8(&a.q[j]));
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(products, repeat.scale(scales, j)));
        }
    }
    Sums { dot, offset: _mm_setzero_si128() }
}

/// The levels 0 … 63 of 128 values, 32 at a time, from their low and high bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn levels_q6_k(low: __m256i, low_next: __m256i, high: __m256i) -> [__m256i; 4] {
    let bits = |high: __m256i| _mm256_and_si256(high, _mm256_set1_epi8(0x30));
    [
        _mm256_or_si256(low_nibbles(low), bits(_mm256_slli_epi16::<4>(high))),
        _mm256_or_si256(low_nibbles(low_next), bits(_mm256_slli_epi16::<2>(high))),
        _mm256_or_si256(high_nibbles(low), bits(high)),
        _mm256_or_si256(high_nibbles(low_next), bits(_mm256_srli_epi16::<2>(high))),
    ]
}
