//! What a level is made of that binds the panels to its registers.

/// From this many tokens on, panels are at least as fast as reading the blocks once a token, whatever the format (on Zen 4).
pub(in crate::kernel::x86) const PANEL_TOKENS: usize = 4;

/// The tables of the level `$token`, called `$name`: the quantized formats by panels of `$vector`, float formats by functions of
/// its own, whatever it has no faster way for by AVX2. `vec::OPS` and the folder's `gemv` are the caller's.
macro_rules! level {
    ($token:ident, $name:literal, $features:literal, $vector:ty: $($float:ident $mul_float:path;)*) => {
        /// The matrix products of this level.
        pub(in crate::kernel) fn kernels(token: $token) -> impl Iterator<Item = Kernel> {
            avx2::kernels(token.avx2()).into_iter().map(move |kernel| {
                let level = Level::$token(token);
                match faster(kernel.weight, kernel.layout) {
                    Some((name, run)) => Kernel { name, level, run, ..kernel },
                    None => Kernel { level, ..kernel },
                }
            })
        }

        /// The vector operations of this level.
        pub(in crate::kernel) fn vec_ops(_token: $token) -> &'static VecOps {
            &vec::OPS
        }

        type Super = SuperPanel<$vector>;
        type Small = SmallPanel<$vector>;

        formats! { $token, $name, $features, [$($float $mul_float;)*]:
            mul_q4_k: Q4K Plain "Q4_K", gemv::q4_k, multiply::<$vector, BlockQ4K, Super>;
            mul_q5_k: Q5K Plain "Q5_K", gemv::q5_k, multiply::<$vector, BlockQ5K, Super>;
            mul_q6_k: Q6K Plain "Q6_K", gemv::q6_k, multiply::<$vector, BlockQ6K, Super>;
            mul_q3_k: Q3K Plain "Q3_K", avx2::gemv_low::q3_k, multiply::<$vector, BlockQ3K, Super>;
            mul_q2_k: Q2K Plain "Q2_K", avx2::gemv_low::q2_k, multiply::<$vector, BlockQ2K, Super>;
            mul_iq4_xs: IQ4XS Plain "IQ4_XS", avx2::gemv_low::iq4_xs, multiply::<$vector, BlockIq4Xs, Super>;
            mul_q8_0: Q8_0 Plain "Q8_0", avx2::gemv_small::q8_0, multiply::<$vector, BlockQ8_0, Small>;
            mul_q4_0: Q4_0 Plain "Q4_0", avx2::gemv_small::q4_0, multiply::<$vector, BlockQ4_0, Small>;
            mul_q4_1: Q4_1 Plain "Q4_1", avx2::gemv_small::q4_1, multiply::<$vector, BlockQ4_1, Small>;
            mul_q5_0: Q5_0 Plain "Q5_0", avx2::gemv_small::q5_0, multiply::<$vector, BlockQ5_0, Small>;
            mul_q5_1: Q5_1 Plain "Q5_1", avx2::gemv_small::q5_1, multiply::<$vector, BlockQ5_1, Small>;
            mul_iq4_nl: IQ4NL Plain "IQ4_NL", avx2::gemv_small::iq4_nl, multiply::<$vector, BlockIq4Nl, Small>;
            mul_q4_k_interleaved: Q4K Interleaved "Q4_K interleaved", avx2::gemv_interleaved::q4_k,
                multiply_interleaved::<$vector, BlockQ4K, Super, 36>;
            mul_q5_k_interleaved: Q5K Interleaved "Q5_K interleaved", avx2::gemv_interleaved::q5_k,
                multiply_interleaved::<$vector, BlockQ5K, Super, 44>;
            mul_q6_k_interleaved: Q6K Interleaved "Q6_K interleaved", avx2::gemv_interleaved::q6_k,
                multiply_interleaved::<$vector, BlockQ6K, Super, 52>;
            mul_q8_0_interleaved: Q8_0 Interleaved "Q8_0 interleaved", avx2::gemv_interleaved::q8_0,
                multiply_interleaved::<$vector, BlockQ8_0, Small, 8>;
        }
    };
}

/// Each format's product in a layout, and the table of them. Few tokens by GEMV, more by panels: the results are the same bits.
macro_rules! formats {
    ($token:ident, $name:literal, $features:literal, [$($float:ident $mul_float:path;)*]:
     $($mul:ident: $dtype:ident $layout:ident $of:literal, $gemv:path, $gemm:path;)*) => {
        /// The name and the function for a format and a layout that this level is faster in than AVX2.
        fn faster(weight: DType, layout: RowLayout) -> Option<(&'static str, Run)> {
            Some(match (weight, layout) {
                $((DType::$dtype, RowLayout::$layout) => (concat!($name, " ", $of), $mul),)*
                $((DType::$float, RowLayout::Plain) => (concat!($name, " ", stringify!($float)), $mul_float),)*
                _ => return None,
            })
        }

        $(
            #[target_feature(enable = $features)]
            fn $mul(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
                if acts.tokens() >= PANEL_TOKENS {
                    // Whoever may call this has the instructions.
                    return $gemm($token(Avx2(())), w, acts, out);
                }
                let rows = out.len() / acts.tokens();
                for (t, out) in out.chunks_exact_mut(rows).enumerate() {
                    $gemv(w, acts.slice(t..t + 1), out);
                }
            }
        )*
    };
}
pub(in crate::kernel::x86) use {formats, level};
