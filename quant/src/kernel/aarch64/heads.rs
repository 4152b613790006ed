//! Scales and minimums of four rows' blocks together: a lane is a row.
//!
//! `DOTS`: with dot products, whose minimums stay bytes. On CPUs that have them a table lookup takes as long as any
//! instruction and brings the scales into order; on a Cortex-A72 it takes three times as long.
use std::arch::aarch64::*;

use super::instructions::fcvtl;
use super::lanes::*;
use crate::block::{Block, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};

/// The numbers of one block of each of four rows, in `P` pairs of sub-blocks.
#[derive(Clone, Copy)]
pub(super) struct Head<const P: usize> {
    pub(super) d: float32x4_t,
    /// Zeros for a format without minimums.
    pub(super) dmin: float32x4_t,
    /// `[sub-block / 2][sub-block % 2][4 rows]`
    pub(super) scales: [int16x8_t; P],
    /// As the level's `offset` takes them: as the scales or, with dot products, bytes `[number / 4][4 rows][4 numbers]`. For a
    /// format that has none the scales, whose sum undoes what was added to the levels.
    pub(super) mins: [int16x8_t; P],
}

impl<const P: usize> Head<P> {
    /// Zeros.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn empty() -> Self {
        let (unit, pairs) = (vdupq_n_f32(0.0), [vdupq_n_s16(0); P]);
        Head { d: unit, dmin: unit, scales: pairs, mins: pairs }
    }

    /// The scales of sub-block `j`; beyond the last one zeros.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn scale(&self, j: usize) -> int16x4_t {
        match self.scales.get(j / 2) {
            Some(&pair) if j.is_multiple_of(2) => vget_low_s16(pair),
            Some(&pair) => vget_high_s16(pair),
            None => vdup_n_s16(0),
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q4_k<const DOTS: bool>(w: [&BlockQ4K; 4]) -> Head<4> {
    affine::<_, DOTS>(w)
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q5_k<const DOTS: bool>(w: [&BlockQ5K; 4]) -> Head<4> {
    affine::<_, DOTS>(w)
}

/// Of blocks that begin with d, dmin and the packed numbers that block/scales.rs describes.
#[inline]
#[target_feature(enable = "neon")]
fn affine<B: Block, const DOTS: bool>(w: [&B; 4]) -> Head<4> {
    let [units, scale, min, low] = words([head(w[0]), head(w[1]), head(w[2]), head(w[3])]);
    let six_bits = |v| vandq_u32(v, vdupq_n_u32(0x3f3f_3f3f));
    let join = |low, top| {
        let top = vandq_u32(vshrq_n_u32::<2>(top), vdupq_n_u32(0x3030_3030));
        vorrq_u32(vandq_u32(low, vdupq_n_u32(0x0f0f_0f0f)), top)
    };
    let unsigned = |first, second| {
        let ([a, b], [c, d]) = (unsigned_pairs::<DOTS>(first), unsigned_pairs::<DOTS>(second));
        [a, b, c, d]
    };
    let (upper_mins, none) = (join(vshrq_n_u32::<4>(low), min), vdupq_n_s16(0));
    Head {
        d: fcvtl(vmovn_u32(units)),
        dmin: fcvtl(vshrn_n_u32::<16>(units)),
        scales: unsigned(six_bits(scale), join(low, scale)),
        mins: if DOTS {
            [bytes(six_bits(min)), bytes(upper_mins), none, none]
        } else {
            unsigned(six_bits(min), upper_mins)
        },
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q6_k<const DOTS: bool>(w: [&BlockQ6K; 4]) -> Head<8> {
    let bytes = |r: usize| zerocopy::transmute_ref!(&w[r].scales);
    signed::<DOTS>(w.map(|w| w.d.bits()), [bytes(0), bytes(1), bytes(2), bytes(3)])
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q3_k<const DOTS: bool>(w: [&BlockQ3K; 4]) -> Head<8> {
    let scales = w.map(|w| scales_q3_k(&w.scales));
    signed::<DOTS>(w.map(|w| w.d.bits()), scales.each_ref())
}

/// The sixteen scales -32 … 31 as bytes; the layout is described in block/q3_k.rs.
#[inline]
pub(super) fn scales_q3_k(packed: &[u8; 12]) -> [u8; 16] {
    let word = |i: usize| u32::from_le_bytes([packed[i], packed[i + 1], packed[i + 2], packed[i + 3]]);
    let (first, second, high) = (word(0), word(4), word(8));
    // Four numbers at once; 32 is subtracted from bytes below 64 without a borrow from a neighbour.
    let join = |low: u32, high: u32| {
        let sum = low & 0x0f0f_0f0f | (high & 0x0303_0303) << 4;
        (sum | 0x8080_8080).wrapping_sub(0x2020_2020) ^ 0x8080_8080
    };
    let words = [join(first, high), join(second, high >> 2), join(first >> 4, high >> 4), join(second >> 4, high >> 6)];
    zerocopy::transmute!(words.map(u32::to_le_bytes))
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q2_k<const DOTS: bool>(w: [&BlockQ2K; 4]) -> Head<8> {
    let words = words([&w[0].scales, &w[1].scales, &w[2].scales, &w[3].scales]);
    let nibbles = |v| vandq_u32(v, vdupq_n_u32(0x0f0f_0f0f));
    Head {
        d: halves(w.map(|w| w.d.bits())),
        dmin: halves(w.map(|w| w.dmin.bits())),
        scales: flat(words.map(|v| unsigned_pairs::<DOTS>(nibbles(v)))),
        mins: if DOTS {
            with_bytes(words.map(|v| nibbles(vshrq_n_u32::<4>(v))))
        } else {
            flat(words.map(|v| unsigned_pairs::<DOTS>(nibbles(vshrq_n_u32::<4>(v)))))
        },
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn iq4_xs<const DOTS: bool>(w: [&BlockIq4Xs; 4]) -> Head<4> {
    let mut pairs = [[[0i16; 4]; 2]; 4];
    for r in 0..4 {
        for (j, scale) in w[r].unpack_scales().into_iter().enumerate() {
            pairs[j / 2][j % 2][r] = scale.into();
        }
    }
    let scales = pairs.map(|pair| load_i16(zerocopy::transmute_ref!(&pair)));
    Head { d: halves(w.map(|w| w.d.bits())), dmin: vdupq_n_f32(0.0), scales, mins: scales }
}

#[inline]
#[target_feature(enable = "neon")]
fn signed<const DOTS: bool>(d: [u16; 4], scales: [&[u8; 16]; 4]) -> Head<8> {
    let words = words(scales);
    let scales = flat(words.map(|v| signed_pairs::<DOTS>(v)));
    let mins = if DOTS { with_bytes(words) } else { scales };
    Head { d: halves(d), dmin: vdupq_n_f32(0.0), scales, mins }
}

#[inline]
fn flat(pairs: [[int16x8_t; 2]; 4]) -> [int16x8_t; 8] {
    let [[a, b], [c, d], [e, f], [g, h]] = pairs;
    [a, b, c, d, e, f, g, h]
}

/// `[4 rows][4 words]` → `[4 words][4 rows]`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn words(rows: [&[u8; 16]; 4]) -> [uint32x4_t; 4] {
    let row = |r: usize| vreinterpretq_u32_u8(load_u8(rows[r]));
    transpose([row(0), row(1), row(2), row(3)])
}

#[inline]
#[target_feature(enable = "neon")]
fn bytes(words: uint32x4_t) -> int16x8_t {
    vreinterpretq_s16_u32(words)
}

/// Bytes in the first four vectors.
#[inline]
#[target_feature(enable = "neon")]
fn with_bytes(words: [uint32x4_t; 4]) -> [int16x8_t; 8] {
    let none = vdupq_n_s16(0);
    [bytes(words[0]), bytes(words[1]), bytes(words[2]), bytes(words[3]), none, none, none, none]
}

/// `[4 rows][4 bytes]` → `[4 bytes][4 rows]`.
#[inline]
#[target_feature(enable = "neon")]
fn by_number(words: uint32x4_t) -> uint8x16_t {
    vqtbl1q_u8(vreinterpretq_u8_u32(words), load_u8(&[0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]))
}

/// `[4 rows][4 bytes]` → `[2 pairs of bytes][2 bytes][4 rows]`.
#[inline]
#[target_feature(enable = "neon")]
fn unsigned_pairs<const DOTS: bool>(words: uint32x4_t) -> [int16x8_t; 2] {
    if DOTS {
        let v = by_number(words);
        return [vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(v))), vreinterpretq_s16_u16(vmovl_high_u8(v))];
    }
    let v = vreinterpretq_u16_u32(words);
    let (even, odd) = (vandq_u16(v, vdupq_n_u16(0xff)), vshrq_n_u16::<8>(v));
    [vreinterpretq_s16_u16(vuzp1q_u16(even, odd)), vreinterpretq_s16_u16(vuzp2q_u16(even, odd))]
}

/// The same of signed bytes.
#[inline]
#[target_feature(enable = "neon")]
fn signed_pairs<const DOTS: bool>(words: uint32x4_t) -> [int16x8_t; 2] {
    if DOTS {
        let v = vreinterpretq_s8_u8(by_number(words));
        return [vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v)];
    }
    let v = vreinterpretq_s16_u32(words);
    let (even, odd) = (vshrq_n_s16::<8>(vshlq_n_s16::<8>(v)), vshrq_n_s16::<8>(v));
    [vuzp1q_s16(even, odd), vuzp2q_s16(even, odd)]
}
