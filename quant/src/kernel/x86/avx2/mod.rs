//! AVX2 with FMA and F16C: 256-bit integer and float vectors.
//!
//! - `gemv_super`, `gemv_low`, `gemv_small`: one token, straight on the file's blocks, some rows at a time.
//! - `gemv_interleaved`: one token, on rows that were interleaved when they were moved in memory.
//! - `panel`: several tokens. Sixteen rows are unpacked once, one row a lane, and multiplied with all tokens.
//! - `float`: F32, F16, BF16 rows, and attention.
//! - `vec`: the other vector operations.
//! - `floats`: the registers of the quantizers and of `float`.
//!
//! Functions here are safe to call only from functions with the same features; the compiler checks it. What leaves
//! the folder are tables that take the token [`Avx2`].
mod affine;
mod float;
mod floats;
pub(super) mod gemv_interleaved;
pub(super) mod gemv_low;
pub(super) mod gemv_small;
pub(super) mod gemv_super;
pub(super) mod lanes;
mod panel;
mod panel_signed;
mod panel_small;
mod panel_super;
mod quantize;
mod vec;

pub(super) use vec::TABLE;

use super::Avx2;
use crate::act::{ActKind, ActView};
use crate::dtype::DType;
use crate::kernel::floats::Work;
use crate::kernel::vec_ops::VecOps;
use crate::kernel::{Kernel, Level, RowLayout, Run};

/// From this many tokens on, unpacking a panel of rows costs less than reading the blocks once a token.
const PANEL_TOKENS: usize = 7;

/// The matrix products of this level.
pub(in crate::kernel) fn kernels(token: Avx2) -> [Kernel; 19] {
    let level = Level::Avx2(token);
    let kernel = |name, weight, act, run: Run| Kernel { name, weight, act, level, layout: RowLayout::Plain, run };
    let interleaved =
        |name, weight, act, run| Kernel { layout: RowLayout::Interleaved, ..kernel(name, weight, act, run) };
    [
        kernel("avx2 Q4_K", DType::Q4K, ActKind::Q8x256, mul_q4_k),
        kernel("avx2 Q5_K", DType::Q5K, ActKind::Q8x256, mul_q5_k),
        kernel("avx2 Q6_K", DType::Q6K, ActKind::Q8x256, mul_q6_k),
        kernel("avx2 Q3_K", DType::Q3K, ActKind::Q8x256, mul_q3_k),
        kernel("avx2 Q2_K", DType::Q2K, ActKind::Q8x256, mul_q2_k),
        kernel("avx2 IQ4_XS", DType::IQ4XS, ActKind::Q8x256, mul_iq4_xs),
        kernel("avx2 Q8_0", DType::Q8_0, ActKind::Q8x32, mul_q8_0),
        kernel("avx2 Q4_0", DType::Q4_0, ActKind::Q8x32, mul_q4_0),
        kernel("avx2 Q4_1", DType::Q4_1, ActKind::Q8x32, mul_q4_1),
        kernel("avx2 Q5_0", DType::Q5_0, ActKind::Q8x32, mul_q5_0),
        kernel("avx2 Q5_1", DType::Q5_1, ActKind::Q8x32, mul_q5_1),
        kernel("avx2 IQ4_NL", DType::IQ4NL, ActKind::Q8x32, mul_iq4_nl),
        kernel("avx2 F16", DType::F16, ActKind::F32, float::mul_f16),
        kernel("avx2 BF16", DType::BF16, ActKind::F32, float::mul_bf16),
        kernel("avx2 F32", DType::F32, ActKind::F32, float::mul_f32),
        interleaved("avx2 Q4_K interleaved", DType::Q4K, ActKind::Q8x256, mul_q4_k_interleaved),
        interleaved("avx2 Q5_K interleaved", DType::Q5K, ActKind::Q8x256, mul_q5_k_interleaved),
        interleaved("avx2 Q6_K interleaved", DType::Q6K, ActKind::Q8x256, mul_q6_k_interleaved),
        interleaved("avx2 Q8_0 interleaved", DType::Q8_0, ActKind::Q8x32, mul_q8_0_interleaved),
    ]
}

/// The vector operations of this level.
pub(in crate::kernel) fn vec_ops(_token: Avx2) -> &'static VecOps {
    &vec::OPS
}

/// Does `work` with this level's instructions.
pub(in crate::kernel) fn run(token: Avx2, work: impl Work) {
    // SAFETY: the token proves the features.
    unsafe { floats::run(token, work) }
}

/// Few tokens by GEMV, more by panels: the results are the same bits.
macro_rules! mul_quantized {
    ($name:ident, $gemv:path, $gemm:path, $panel_tokens:expr) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            if acts.tokens() >= $panel_tokens {
                return $gemm(w, acts, out);
            }
            let rows = out.len() / acts.tokens();
            for (t, out) in out.chunks_exact_mut(rows).enumerate() {
                $gemv(w, acts.slice(t..t + 1), out);
            }
        }
    };
}

mul_quantized!(mul_q4_k, gemv_super::q4_k, panel_super::q4_k, PANEL_TOKENS);
mul_quantized!(mul_q5_k, gemv_super::q5_k, panel_super::q5_k, PANEL_TOKENS);
mul_quantized!(mul_q6_k, gemv_super::q6_k, panel_super::q6_k, PANEL_TOKENS);
mul_quantized!(mul_q3_k, gemv_low::q3_k, panel_super::q3_k, PANEL_TOKENS);
mul_quantized!(mul_q2_k, gemv_low::q2_k, panel_super::q2_k, PANEL_TOKENS);
mul_quantized!(mul_iq4_xs, gemv_low::iq4_xs, panel_signed::iq4_xs, PANEL_TOKENS);
mul_quantized!(mul_q8_0, gemv_small::q8_0, panel_signed::q8_0, PANEL_TOKENS);
mul_quantized!(mul_iq4_nl, gemv_small::iq4_nl, panel_signed::iq4_nl, PANEL_TOKENS);
mul_quantized!(mul_q4_0, gemv_small::q4_0, panel_small::q4_0, PANEL_TOKENS);
mul_quantized!(mul_q4_1, gemv_small::q4_1, panel_small::q4_1, PANEL_TOKENS);
mul_quantized!(mul_q5_0, gemv_small::q5_0, panel_small::q5_0, PANEL_TOKENS);
mul_quantized!(mul_q5_1, gemv_small::q5_1, panel_small::q5_1, PANEL_TOKENS);
// Of interleaved rows panels are unpacked without transposing.
mul_quantized!(mul_q4_k_interleaved, gemv_interleaved::q4_k, panel_super::q4_k_interleaved, 6);
mul_quantized!(mul_q5_k_interleaved, gemv_interleaved::q5_k, panel_super::q5_k_interleaved, 4);
mul_quantized!(mul_q6_k_interleaved, gemv_interleaved::q6_k, panel_super::q6_k_interleaved, 3);
mul_quantized!(mul_q8_0_interleaved, gemv_interleaved::q8_0, panel_signed::q8_0_interleaved, 6);
