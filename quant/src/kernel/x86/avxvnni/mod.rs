//! AVX-VNNI: int8 dot products in 256-bit vectors.
//!
//! Several tokens by the panels of the folder `vnni`, one by `gemv`; what a level has no faster way for is AVX2's.
mod gemv;
mod lanes;
mod vec;

use lanes::Pair;

use super::vnni::{PANEL_TOKENS, SmallPanel, SuperPanel, formats, level, multiply, multiply_interleaved};
use super::{Avx2, AvxVnni, avx2};
use crate::act::ActView;
use crate::block::{
    BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0,
};
use crate::dtype::DType;
use crate::kernel::vec_ops::VecOps;
use crate::kernel::{Kernel, Level, RowLayout, Run};

level! { AvxVnni, "avxvnni", "avx2,fma,f16c,avxvnni", Pair: }
