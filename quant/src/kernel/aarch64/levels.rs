//! The blocks of each format in vectors: int8 levels of 64 columns, and the numbers in front of them.
use std::arch::aarch64::*;

use super::lanes::*;
use crate::block::{
    BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, NON_LINEAR,
};

/// Levels of 64 columns of one row, 16 a vector.
pub(super) type Part = [int8x16_t; 4];

/// Columns `64 * p …`, 0 … 15.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q4_k(w: &BlockQ4K, p: usize) -> Part {
    nibbles(&w.qs, p).map(|v| vreinterpretq_s8_u8(v))
}

/// Columns `64 * p …`, 0 … 31.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q5_k(w: &BlockQ5K, p: usize) -> Part {
    let qh = w.qh.as_chunks().0;
    let (qh, low) = ([load_u8(&qh[0]), load_u8(&qh[1])], nibbles(&w.qs, p));
    let fifth = |i: usize| set_bit(low[i], 16, qh[i % 2], 2 * p + i / 2);
    [fifth(0), fifth(1), fifth(2), fifth(3)]
}

/// Columns `64 * p …` with 32 added, 0 … 63.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q6_k(w: &BlockQ6K, p: usize) -> Part {
    let (ql, qh) = (w.ql.as_chunks::<64>().0[p / 2].as_chunks().0, w.qh.as_chunks::<32>().0[p / 2].as_chunks().0);
    let (ql, qh) = ([0, 1, 2, 3].map(|i| load_u8(&ql[i])), [load_u8(&qh[0]), load_u8(&qh[1])]);
    // The two bits that go on top, moved to their place.
    let (low, high) = if p.is_multiple_of(2) {
        let moved = [vshlq_n_u8::<4>(qh[0]), vshlq_n_u8::<4>(qh[1]), vshlq_n_u8::<2>(qh[0]), vshlq_n_u8::<2>(qh[1])];
        (ql.map(|v| vandq_u8(v, vdupq_n_u8(15))), moved)
    } else {
        let moved = [qh[0], qh[1], vshrq_n_u8::<2>(qh[0]), vshrq_n_u8::<2>(qh[1])];
        (ql.map(|v| vshrq_n_u8::<4>(v)), moved)
    };
    [0, 1, 2, 3].map(|i| vreinterpretq_s8_u8(vbslq_u8(vdupq_n_u8(0x30), high[i], low[i])))
}

/// Columns `64 * p …` with 4 added, 0 … 7.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q3_k(w: &BlockQ3K, p: usize) -> Part {
    let hmask = w.hmask.as_chunks().0;
    let (hmask, low) = ([load_u8(&hmask[0]), load_u8(&hmask[1])], pairs_of_bits(&w.qs, p));
    let third = |i: usize| set_bit(low[i], 4, hmask[i % 2], 2 * p + i / 2);
    [third(0), third(1), third(2), third(3)]
}

/// Columns `64 * p …`, 0 … 3.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q2_k(w: &BlockQ2K, p: usize) -> Part {
    pairs_of_bits(&w.qs, p).map(|v| vreinterpretq_s8_u8(v))
}

/// Columns `64 * p …`, -127 … 113.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn iq4_xs(w: &BlockIq4Xs, p: usize) -> Part {
    let ([a, b], [c, d]) = (low_high(&w.qs[2 * p]), low_high(&w.qs[2 * p + 1]));
    [a, b, c, d].map(|v| non_linear(v))
}

/// Levels that are stored with `ZERO` added, without it.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn centred<const ZERO: i8>(v: int8x16_t) -> int8x16_t {
    if ZERO == 0 { v } else { vsubq_s8(v, vdupq_n_s8(ZERO)) }
}

/// Levels of a block of 32 columns.
pub(super) type Small = [int8x16_t; 2];

/// -128 … 127.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q8_0(w: &BlockQ8_0) -> Small {
    let qs = w.qs.as_chunks().0;
    [load_i8(&qs[0]), load_i8(&qs[1])]
}

