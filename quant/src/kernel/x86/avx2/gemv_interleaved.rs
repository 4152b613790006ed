//! Q4_K, Q5_K, Q6_K, Q8_0 times one token, by groups of eight interleaved rows. A lane is a row: its products with four columns
//! meet those with the next four in the same lane, in 16 bits as long as they fit, and nothing is summed across lanes.
//!
//! Two groups at a time share the broadcasts of the token's values: loads would bound the speed.
use std::arch::x86_64::*;

use super::affine::{self, twice};
use super::gemv_super::levels_q6_k;
use super::lanes::*;
use crate::act::ActView;
use crate::block::{Block, BlockQ4K, BlockQ5K, BlockQ6K, BlockQ8_0, SUPER};
use crate::kernel::GROUP;
use crate::kernel::x86::groups::{Group, Groups};
use crate::kernel::x86::prefetch_to;

/// How far ahead weights are asked for, in the second-level cache: memory has the time to answer. Less far, or in the first
/// level, it gives half as much.
const AHEAD: usize = 32 << 10;

/// The words of a block of eight rows, of two groups.
type Words<'a, const W: usize> = [&'a [[u8; 32]; W]; 2];

/// A vector for each group.
type Pair<T> = [T; 2];

/// One block of a token's row.
struct ActBlock<'a> {
    /// The 256 values, in fours.
    quads: &'a [[i8; 4]; 64],
    /// Sums per 16.
    sums: &'a [i16; 16],
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q4_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    gemv_super::<BlockQ4K, 36>(w, acts, out, |w, _, a| {
        let scales = affine_scales(w);
        let mut dots = zeros();
        for i in 0..4 {
            // 15 · 127 · 2 in each product: all eight fit 16 bits.
            let (mut low, mut high) = (zeros(), zeros());
            for k in 0..8 {
                let (a_low, a_high) = (broadcast4(a.quads[16 * i + k]), broadcast4(a.quads[16 * i + 8 + k]));
                for g in 0..2 {
                    let qs = word(w[g], 4 + 8 * i + k);
                    low[g] = add_products(low[g], low_nibbles(qs), a_low);
                    high[g] = add_products(high[g], high_nibbles(qs), a_high);
                }
            }
            for g in 0..2 {
                dots[g] = add_scaled(dots[g], low[g], twice(scales[g][i / 2], 2 * i % 4));
                dots[g] = add_scaled(dots[g], high[g], twice(scales[g][i / 2], 2 * i % 4 + 1));
            }
        }
        affine(w, a, dots)
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q5_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    gemv_super::<BlockQ5K, 44>(w, acts, out, |w, _, a| {
        let scales = affine_scales(w);
        let mut dots = zeros();
        for i in 0..4 {
            for half in 0..2 {
                // 31 · 127 · 2: four fit.
                let (mut low, mut high) = (zeros(), zeros());
                for k in 4 * half..4 * half + 4 {
                    let (a_low, a_high) = (broadcast4(a.quads[16 * i + k]), broadcast4(a.quads[16 * i + 8 + k]));
                    for g in 0..2 {
                        // Asked for again with each quarter: choosing one would cost more.
                        let (qs, qh) = (word(w[g], 12 + 8 * i + k), word(w[g], 4 + k));
                        let fifths = |j| fifth_bit(qh, j);
                        low[g] = add_products(low[g], _mm256_or_si256(low_nibbles(qs), fifths(2 * i)), a_low);
                        high[g] = add_products(high[g], _mm256_or_si256(high_nibbles(qs), fifths(2 * i + 1)), a_high);
                    }
                }
                for g in 0..2 {
                    dots[g] = add_scaled(dots[g], low[g], twice(scales[g][i / 2], 2 * i % 4));
                    dots[g] = add_scaled(dots[g], high[g], twice(scales[g][i / 2], 2 * i % 4 + 1));
                }
            }
        }
        affine(w, a, dots)
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q6_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    gemv_super::<BlockQ6K, 52>(w, acts, out, |w, d, a| {
        let pairs = even_odd_pairs(a.sums);
        let (mut dots, mut scales) = (zeros(), [zeros(); 16]);
        for g in 0..2 {
            for t in 0..4 {
                let bytes = word(w[g], 48 + t);
                let (even, odd) =
                    (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes)), _mm256_srai_epi16::<8>(bytes));
                let offset = _mm256_madd_epi16(even, _mm256_set1_epi32(pairs[2 * t]));
                let offset = _mm256_add_epi32(offset, _mm256_madd_epi16(odd, _mm256_set1_epi32(pairs[2 * t + 1])));
                // Levels are taken as 0 … 63.
                dots[g] = _mm256_sub_epi32(dots[g], _mm256_slli_epi32::<5>(offset));
                for j in 0..4 {
                    scales[4 * t + j][g] = twice_signed(bytes, j);
                }
            }
        }
        for n in 0..2 {
            for k in (0..8).step_by(2) {
                // 63 · 127 · 2: two fit.
                let mut products = [zeros(); 4];
                for k in k..k + 2 {
                    for g in 0..2 {
                        let low = [word(w[g], 16 * n + k), word(w[g], 16 * n + 8 + k)];
                        let levels = levels_q6_k(low[0], low[1], word(w[g], 32 + 8 * n + k));
                        for i in 0..4 {
                            let a = broadcast4(a.quads[32 * n + 8 * i + k]);
                            products[i][g] = add_products(products[i][g], levels[i], a);
                        }
                    }
                }
                for i in 0..4 {
                    for g in 0..2 {
                        dots[g] = add_scaled(dots[g], products[i][g], scales[8 * n + 2 * i + k / 4][g]);
                    }
                }
            }
        }
        let mut value = [_mm256_setzero_ps(); 2];
        for g in 0..2 {
            value[g] = _mm256_mul_ps(halves(d[g]), _mm256_cvtepi32_ps(dots[g]));
        }
        value
    });
}

/// `sum += (d · da) · (q·a)` block by block, as the scalar definition has it.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q8_0(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let per_row = acts.cols() / BlockQ8_0::LEN;
    let quads = &acts.quants(0).as_chunks::<4>().0.as_chunks::<8>().0[..per_row];
    let scales = &acts.scales(0)[..per_row];
    let ones = _mm256_set1_epi16(1);
    for_pairs::<BlockQ8_0, 8>(w, per_row, out, |groups| {
        let mut totals = [_mm256_setzero_ps(); 2];
        for b in 0..per_row {
            let mut dots = zeros();
            for k in 0..8 {
                let a = broadcast4(quads[b][k]);
                for g in 0..2 {
                    let products = signed_products(word(&groups[g].words[b], k), a);
                    dots[g] = add_scaled(dots[g], products, ones);
                }
            }
            let da = _mm256_set1_ps(scales[b]);
            for g in 0..2 {
                ask(&groups[g].halves[b]);
                let d = _mm256_mul_ps(halves(&groups[g].halves[b]), da);
                totals[g] = _mm256_add_ps(totals[g], _mm256_mul_ps(d, _mm256_cvtepi32_ps(dots[g])));
            }
        }
        totals
    });
}

