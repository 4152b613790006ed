//! Panels of Q4_K, Q5_K, Q6_K.
use std::arch::x86_64::*;

use super::gemv_super::levels_q6_k;
use super::lanes::*;
use super::panel::{Columns, Pair, ROWS, TOKENS, empty_columns, multiply};
use crate::act::ActView;
use crate::block::{Block, BlockQ4K, BlockQ5K, BlockQ6K, Half, SUPER, blocks, unpack_scales};

/// 16 rows × 256 columns.
struct Panel {
    /// Levels from 0 up.
    q: Columns,
    /// The scale of each sub-block, twice in a lane.
    scales: [Pair<[i32; 8]>; 16],
    /// For each 32 columns the minimums of its two halves, in one lane.
    mins: [Pair<[i32; 8]>; 8],
    d: Pair<[f32; 8]>,
    dmin: Pair<[f32; 8]>,
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q4_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 15 · 127 · 2 in each 16-bit product: all eight of a sub-block add up.
    gemm::<BlockQ4K, 8, 8, false>(w, acts, out, |rows, panel| unpack_q4_k(rows, panel));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 31 · 127 · 2: four add up.
    gemm::<BlockQ5K, 8, 4, false>(w, acts, out, |rows, panel| unpack_q5_k(rows, panel));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q6_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // 63 · 127 · 2: two add up.
    gemm::<BlockQ6K, 4, 2, true>(w, acts, out, |rows, panel| unpack_q6_k(rows, panel));
}

/// `SUB`: vectors of four columns in a sub-block. `RUN`: products that add up in 16 bits. `CENTRED`: minimums are in
/// units of the scales, and subtracted as integers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn gemm<B: Block, const SUB: usize, const RUN: usize, const CENTRED: bool>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    unpack: impl Fn([&B; ROWS], &mut Panel),
) {
    let mut panel = Panel {
        q: empty_columns(),
        scales: [[[0; 8]; 2]; 16],
        mins: [[[0; 8]; 2]; 8],
        d: [[0.0; 8]; 2],
        dmin: [[0.0; 8]; 2],
    };
    let unpack = |rows: [&[B]; ROWS], panel: &mut Panel| unpack(rows.map(|row| &row[0]), panel);
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
    let a: [&[[i8; 4]; 64]; T] = std::array::from_fn(|i| &acts.quants(t + i).as_chunks::<4>().0.as_chunks::<64>().0[b]);
    let mut dots = [[_mm256_setzero_si256(); 2]; T];
    for (q, scales) in
        panel.q.as_chunks::<SUB>().0.iter().zip(&panel.scales).enumerate().map(|(s, (q, sc))| ((s, q), sc))
    {
        let (s, q) = q;
        let scales = [load_i32(&scales[0]), load_i32(&scales[1])];
        for r in 0..SUB / RUN {
            let mut products = [[_mm256_setzero_si256(); 2]; T];
            for k in 0..RUN {
                let w = q[r * RUN + k];
                for i in 0..T {
                    let a = broadcast4(a[i][s * SUB + r * RUN + k]);
                    for h in 0..2 {
                        products[i][h] = _mm256_add_epi16(products[i][h], _mm256_maddubs_epi16(w[h], a));
                    }
                }
            }
            for i in 0..T {
                for h in 0..2 {
                    dots[i][h] = _mm256_add_epi32(dots[i][h], _mm256_madd_epi16(products[i][h], scales[h]));
                }
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let da = _mm256_set1_ps(acts.scales(t + i)[b]);
        let pairs = &acts.sums(t + i).as_chunks::<2>().0.as_chunks::<8>().0[b];
        for h in 0..2 {
            let mut offset = _mm256_setzero_si256();
            for (mins, pair) in panel.mins.iter().zip(pairs) {
                offset = _mm256_add_epi32(offset, _mm256_madd_epi16(load_i32(&mins[h]), broadcast_pair(*pair)));
            }
            let d = load_f32(&panel.d[h]);
            let value = if CENTRED {
                _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_sub_epi32(dots[i][h], offset)))
            } else {
                _mm256_sub_ps(
                    _mm256_mul_ps(d, _mm256_cvtepi32_ps(dots[i][h])),
                    _mm256_mul_ps(load_f32(&panel.dmin[h]), _mm256_cvtepi32_ps(offset)),
                )
            };
            sums[h] = _mm256_add_ps(sums[h], _mm256_mul_ps(da, value));
        }
    }
}

