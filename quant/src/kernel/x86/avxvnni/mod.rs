//! AVX-VNNI: int8 dot products in 256-bit vectors.
//!
//! Several tokens by the panels of the folder `vnni`; what a level has no faster way for is AVX2's.
mod lanes;
mod vec;

use lanes::Pair;

use super::vnni::{SmallPanel, SuperPanel, multiply};
use super::{Avx2, AvxVnni, avx2};
use crate::act::ActView;
use crate::block::{
    BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0,
};
use crate::dtype::DType;
use crate::kernel::vec_ops::VecOps;
use crate::kernel::{Kernel, Level, Run};

/// From this many tokens on, unpacking a panel takes fewer instructions than reading the blocks once a token: predicted, not
/// measured.
const PANEL_TOKENS: usize = 4;

/// The matrix products of this level.
pub(in crate::kernel) fn kernels(token: AvxVnni) -> impl Iterator<Item = Kernel> {
    avx2::kernels(token.avx2()).into_iter().map(move |kernel| {
        let level = Level::AvxVnni(token);
        let of = |name, run: Run| Kernel { name, level, run, ..kernel };
        match kernel.weight {
            DType::Q4K => of("avxvnni Q4_K", mul_q4_k),
            DType::Q5K => of("avxvnni Q5_K", mul_q5_k),
            DType::Q6K => of("avxvnni Q6_K", mul_q6_k),
            DType::Q3K => of("avxvnni Q3_K", mul_q3_k),
            DType::Q2K => of("avxvnni Q2_K", mul_q2_k),
            DType::IQ4XS => of("avxvnni IQ4_XS", mul_iq4_xs),
            DType::Q8_0 => of("avxvnni Q8_0", mul_q8_0),
            DType::Q4_0 => of("avxvnni Q4_0", mul_q4_0),
            DType::Q4_1 => of("avxvnni Q4_1", mul_q4_1),
            DType::Q5_0 => of("avxvnni Q5_0", mul_q5_0),
            DType::Q5_1 => of("avxvnni Q5_1", mul_q5_1),
            DType::IQ4NL => of("avxvnni IQ4_NL", mul_iq4_nl),
            _ => Kernel { level, ..kernel },
        }
    })
}

/// The vector operations of this level.
pub(in crate::kernel) fn vec_ops(_token: AvxVnni) -> &'static VecOps {
    &vec::OPS
}

/// Few tokens by GEMV, more by panels: the results are the same bits.
macro_rules! mul_quantized {
    ($($name:ident: $gemv:path, $block:ident, $panel:ident;)*) => {$(
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn $name(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            if acts.tokens() >= PANEL_TOKENS {
                // Whoever may call this has the instructions.
                return multiply::<Pair, $block, $panel<Pair>>(AvxVnni(Avx2(())), w, acts, out);
            }
            let rows = out.len() / acts.tokens();
            for (t, out) in out.chunks_exact_mut(rows).enumerate() {
                $gemv(w, acts.slice(t..t + 1), out);
            }
        }
    )*};
}

mul_quantized! {
    mul_q4_k: avx2::gemv_super::q4_k, BlockQ4K, SuperPanel;
    mul_q5_k: avx2::gemv_super::q5_k, BlockQ5K, SuperPanel;
    mul_q6_k: avx2::gemv_super::q6_k, BlockQ6K, SuperPanel;
    mul_q3_k: avx2::gemv_low::q3_k, BlockQ3K, SuperPanel;
    mul_q2_k: avx2::gemv_low::q2_k, BlockQ2K, SuperPanel;
    mul_iq4_xs: avx2::gemv_low::iq4_xs, BlockIq4Xs, SuperPanel;
    mul_q8_0: avx2::gemv_small::q8_0, BlockQ8_0, SmallPanel;
    mul_q4_0: avx2::gemv_small::q4_0, BlockQ4_0, SmallPanel;
    mul_q4_1: avx2::gemv_small::q4_1, BlockQ4_1, SmallPanel;
    mul_q5_0: avx2::gemv_small::q5_0, BlockQ5_0, SmallPanel;
    mul_q5_1: avx2::gemv_small::q5_1, BlockQ5_1, SmallPanel;
    mul_iq4_nl: avx2::gemv_small::iq4_nl, BlockIq4Nl, SmallPanel;
}