/// `sum += da · value` block by block, as the scalar definition has it. `value` gets the words of a block and the numbers that are
/// none, where there are any.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn gemv_super<B: Block, const W: usize>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    value: impl Fn(Words<'_, W>, Pair<&[u8; 16]>, &ActBlock<'_>) -> Pair<__m256>,
) {
    let per_row = acts.cols() / SUPER;
    let quads = &acts.quants(0).as_chunks::<4>().0.as_chunks::<64>().0[..per_row];
    let sums = &acts.sums(0).as_chunks::<16>().0[..per_row];
    let scales = &acts.scales(0)[..per_row];
    for_pairs::<B, W>(w, per_row, out, |groups| {
        let mut totals = [_mm256_setzero_ps(); 2];
        for b in 0..per_row {
            let words = [&groups[0].words[b], &groups[1].words[b]];
            let half = |g: usize| groups[g].halves.get(b).unwrap_or(&[0; 16]);
            let halves = [half(0), half(1)];
            for g in 0..2 {
                if !groups[g].halves.is_empty() {
                    ask(halves[g]);
                }
            }
            let value = value(words, halves, &ActBlock { quads: &quads[b], sums: &sums[b] });
            let da = _mm256_set1_ps(scales[b]);
            for g in 0..2 {
                totals[g] = _mm256_add_ps(totals[g], _mm256_mul_ps(da, value[g]));
            }
        }
        totals
    });
}

