//! Sixteen rows in a 512-bit register.
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Mul, Shl, Shr, Sub};

use crate::kernel::x86::Avx512Vnni;
use crate::kernel::x86::float::Register;
use crate::kernel::x86::vnni::Lanes;

/// Sixteen int32, made only with the token.
#[derive(Clone, Copy)]
pub(super) struct Zmm(__m512i);

/// Sixteen float32, made only with the token.
#[derive(Clone, Copy)]
pub(super) struct ZmmFloats(pub(super) __m512);

/// Operators by intrinsics.
macro_rules! operators {
    ($($type:ident: $trait:ident $name:ident $intrinsic:ident;)*) => {$(
        impl $trait for $type {
            type Output = $type;

            #[inline(always)]
            fn $name(self, other: $type) -> $type {
                // SAFETY: a token made this value, so there is AVX-512 F.
                $type(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )*};
}

operators! {
    Zmm: Add add _mm512_add_epi32;
    Zmm: Mul mul _mm512_mullo_epi32;
    Zmm: BitAnd bitand _mm512_and_si512;
    Zmm: BitOr bitor _mm512_or_si512;
    Zmm: BitXor bitxor _mm512_xor_si512;
    ZmmFloats: Add add _mm512_add_ps;
    ZmmFloats: Sub sub _mm512_sub_ps;
    ZmmFloats: Mul mul _mm512_mul_ps;
}

impl Shl<u32> for Zmm {
    type Output = Zmm;

    #[inline(always)]
    fn shl(self, n: u32) -> Zmm {
        // SAFETY: a token made this value, so there is AVX-512 F.
        Zmm(unsafe { _mm512_sll_epi32(self.0, _mm_cvtsi32_si128(n as i32)) })
    }
}

impl Shr<u32> for Zmm {
    type Output = Zmm;

    #[inline(always)]
    fn shr(self, n: u32) -> Zmm {
        // SAFETY: a token made this value, so there is AVX-512 F.
        Zmm(unsafe { _mm512_srl_epi32(self.0, _mm_cvtsi32_si128(n as i32)) })
    }
}

impl Lanes for Zmm {
    type Token = Avx512Vnni;
    type Floats = ZmmFloats;
    const WIDE: bool = true;

    #[inline(always)]
    fn all(_: Avx512Vnni, x: i32) -> Zmm {
        // SAFETY: the token proves AVX-512 F.
        Zmm(unsafe { _mm512_set1_epi32(x) })
    }

    #[inline(always)]
    fn words<'a>(_: Avx512Vnni, row: impl Fn(usize) -> &'a [u8; 16]) -> [Zmm; 4] {
        // SAFETY: the token proves AVX-512 F; each load is of 16 readable bytes, at any alignment.
        unsafe {
            // Every fourth row, so that each quarter transposes by itself to neighbouring rows. No closures: they would be
            // compiled without the instructions.
            let mut quarters = [_mm512_setzero_si512(); 4];
            for (r, v) in quarters.iter_mut().enumerate() {
                *v = _mm512_castsi128_si512(_mm_loadu_si128(row(r).as_ptr().cast()));
                *v = _mm512_inserti32x4::<1>(*v, _mm_loadu_si128(row(r + 4).as_ptr().cast()));
                *v = _mm512_inserti32x4::<2>(*v, _mm_loadu_si128(row(r + 8).as_ptr().cast()));
                *v = _mm512_inserti32x4::<3>(*v, _mm_loadu_si128(row(r + 12).as_ptr().cast()));
            }
            let [a, b, c, d] = quarters;
            let (low_ab, high_ab) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (low_cd, high_cd) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                Zmm(_mm512_unpacklo_epi64(low_ab, low_cd)),
                Zmm(_mm512_unpackhi_epi64(low_ab, low_cd)),
                Zmm(_mm512_unpacklo_epi64(high_ab, high_cd)),
                Zmm(_mm512_unpackhi_epi64(high_ab, high_cd)),
            ]
        }
    }

    #[inline(always)]
    fn eights(_: Avx512Vnni, low: &[u8; 32], high: &[u8; 32]) -> Zmm {
        // SAFETY: the token proves AVX-512 F; each load is of 32 readable bytes, at any alignment.
        unsafe {
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.as_ptr().cast()));
            Zmm(_mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.as_ptr().cast())))
        }
    }

    #[inline(always)]
    fn dot_bytes(self, w: Zmm, a: Zmm) -> Zmm {
        // SAFETY: a token made this value, so there is AVX-512 VNNI.
        Zmm(unsafe { _mm512_dpbusd_epi32(self.0, w.0, a.0) })
    }

    #[inline(always)]
    fn dot_words(self, x: Zmm, y: Zmm) -> Zmm {
        // SAFETY: as in `dot_bytes`.
        Zmm(unsafe { _mm512_dpwssd_epi32(self.0, x.0, y.0) })
    }

    #[inline(always)]
    fn look_up(self, table: &[i8; 16]) -> Zmm {
        // SAFETY: a token made this value, so there is AVX-512 BW; 16 readable bytes, at any alignment.
        Zmm(unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), self.0) })
    }

    #[inline(always)]
    fn byte(self, i: u32) -> Zmm {
        // SAFETY: a token made this value, so there is AVX-512 F.
        Zmm(unsafe { _mm512_srai_epi32::<24>((self << (24 - 8 * i)).0) })
    }

    #[inline(always)]
    fn to_floats(self) -> ZmmFloats {
        // SAFETY: as in `byte`.
        ZmmFloats(unsafe { _mm512_cvtepi32_ps(self.0) })
    }

    #[inline(always)]
    fn halves(self) -> (ZmmFloats, ZmmFloats) {
        let high = self >> 16;
        // SAFETY: as in `byte`.
        unsafe {
            let (low, high) = (_mm512_cvtepi32_epi16(self.0), _mm512_cvtepi32_epi16(high.0));
            (ZmmFloats(_mm512_cvtph_ps(low)), ZmmFloats(_mm512_cvtph_ps(high)))
        }
    }

    #[inline(always)]
    fn widen(token: Avx512Vnni, bits: &[u16; 16]) -> ZmmFloats {
        // SAFETY: 16 readable numbers.
        unsafe { ZmmFloats::load_f16(token, bits.as_ptr().cast()) }
    }

    #[inline(always)]
    fn all_floats(token: Avx512Vnni, x: f32) -> ZmmFloats {
        ZmmFloats::all(token, x)
    }

    #[inline(always)]
    fn get(x: ZmmFloats) -> [f32; 16] {
        let mut out = [0.0; 16];
        x.store(&mut out);
        out
    }
}
