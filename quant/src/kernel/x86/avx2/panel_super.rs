//! Panels of Q2_K to Q6_K.
use std::arch::x86_64::*;

use super::gemv_low::scales_q3_k;
use super::gemv_super::levels_q6_k;
use super::lanes::*;
use super::panel::{Columns, Pair, ROWS, TOKENS, empty_columns, multiply};
use crate::act::ActView;
use crate::block::{Block, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, SUPER, blocks};

/// 16 rows × 256 columns.
struct Panel {
    /// Levels from 0 up.
    q: Columns,
    /// The scale of each sub-block, twice in a lane.
    scales: [Pair<__m256i>; 16],
    /// For each 32 columns the minimums of its two halves, in one lane.
    mins: [Pair<__m256i>; 8],
    d: Pair<__m256>,
    dmin: Pair<__m256>,
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q4_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 15 · 127 · 2 in each 16-bit product: all eight of a sub-block add up.
    gemm::<BlockQ4K, 8, 8, false>(w, acts, out, |rows, b, panel| unpack_q4_k(rows, b, panel));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 31 · 127 · 2: four add up.
    gemm::<BlockQ5K, 8, 4, false>(w, acts, out, |rows, b, panel| unpack_q5_k(rows, b, panel));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q6_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 63 · 127 · 2: two add up.
    gemm::<BlockQ6K, 4, 2, true>(w, acts, out, |rows, b, panel| unpack_q6_k(rows, b, panel));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q3_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 7 · 127 · 2: all four of a sub-block add up.
    gemm::<BlockQ3K, 4, 4, true>(w, acts, out, |rows, b, panel| unpack_q3_k(rows, b, panel));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q2_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 3 · 127 · 2: all four of a sub-block add up.
    gemm::<BlockQ2K, 4, 4, false>(w, acts, out, |rows, b, panel| unpack_q2_k(rows, b, panel));
}

/// `SUB`: vectors of four columns in a sub-block. `RUN`: products that add up in 16 bits. `CENTRED`: minimums are in
/// units of the scales, and subtracted as integers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn gemm<B: Block, const SUB: usize, const RUN: usize, const CENTRED: bool>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    unpack: impl Fn(&[&[B]; ROWS], usize, &mut Panel),
) {
    let mut panel = Panel {
        q: empty_columns(),
        scales: [[_mm256_setzero_si256(); 2]; 16],
        mins: [[_mm256_setzero_si256(); 2]; 8],
        d: [_mm256_setzero_ps(); 2],
        dmin: [_mm256_setzero_ps(); 2],
    };
    let tile = |panel: &Panel, t: usize, b: usize, sums: &mut [Pair<__m256>]| match sums {
        [s0, s1, s2] => tile::<3, SUB, RUN, CENTRED>(panel, acts, t, b, [s0, s1, s2]),
        [s0, s1] => tile::<2, SUB, RUN, CENTRED>(panel, acts, t, b, [s0, s1]),
        [s0] => tile::<1, SUB, RUN, CENTRED>(panel, acts, t, b, [s0]),
        _ => unreachable!("1 to {TOKENS} tokens"),
    };
    multiply(blocks::<B>(w), acts, out, 1, &mut panel, unpack, tile);
}

/// Adds block `b` of the tokens from `t` on: `sum += da · (d · Σ scale·(q·a) − dmin · Σ min·(Σ a))`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const T: usize, const SUB: usize, const RUN: usize, const CENTRED: bool>(
    panel: &Panel,
    acts: ActView<'_>,
    t: usize,
    b: usize,
    sums: [&mut Pair<__m256>; T],
) {
    let rows: [&[[[i8; 4]; 64]]; T] = acts.quant_blocks(t);
    let mut a = [&[[0; 4]; 64]; T];
    for i in 0..T {
        a[i] = &rows[i][b];
    }
    let mut dots = [[_mm256_setzero_si256(); 2]; T];
    for (s, (q, scales)) in panel.q.as_chunks::<SUB>().0.iter().zip(&panel.scales).enumerate() {
        for r in 0..SUB / RUN {
            let mut products = [[_mm256_setzero_si256(); 2]; T];
            for k in 0..RUN {
                let w = q[r * RUN + k];
                for i in 0..T {
                    let a = broadcast4(a[i][s * SUB + r * RUN + k]);
                    for h in 0..2 {
                        let sum = _mm256_add_epi16(products[i][h], _mm256_maddubs_epi16(w[h], a));
                        products[i][h] = if RUN > 2 { pin(sum) } else { sum };
                    }
                }
            }
            for i in 0..T {
                for h in 0..2 {
                    dots[i][h] = pin(_mm256_add_epi32(dots[i][h], _mm256_madd_epi16(products[i][h], scales[h])));
                }
            }
        }
    }
    let act_sums: [&[i16]; T] = acts.sum_rows(t);
    let mut offsets = [[_mm256_setzero_si256(); 2]; T];
    for (p, mins) in panel.mins.iter().enumerate() {
        for i in 0..T {
            let pair = broadcast_pair(act_sums[i].as_chunks::<2>().0[8 * b + p]);
            for h in 0..2 {
                offsets[i][h] = pin(_mm256_add_epi32(offsets[i][h], _mm256_madd_epi16(mins[h], pair)));
            }
        }
    }
    let scales: [&[f32]; T] = acts.scale_rows(t);
    for (i, sums) in sums.into_iter().enumerate() {
        let da = _mm256_set1_ps(scales[i][b]);
        for h in 0..2 {
            let value = if CENTRED {
                _mm256_mul_ps(panel.d[h], _mm256_cvtepi32_ps(_mm256_sub_epi32(dots[i][h], offsets[i][h])))
            } else {
                _mm256_sub_ps(
                    _mm256_mul_ps(panel.d[h], _mm256_cvtepi32_ps(dots[i][h])),
                    _mm256_mul_ps(panel.dmin[h], _mm256_cvtepi32_ps(offsets[i][h])),
                )
            };
            sums[h] = _mm256_add_ps(sums[h], _mm256_mul_ps(da, value));
        }
    }
}

