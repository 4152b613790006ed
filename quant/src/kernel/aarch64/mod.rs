//! 64-bit ARM. Each level has a token that only its detection makes, from the features that the system reports (HWCAP).
//!
//! - `lanes`, `instructions`: loads, transposes and sums; the dot product instructions.
//! - `levels`, `heads`: the blocks of each format as int8 levels, and as scales and minimums.
//! - `heads_by_row`: the scales and minimums row by row.
//! - `gemv`, `gemv_dots`, `gemv_neon`: one token, straight on the file's blocks, four rows at a time.
//! - `tile`: several tokens. Some rows × 256 columns are unpacked once and multiplied with all tokens.
//! - `token`: what both take of the activations.
//! - `order`: the tables of matrix products, and the order of a tile's columns at each level.
//! - `float`: F32, F16, BF16 rows, and attention scores.
//! - `vec`, `attention`, `attention_q8`, `quantize`: the vector operations.
//! - `floats`: the quantizers' registers.
//!
//! What the levels share is written once for NEON and takes the rest as closures. Functions here are safe to call only
//! from functions with the same features; the compiler checks it. What leaves the folder are tables that take a token.
mod attention;
mod attention_q8;
mod float;
pub(super) mod floats;
mod gemv;
mod gemv_dots;
mod gemv_neon;
mod heads;
mod heads_by_row;
mod instructions;
mod lanes;
mod levels;
mod offsets;
pub(super) mod order;
mod products;
mod quantize;
mod speed;
mod tile;
mod token;
mod unroll;
pub(super) mod vec;

use std::arch::is_aarch64_feature_detected as has;

/// Proof of NEON, which every 64-bit ARM CPU with an operating system has: Cortex-A72 (Raspberry Pi 4) and the like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Neon(());

/// Proof of the dot product instructions: Cortex-A76 (Raspberry Pi 5) and the like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dotprod(());

/// Proof of the dot product and the int8 matrix instructions: Cortex-A510, Neoverse V1 and later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct I8mm(());

impl Neon {
    /// The token, where the CPU has the instructions.
    pub(super) fn detect() -> Option<Neon> {
        has!("neon").then_some(Neon(()))
    }
}

impl Dotprod {
    /// The token, where the CPU has the instructions.
    pub(super) fn detect() -> Option<Dotprod> {
        (has!("neon") && has!("dotprod")).then_some(Dotprod(()))
    }
}

impl I8mm {
    /// The token, where the CPU has the instructions.
    pub(super) fn detect() -> Option<I8mm> {
        (has!("neon") && has!("dotprod") && has!("i8mm")).then_some(I8mm(()))
    }
}
