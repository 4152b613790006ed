//! Loads, stores, transposes and sums that the other files share.
use std::arch::aarch64::*;

use half::f16;

use super::instructions::{fcvtl, fmov, halves_of_both};
use crate::block::Block;

/// 16 bytes of a block.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_u8(x: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 readable bytes; the load takes any alignment.
    unsafe { vld1q_u8(x.as_ptr()) }
}

/// 16 int8.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_i8(x: &[i8; 16]) -> int8x16_t {
    // SAFETY: 16 readable bytes; the load takes any alignment.
    unsafe { vld1q_s8(x.as_ptr()) }
}

/// 8 sums.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_i16(x: &[i16; 8]) -> int16x8_t {
    // SAFETY: 16 readable bytes; the load takes any alignment.
    unsafe { vld1q_s16(x.as_ptr()) }
}

/// Writes 8 sums.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_i16(x: &mut [i16; 8], v: int16x8_t) {
    // SAFETY: 16 writable bytes; the store takes any alignment.
    unsafe { vst1q_s16(x.as_mut_ptr(), v) }
}

/// 4 int32.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_i32(x: &[i32; 4]) -> int32x4_t {
    // SAFETY: 16 readable bytes; the load takes any alignment.
    unsafe { vld1q_s32(x.as_ptr()) }
}

/// 4 floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_f32(x: &[f32; 4]) -> float32x4_t {
    // SAFETY: 16 readable bytes; the load takes any alignment.
    unsafe { vld1q_f32(x.as_ptr()) }
}

/// Writes 4 floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_f32(x: &mut [f32; 4], v: float32x4_t) {
    // SAFETY: 16 writable bytes; the store takes any alignment.
    unsafe { vst1q_f32(x.as_mut_ptr(), v) }
}

/// Writes 16 int8.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_i8(x: &mut [i8; 16], v: int8x16_t) {
    // SAFETY: 16 writable bytes; the store takes any alignment.
    unsafe { vst1q_s8(x.as_mut_ptr(), v) }
}

/// A half in each lane, as floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn half_in_all(x: f16) -> float32x4_t {
    fcvtl(vdup_n_u16(x.to_bits()))
}

/// Four scales as floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn halves(bits: [u16; 4]) -> float32x4_t {
    // Put together in the integer registers, which have nothing else to do.
    let [a, b, c, d] = bits;
    fcvtl(fmov(u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48))
}

/// The sums of four vectors.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn sum4(v: [int32x4_t; 4]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]))
}

/// `[4 rows][4 words]` → `[4 words][4 rows]`, words of 32 bits.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn transpose(v: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
    let [first, third] = halves_of_both(vtrn1q_u32(v[0], v[1]), vtrn1q_u32(v[2], v[3]));
    let [second, fourth] = halves_of_both(vtrn2q_u32(v[0], v[1]), vtrn2q_u32(v[2], v[3]));
    [first, second, third, fourth]
}

/// The first 16 bytes of a block.
#[inline]
pub(super) fn head<B: Block>(w: &B) -> &[u8; 16] {
    w.as_bytes().first_chunk().expect("a block of more than 16 bytes")
}

/// Rows `first …` of `rows`, of `per_row` blocks each; beyond the end the last row again.
#[inline]
pub(super) fn rows<B, const N: usize>(w: &[B], per_row: usize, rows: usize, first: usize) -> [&[B]; N] {
    std::array::from_fn(|i| &w[(first + i).min(rows - 1) * per_row..][..per_row])
}
