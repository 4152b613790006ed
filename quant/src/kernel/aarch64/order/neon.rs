//! Without dot product instructions: four rows × 16 columns as `[4 rows][16 columns]`.
use std::arch::aarch64::*;

use super::super::gemv::RowSums;
use super::super::gemv_neon as few;
use super::super::lanes::load_i8;
use super::super::levels::Small;
use super::super::offsets::offset;
use super::super::products::{multiply, multiply_to_floats};
use super::super::tile::{Dots, Floats, TOKENS};
use super::super::unroll::unrolled;
use super::kernels;

/// Rows of a tile, in fours: one token's products with four rows fill the registers.
const QUADS: usize = 1;
/// From this many tokens on, unpacking a tile costs less than reading the blocks once a token.
const TILE_TOKENS: usize = 6;
/// Tokens left of a tile's four that are better read for one by one.
const FEW: usize = 3;
/// Whether there are dot products.
const DOTS: bool = false;

kernels!("neon", "neon");

/// Sums are the sub-block's own.
#[inline]
#[target_feature(enable = "neon")]
fn scale(this: int16x4_t, _next: int16x4_t) -> int32x4_t {
    vmovl_s16(this)
}

#[inline]
#[target_feature(enable = "neon")]
fn dot_small<const MAX: i32>(_run: &mut RowSums, w: [Small; 4], x: Small) -> float32x4_t {
    vcvtq_f32_s32(multiply::<2, MAX>(w, [x; 4]))
}

#[inline]
#[target_feature(enable = "neon")]
fn place(rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
    rows
}

#[inline]
#[target_feature(enable = "neon")]
fn dots<const N: usize, const MAX: i32>(
    _run: &mut Dots<QUADS>,
    columns: &[[[int8x16_t; 4]; QUADS]; N],
    tokens: [&[[i8; 16]; N]; TOKENS],
) -> Dots<QUADS> {
    let mut w = [[vdupq_n_s8(0); N]; 4];
    for r in 0..4 {
        for c in 0..N {
            w[r][c] = columns[c][0][r];
        }
    }
    let mut dots = [[vdupq_n_s32(0); QUADS]; TOKENS];
    for i in 0..TOKENS {
        let mut x = [vdupq_n_s8(0); N];
        for c in 0..N {
            x[c] = load_i8(&tokens[i][c]);
        }
        dots[i][0] = multiply::<N, MAX>(w, [x; 4]);
    }
    dots
}

/// The dot products of a block of 32 columns.
#[inline]
#[target_feature(enable = "neon")]
fn small_dots<const MAX: i32>(
    columns: &[[[int8x16_t; 4]; QUADS]; 2],
    tokens: [&[[i8; 16]; 2]; TOKENS],
) -> Floats<QUADS> {
    let [[first], [second]] = *columns;
    let w = [0, 1, 2, 3].map(|r| [first[r], second[r]]);
    let mut dots = [[vdupq_n_f32(0.0); QUADS]; TOKENS];
    unrolled!(TOKENS, |i| {
        let x = [load_i8(&tokens[i][0]), load_i8(&tokens[i][1])];
        dots[i][0] = multiply_to_floats::<2, MAX>(w, x);
    });
    dots
}
