//! Loads, stores and sums that the other files share.
use std::arch::x86_64::*;

use crate::block::{Block, NON_LINEAR};
pub(super) use crate::kernel::x86::prefetch;

/// 32 bytes of a block.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn load_u8(x: &[u8; 32]) -> __m256i {
    // SAFETY: 32 readable bytes; the load takes any alignment.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// 32 int8 activations.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn load_i8(x: &[i8; 32]) -> __m256i {
    // SAFETY: 32 readable bytes; the load takes any alignment.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// 16 bytes of a block.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn load_u8_half(x: &[u8; 16]) -> __m128i {
    // SAFETY: 16 readable bytes; the load takes any alignment.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

/// 16 sums.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn load_i16(x: &[i16; 16]) -> __m256i {
    // SAFETY: 32 readable bytes; the load takes any alignment.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// 8 floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_f32(x: &[f32; 8]) -> __m256 {
    // SAFETY: 32 readable bytes; the load takes any alignment.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

/// Writes 8 floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_f32(x: &mut [f32; 8], v: __m256) {
    // SAFETY: 32 writable bytes; the store takes any alignment.
    unsafe { _mm256_storeu_ps(x.as_mut_ptr(), v) }
}

/// Writes 4 floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_f32_half(x: &mut [f32; 4], v: __m128) {
    // SAFETY: 16 writable bytes; the store takes any alignment.
    unsafe { _mm_storeu_ps(x.as_mut_ptr(), v) }
}

/// Writes 16 int16 as pairs.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_i16(x: &mut [[i16; 2]; 8], v: __m256i) {
    // SAFETY: 32 writable bytes; the store takes any alignment.
    unsafe { _mm256_storeu_si256(x.as_mut_ptr().cast(), v) }
}

/// Writes 8 int32.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_i32(x: &mut [i32; 8], v: __m256i) {
    // SAFETY: 32 writable bytes; the store takes any alignment.
    unsafe { _mm256_storeu_si256(x.as_mut_ptr().cast(), v) }
}

/// Writes 16 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_u8_half(x: &mut [u8; 16], v: __m128i) {
    // SAFETY: 16 writable bytes; the store takes any alignment.
    unsafe { _mm_storeu_si128(x.as_mut_ptr().cast(), v) }
}

/// Writes 32 int8.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_i8(x: &mut [i8; 32], v: __m256i) {
    // SAFETY: 32 writable bytes; the store takes any alignment.
    unsafe { _mm256_storeu_si256(x.as_mut_ptr().cast(), v) }
}

/// Four scales as floats.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn halves4(bits: [u16; 4]) -> __m128 {
    let [a, b, c, d] = bits;
    let packed = u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48;
    _mm_cvtph_ps(_mm_cvtsi64_si128(packed as i64))
}

/// Eight scales as floats.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(in crate::kernel::x86) fn halves8(bits: [u16; 8]) -> __m256 {
    // SAFETY: 16 readable bytes; the load takes any alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bits.as_ptr().cast()) })
}

/// Eight half-precision numbers as they lie in memory.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn halves(bits: &[u8; 16]) -> __m256 {
    _mm256_cvtph_ps(load_u8_half(bits))
}

/// Four neighbouring int8 values in each lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn broadcast4(x: [i8; 4]) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes([x[0] as u8, x[1] as u8, x[2] as u8, x[3] as u8]))
}

/// Two neighbouring int16 values in each lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn broadcast_pair(x: [i16; 2]) -> __m256i {
    _mm256_set1_epi32(i32::from(x[0] as u16) | i32::from(x[1]) << 16)
}

/// The sums of four vectors of eight int32.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum4_i32(v: [__m256i; 4]) -> __m128i {
    let v = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v))
}

/// The sums of eight vectors of eight int32.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn sum8_i32(v: [__m256i; 8]) -> __m256i {
    let low = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    let high = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    // Each half of both holds a part of four sums.
    _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high))
}

/// The sums of four vectors of eight floats, added as `scalar::add_lanes` does.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn sum4_f32(v: [__m256; 4]) -> [f32; 4] {
    let v = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    let mut out = [0.0; 4];
    store_f32_half(&mut out, _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)));
    out
}

/// The sum of eight floats, added as `scalar::add_lanes` does.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn sum_f32(v: __m256) -> f32 {
    let v = _mm256_hadd_ps(v, v);
    let v = _mm256_hadd_ps(v, v);
    _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)))
}