/// Calls `sums` for two groups of rows after two, the last one with itself if it is alone, and writes what it gives.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn for_pairs<B: Block, const W: usize>(
    w: &[u8],
    per_row: usize,
    out: &mut [f32],
    sums: impl Fn(Pair<Group<'_, W>>) -> Pair<__m256>,
) {
    let groups = Groups::<B, W>::new(w, per_row);
    for (i, out) in out.chunks_mut(2 * GROUP).enumerate() {
        let sums = sums(groups.pair(2 * GROUP * i));
        for (out, sums) in out.as_chunks_mut().0.iter_mut().zip(sums) {
            store_f32(out, sums);
        }
    }
}

/// Word `k` of a block; asks for what lies `AHEAD` of it, a line for every second one.
#[inline]
#[target_feature(enable = "avx2")]
fn word<const W: usize>(w: &[[u8; 32]; W], k: usize) -> __m256i {
    if k.is_multiple_of(2) {
        ask(&w[k]);
    }
    load_u8(&w[k])
}

/// Asks for the cache line that lies `AHEAD` of `bytes`. All that is read is followed by such a request, so that it was asked for
/// itself.
#[inline]
#[target_feature(enable = "avx2")]
fn ask<const N: usize>(bytes: &[u8; N]) {
    prefetch_to::<u8, _MM_HINT_T1>(bytes, AHEAD, 1);
}

#[inline]
#[target_feature(enable = "avx2")]
fn zeros() -> Pair<__m256i> {
    [_mm256_setzero_si256(); 2]
}

/// `sum + Σ w·a` over neighbouring bytes, in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn add_products(sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
    _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, a))
}

/// `dot + Σ products·scale` over neighbouring int16.
#[inline]
#[target_feature(enable = "avx2")]
fn add_scaled(dot: __m256i, products: __m256i, scale: __m256i) -> __m256i {
    pin(_mm256_add_epi32(dot, _mm256_madd_epi16(products, scale)))
}

/// Of each four sums the first and the third, and the second and the fourth.
#[inline]
#[target_feature(enable = "avx2")]
fn even_odd_pairs(sums: &[i16; 16]) -> [i32; 8] {
    const ORDER: i32 = 0b11_01_10_00;
    let mut pairs = [0; 8];
    store_i32(&mut pairs, _mm256_shufflehi_epi16::<ORDER>(_mm256_shufflelo_epi16::<ORDER>(load_i16(sums))));
    pairs
}

/// The signed byte `j` of each lane, as two int16.
#[inline]
#[target_feature(enable = "avx2")]
fn twice_signed(v: __m256i, j: usize) -> __m256i {
    _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(twice(v, j)))
}

/// The scales of both groups.
#[inline]
#[target_feature(enable = "avx2")]
fn affine_scales<const W: usize>(w: Words<'_, W>) -> Pair<[__m256i; 2]> {
    let scales = |w: &[[u8; 32]; W]| affine::scales(load_u8(&w[1]), load_u8(&w[3]));
    [scales(w[0]), scales(w[1])]
}

/// `d · dots − dmin · Σ min·(Σ a)`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn affine<const W: usize>(w: Words<'_, W>, a: &ActBlock<'_>, dots: Pair<__m256i>) -> Pair<__m256> {
    let mut value = [_mm256_setzero_ps(); 2];
    for g in 0..2 {
        let [units, min, low] = [word(w[g], 0), word(w[g], 2), word(w[g], 3)];
        value[g] = affine::value(units, min, low, a.sums, dots[g]);
    }
    value
}
