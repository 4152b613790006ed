//! With dot product instructions: four rows × 16 columns as `[column / 4][4 rows][4 columns]`, so that a lane is a row.
use std::arch::aarch64::*;

use super::super::gemv::{RowSums, STEP};
use super::super::gemv_dots as few;
use super::super::instructions::{sdot_group, settled, settled_ref};
use super::super::lanes::{load_i8, transpose};
use super::super::levels::Small;
use super::super::offsets::offset_of_bytes as offset;
use super::super::products::run_on;
use super::super::tile::{Dots, Floats, TOKENS, from_start};
use super::kernels;

/// Rows of a tile, in fours: with four tokens eight independent sums, which hide an instruction's latency.
const QUADS: usize = 2;
/// From this many tokens on, unpacking a tile costs less than reading the blocks once a token.
const TILE_TOKENS: usize = 3;
/// Tokens left of a tile's four that are better read for one by one.
const FEW: usize = 1;
/// Whether there are dot products.
const DOTS: bool = true;

kernels!("dotprod", "neon,dotprod");

/// Sums run on over the sub-blocks, as gemv_dots.rs explains.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn scale(this: int16x4_t, next: int16x4_t) -> int32x4_t {
    vsubl_s16(this, next)
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot_small<const MAX: i32>(run: &mut RowSums, w: [Small; 4], x: Small) -> float32x4_t {
    const { assert!(STEP as i32 * 32 * MAX * 127 < 1 << 22) };
    let before = run.total;
    run.total = vreinterpretq_f32_s32(run_on(&mut run.sums, w, x));
    vsubq_f32(run.total, before)
}

#[inline]
#[target_feature(enable = "neon")]
fn place(rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
    transpose(rows.map(|v| vreinterpretq_u32_s8(v))).map(|v| vreinterpretq_s8_u32(v))
}

/// Adds to `run` and gives what it comes to.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dots<const N: usize, const MAX: i32>(
    run: &mut Dots<QUADS>,
    columns: &[[[int8x16_t; 4]; QUADS]; N],
    tokens: [&[[i8; 16]; N]; TOKENS],
) -> Dots<QUADS> {
    for c in 0..N {
        // What comes first is done first: two times eight vectors of levels would not fit the registers.
        if c > 0 {
            run[0][0] = vreinterpretq_s32_s16(settled(vreinterpretq_s16_s32(run[0][0])));
        }
        let columns = settled_ref(columns);
        let mut x = [vdupq_n_s8(0); TOKENS];
        for i in 0..TOKENS {
            x[i] = load_i8(&tokens[i][c]);
        }
        macro_rules! group {
            ($g:literal) => {
                for h in 0..QUADS {
                    let w = columns[c][h][$g];
                    for i in 0..TOKENS {
                        run[i][h] = sdot_group::<$g>(run[i][h], w, x[i]);
                    }
                }
            };
        }
        group!(0);
        group!(1);
        group!(2);
        group!(3);
    }
    *run
}

/// The dot products of a block of 32 columns.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn small_dots<const MAX: i32>(
    columns: &[[[int8x16_t; 4]; QUADS]; 2],
    tokens: [&[[i8; 16]; 2]; TOKENS],
) -> Floats<QUADS> {
    const { assert!(32 * MAX * 127 < 1 << 22) };
    from_start(|run| dots::<2, MAX>(run, columns, tokens))
}
