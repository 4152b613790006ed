//! Q4_K, Q5_K, Q6_K times one token, straight on the file's blocks as AVX2 has them; but one instruction multiplies sums with
//! their scale and adds them (`vpdpwssd`), where AVX2 takes two. The other formats would gain nothing: there the time goes
//! elsewhere, into signs and into adding the lanes up for each block of 32.

/// The functions of a level with `$features`, whose instruction is `$dot_words`: sum, factor, factor.
macro_rules! gemv {
    ($features:literal, $dot_words:literal) => {
        use std::arch::x86_64::*;

        use crate::act::ActView;
        use crate::block::{BlockQ4K, BlockQ5K, BlockQ6K};
        use crate::kernel::x86::avx2::gemv_super::{
            ActBlock, Ahead, ROWS, Repeat, affine, even_odd, gemv, levels_q4_k, levels_q5_k, levels_q6_k,
            scaled_sums,
        };
        use crate::kernel::x86::avx2::lanes::*;

        #[target_feature(enable = $features)]
        pub(super) fn q4_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            gemv(w, acts, out, |w: [&BlockQ4K; ROWS], a, ahead| {
                affine(w, a, |scales| scaled_dots(w, a, ahead, scales, |w, i| levels_q4_k(w, i)))
            });
        }

        #[target_feature(enable = $features)]
        pub(super) fn q5_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            gemv(w, acts, out, |w: [&BlockQ5K; ROWS], a, ahead| {
                affine(w, a, |scales| scaled_dots(w, a, ahead, scales, |w, i| levels_q5_k(w, i)))
            });
        }

        #[target_feature(enable = $features)]
        pub(super) fn q6_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            let repeat = Repeat::new();
            gemv(w, acts, out, |w: [&BlockQ6K; ROWS], a, ahead| {
                let sums = load_i16(a.sums);
                let mut dots = [_mm256_setzero_si256(); ROWS];
                for r in 0..ROWS {
                    ahead.step(ROWS);
                    dots[r] = dot_q6_k(w[r], a, sums, &repeat);
                }
                _mm256_mul_ps(halves8(w.map(|w| w.d.bits())), _mm256_cvtepi32_ps(sum8_i32(dots)))
            });
        }

        scaled_sums!($features, dot_words);

        /// `sum + Σ x·y` over the two int16 of each lane. Of the intrinsic the compiler makes two instructions again, for a shorter
        /// chain; but the rows' chains run side by side.
        #[inline]
        #[target_feature(enable = $features)]
        fn dot_words(sum: __m256i, x: __m256i, y: __m256i) -> __m256i {
            let result;
            // SAFETY: the features include the instruction; it touches these registers alone.
            unsafe {
                std::arch::asm!(
                    $dot_words,
                    inout(ymm_reg) sum => result,
                    in(ymm_reg) x,
                    in(ymm_reg) y,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            result
        }
    };
}
pub(in crate::kernel::x86) use gemv;