/// `[8 rows][8 words]` → `[8 words][8 rows]`, words of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose(r: [__m256i; 8]) -> [__m256i; 8] {
    // Within each half: pairs of rows, then fours.
    let pairs = [
        _mm256_unpacklo_epi32(r[0], r[1]),
        _mm256_unpackhi_epi32(r[0], r[1]),
        _mm256_unpacklo_epi32(r[2], r[3]),
        _mm256_unpackhi_epi32(r[2], r[3]),
        _mm256_unpacklo_epi32(r[4], r[5]),
        _mm256_unpackhi_epi32(r[4], r[5]),
        _mm256_unpacklo_epi32(r[6], r[7]),
        _mm256_unpackhi_epi32(r[6], r[7]),
    ];
    let low = [
        _mm256_unpacklo_epi64(pairs[0], pairs[2]),
        _mm256_unpackhi_epi64(pairs[0], pairs[2]),
        _mm256_unpacklo_epi64(pairs[1], pairs[3]),
        _mm256_unpackhi_epi64(pairs[1], pairs[3]),
    ];
    let high = [
        _mm256_unpacklo_epi64(pairs[4], pairs[6]),
        _mm256_unpackhi_epi64(pairs[4], pairs[6]),
        _mm256_unpacklo_epi64(pairs[5], pairs[7]),
        _mm256_unpackhi_epi64(pairs[5], pairs[7]),
    ];
    // Then the halves: words 0–3 lie in the low ones, words 4–7 in the high ones.
    [
        _mm256_permute2x128_si256::<0x20>(low[0], high[0]),
        _mm256_permute2x128_si256::<0x20>(low[1], high[1]),
        _mm256_permute2x128_si256::<0x20>(low[2], high[2]),
        _mm256_permute2x128_si256::<0x20>(low[3], high[3]),
        _mm256_permute2x128_si256::<0x31>(low[0], high[0]),
        _mm256_permute2x128_si256::<0x31>(low[1], high[1]),
        _mm256_permute2x128_si256::<0x31>(low[2], high[2]),
        _mm256_permute2x128_si256::<0x31>(low[3], high[3]),
    ]
}

/// The first 16 bytes of a block.
#[inline]
pub(super) fn head<B: Block>(w: &B) -> &[u8; 16] {
    w.as_bytes().first_chunk().expect("a block of more than 16 bytes")
}

/// `[8 rows][4 words]` → `[4 words][8 rows]`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn head_words(heads: [&[u8; 16]; 8]) -> [__m256i; 4] {
    let pair = |r: usize| _mm256_set_m128i(load_u8_half(heads[r + 4]), load_u8_half(heads[r]));
    let (r0, r1, r2, r3) = (pair(0), pair(1), pair(2), pair(3));
    let (low01, high01) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
    let (low23, high23) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
    [
        _mm256_unpacklo_epi64(low01, low23),
        _mm256_unpackhi_epi64(low01, low23),
        _mm256_unpacklo_epi64(high01, high23),
        _mm256_unpackhi_epi64(high01, high23),
    ]
}

/// Of words with a half-precision number in each half: the lower ones, and the upper ones.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn unit_pairs(words: __m256i) -> (__m256, __m256) {
    // Words below 2^16 pack without loss.
    let widen = |v| _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)));
    (widen(_mm256_and_si256(words, _mm256_set1_epi32(0xffff))), widen(_mm256_srli_epi32::<16>(words)))
}

/// The low half of each byte.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn low_nibbles(v: __m256i) -> __m256i {
    _mm256_and_si256(v, _mm256_set1_epi8(15))
}

/// The high half of each byte.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn high_nibbles(v: __m256i) -> __m256i {
    low_nibbles(_mm256_srli_epi16::<4>(v))
}

/// 16 in each byte of `v` that has bit `j`, else 0.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn fifth_bit(v: __m256i, j: usize) -> __m256i {
    moved_bit(v, j, 16)
}

/// 4 in each byte of `v` that has bit `j`, else 0.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn third_bit(v: __m256i, j: usize) -> __m256i {
    moved_bit(v, j, 4)
}

#[inline]
#[target_feature(enable = "avx2")]
fn moved_bit(v: __m256i, j: usize, to: i8) -> __m256i {
    let bit = _mm256_set1_epi8((1u8 << j) as i8);
    _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit), _mm256_set1_epi8(to))
}

/// The levels of IQ4_NL and IQ4_XS for indices 0 … 15.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn non_linear(indices: __m256i) -> __m256i {
    let table = _mm256_broadcastsi128_si256(load_u8_half(zerocopy::transmute_ref!(&NON_LINEAR)));
    _mm256_shuffle_epi8(table, indices)
}

/// int16 sums of two neighbouring products of int8, where no activation is -128.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn signed_products(w: __m256i, a: __m256i) -> __m256i {
    // The unsigned side is |w|, and the sign goes to the activation: 128 · 127 · 2 fits 16 bits.
    _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w))
}

/// The levels 0 … 3 of 128 values, 32 at a time.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn levels_2_bits(qs: __m256i) -> [__m256i; 4] {
    let low = |v| _mm256_and_si256(v, _mm256_set1_epi8(3));
    [low(qs), low(_mm256_srli_epi16::<2>(qs)), low(_mm256_srli_epi16::<4>(qs)), low(_mm256_srli_epi16::<6>(qs))]
}

/// `v`, computed up to here. Left to itself the compiler reassociates integer sums into trees with more values in
/// flight than there are registers.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn pin(v: __m256i) -> __m256i {
    let pinned;
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(ymm_reg) v => pinned, options(nomem, nostack, preserves_flags));
    }
    pinned
}

/// Rows `first …` of `per_row` blocks each; beyond the end the last row again.
// Always inlined: the loops over the rows would otherwise check each length.
#[inline(always)]
pub(super) fn rows<B, const N: usize>(w: &[B], per_row: usize, first: usize) -> [&[B]; N] {
    let last = w.len() / per_row - 1;
    std::array::from_fn(|i| &w[(first + i).min(last) * per_row..][..per_row])
}
