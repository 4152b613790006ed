//! What a level is made of that binds the panels to its registers.

/// From this many tokens on, unpacking a panel takes fewer instructions than reading the blocks once a token: predicted, not
/// measured.
pub(in crate::kernel::x86) const PANEL_TOKENS: usize = 4;

/// The tables of the level `$token`, called `$name`: the quantized formats by panels of `$vector`, whatever it has no faster
/// way for by AVX2. `vec::OPS` and the folder's `gemv` are the caller's.
macro_rules! level {
    ($token:ident, $name:literal, $features:literal, $vector:ty) => {
        /// The matrix products of this level.
        pub(in crate::kernel) fn kernels(token: $token) -> impl Iterator<Item = Kernel> {
            avx2::kernels(token.avx2()).into_iter().map(move |kernel| {
                let level = Level::$token(token);
                match faster(kernel.weight) {
                    Some((name, run)) => Kernel { name, level, run, ..kernel },
                    None => Kernel { level, ..kernel },
                }
            })
        }

        /// The products of interleaved rows.
        pub(in crate::kernel) fn interleaved_kernels(token: $token) -> impl Iterator<Item = Kernel> {
            avx2::interleaved_kernels(token.avx2()).map(move |kernel| {
                let level = Level::$token(token);
                match faster_interleaved(kernel.weight) {
                    Some((name, run)) => Kernel { name, level, run, ..kernel },
                    None => Kernel { level, ..kernel },
                }
            })
        }

        /// The vector operations of this level.
        pub(in crate::kernel) fn vec_ops(_token: $token) -> &'static VecOps {
            &vec::OPS
        }

        formats! { $token, $name, $features, $vector:
            mul_q4_k: Q4K "Q4_K", gemv::q4_k, BlockQ4K, SuperPanel;
            mul_q5_k: Q5K "Q5_K", gemv::q5_k, BlockQ5K, SuperPanel;
            mul_q6_k: Q6K "Q6_K", gemv::q6_k, BlockQ6K, SuperPanel;
            mul_q3_k: Q3K "Q3_K", avx2::gemv_low::q3_k, BlockQ3K, SuperPanel;
            mul_q2_k: Q2K "Q2_K", avx2::gemv_low::q2_k, BlockQ2K, SuperPanel;
            mul_iq4_xs: IQ4XS "IQ4_XS", avx2::gemv_low::iq4_xs, BlockIq4Xs, SuperPanel;
            mul_q8_0: Q8_0 "Q8_0", avx2::gemv_small::q8_0, BlockQ8_0, SmallPanel;
            mul_q4_0: Q4_0 "Q4_0", avx2::gemv_small::q4_0, BlockQ4_0, SmallPanel;
            mul_q4_1: Q4_1 "Q4_1", avx2::gemv_small::q4_1, BlockQ4_1, SmallPanel;
            mul_q5_0: Q5_0 "Q5_0", avx2::gemv_small::q5_0, BlockQ5_0, SmallPanel;
            mul_q5_1: Q5_1 "Q5_1", avx2::gemv_small::q5_1, BlockQ5_1, SmallPanel;
            mul_iq4_nl: IQ4NL "IQ4_NL", avx2::gemv_small::iq4_nl, BlockIq4Nl, SmallPanel;
        }

        interleaved! { $token, $name, $features, $vector:
            mul_q4_k_interleaved: Q4K "Q4_K interleaved", avx2::gemv_interleaved::q4_k, BlockQ4K, 36, SuperPanel;
            mul_q5_k_interleaved: Q5K "Q5_K interleaved", avx2::gemv_interleaved::q5_k, BlockQ5K, 44, SuperPanel;
            mul_q6_k_interleaved: Q6K "Q6_K interleaved", avx2::gemv_interleaved::q6_k, BlockQ6K, 52, SuperPanel;
            mul_q8_0_interleaved: Q8_0 "Q8_0 interleaved", avx2::gemv_interleaved::q8_0, BlockQ8_0, 8, SmallPanel;
        }
    };
}

/// Each format's product, and the table of them. Few tokens by GEMV, more by panels: the results are the same bits.
macro_rules! formats {
    ($token:ident, $name:literal, $features:literal, $vector:ty:
     $($mul:ident: $dtype:ident $of:literal, $gemv:path, $block:ident, $panel:ident;)*) => {
        /// The name and the function for a format that this level is faster in than AVX2.
        fn faster(weight: DType) -> Option<(&'static str, Run)> {
            Some(match weight {
                $(DType::$dtype => (concat!($name, " ", $of), $mul),)*
                _ => return None,
            })
        }

        $(
            #[target_feature(enable = $features)]
            fn $mul(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
                if acts.tokens() >= PANEL_TOKENS {
                    // Whoever may call this has the instructions.
                    return multiply::<$vector, $block, $panel<$vector>>($token(Avx2(())), w, acts, out);
                }
                let rows = out.len() / acts.tokens();
                for (t, out) in out.chunks_exact_mut(rows).enumerate() {
                    $gemv(w, acts.slice(t..t + 1), out);
                }
            }
        )*
    };
}

/// As `formats`, of interleaved rows, with blocks of `$words` words.
macro_rules! interleaved {
    ($token:ident, $name:literal, $features:literal, $vector:ty:
     $($mul:ident: $dtype:ident $of:literal, $gemv:path, $block:ident, $words:literal, $panel:ident;)*) => {
        /// As `faster`.
        fn faster_interleaved(weight: DType) -> Option<(&'static str, Run)> {
            Some(match weight {
                $(DType::$dtype => (concat!($name, " ", $of), $mul),)*
                _ => return None,
            })
        }

        $(
        #[target_feature(enable = $features)]
        fn $mul(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            if acts.tokens() >= PANEL_TOKENS {
                // Whoever may call this has the instructions.
                return multiply_interleaved::<$vector, $block, $panel<$vector>, $words>($token(Avx2(())), w, acts, out);
            }
            let rows = out.len() / acts.tokens();
            for (t, out) in out.chunks_exact_mut(rows).enumerate() {
                $gemv(w, acts.slice(t..t + 1), out);
            }
        }
        )*
    };
}
pub(in crate::kernel::x86) use {formats, interleaved, level};
