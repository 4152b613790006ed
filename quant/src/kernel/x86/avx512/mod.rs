//! AVX-512 with VNNI: 512-bit vectors.
//!
//! Several tokens by the panels of the folder `vnni`, one by `gemv`, float rows by the folder `float`; what a level has no faster
//! way for is AVX2's.
mod float;
mod gemv;
mod lanes;
mod vec;

use lanes::Zmm;

use super::vnni::{PANEL_TOKENS, SmallPanel, SuperPanel, formats, level, multiply, multiply_interleaved};
use super::{Avx2, Avx512Vnni, avx2};
use crate::act::ActView;
use crate::block::{
    BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0,
};
use crate::dtype::DType;
use crate::kernel::vec_ops::VecOps;
use crate::kernel::{Kernel, Level, RowLayout, Run};

level! {
    Avx512Vnni, "avx512vnni", "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", Zmm:
    F16 float::mul_f16;
    BF16 float::mul_bf16;
    F32 float::mul_f32;
}
