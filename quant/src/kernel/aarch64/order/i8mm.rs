//! With int8 matrix instructions: four rows × 16 columns as `[column / 8][row / 2][2 rows][8 columns]`.
use std::arch::aarch64::*;

use super::super::gemv_dots as few;
use super::super::instructions::smmla;
use super::super::lanes::load_i8;
use super::super::offsets::offset_of_bytes as offset;
use super::super::tile::{Dots, Floats, TOKENS, from_start};
use super::dotprod::{dot_small, scale};
use super::kernels;

/// Rows of a tile, in fours: with four tokens eight independent sums, which hide an instruction's latency.
const QUADS: usize = 2;
/// From this many tokens on, unpacking a tile costs less than reading the blocks once a token.
const TILE_TOKENS: usize = 3;
/// Tokens left of a tile's four that are better read for one by one.
const FEW: usize = 1;
/// Whether there are dot products.
const DOTS: bool = true;

kernels!("i8mm", "neon,dotprod,i8mm");

#[inline]
#[target_feature(enable = "neon")]
fn place(rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
    let ([a, b], [c, d]) = (zip(rows[0], rows[1]), zip(rows[2], rows[3]));
    [a, c, b, d]
}

/// Adds to `run`, which is `[row / 2][token / 2][2 rows][2 tokens]` here, and gives what it comes to.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn dots<const N: usize, const MAX: i32>(
    run: &mut Dots<QUADS>,
    columns: &[[[int8x16_t; 4]; QUADS]; N],
    tokens: [&[[i8; 16]; N]; TOKENS],
) -> Dots<QUADS> {
    for c in 0..N {
        let x = |i: usize| load_i8(&tokens[i][c]);
        let pairs = [zip(x(0), x(1)), zip(x(2), x(3))];
        for k in 0..2 {
            for h in 0..QUADS {
                for r in 0..2 {
                    let w = columns[c][h][2 * k + r];
                    for i in 0..2 {
                        run[2 * h + r][i] = smmla(run[2 * h + r][i], w, pairs[i][k]);
                    }
                }
            }
        }
    }
    let mut dots = *run;
    for i in 0..2 {
        for h in 0..QUADS {
            // Two rows of two tokens, and two more rows of the same.
            let (low, high) = (run[2 * h][i], run[2 * h + 1][i]);
            dots[2 * i][h] = vuzp1q_s32(low, high);
            dots[2 * i + 1][h] = vuzp2q_s32(low, high);
        }
    }
    dots
}

/// The dot products of a block of 32 columns.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn small_dots<const MAX: i32>(
    columns: &[[[int8x16_t; 4]; QUADS]; 2],
    tokens: [&[[i8; 16]; 2]; TOKENS],
) -> Floats<QUADS> {
    const { assert!(32 * MAX * 127 < 1 << 22) };
    from_start(|run| dots::<2, MAX>(run, columns, tokens))
}

/// The lower halves of both, and the upper ones.
#[inline]
#[target_feature(enable = "neon")]
fn zip(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
    [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))]
}
