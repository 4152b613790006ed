//! Float rows in 256-bit registers.
use std::arch::x86_64::*;

use half::f16;

use super::floats::F32x8;
use super::lanes::{store_f32, sum_f32, sum4_f32};
use crate::act::ActView;
use crate::kernel::x86::Avx2;
use crate::kernel::x86::float::{self, Register};
use crate::kernel::{Ahead, Floats, Q8Rows};

impl Register<8> for F32x8 {
    type Token = Avx2;
    const WIDE: bool = false;

    #[inline(always)]
    fn all(token: Avx2, x: f32) -> F32x8 {
        Floats::all(token, x)
    }

    #[inline(always)]
    unsafe fn load(_: Avx2, x: *const f32) -> F32x8 {
        // SAFETY: the token proves AVX; the caller gives 8 floats.
        F32x8(unsafe { _mm256_loadu_ps(x) })
    }

    #[inline(always)]
    unsafe fn load_f16(_: Avx2, x: *const f16) -> F32x8 {
        // SAFETY: the token proves F16C; the caller gives 16 bytes.
        F32x8(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.cast())) })
    }

    #[inline(always)]
    unsafe fn load_bf16(_: Avx2, x: *const u16) -> F32x8 {
        // SAFETY: the token proves AVX2; the caller gives 16 bytes.
        F32x8(unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        })
    }

    #[inline(always)]
    unsafe fn load_i8(_: Avx2, x: *const i8) -> F32x8 {
        // SAFETY: the token proves AVX2; the caller gives 8 bytes.
        F32x8(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(x.cast()))) })
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 8]) {
        // SAFETY: a token made this value, so there is AVX.
        unsafe { store_f32(out, self.0) }
    }

    #[inline(always)]
    fn times(self, a: F32x8) -> F32x8 {
        // SAFETY: a token made this value, so there is AVX.
        F32x8(unsafe { _mm256_mul_ps(self.0, a.0) })
    }

    #[inline(always)]
    fn add_product(self, a: F32x8, b: F32x8) -> F32x8 {
        // SAFETY: a token made this value, so there is FMA.
        F32x8(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: as in `store`.
        unsafe { sum_f32(self.0) }
    }

    #[inline(always)]
    fn sums([a, b, c, d]: [F32x8; 4]) -> [f32; 4] {
        // SAFETY: as in `store`.
        unsafe { sum4_f32([a.0, b.0, c.0, d.0]) }
    }
}

// Whoever may call these has the instructions.
float::functions!(Avx2(()), "avx2,fma,f16c", F32x8, 8);
