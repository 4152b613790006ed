//! Eight floats in one register.
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, Div, Mul, Sub};

use super::Avx2;
use crate::kernel::floats::{Floats, Work};

/// Eight floats, made only with the token.
#[derive(Clone, Copy)]
pub(super) struct F32x8(pub(super) __m256);

/// Does `work` with this level's instructions.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run(token: Avx2, work: impl Work) {
    work.run::<F32x8>(token);
}

impl Floats for F32x8 {
    type Token = Avx2;
    type Mask = F32x8;

    #[inline(always)]
    fn load(_: Avx2, x: &[f32; 8]) -> F32x8 {
        // SAFETY: the token proves AVX; 32 readable bytes, at any alignment.
        F32x8(unsafe { _mm256_loadu_ps(x.as_ptr()) })
    }

    #[inline(always)]
    fn all(_: Avx2, x: f32) -> F32x8 {
        // SAFETY: the token proves AVX.
        F32x8(unsafe { _mm256_set1_ps(x) })
    }

    #[inline(always)]
    fn get(self) -> [f32; 8] {
        let mut out = [0.0; 8];
        // SAFETY: a token made this value, so there is AVX; 32 writable bytes, at any alignment.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), self.0) };
        out
    }

    #[inline(always)]
    fn max(self, other: F32x8) -> F32x8 {
        // SAFETY: a token made this value, so there is AVX.
        F32x8(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: F32x8) -> F32x8 {
        // SAFETY: as in `max`.
        F32x8(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> F32x8 {
        // SAFETY: as in `max`.
        F32x8(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn less(self, other: F32x8) -> F32x8 {
        // SAFETY: as in `max`.
        F32x8(unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn select(mask: F32x8, yes: F32x8, no: F32x8) -> F32x8 {
        // SAFETY: as in `max`.
        F32x8(unsafe { _mm256_blendv_ps(no.0, yes.0, mask.0) })
    }
}

/// Operators by intrinsics.
macro_rules! operators {
    ($($trait:ident, $name:ident, $intrinsic:ident;)*) => {$(
        impl $trait for F32x8 {
            type Output = F32x8;

            #[inline(always)]
            fn $name(self, other: F32x8) -> F32x8 {
                // SAFETY: a token made this value, so there is AVX.
                F32x8(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )*};
}

operators! {
    Add, add, _mm256_add_ps;
    Sub, sub, _mm256_sub_ps;
    Mul, mul, _mm256_mul_ps;
    Div, div, _mm256_div_ps;
    BitAnd, bitand, _mm256_and_ps;
}
