//! The levels of each format's blocks as int8.
use std::arch::aarch64::*;

use super::instructions::{again, insert, opaque};
use super::lanes::*;
use crate::block::{
    BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, NON_LINEAR,
};

/// Two sub-blocks of `16 * N` columns that lie in the same bytes: those that [`pair`] names.
pub(super) type Pair<const N: usize> = [[int8x16_t; N]; 2];

/// The sub-blocks of pair `i`. Those of 16 columns come in an order in which neighbours are mostly both even or both odd.
#[inline]
pub(super) const fn pair<const N: usize>(i: usize) -> [usize; 2] {
    if N == 2 {
        return [2 * i, 2 * i + 1];
    }
    let j = i / 4 * 8 + [0, 2, 1, 3][i % 4];
    [j, j + 4]
}

/// 0 … 15.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q4_k(w: &BlockQ4K, i: usize) -> Pair<2> {
    let [a, b] = nibbles(&w.qs, i);
    [[as_signed(a[0]), as_signed(a[1])], [as_signed(b[0]), as_signed(b[1])]]
}

/// 0 … 31.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q5_k(w: &BlockQ5K, i: usize) -> Pair<2> {
    let (qs, qh) = (w.qs.as_chunks::<32>().0[i].as_chunks().0, w.qh.as_chunks().0);
    let ([a, c], [b, d]) = (five_bits_of_pair(&qs[0], &qh[0], i), five_bits_of_pair(&qs[1], &qh[1], i));
    [[a, b], [c, d]]
}

/// With 16 taken away, -16 … 15: sixteen products of that and an activation fit an int16.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q5_k_centred(w: &BlockQ5K, i: usize) -> Pair<2> {
    let (qs, qh) = (w.qs.as_chunks::<32>().0[i].as_chunks().0, w.qh.as_chunks().0);
    let vector = |c: usize| {
        let (qs, clear) = (load_u8(&qs[c]), opaque(vmvnq_u8(load_u8(&qh[c]))));
        // The upper four bits of a level: all where the fifth bit is clear.
        let is_clear = |bit: usize| vtstq_u8(clear, opaque(vdupq_n_u8(1 << bit)));
        let (low, high) = (is_clear(2 * i), is_clear(2 * i + 1));
        [as_signed(vsliq_n_u8::<4>(qs, low)), as_signed(vsriq_n_u8::<4>(high, qs))]
    };
    let ([a, c], [b, d]) = (vector(0), vector(1));
    [[a, b], [c, d]]
}

/// The low halves of `qs` with bit `2 * i` of `qh` on top, and the high ones with bit `2 * i + 1`.
#[inline]
#[target_feature(enable = "neon")]
fn five_bits_of_pair(qs: &[u8; 16], qh: &[u8; 16], i: usize) -> [int8x16_t; 2] {
    let (qs, qh) = (load_u8(qs), load_u8(qh));
    // At the bottom of the low half, and of the high one.
    let (low, high) = match i {
        0 => (qh, vshlq_n_u8::<3>(qh)),
        1 => (vshrq_n_u8::<2>(qh), vshlq_n_u8::<1>(qh)),
        2 => (vshrq_n_u8::<4>(qh), vshrq_n_u8::<1>(qh)),
        _ => (vshrq_n_u8::<6>(qh), vshrq_n_u8::<3>(qh)),
    };
    let (low, high) = (vandq_u8(low, vdupq_n_u8(0x01)), vandq_u8(high, vdupq_n_u8(0x10)));
    [as_signed(vsliq_n_u8::<4>(qs, low)), as_signed(vsriq_n_u8::<4>(high, qs))]
}

/// With 32 added, 0 … 63.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q6_k(w: &BlockQ6K, i: usize) -> Pair<1> {
    let j = pair::<1>(i)[0];
    let (ql, qh) = (w.ql.as_chunks::<64>().0[j / 8].as_chunks().0, w.qh.as_chunks::<32>().0[j / 8].as_chunks().0);
    let (first, second, qh) = (load_u8(&ql[j % 4]), load_u8(again(&ql[j % 4])), load_u8(&qh[j % 2]));
    // The two bits that go on top, at the bottom of a byte's halves.
    let high = opaque(vandq_u8(if j % 4 < 2 { qh } else { vshrq_n_u8::<2>(qh) }, vdupq_n_u8(0x33)));
    // Both instructions overwrite what the other reads: a load more spares a move.
    [[as_signed(vsliq_n_u8::<4>(first, high))], [as_signed(vsriq_n_u8::<4>(high, second))]]
}

/// With 4 added, 0 … 7.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q3_k(w: &BlockQ3K, i: usize) -> Pair<1> {
    let [a, b] = pair::<1>(i);
    let hmask = load_u8(&w.hmask.as_chunks().0[a % 2]);
    [[set_bit(pair_of_bits(&w.qs, a), 4, hmask, a / 2)], [set_bit(pair_of_bits(&w.qs, b), 4, hmask, b / 2)]]
}

/// 0 … 3.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn q2_k(w: &BlockQ2K, i: usize) -> Pair<1> {
    let [a, b] = pair::<1>(i);
    [[as_signed(pair_of_bits(&w.qs, a))], [as_signed(pair_of_bits(&w.qs, b))]]
}

/// -127 … 113.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn iq4_xs(w: &BlockIq4Xs, i: usize) -> Pair<2> {
    let [a, b] = pair::<2>(i);
    let (a, b) = (low_high(&w.qs[a]), low_high(&w.qs[b]));
    [[non_linear(a[0]), non_linear(a[1])], [non_linear(b[0]), non_linear(b[1])]]
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

/// The low four bits of pair `i` of Q4_K and Q5_K.
#[inline]
#[target_feature(enable = "neon")]
fn nibbles(qs: &[u8; 128], i: usize) -> [[uint8x16_t; 2]; 2] {
    let qs = qs.as_chunks::<32>().0[i].as_chunks().0;
    let (a, b, low) = (load_u8(&qs[0]), load_u8(&qs[1]), vdupq_n_u8(15));
    [[vandq_u8(a, low), vandq_u8(b, low)], [vshrq_n_u8::<4>(a), vshrq_n_u8::<4>(b)]]
}

#[inline]
#[target_feature(enable = "neon")]
fn as_signed(v: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(v)
}

/// The low two bits of sub-block `j` of Q2_K and Q3_K.
#[inline]
#[target_feature(enable = "neon")]
fn pair_of_bits(qs: &[u8; 64], j: usize) -> uint8x16_t {
    let qs = load_u8(&qs.as_chunks::<32>().0[j / 8].as_chunks().0[j % 2]);
    let moved = match j % 8 / 2 {
        0 => qs,
        1 => vshrq_n_u8::<2>(qs),
        2 => vshrq_n_u8::<4>(qs),
        _ => return vshrq_n_u8::<6>(qs),
    };
    vandq_u8(moved, vdupq_n_u8(3))
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
    insert(low, vtstq_u8(bits, vdupq_n_u8(1 << j)), vdupq_n_u8(value))
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
        insert(low, set, vdupq_n_u8(16))
    };
    let [low, high] = low_high(qs);
    [join(low, 0), join(high, 2)]
}
