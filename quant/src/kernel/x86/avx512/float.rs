//! Float rows in 512-bit registers.
use std::arch::x86_64::*;

use half::f16;

use super::lanes::ZmmFloats;
use crate::act::ActView;
use crate::kernel::x86::avx2::lanes::{sum_f32, sum4_f32};
use crate::kernel::x86::float::{self, Register};
use crate::kernel::x86::{Avx2, Avx512Vnni};
use crate::kernel::{Ahead, Q8Rows};

impl ZmmFloats {
    /// Lanes i and i + 8 added up.
    #[inline(always)]
    fn fold(self) -> __m256 {
        // SAFETY: a token made this value, so there is AVX-512 DQ.
        unsafe { _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0)) }
    }
}

impl Register<16> for ZmmFloats {
    type Token = Avx512Vnni;

    #[inline(always)]
    fn all(_: Avx512Vnni, x: f32) -> ZmmFloats {
        // SAFETY: the token proves AVX-512 F.
        ZmmFloats(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(_: Avx512Vnni, x: *const f32) -> ZmmFloats {
        // SAFETY: the token proves AVX-512 F; the caller gives 16 floats.
        ZmmFloats(unsafe { _mm512_loadu_ps(x) })
    }

    #[inline(always)]
    unsafe fn load_f16(_: Avx512Vnni, x: *const f16) -> ZmmFloats {
        // SAFETY: the token proves AVX-512 F; the caller gives 32 bytes.
        ZmmFloats(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.cast())) })
    }

    #[inline(always)]
    unsafe fn load_bf16(_: Avx512Vnni, x: *const u16) -> ZmmFloats {
        // SAFETY: as in `load_f16`.
        ZmmFloats(unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        })
    }

    #[inline(always)]
    unsafe fn load_i8(_: Avx512Vnni, x: *const i8) -> ZmmFloats {
        // SAFETY: the token proves AVX-512 F; the caller gives 16 bytes.
        ZmmFloats(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.cast()))) })
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        // SAFETY: a token made this value, so there is AVX-512 F; 64 writable bytes, at any alignment.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn add_product(self, a: ZmmFloats, b: ZmmFloats) -> ZmmFloats {
        // SAFETY: a token made this value, so there is AVX-512 F.
        ZmmFloats(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: a token made this value, so there is AVX2.
        unsafe { sum_f32(self.fold()) }
    }

    #[inline(always)]
    fn sums([a, b, c, d]: [ZmmFloats; 4]) -> [f32; 4] {
        // SAFETY: as in `sum`.
        unsafe { sum4_f32([a.fold(), b.fold(), c.fold(), d.fold()]) }
    }
}

// Whoever may call these has the instructions.
float::functions!(Avx512Vnni(Avx2(())), "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", ZmmFloats, 16);
