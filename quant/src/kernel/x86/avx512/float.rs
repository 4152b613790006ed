//! Float rows in 512-bit registers.
use std::arch::x86_64::*;

use half::f16;

use super::lanes::ZmmFloats;
use crate::act::ActView;
use crate::kernel::x86::avx2::lanes::sum_f32;
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
    const WIDE: bool = true;

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
    fn times(self, a: ZmmFloats) -> ZmmFloats {
        // SAFETY: a token made this value, so there is AVX-512 F.
        ZmmFloats(unsafe { _mm512_mul_ps(self.0, a.0) })
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
        let mut out = [0.0; 4];
        // SAFETY: a token made the values, so there is AVX-512 F and VL; 16 writable bytes, at any alignment.
        unsafe {
            // As `fold`, of two: lanes 0 … 7 are the first one's. Blends, where they do, since shuffles take turns with products.
            let fold2 = |x, y| _mm512_add_ps(_mm512_mask_blend_ps(0xff00, x, y), _mm512_shuffle_f32x4::<0x4e>(x, y));
            let (ab, cd) = (fold2(a.0, b.0), fold2(c.0, d.0));
            // Then neighbours, within quarters: [a c a c] twice, [b d b d] twice.
            let crossed = _mm512_permute_ps::<0xb1>(_mm512_mask_blend_ps(0xaaaa, cd, ab));
            let pairs = _mm512_add_ps(_mm512_mask_blend_ps(0xaaaa, ab, cd), crossed);
            let fours = _mm512_add_ps(pairs, _mm512_permute_ps::<0x4e>(pairs));
            let all = _mm512_add_ps(fours, _mm512_shuffle_f32x4::<0xb1>(fours, fours));
            let order = _mm512_setr_epi32(0, 8, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
            _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(_mm512_permutexvar_ps(order, all)));
        }
        out
    }
}

// Whoever may call these has the instructions.
float::functions!(Avx512Vnni(Avx2(())), "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", ZmmFloats, 16);