impl Panel {
    /// Sets the units and the 6-bit scales and minimums of the rows `8 * h …` from the 16 bytes that they begin with.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn set_scales(&mut self, h: usize, heads: [&[u8; 16]; 8]) {
        // Three words of packed scales, described in block/scales.rs: eight rows at once, one number of four a step.
        let [units, scale, min, low] = head_words(heads);
        let six_bits = _mm256_set1_epi32(63);
        let low_bits = _mm256_set1_epi32(15);
        let high_bits = _mm256_set1_epi32(0x30);
        for j in 0..4 {
            let at = _mm_cvtsi32_si128(8 * j as i32);
            let (scale, min, low) = (_mm256_srl_epi32(scale, at), _mm256_srl_epi32(min, at), _mm256_srl_epi32(low, at));
            let top = |v: __m256i| _mm256_and_si256(_mm256_srli_epi32::<2>(v), high_bits);
            self.scales[j][h] = both_halves(_mm256_and_si256(scale, six_bits));
            self.mins[j][h] = both_halves(_mm256_and_si256(min, six_bits));
            self.scales[j + 4][h] = both_halves(_mm256_or_si256(_mm256_and_si256(low, low_bits), top(scale)));
            let low = _mm256_and_si256(_mm256_srli_epi32::<4>(low), low_bits);
            self.mins[j + 4][h] = both_halves(_mm256_or_si256(low, top(min)));
        }
        (self.d[h], self.dmin[h]) = unit_pairs(units);
    }

    /// Sets the scales of the rows `8 * h …` and the minimums that undo the 2^`LOG_ZERO` that levels are stored with.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn set_centred_scales<const LOG_ZERO: i32>(&mut self, h: usize, scales: [&[u8; 16]; 8]) {
        for (w, words) in head_words(scales).into_iter().enumerate() {
            // Byte i of a word, sign-extended.
            let scales = [
                _mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(words)),
                _mm256_srai_epi32::<24>(_mm256_slli_epi32::<16>(words)),
                _mm256_srai_epi32::<24>(_mm256_slli_epi32::<8>(words)),
                _mm256_srai_epi32::<24>(words),
            ];
            for (i, scale) in scales.into_iter().enumerate() {
                self.scales[4 * w + i][h] = both_halves(scale);
            }
            for i in 0..2 {
                let pair = _mm256_blend_epi16::<0b1010_1010>(scales[2 * i], _mm256_slli_epi32::<16>(scales[2 * i + 1]));
                self.mins[2 * w + i][h] = _mm256_slli_epi16::<LOG_ZERO>(pair);
            }
        }
    }
}

/// The low int16 of each lane in both its halves.
#[inline]
#[target_feature(enable = "avx2")]
fn both_halves(v: __m256i) -> __m256i {
    _mm256_blend_epi16::<0b1010_1010>(v, _mm256_slli_epi32::<16>(v))
}