/// -8 … 7.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q4_0(w: &BlockQ4_0) -> Small {
    low_high(&w.qs).map(|v| vsubq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(8)))
}

/// 0 … 15.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q4_1(w: &BlockQ4_1) -> Small {
    low_high(&w.qs).map(|v| vreinterpretq_s8_u8(v))
}

/// -16 … 15.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q5_0(w: &BlockQ5_0) -> Small {
    five_bits(&w.qs, w.qh).map(|v| vsubq_s8(v, vdupq_n_s8(16)))
}

/// 0 … 31.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q5_1(w: &BlockQ5_1) -> Small {
    five_bits(&w.qs, w.qh)
}

/// -127 … 113.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn iq4_nl(w: &BlockIq4Nl) -> Small {
    low_high(&w.qs).map(|v| non_linear(v))
}

/// Columns `64 * p …` of Q4_K and Q5_K, the low four bits.
#[inline]
#[target_feature(enable = "neon")]
fn nibbles(qs: &[u8; 128], p: usize) -> [uint8x16_t; 4] {
    let qs = qs.as_chunks::<32>().0[p].as_chunks().0;
    let ([a, c], [b, d]) = (low_high(&qs[0]), low_high(&qs[1]));
    [a, b, c, d]
}

/// Columns `64 * p …` of Q2_K and Q3_K, the low two bits.
#[inline]
#[target_feature(enable = "neon")]
fn pairs_of_bits(qs: &[u8; 64], p: usize) -> [uint8x16_t; 4] {
    let qs = qs.as_chunks::<32>().0[p / 2].as_chunks().0;
    let (a, b) = (load_u8(&qs[0]), load_u8(&qs[1]));
    let moved = if p.is_multiple_of(2) {
        [a, b, vshrq_n_u8::<2>(a), vshrq_n_u8::<2>(b)]
    } else {
        [vshrq_n_u8::<4>(a), vshrq_n_u8::<4>(b), vshrq_n_u8::<6>(a), vshrq_n_u8::<6>(b)]
    };
    moved.map(|v| vandq_u8(v, vdupq_n_u8(3)))
}

/// The low halves of 16 bytes, and the high ones.
#[inline]
#[target_feature(enable = "neon")]
fn low_high(qs: &[u8; 16]) -> [uint8x16_t; 2] {
    let qs = load_u8(qs);
    [vandq_u8(qs, vdupq_n_u8(15)), vshrq_n_u8::<4>(qs)]
}

#[inline]
#[target_feature(enable = "neon")]
fn non_linear(indices: uint8x16_t) -> int8x16_t {
    vqtbl1q_s8(load_i8(&NON_LINEAR), indices)
}

/// `low` with `value` (a power of two) in it where bit `j` of `bits` is set.
#[inline]
#[target_feature(enable = "neon")]
fn set_bit(low: uint8x16_t, value: u8, bits: uint8x16_t, j: usize) -> int8x16_t {
    let set = vtstq_u8(bits, vdupq_n_u8(1 << j));
    vreinterpretq_s8_u8(vbslq_u8(vdupq_n_u8(value), set, low))
}

/// 32 levels 0 … 31 in order.
#[inline]
#[target_feature(enable = "neon")]
fn five_bits(qs: &[u8; 16], qh: [u8; 4]) -> Small {
    // Each byte of the fifth bits in the eight places that it is for, then its one bit of each.
    let bytes = vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(qh)));
    let places = |first: u8| vcombine_u8(vdup_n_u8(first), vdup_n_u8(first + 1));
    let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    let join = |low, first: u8| {
        let set = vtstq_u8(vqtbl1q_u8(bytes, places(first)), bit);
        vreinterpretq_s8_u8(vbslq_u8(vdupq_n_u8(16), set, low))
    };
    let [low, high] = low_high(qs);
    [join(low, 0), join(high, 2)]
}
