//! Sixteen rows in two 256-bit registers: a broadcast of a token's values serves both.
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Mul, Shl, Shr, Sub};

use crate::kernel::x86::AvxVnni;
use crate::kernel::x86::vnni::Lanes;

/// Sixteen int32, made only with the token.
#[derive(Clone, Copy)]
pub(super) struct Pair(__m256i, __m256i);

/// Sixteen float32, made only with the token.
#[derive(Clone, Copy)]
pub(super) struct PairFloats(__m256, __m256);

/// Operators by intrinsics.
macro_rules! operators {
    ($($type:ident: $trait:ident $name:ident $intrinsic:ident;)*) => {$(
        impl $trait for $type {
            type Output = $type;

            #[inline(always)]
            fn $name(self, other: $type) -> $type {
                // SAFETY: a token made this value, so there is AVX2.
                unsafe { $type($intrinsic(self.0, other.0), $intrinsic(self.1, other.1)) }
            }
        }
    )*};
}

operators! {
    Pair: Add add _mm256_add_epi32;
    Pair: Mul mul _mm256_mullo_epi32;
    Pair: BitAnd bitand _mm256_and_si256;
    Pair: BitOr bitor _mm256_or_si256;
    Pair: BitXor bitxor _mm256_xor_si256;
    PairFloats: Add add _mm256_add_ps;
    PairFloats: Sub sub _mm256_sub_ps;
    PairFloats: Mul mul _mm256_mul_ps;
}

impl Shl<u32> for Pair {
    type Output = Pair;

    #[inline(always)]
    fn shl(self, n: u32) -> Pair {
        // SAFETY: a token made this value, so there is AVX2.
        unsafe {
            let n = _mm_cvtsi32_si128(n as i32);
            Pair(_mm256_sll_epi32(self.0, n), _mm256_sll_epi32(self.1, n))
        }
    }
}

impl Shr<u32> for Pair {
    type Output = Pair;

    #[inline(always)]
    fn shr(self, n: u32) -> Pair {
        // SAFETY: a token made this value, so there is AVX2.
        unsafe {
            let n = _mm_cvtsi32_si128(n as i32);
            Pair(_mm256_srl_epi32(self.0, n), _mm256_srl_epi32(self.1, n))
        }
    }
}

impl Lanes for Pair {
    type Token = AvxVnni;
    type Floats = PairFloats;
    const WIDE: bool = false;

    #[inline(always)]
    fn all(_: AvxVnni, x: i32) -> Pair {
        // SAFETY: the token proves AVX2.
        let v = unsafe { _mm256_set1_epi32(x) };
        Pair(v, v)
    }

    #[inline(always)]
    fn words<'a>(_: AvxVnni, row: impl Fn(usize) -> &'a [u8; 16]) -> [Pair; 4] {
        // SAFETY: the token proves AVX2; each load is of 16 readable bytes, at any alignment.
        unsafe {
            // Every fourth row, so that each half transposes by itself to neighbouring rows. No closures: they would be
            // compiled without the instructions.
            let mut words = [Pair(_mm256_setzero_si256(), _mm256_setzero_si256()); 4];
            for first in [0, 8] {
                let mut halves = [_mm256_setzero_si256(); 4];
                for (r, v) in halves.iter_mut().enumerate() {
                    let low = _mm_loadu_si128(row(first + r).as_ptr().cast());
                    *v = _mm256_set_m128i(_mm_loadu_si128(row(first + r + 4).as_ptr().cast()), low);
                }
                let [a, b, c, d] = halves;
                let (low_ab, high_ab) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                let (low_cd, high_cd) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                let transposed = [
                    _mm256_unpacklo_epi64(low_ab, low_cd),
                    _mm256_unpackhi_epi64(low_ab, low_cd),
                    _mm256_unpacklo_epi64(high_ab, high_cd),
                    _mm256_unpackhi_epi64(high_ab, high_cd),
                ];
                for (word, v) in words.iter_mut().zip(transposed) {
                    *(if first == 0 { &mut word.0 } else { &mut word.1 }) = v;
                }
            }
            words
        }
    }

    #[inline(always)]
    fn eights(_: AvxVnni, low: &[u8; 32], high: &[u8; 32]) -> Pair {
        // SAFETY: the token proves AVX2; each load is of 32 readable bytes, at any alignment.
        unsafe { Pair(_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())) }
    }

    #[inline(always)]
    fn dot_bytes(self, w: Pair, a: Pair) -> Pair {
        // SAFETY: a token made this value, so there is AVX-VNNI.
        unsafe { Pair(_mm256_dpbusd_avx_epi32(self.0, w.0, a.0), _mm256_dpbusd_avx_epi32(self.1, w.1, a.1)) }
    }

    #[inline(always)]
    fn dot_words(self, x: Pair, y: Pair) -> Pair {
        // SAFETY: as in `dot_bytes`.
        unsafe { Pair(_mm256_dpwssd_avx_epi32(self.0, x.0, y.0), _mm256_dpwssd_avx_epi32(self.1, x.1, y.1)) }
    }

    #[inline(always)]
    fn look_up(self, table: &[i8; 16]) -> Pair {
        // SAFETY: a token made this value, so there is AVX2; 16 readable bytes, at any alignment.
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            Pair(_mm256_shuffle_epi8(table, self.0), _mm256_shuffle_epi8(table, self.1))
        }
    }

    #[inline(always)]
    fn byte(self, i: u32) -> Pair {
        let top = self << (24 - 8 * i);
        // SAFETY: a token made this value, so there is AVX2.
        unsafe { Pair(_mm256_srai_epi32::<24>(top.0), _mm256_srai_epi32::<24>(top.1)) }
    }

    #[inline(always)]
    fn to_floats(self) -> PairFloats {
        // SAFETY: as in `byte`.
        unsafe { PairFloats(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1)) }
    }

    #[inline(always)]
    fn halves(self) -> (PairFloats, PairFloats) {
        let high = self >> 16;
        let mut floats = [self.to_floats(); 2];
        // SAFETY: as in `byte`; the level includes F16C. Words below 2^16 pack without loss.
        unsafe {
            let mask = _mm256_set1_epi32(0xffff);
            let low = Pair(_mm256_and_si256(self.0, mask), _mm256_and_si256(self.1, mask));
            for (floats, v) in floats.iter_mut().zip([low, high]) {
                floats.0 =
                    _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(v.0), _mm256_extracti128_si256::<1>(v.0)));
                floats.1 =
                    _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(v.1), _mm256_extracti128_si256::<1>(v.1)));
            }
        }
        let [low, high] = floats;
        (low, high)
    }

    #[inline(always)]
    fn widen(_: AvxVnni, bits: &[u16; 16]) -> PairFloats {
        let bits = bits.as_ptr();
        // SAFETY: the token proves F16C; two times 16 readable bytes, at any alignment.
        unsafe {
            let widen = |at| _mm256_cvtph_ps(_mm_loadu_si128(bits.add(at).cast()));
            PairFloats(widen(0), widen(8))
        }
    }

    #[inline(always)]
    fn all_floats(_: AvxVnni, x: f32) -> PairFloats {
        // SAFETY: the token proves AVX2.
        let v = unsafe { _mm256_set1_ps(x) };
        PairFloats(v, v)
    }

    #[inline(always)]
    fn get(x: PairFloats) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: a token made `x`, so there is AVX2; two times 32 writable bytes, at any alignment.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), x.0);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), x.1);
        }
        out
    }
}
