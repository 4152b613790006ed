//! Q8_0, IQ4_NL, Q4_0, Q4_1, Q5_0, Q5_1 times one token: four rows at a time, straight from the blocks.
use std::arch::x86_64::*;

use super::lanes::{self, *};
use crate::act::ActView;
use crate::block::{Block, BlockIq4Nl, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, blocks};

/// Rows whose sums are reduced together.
const ROWS: usize = 4;

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q8_0(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let products = |w: &BlockQ8_0, a| signed_products(load_i8(&w.qs), a);
    gemv(w, acts, out, 0, products, |w| w.d.bits(), None::<fn(&BlockQ8_0) -> u16>);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn iq4_nl(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let products = |w: &BlockIq4Nl, a| signed_products(non_linear(levels_4_bits(&w.qs)), a);
    gemv(w, acts, out, 0, products, |w| w.d.bits(), None::<fn(&BlockIq4Nl) -> u16>);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q4_0(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let products = |w: &BlockQ4_0, a| _mm256_maddubs_epi16(levels_4_bits(&w.qs), a);
    gemv(w, acts, out, 8, products, |w| w.d.bits(), None::<fn(&BlockQ4_0) -> u16>);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q4_1(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let products = |w: &BlockQ4_1, a| _mm256_maddubs_epi16(levels_4_bits(&w.qs), a);
    gemv(w, acts, out, 0, products, |w| w.d.bits(), Some(|w: &BlockQ4_1| w.m.bits()));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q5_0(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let products = |w: &BlockQ5_0, a| _mm256_maddubs_epi16(levels_5_bits(&w.qs, w.qh), a);
    gemv(w, acts, out, 16, products, |w| w.d.bits(), None::<fn(&BlockQ5_0) -> u16>);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q5_1(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let products = |w: &BlockQ5_1, a| _mm256_maddubs_epi16(levels_5_bits(&w.qs, w.qh), a);
    gemv(w, acts, out, 0, products, |w| w.d.bits(), Some(|w: &BlockQ5_1| w.m.bits()));
}

/// `sum += (d · da) · (q·a)`, then with a minimum `sum += (m · da) · (Σ a)`, block by block, as the scalar definition
/// has it. `products`: int16 sums of neighbouring products; levels are stored with `zero` added.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn gemv<B: Block>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    zero: i32,
    products: impl Fn(&B, __m256i) -> __m256i,
    unit: impl Fn(&B) -> u16,
    min: Option<impl Fn(&B) -> u16>,
) {
    let per_row = acts.cols() / 32;
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    let ones = _mm256_set1_epi16(1);
    for first in (0..rows).step_by(ROWS) {
        let w: [&[B]; ROWS] = lanes::rows(w, per_row, first);
        let step = ROWS * size_of::<B>();
        for t in 0..acts.tokens() {
            let q = acts.quants(t).as_chunks::<32>().0;
            let (scales, sums) = (acts.scales(t), acts.sums(t));
            let mut total = _mm_setzero_ps();
            for b in 0..per_row {
                if t == 0 {
                    // A block of each row further on: the rows to come lie right behind these.
                    prefetch(w[0], (per_row + b) * step, step);
                }
                let a = load_i8(&q[b]);
                let dots = [
                    _mm256_madd_epi16(products(&w[0][b], a), ones),
                    _mm256_madd_epi16(products(&w[1][b], a), ones),
                    _mm256_madd_epi16(products(&w[2][b], a), ones),
                    _mm256_madd_epi16(products(&w[3][b], a), ones),
                ];
                let sum = i32::from(sums[b]);
                let dot = _mm_sub_epi32(sum4_i32(dots), _mm_set1_epi32(zero * sum));
                let da = _mm_set1_ps(scales[b]);
                let d = halves4([unit(&w[0][b]), unit(&w[1][b]), unit(&w[2][b]), unit(&w[3][b])]);
                total = _mm_add_ps(total, _mm_mul_ps(_mm_mul_ps(d, da), _mm_cvtepi32_ps(dot)));
                if let Some(min) = &min {
                    let m = halves4([min(&w[0][b]), min(&w[1][b]), min(&w[2][b]), min(&w[3][b])]);
                    total = _mm_add_ps(total, _mm_mul_ps(_mm_mul_ps(m, da), _mm_set1_ps(sum as f32)));
                }
            }
            let mut totals = [0.0; ROWS];
            store_f32_half(&mut totals, total);
            let n = ROWS.min(rows - first);
            out[t * rows + first..][..n].copy_from_slice(&totals[..n]);
        }
    }
}

/// 32 levels 0 … 15 in order: the low halves of 16 bytes, then the high ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn levels_4_bits(qs: &[u8; 16]) -> __m256i {
    let qs = load_u8_half(qs);
    low_nibbles(_mm256_set_m128i(_mm_srli_epi16::<4>(qs), qs))
}

/// 32 levels 0 … 31 in order.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn levels_5_bits(qs: &[u8; 16], qh: [u8; 4]) -> __m256i {
    // Each byte of the fifth bits into the eight places that it is for, then its one bit of each.
    let bytes = _mm256_set1_epi32(i32::from_le_bytes(qh));
    let ones = 0x0101_0101_0101_0101;
    let spread = _mm256_shuffle_epi8(bytes, _mm256_setr_epi64x(0, ones, 2 * ones, 3 * ones));
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
    _mm256_or_si256(levels_4_bits(qs), _mm256_and_si256(set, _mm256_set1_epi8(16)))
}
