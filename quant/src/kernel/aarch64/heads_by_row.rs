//! Scales and minimums of four rows' blocks, row by row, for sub-blocks of `16 * N` columns.
use std::arch::aarch64::*;

use super::gemv::ROWS;
use super::heads::{scales_q3_k, words};
use super::instructions::{fcvtl, opaque};
use super::lanes::*;
use crate::block::{Block, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};

/// The numbers of one block of each of four rows. Eight of them fill half a vector of int8: those of a half of the columns
/// (N = 1) or of all.
#[derive(Clone, Copy)]
pub(super) struct Head<const N: usize> {
    /// A lane is a row.
    pub(super) d: float32x4_t,
    /// A lane is a row; zeros for a format without minimums.
    pub(super) dmin: float32x4_t,
    /// N = 1: `[row][half of the columns][8]`. N = 2: `[half of the columns][row % 2][row / 2]`, then the scales 0, 2, 1, 3 of
    /// that half, each twice.
    scales: [int8x16_t; 4],
    /// N = 2: the scales as the minimums lie.
    plain: [int8x16_t; 2],
    /// N = 1: as the scales. N = 2: `[row % 2][row / 2][8]`. Zeros for a format without minimums.
    mins: [int8x16_t; 4],
}

impl<const N: usize> Head<N> {
    /// Scales of half `h` of row `r`, each twice: those of the sub-blocks that [`fours`] names.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn scales(&self, r: usize, h: usize) -> [int16x8_t; 2] {
        if N == 2 {
            return [widened(self.scales[2 * h + r % 2], r / 2); 2];
        }
        let scales = widened(self.scales[r], h);
        [vtrn1q_s16(scales, scales), vtrn2q_s16(scales, scales)]
    }

    /// All scales of row `r` (N = 2).
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn plain(&self, r: usize) -> int16x8_t {
        widened(self.plain[r % 2], r / 2)
    }

    /// Minimums of half `h` of row `r` (N = 1), or all of the row.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn mins(&self, r: usize, h: usize) -> int16x8_t {
        if N == 2 { widened(self.mins[r % 2], r / 2) } else { widened(self.mins[r], h) }
    }
}

/// The sub-blocks of a half whose scales come together; with N = 2 both are the same.
pub(super) const fn fours<const N: usize>() -> [[usize; 4]; 2] {
    if N == 2 { [[0, 2, 1, 3]; 2] } else { [[0, 2, 4, 6], [1, 3, 5, 7]] }
}

