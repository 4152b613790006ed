//! Panels of Q4_0, Q4_1, Q5_0, Q5_1: up to eight blocks of 32 columns.
use std::arch::x86_64::*;

use super::gemv_small::{levels_4_bits, levels_5_bits};
use super::lanes::*;
use super::panel::{Columns, Pair, ROWS, TOKENS, empty_columns, multiply};
use crate::act::ActView;
use crate::block::{Block, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, blocks};

/// Blocks along the columns.
const BLOCKS: usize = 8;

/// 16 rows × up to 256 columns.
struct Panel {
    q: Columns,
    d: [Pair<__m256>; BLOCKS],
    m: [Pair<__m256>; BLOCKS],
    blocks: usize,
}

/// What distinguishes the formats.
#[derive(Clone, Copy)]
struct Format<L, D, M> {
    /// The 32 levels of a block.
    levels: L,
    /// The scale's bits.
    d: D,
    /// The minimum's bits, in a format with one.
    m: Option<M>,
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q4_0(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let format = Format {
        levels: |w: &BlockQ4_0| levels_4_bits(&w.qs),
        d: |w: &BlockQ4_0| w.d.bits(),
        m: None::<fn(&BlockQ4_0) -> u16>,
    };
    gemm::<_, 8, 8, false>(w, acts, out, format);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q4_1(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let format = Format {
        levels: |w: &BlockQ4_1| levels_4_bits(&w.qs),
        d: |w: &BlockQ4_1| w.d.bits(),
        m: Some(|w: &BlockQ4_1| w.m.bits()),
    };
    gemm::<_, 8, 0, true>(w, acts, out, format);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_0(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let format = Format {
        levels: |w: &BlockQ5_0| levels_5_bits(&w.qs, w.qh),
        d: |w: &BlockQ5_0| w.d.bits(),
        m: None::<fn(&BlockQ5_0) -> u16>,
    };
    gemm::<_, 4, 16, false>(w, acts, out, format);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_1(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let format = Format {
        levels: |w: &BlockQ5_1| levels_5_bits(&w.qs, w.qh),
        d: |w: &BlockQ5_1| w.d.bits(),
        m: Some(|w: &BlockQ5_1| w.m.bits()),
    };
    gemm::<_, 4, 0, true>(w, acts, out, format);
}

/// `RUN`: products that add up in 16 bits. `ZERO`: what is added to stored levels. `MIN`: the format has a
/// minimum.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn gemm<B: Block, const RUN: usize, const ZERO: i32, const MIN: bool>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    format: Format<impl Fn(&B) -> __m256i, impl Fn(&B) -> u16, impl Fn(&B) -> u16>,
) {
    let mut panel = Panel {
        q: empty_columns(),
        d: [[_mm256_setzero_ps(); 2]; BLOCKS],
        m: [[_mm256_setzero_ps(); 2]; BLOCKS],
        blocks: 0,
    };
    let unpack = |rows: &[&[B]; ROWS], first: usize, panel: &mut Panel| {
        panel.blocks = BLOCKS.min(rows[0].len() - first);
        for b in 0..panel.blocks {
            for h in 0..2 {
                let row = |r: usize| &rows[8 * h + r][first + b];
                let levels = |r: usize| (format.levels)(row(r));
                let columns =
                    transpose([levels(0), levels(1), levels(2), levels(3), levels(4), levels(5), levels(6), levels(7)]);
                for k in 0..8 {
                    panel.q[8 * b + k][h] = columns[k];
                }
                let mut bits = [0; 8];
                for r in 0..8 {
                    bits[r] = (format.d)(row(r));
                }
                panel.d[b][h] = halves8(bits);
                if let Some(m) = &format.m {
                    for r in 0..8 {
                        bits[r] = m(row(r));
                    }
                    panel.m[b][h] = halves8(bits);
                }
            }
        }
    };
    let tile = |panel: &Panel, t: usize, b: usize, sums: &mut [Pair<__m256>]| match sums {
        [s0, s1, s2] => tile::<3, RUN, ZERO, MIN>(panel, acts, t, b, [s0, s1, s2]),
        [s0, s1] => tile::<2, RUN, ZERO, MIN>(panel, acts, t, b, [s0, s1]),
        [s0] => tile::<1, RUN, ZERO, MIN>(panel, acts, t, b, [s0]),
        _ => unreachable!("1 to {TOKENS} tokens"),
    };
    let (w, per_row) = (blocks::<B>(w), acts.cols() / B::LEN);
    multiply(acts, out, (0..per_row).step_by(BLOCKS), &mut panel, |first| rows(w, per_row, first), unpack, tile);
}

/// Adds the panel's blocks, of which `first` is the first one: `sum += (d · da) · (q·a)`, then with a minimum
/// `sum += (m · da) · (Σ a)`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const T: usize, const RUN: usize, const ZERO: i32, const MIN: bool>(
    panel: &Panel,
    acts: ActView<'_>,
    t: usize,
    first: usize,
    sums: [&mut Pair<__m256>; T],
) {
    let n = panel.blocks;
    let a: [&[[[i8; 4]; 8]]; T] = acts.quant_blocks(t);
    let scales: [&[f32]; T] = acts.scale_rows(t);
    let act_sums: [&[i16]; T] = acts.sum_rows(t);
    let ones = _mm256_set1_epi16(1);
    let mut totals = [[_mm256_setzero_ps(); 2]; T];
    for i in 0..T {
        totals[i] = *sums[i];
    }
    for (b, q) in panel.q.as_chunks::<8>().0[..n].iter().enumerate() {
        let mut dots: [Pair<__m256i>; T] = [[_mm256_setzero_si256(); 2]; T];
        for i in 0..T {
            dots[i] = [_mm256_set1_epi32(-ZERO * i32::from(act_sums[i][first + b])); 2];
        }
        for r in 0..8 / RUN {
            let mut products = [[_mm256_setzero_si256(); 2]; T];
            for k in 0..RUN {
                let w = q[r * RUN + k];
                for i in 0..T {
                    let a = broadcast4(a[i][first + b][r * RUN + k]);
                    for h in 0..2 {
                        let product = _mm256_maddubs_epi16(w[h], a);
                        products[i][h] = pin(_mm256_add_epi16(products[i][h], product));
                    }
                }
            }
            for i in 0..T {
                for h in 0..2 {
                    dots[i][h] = pin(_mm256_add_epi32(dots[i][h], _mm256_madd_epi16(products[i][h], ones)));
                }
            }
        }
        for i in 0..T {
            let da = _mm256_set1_ps(scales[i][first + b]);
            for h in 0..2 {
                let d = _mm256_mul_ps(panel.d[b][h], da);
                totals[i][h] = _mm256_add_ps(totals[i][h], _mm256_mul_ps(d, _mm256_cvtepi32_ps(dots[i][h])));
                if MIN {
                    let m = _mm256_mul_ps(panel.m[b][h], da);
                    let sum = _mm256_set1_ps(f32::from(act_sums[i][first + b]));
                    totals[i][h] = _mm256_add_ps(totals[i][h], _mm256_mul_ps(m, sum));
                }
            }
        }
    }
    for (sums, totals) in sums.into_iter().zip(totals) {
        *sums = totals;
    }
}