/// Word k of the same 32 bytes of eight rows, for k in 0 … 7.
#[inline]
#[target_feature(enable = "avx2")]
fn words<'a>(bytes: impl Fn(usize) -> &'a [u8; 32]) -> [__m256i; 8] {
    transpose([
        load_u8(bytes(0)),
        load_u8(bytes(1)),
        load_u8(bytes(2)),
        load_u8(bytes(3)),
        load_u8(bytes(4)),
        load_u8(bytes(5)),
        load_u8(bytes(6)),
        load_u8(bytes(7)),
    ])
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q4_k(rows: &[&[BlockQ4K]; ROWS], b: usize, panel: &mut Panel) {
    for h in 0..2 {
        panel.set_scales(h, std::array::from_fn(|r| head(&rows[8 * h + r][b])));
        for i in 0..4 {
            let qs = words(|r| &rows[8 * h + r][b].qs.as_chunks().0[i]);
            for k in 0..8 {
                panel.q[16 * i + k][h] = low_nibbles(qs[k]);
                panel.q[16 * i + 8 + k][h] = high_nibbles(qs[k]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q5_k(rows: &[&[BlockQ5K]; ROWS], b: usize, panel: &mut Panel) {
    for h in 0..2 {
        panel.set_scales(h, std::array::from_fn(|r| head(&rows[8 * h + r][b])));
        let qh = words(|r| &rows[8 * h + r][b].qh);
        for i in 0..4 {
            let qs = words(|r| &rows[8 * h + r][b].qs.as_chunks().0[i]);
            for k in 0..8 {
                panel.q[16 * i + k][h] = _mm256_or_si256(low_nibbles(qs[k]), fifth_bit(qh[k], 2 * i));
                panel.q[16 * i + 8 + k][h] = _mm256_or_si256(high_nibbles(qs[k]), fifth_bit(qh[k], 2 * i + 1));
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q6_k(rows: &[&[BlockQ6K]; ROWS], b: usize, panel: &mut Panel) {
    for h in 0..2 {
        let mut scales = [&[0; 16]; 8];
        let mut bits = [0; 8];
        for r in 0..8 {
            scales[r] = zerocopy::transmute_ref!(&rows[8 * h + r][b].scales);
            bits[r] = rows[8 * h + r][b].d.bits();
        }
        panel.set_centred_scales::<5>(h, scales);
        panel.d[h] = halves8(bits);
        for n in 0..2 {
            let low = words(|r| &rows[8 * h + r][b].ql.as_chunks().0[2 * n]);
            let low_next = words(|r| &rows[8 * h + r][b].ql.as_chunks().0[2 * n + 1]);
            let high = words(|r| &rows[8 * h + r][b].qh.as_chunks().0[n]);
            for k in 0..8 {
                let levels = levels_q6_k(low[k], low_next[k], high[k]);
                for (i, levels) in levels.into_iter().enumerate() {
                    panel.q[32 * n + 8 * i + k][h] = levels;
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q3_k(rows: &[&[BlockQ3K]; ROWS], b: usize, panel: &mut Panel) {
    for h in 0..2 {
        let mut scales = [[0; 16]; 8];
        let mut bits = [0; 8];
        for r in 0..8 {
            let block = &rows[8 * h + r][b];
            store_u8_half(&mut scales[r], scales_q3_k(&block.scales));
            bits[r] = block.d.bits();
        }
        panel.set_centred_scales::<2>(h, scales.each_ref());
        panel.d[h] = halves8(bits);
        let hmask = words(|r| &rows[8 * h + r][b].hmask);
        for n in 0..2 {
            let qs = words(|r| &rows[8 * h + r][b].qs.as_chunks().0[n]);
            for k in 0..8 {
                for (i, low) in levels_2_bits(qs[k]).into_iter().enumerate() {
                    panel.q[32 * n + 8 * i + k][h] = _mm256_or_si256(low, third_bit(hmask[k], 4 * n + i));
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q2_k(rows: &[&[BlockQ2K]; ROWS], b: usize, panel: &mut Panel) {
    for h in 0..2 {
        let mut scales = [&[0; 16]; 8];
        let (mut d, mut dmin) = ([0; 8], [0; 8]);
        for r in 0..8 {
            let block = &rows[8 * h + r][b];
            scales[r] = &block.scales;
            (d[r], dmin[r]) = (block.d.bits(), block.dmin.bits());
        }
        panel.d[h] = halves8(d);
        panel.dmin[h] = halves8(dmin);
        for (w, words) in head_words(scales).into_iter().enumerate() {
            let nibble =
                |at: i32| _mm256_and_si256(_mm256_srl_epi32(words, _mm_cvtsi32_si128(at)), _mm256_set1_epi32(15));
            for i in 0..4 {
                panel.scales[4 * w + i][h] = both_halves(nibble(8 * i as i32));
            }
            for i in 0..2 {
                let (even, odd) = (nibble(16 * i as i32 + 4), nibble(16 * i as i32 + 12));
                panel.mins[2 * w + i][h] = _mm256_or_si256(even, _mm256_slli_epi32::<16>(odd));
            }
        }
        for n in 0..2 {
            let qs = words(|r| &rows[8 * h + r][b].qs.as_chunks().0[n]);
            for k in 0..8 {
                for (i, levels) in levels_2_bits(qs[k]).into_iter().enumerate() {
                    panel.q[32 * n + 8 * i + k][h] = levels;
                }
            }
        }
    }
}

const _: () = assert!(SUPER == 4 * 64, "a panel's columns are one block's");