/// The lower half, or the upper one.
#[inline]
#[target_feature(enable = "neon")]
fn widened(v: int8x16_t, half: usize) -> int16x8_t {
    let v = vreinterpretq_s8_u8(opaque(vreinterpretq_u8_s8(v)));
    if half == 0 { vmovl_s8(vget_low_s8(v)) } else { vmovl_high_s8(v) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q4_k(w: [&BlockQ4K; ROWS]) -> Head<2> {
    affine(w)
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q5_k(w: [&BlockQ5K; ROWS]) -> Head<2> {
    affine(w)
}

/// Of blocks that begin with d, dmin and the packed numbers that block/scales.rs describes.
#[inline]
#[target_feature(enable = "neon")]
fn affine<B: Block>(w: [&B; ROWS]) -> Head<2> {
    // A lane is a row, whose four bytes are six bits of four numbers and the upper two of four others, or their lower ones.
    let [units, scale, min, low] = words([head(w[0]), head(w[1]), head(w[2]), head(w[3])]);
    let bytes = |v| vreinterpretq_u8_u32(v);
    let (scale, min, low) = (bytes(scale), bytes(min), bytes(low));
    let six_bits = |v| vandq_u8(v, vdupq_n_u8(0x3f));
    let join = |low, top| vsliq_n_u8::<4>(low, vshrq_n_u8::<6>(top));
    let (first, second) = (six_bits(scale), join(low, scale));
    let ([a, b], [c, d]) = (twice(first), twice(second));
    let ([e, f], [g, h]) = (by_row(first, second), by_row(six_bits(min), join(vshrq_n_u8::<4>(low), min)));
    let none = vdupq_n_s8(0);
    Head {
        d: fcvtl(vmovn_u32(units)),
        dmin: fcvtl(vshrn_n_u32::<16>(units)),
        scales: [a, b, c, d],
        plain: [e, f],
        mins: [g, h, none, none],
    }
}

/// `[4 rows][4 bytes]` → `[row % 2][row / 2][bytes 0, 2, 1, 3 twice]`.
#[inline]
#[target_feature(enable = "neon")]
fn twice(v: uint8x16_t) -> [int8x16_t; 2] {
    by_row(vtrn1q_u8(v, v), vtrn2q_u8(v, v))
}

/// `[4 rows][4 bytes]` of both → `[row % 2][row / 2][8 bytes]`.
#[inline]
#[target_feature(enable = "neon")]
fn by_row(first: uint8x16_t, second: uint8x16_t) -> [int8x16_t; 2] {
    let (first, second) = (vreinterpretq_s32_u8(first), vreinterpretq_s32_u8(second));
    [vreinterpretq_s8_s32(vtrn1q_s32(first, second)), vreinterpretq_s8_s32(vtrn2q_s32(first, second))]
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q6_k(w: [&BlockQ6K; ROWS]) -> Head<1> {
    let row = |r: usize| load_i8(&w[r].scales);
    without_mins(w.map(|w| w.d.bits()), [row(0), row(1), row(2), row(3)])
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q3_k(w: [&BlockQ3K; ROWS]) -> Head<1> {
    let row = |r: usize| vreinterpretq_s8_u8(load_u8(&scales_q3_k(&w[r].scales)));
    without_mins(w.map(|w| w.d.bits()), [row(0), row(1), row(2), row(3)])
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q2_k(w: [&BlockQ2K; ROWS]) -> Head<1> {
    let none = vdupq_n_s8(0);
    let (mut scales, mut mins) = ([none; ROWS], [none; ROWS]);
    for r in 0..ROWS {
        let both = load_u8(&w[r].scales);
        scales[r] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
        mins[r] = vreinterpretq_s8_u8(vshrq_n_u8::<4>(both));
    }
    Head { d: halves(w.map(|w| w.d.bits())), dmin: halves(w.map(|w| w.dmin.bits())), scales, plain: [none; 2], mins }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn iq4_xs(w: [&BlockIq4Xs; ROWS]) -> Head<2> {
    // A lane is a row: d and the upper bits of the scales, then the lower ones, of two scales in a byte.
    let [units, low, _, _] = words([head(w[0]), head(w[1]), head(w[2]), head(w[3])]);
    let low = vreinterpretq_u8_u32(low);
    // Four upper bits to a byte, for the same two scales.
    let high = vshrq_n_u32::<16>(units);
    let high = vreinterpretq_u16_u32(vandq_u32(vsliq_n_u32::<8>(high, high), vdupq_n_u32(0x00ff_00ff)));
    let high = vandq_u8(vreinterpretq_u8_u16(vsliq_n_u16::<4>(high, high)), vdupq_n_u8(0x0f));
    let even = vandq_u8(vsliq_n_u8::<4>(low, high), vdupq_n_u8(0x3f));
    let odd = vsliq_n_u8::<4>(vshrq_n_u8::<4>(low), vshrq_n_u8::<2>(high));
    let zero = vdupq_n_u8(32);
    let ([a, b], [c, d]) = (twice_by_half(vsubq_u8(even, zero)), twice_by_half(vsubq_u8(odd, zero)));
    let ([e, f], [g, h]) = (by_row(a, c), by_row(b, d));
    let none = vdupq_n_s8(0);
    let d = fcvtl(vmovn_u32(units));
    Head { d, dmin: vdupq_n_f32(0.0), scales: [e, f, g, h], plain: [none; 2], mins: [none; 4] }
}

/// `[4 rows][4 bytes]` → `[4 rows][bytes 0, 1 twice]` and `[4 rows][bytes 2, 3 twice]`.
#[inline]
#[target_feature(enable = "neon")]
fn twice_by_half(v: uint8x16_t) -> [uint8x16_t; 2] {
    let (first, second) = (vreinterpretq_u16_u8(vtrn1q_u8(v, v)), vreinterpretq_u16_u8(vtrn2q_u8(v, v)));
    [vreinterpretq_u8_u16(vtrn1q_u16(first, second)), vreinterpretq_u8_u16(vtrn2q_u16(first, second))]
}

#[inline]
#[target_feature(enable = "neon")]
fn without_mins<const N: usize>(d: [u16; ROWS], scales: [int8x16_t; 4]) -> Head<N> {
    let none = vdupq_n_s8(0);
    Head { d: halves(d), dmin: vdupq_n_f32(0.0), scales, plain: [none; 2], mins: [none; 4] }
}