impl Panel {
    /// Sets the units and the 6-bit scales and minimums of all rows.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn set_scales(&mut self, packed: [&[u8; 12]; ROWS], d: [Half; ROWS], dmin: [Half; ROWS]) {
        for r in 0..ROWS {
            let (scales, mins) = unpack_scales(packed[r]);
            for j in 0..8 {
                self.scales[j][r / 8][r % 8] = pair(scales[j].into(), scales[j].into());
                self.mins[j][r / 8][r % 8] = pair(mins[j].into(), mins[j].into());
            }
        }
        for h in 0..2 {
            self.d[h] = halves8(std::array::from_fn(|r| d[8 * h + r].bits()));
            self.dmin[h] = halves8(std::array::from_fn(|r| dmin[8 * h + r].bits()));
        }
    }
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
fn unpack_q4_k(rows: [&BlockQ4K; ROWS], panel: &mut Panel) {
    panel.set_scales(rows.map(|w| &w.scales), rows.map(|w| w.d), rows.map(|w| w.dmin));
    for h in 0..2 {
        for i in 0..4 {
            let qs = words(|r| &rows[8 * h + r].qs.as_chunks().0[i]);
            for k in 0..8 {
                panel.q[16 * i + k][h] = low_nibbles(qs[k]);
                panel.q[16 * i + 8 + k][h] = high_nibbles(qs[k]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q5_k(rows: [&BlockQ5K; ROWS], panel: &mut Panel) {
    panel.set_scales(rows.map(|w| &w.scales), rows.map(|w| w.d), rows.map(|w| w.dmin));
    for h in 0..2 {
        let qh = words(|r| &rows[8 * h + r].qh);
        for i in 0..4 {
            let qs = words(|r| &rows[8 * h + r].qs.as_chunks().0[i]);
            for k in 0..8 {
                panel.q[16 * i + k][h] = _mm256_or_si256(low_nibbles(qs[k]), fifth_bit(qh[k], 2 * i));
                panel.q[16 * i + 8 + k][h] = _mm256_or_si256(high_nibbles(qs[k]), fifth_bit(qh[k], 2 * i + 1));
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack_q6_k(rows: [&BlockQ6K; ROWS], panel: &mut Panel) {
    for (r, w) in rows.into_iter().enumerate() {
        let scales = w.scales.map(i16::from);
        for j in 0..16 {
            panel.scales[j][r / 8][r % 8] = pair(scales[j], scales[j]);
        }
        for j in 0..8 {
            // Levels are stored with 32 added.
            panel.mins[j][r / 8][r % 8] = pair(32 * scales[2 * j], 32 * scales[2 * j + 1]);
        }
    }
    for h in 0..2 {
        panel.d[h] = halves8(std::array::from_fn(|r| rows[8 * h + r].d.bits()));
        for n in 0..2 {
            let low = words(|r| &rows[8 * h + r].ql.as_chunks().0[2 * n]);
            let low_next = words(|r| &rows[8 * h + r].ql.as_chunks().0[2 * n + 1]);
            let high = words(|r| &rows[8 * h + r].qh.as_chunks().0[n]);
            for k in 0..8 {
                let levels = levels_q6_k(low[k], low_next[k], high[k]);
                for (i, levels) in levels.into_iter().enumerate() {
                    panel.q[32 * n + 8 * i + k][h] = levels;
                }
            }
        }
    }
}

const _: () = assert!(SUPER == 4 * 64, "a panel's columns are one block's");
