//! Panels of Q2_K to Q6_K.
use std::arch::x86_64::*;

use super::gemv_low::scales_q3_k;
use super::gemv_super::levels_q6_k;
use super::lanes::*;
use super::panel::{Columns, Pair, ROWS, TOKENS, empty_columns, multiply};
use crate::act::ActView;
use crate::block::{Block, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, SUPER, blocks};
use crate::kernel::x86::groups::{Group, Groups};

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
    of_rows::<BlockQ4K, 8, Q4_K_RUN, false>(w, acts, out, |rows, b, panel| {
        let qs = |h: usize, i: usize| words(|r| &rows[8 * h + r][b].qs.as_chunks().0[i]);
        unpack_q4_k(panel, |h| heads(rows, b, h), qs);
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q4_k_interleaved(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    of_groups::<BlockQ4K, 36, 8, Q4_K_RUN, false>(w, acts, out, |groups, b, panel| {
        unpack_q4_k(panel, |h| load(groups[h], b, 0), |h, i| load(groups[h], b, 4 + 8 * i));
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    of_rows::<BlockQ5K, 8, Q5_K_RUN, false>(w, acts, out, |rows, b, panel| {
        let qh = |h: usize| words(|r| &rows[8 * h + r][b].qh);
        let qs = |h: usize, i: usize| words(|r| &rows[8 * h + r][b].qs.as_chunks().0[i]);
        unpack_q5_k(panel, |h| heads(rows, b, h), qh, qs);
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_k_interleaved(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    of_groups::<BlockQ5K, 44, 8, Q5_K_RUN, false>(w, acts, out, |groups, b, panel| {
        let at = |h: usize, at| load(groups[h], b, at);
        unpack_q5_k(panel, |h| load(groups[h], b, 0), |h| at(h, 4), |h, i| at(h, 12 + 8 * i));
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q6_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    of_rows::<BlockQ6K, 4, Q6_K_RUN, true>(w, acts, out, |rows, b, panel| {
        let block = |h: usize, r: usize| &rows[8 * h + r][b];
        let scales = |h| {
            let mut scales = [&[0; 16]; 8];
            for r in 0..8 {
                scales[r] = zerocopy::transmute_ref!(&block(h, r).scales);
            }
            head_words(scales)
        };
        let d = |h| {
            let mut bits = [0; 8];
            for r in 0..8 {
                bits[r] = block(h, r).d.bits();
            }
            halves8(bits)
        };
        let low = |h, i| words(|r| &block(h, r).ql.as_chunks().0[i]);
        unpack_q6_k(panel, scales, d, low, |h, n| words(|r| &block(h, r).qh.as_chunks().0[n]));
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q6_k_interleaved(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    of_groups::<BlockQ6K, 52, 4, Q6_K_RUN, true>(w, acts, out, |groups, b, panel| {
        let at = |h: usize, at| load(groups[h], b, at);
        let d = |h: usize| halves(&groups[h].halves[b]);
        unpack_q6_k(panel, |h| load(groups[h], b, 48), d, |h, i| at(h, 8 * i), |h, n| at(h, 32 + 8 * n));
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q3_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 7 · 127 · 2: all four of a sub-block add up.
    of_rows::<BlockQ3K, 4, 4, true>(w, acts, out, |rows, b, panel| unpack_q3_k(rows, b, panel));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q2_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 3 · 127 · 2: all four of a sub-block add up.
    of_rows::<BlockQ2K, 4, 4, false>(w, acts, out, |rows, b, panel| unpack_q2_k(rows, b, panel));
}

/// 15 · 127 · 2 in each 16-bit product: all eight of a sub-block add up.
const Q4_K_RUN: usize = 8;
/// 31 · 127 · 2: four add up.
const Q5_K_RUN: usize = 4;
/// 63 · 127 · 2: two add up.
const Q6_K_RUN: usize = 2;

/// Rows one after the other.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn of_rows<B: Block, const SUB: usize, const RUN: usize, const CENTRED: bool>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    unpack: impl Fn(&[&[B]; ROWS], usize, &mut Panel),
) {
    let (w, per_row) = (blocks::<B>(w), acts.cols() / SUPER);
    gemm::<_, SUB, RUN, CENTRED>(acts, out, |first| rows(w, per_row, first), unpack);
}

/// Interleaved rows, by two groups.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn of_groups<B: Block, const W: usize, const SUB: usize, const RUN: usize, const CENTRED: bool>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    unpack: impl Fn(&[Group<'_, W>; 2], usize, &mut Panel),
) {
    let groups = Groups::<B, W>::new(w, acts.cols() / SUPER);
    gemm::<_, SUB, RUN, CENTRED>(acts, out, |first| groups.pair(first), unpack);
}

/// `SUB`: vectors of four columns in a sub-block. `RUN`: products that add up in 16 bits. `CENTRED`: minimums are in
/// units of the scales, and subtracted as integers. `rows` gives sixteen rows from a number on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn gemm<R, const SUB: usize, const RUN: usize, const CENTRED: bool>(
    acts: ActView<'_>,
    out: &mut [f32],
    rows: impl Fn(usize) -> R,
    unpack: impl Fn(&R, usize, &mut Panel),
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
    multiply(acts, out, (0..acts.cols() / SUPER).step_by(1), &mut panel, rows, unpack, tile);
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
    /// Sets the units and the 6-bit scales and minimums of the rows `8 * h …` from the four words that they begin with.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn set_scales(&mut self, h: usize, [units, scale, min, low]: [__m256i; 4]) {
        // Three words of packed scales, described in block/scales.rs: eight rows at once, one number of four a step.
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
    fn set_centred_scales<const LOG_ZERO: i32>(&mut self, h: usize, scales: [__m256i; 4]) {
        for (w, words) in scales.into_iter().enumerate() {
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

/// The words that the rows `8 * h …` begin with.
#[inline]
#[target_feature(enable = "avx2")]
fn heads<B: Block>(rows: &[&[B]; ROWS], b: usize, h: usize) -> [__m256i; 4] {
    let mut heads = [&[0; 16]; 8];
    for r in 0..8 {
        heads[r] = head(&rows[8 * h + r][b]);
    }
    head_words(heads)
}

/// The words of block `b` from word `at` on.
#[inline]
#[target_feature(enable = "avx2")]
fn load<const W: usize, const N: usize>(group: Group<'_, W>, b: usize, at: usize) -> [__m256i; N] {
    let from: &[[u8; 32]; N] = group.words[b][at..].first_chunk().expect("words of a block");
    let mut words = [_mm256_setzero_si256(); N];
    for k in 0..N {
        words[k] = load_u8(&from[k]);
    }
    words
}

/// `heads`: the first words of eight rows. `qs`: the levels 64·i ….
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q4_k(panel: &mut Panel, heads: impl Fn(usize) -> [__m256i; 4], qs: impl Fn(usize, usize) -> [__m256i; 8]) {
    for h in 0..2 {
        panel.set_scales(h, heads(h));
        for i in 0..4 {
            let qs = qs(h, i);
            for k in 0..8 {
                panel.q[16 * i + k][h] = low_nibbles(qs[k]);
                panel.q[16 * i + 8 + k][h] = high_nibbles(qs[k]);
            }
        }
    }
}

/// As `unpack_q4_k`; `qh`: the fifth bits.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q5_k(
    panel: &mut Panel,
    heads: impl Fn(usize) -> [__m256i; 4],
    qh: impl Fn(usize) -> [__m256i; 8],
    qs: impl Fn(usize, usize) -> [__m256i; 8],
) {
    for h in 0..2 {
        panel.set_scales(h, heads(h));
        let qh = qh(h);
        for i in 0..4 {
            let qs = qs(h, i);
            for k in 0..8 {
                panel.q[16 * i + k][h] = _mm256_or_si256(low_nibbles(qs[k]), fifth_bit(qh[k], 2 * i));
                panel.q[16 * i + 8 + k][h] = _mm256_or_si256(high_nibbles(qs[k]), fifth_bit(qh[k], 2 * i + 1));
            }
        }
    }
}

/// `low`: 32 bytes of the low bits, of four. `high`: those of the high ones, of two.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q6_k(
    panel: &mut Panel,
    scales: impl Fn(usize) -> [__m256i; 4],
    d: impl Fn(usize) -> __m256,
    low: impl Fn(usize, usize) -> [__m256i; 8],
    high: impl Fn(usize, usize) -> [__m256i; 8],
) {
    for h in 0..2 {
        panel.set_centred_scales::<5>(h, scales(h));
        panel.d[h] = d(h);
        for n in 0..2 {
            let (low, low_next, high) = (low(h, 2 * n), low(h, 2 * n + 1), high(h, n));
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
        panel.set_centred_scales::<2>(h, head_words(scales.each_ref()));
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
