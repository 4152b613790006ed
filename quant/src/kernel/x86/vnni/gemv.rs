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

        /// The lanes of Σ scale·(q·a) of eight rows; `levels(w, i)` are a block's values 64·i …, in two vectors.
        #[inline]
        #[target_feature(enable = $features)]
        fn scaled_dots<B>(
            w: [&B; ROWS],
            a: &ActBlock<'_>,
            ahead: &mut Ahead<'_, B>,
            scales: &[[i32; ROWS]; 8],
            levels: impl Fn(&B, usize) -> [__m256i; 2],
        ) -> [__m256i; ROWS] {
            let mut dots = [_mm256_setzero_si256(); ROWS];
            for i in 0..4 {
                ahead.step(4);
                let (a_low, a_high) = (load_i8(&a.q[2 * i]), load_i8(&a.q[2 * i + 1]));
                for r in 0..ROWS {
                    let [low, high] = levels(w[r], i);
                    let (low, high) = (_mm256_maddubs_epi16(low, a_low), _mm256_maddubs_epi16(high, a_high));
                    let dot = dot_words(dots[r], low, _mm256_set1_epi32(scales[2 * i][r]));
                    dots[r] = dot_words(dot, high, _mm256_set1_epi32(scales[2 * i + 1][r]));
                }
            }
            dots
        }

        /// The lanes of Σ scale·(q·a). Levels are taken as 0 … 63 and 32 times the scaled sums of the activations subtracted.
        #[inline]
        #[target_feature(enable = $features)]
        fn dot_q6_k(w: &BlockQ6K, a: &ActBlock<'_>, sums: __m256i, repeat: &Repeat) -> __m256i {
            let scales = load_u8_half(zerocopy::transmute_ref!(&w.scales));
            let offset = _mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), sums);
            let mut dot = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32::<5>(offset));
            let scales = _mm256_cvtepi8_epi16(even_odd(scales));
            let (ql, qh) = (w.ql.as_chunks::<32>().0, w.qh.as_chunks::<32>().0);
            for n in 0..2 {
                let levels = levels_q6_k(load_u8(&ql[2 * n]), load_u8(&ql[2 * n + 1]), load_u8(&qh[n]));
                for (i, levels) in levels.into_iter().enumerate() {
                    let j = 4 * n + i;
                    let products = _mm256_maddubs_epi16(levels, load_i8(&a.q[j]));
                    dot = dot_words(dot, products, repeat.scale(scales, j));
                }
            }
            dot
        }

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
