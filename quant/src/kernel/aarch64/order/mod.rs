//! The matrix products of each level: all formats, in the order of columns that its instructions want.
mod dotprod;
mod i8mm;
mod neon;

use super::{Dotprod, I8mm, Neon};
use crate::kernel::{Kernel, Level};

/// The matrix products with NEON alone.
pub(in crate::kernel) fn neon(token: Neon) -> [Kernel; 15] {
    neon::table(Level::Neon(token))
}

/// The matrix products with dot product instructions.
pub(in crate::kernel) fn dotprod(token: Dotprod) -> [Kernel; 15] {
    dotprod::table(Level::Dotprod(token))
}

/// The matrix products with int8 matrix instructions.
pub(in crate::kernel) fn i8mm(token: I8mm) -> [Kernel; 15] {
    i8mm::table(Level::I8mm(token))
}

/// All formats with the constants and the `few`, `scale`, `offset`, `dot_small`, `place`, `dots` and `small_dots` of the
/// module that calls this, and a `table` of them. It is a macro since a function's features can't be a parameter.
macro_rules! kernels {
    ($name:literal, $features:literal) => {
        use crate::act::{ActKind, ActView};
        use crate::block::{
            BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
            BlockQ6K, BlockQ8_0,
        };
        use crate::dtype::DType;
        use crate::kernel::aarch64::{float, gemv, heads, levels, tile};
        use crate::kernel::{Kernel, Level, RowLayout, Run};

        /// The table of this level, which must have the features.
        pub(super) fn table(level: Level) -> [Kernel; 15] {
            let kernel =
                |name, weight, act, run: Run| Kernel { name, weight, act, level, layout: RowLayout::Plain, run };
            [
                kernel(concat!($name, " Q4_K"), DType::Q4K, ActKind::Q8x256, mul_q4_k),
                kernel(concat!($name, " Q5_K"), DType::Q5K, ActKind::Q8x256, mul_q5_k),
                kernel(concat!($name, " Q6_K"), DType::Q6K, ActKind::Q8x256, mul_q6_k),
                kernel(concat!($name, " Q3_K"), DType::Q3K, ActKind::Q8x256, mul_q3_k),
                kernel(concat!($name, " Q2_K"), DType::Q2K, ActKind::Q8x256, mul_q2_k),
                kernel(concat!($name, " IQ4_XS"), DType::IQ4XS, ActKind::Q8x256, mul_iq4_xs),
                kernel(concat!($name, " Q8_0"), DType::Q8_0, ActKind::Q8x32, mul_q8_0),
                kernel(concat!($name, " Q4_0"), DType::Q4_0, ActKind::Q8x32, mul_q4_0),
                kernel(concat!($name, " Q4_1"), DType::Q4_1, ActKind::Q8x32, mul_q4_1),
                kernel(concat!($name, " Q5_0"), DType::Q5_0, ActKind::Q8x32, mul_q5_0),
                kernel(concat!($name, " Q5_1"), DType::Q5_1, ActKind::Q8x32, mul_q5_1),
                kernel(concat!($name, " IQ4_NL"), DType::IQ4NL, ActKind::Q8x32, mul_iq4_nl),
                kernel(concat!($name, " F16"), DType::F16, ActKind::F32, float::mul_f16),
                kernel(concat!($name, " BF16"), DType::BF16, ActKind::F32, float::mul_bf16),
                kernel(concat!($name, " F32"), DType::F32, ActKind::F32, float::mul_f32),
            ]
        }

        /// The first tokens, which go through tiles, and the others, with their results; all results are the same bits.
        fn split<'a>(acts: ActView<'a>, out: &'a mut [f32]) -> [Option<(ActView<'a>, &'a mut [f32])>; 2] {
            let tokens = acts.tokens();
            let tiled = match tokens % tile::TOKENS {
                _ if tokens < TILE_TOKENS => 0,
                rest if rest <= FEW => tokens - rest,
                _ => tokens,
            };
            let (head, tail) = out.split_at_mut(out.len() / tokens * tiled);
            let some = |tokens: std::ops::Range<usize>, out| (!tokens.is_empty()).then(|| (acts.slice(tokens), out));
            [some(0..tiled, head), some(tiled..tokens, tail)]
        }

        /// A format of 256 columns in `$p` pairs of sub-blocks of `$n` vectors. `$zero` was added to its levels, whose largest
        /// magnitude without is `$max`.
        macro_rules! of_256 {
            ($mul:ident, $of:ident, $block:ty, $p:tt, $n:tt, $mins:tt, $zero:tt, $max:tt) => {
                #[target_feature(enable = $features)]
                fn $mul(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
                    let [tiled, few] = split(acts, out);
                    if let Some((acts, out)) = tiled {
                        tile::of_256::<$block, $p, $n, QUADS, $mins>(
                            w,
                            acts,
                            out,
                            |w| heads::$of::<DOTS>(w),
                            |this, next| scale(this, next),
                            |mins, sums| offset(mins, sums),
                            |w, i| levels::$of(w, i),
                            |v| levels::centred::<$zero>(v),
                            |rows| place(rows),
                            |run, columns, tokens| dots::<$n, $max>(run, columns, tokens),
                        );
                    }
                    if let Some((acts, out)) = few {
                        few::$of(w, acts, out);
                    }
                }
            };
        }

        of_256!(mul_q4_k, q4_k, BlockQ4K, 4, 2, true, 0, 15);
        of_256!(mul_q5_k, q5_k, BlockQ5K, 4, 2, true, 0, 31);
        of_256!(mul_q6_k, q6_k, BlockQ6K, 8, 1, false, 32, 32);
        of_256!(mul_q3_k, q3_k, BlockQ3K, 8, 1, false, 4, 4);
        of_256!(mul_q2_k, q2_k, BlockQ2K, 8, 1, true, 0, 3);
        of_256!(mul_iq4_xs, iq4_xs, BlockIq4Xs, 4, 2, false, 0, 127);

        /// A format of 32 columns. `$max`: the largest magnitude of its levels.
        macro_rules! of_32 {
            ($mul:ident, $format:ident, $block:ty, $units:expr, $mins:literal, $max:literal) => {
                #[target_feature(enable = $features)]
                fn $mul(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
                    let [tiled, few] = split(acts, out);
                    if let Some((acts, out)) = tiled {
                        tile::of_32::<$block, QUADS, $mins>(
                            w,
                            acts,
                            out,
                            $units,
                            |w| levels::$format(w),
                            |rows| place(rows),
                            |columns, tokens| small_dots::<$max>(columns, tokens),
                        );
                    }
                    if let Some((acts, out)) = few {
                        gemv::of_32::<$block>(
                            w,
                            acts,
                            out,
                            $units,
                            |w| levels::$format(w),
                            |run, w, x| dot_small::<$max>(run, w, x),
                        );
                    }
                }
            };
        }

        of_32!(mul_q8_0, q8_0, BlockQ8_0, |w| (w.d.bits(), None), false, 128);
        of_32!(mul_q4_0, q4_0, BlockQ4_0, |w| (w.d.bits(), None), false, 8);
        of_32!(mul_q4_1, q4_1, BlockQ4_1, |w| (w.d.bits(), Some(w.m.bits())), true, 15);
        of_32!(mul_q5_0, q5_0, BlockQ5_0, |w| (w.d.bits(), None), false, 16);
        of_32!(mul_q5_1, q5_1, BlockQ5_1, |w| (w.d.bits(), Some(w.m.bits())), true, 31);
        of_32!(mul_iq4_nl, iq4_nl, BlockIq4Nl, |w| (w.d.bits(), None), false, 127);
    };
}
use kernels;
