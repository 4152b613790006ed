//! The loop around a tile: `4 * Q` rows × 256 columns, unpacked once and multiplied with a batch of tokens.
use std::arch::aarch64::*;

use super::gemv::{START, STEP, lane};
use super::heads::Head;
use super::instructions::settled_ref;
use super::lanes::{self, *};
use super::levels::{Pair, Small, pair};
use super::token::Token;
use super::unroll::unrolled;
use crate::act::ActView;
use crate::block::{Block, SUPER, blocks};

/// Tokens multiplied together: with two vectors of rows their dot products, scaled sums and levels fill 22 of 32
/// registers.
pub(super) const TOKENS: usize = 4;
/// Rows of a tile at most, in fours.
const MOST_QUADS: usize = 2;
/// Tokens whose float sums are kept in the first-level cache (4 KiB of eight rows) while the tiles pass.
const BATCH: usize = 128;

/// Levels in the order that the instructions of a level want: `[column / 16][row / 4]`, each 4 rows × 16 columns.
pub(super) type Columns<const Q: usize> = [[[int8x16_t; 4]; Q]; 16];

/// Integer sums: `[token][row / 4][4 rows]`.
pub(super) type Dots<const Q: usize> = [[int32x4_t; Q]; TOKENS];

/// The same as floats.
pub(super) type Floats<const Q: usize> = [Sums<Q>; TOKENS];

/// Float sums of a token: `[row / 4][4 rows]`.
type Sums<const Q: usize> = [float32x4_t; Q];

/// Blocks of 256 columns.
struct Super<const P: usize, const Q: usize> {
    q: Columns<Q>,
    /// `[sub-block][row / 4][4 rows]`
    scales: [[int32x4_t; Q]; 16],
    heads: [Head<P>; Q],
}

/// Up to [`STEP`] blocks of 32 columns.
struct Smalls<const Q: usize> {
    q: Columns<Q>,
    /// `[block][row / 4][4 rows]`
    d: [[float32x4_t; Q]; STEP],
    m: [[float32x4_t; Q]; STEP],
    /// Blocks that are filled.
    len: usize,
}

/// `sum += da · (d · Σ scale·(q·a) − dmin · Σ min·(Σ a))`, the minimums where the format has any.
///
/// `P` pairs of sub-blocks of `16 * N` columns. `scale(this, next)` is what a sub-block's sum counts for,
/// `offset(mins, sums)` what the minimums come to; `centred` takes
/// away what was added to the levels. `place` brings 16 columns of four rows into order; `dots(run, columns,
/// tokens)` multiplies a sub-block, with sums that are zeros at a block's start and its own.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn of_256<B: Block, const P: usize, const N: usize, const Q: usize, const MINS: bool>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    head: impl Fn([&B; 4]) -> Head<P>,
    scale: impl Fn(int16x4_t, int16x4_t) -> int32x4_t,
    offset: impl Fn(&[int16x8_t; P], &[i16; 16]) -> int32x4_t,
    levels: impl Fn(&B, usize) -> Pair<N>,
    centred: impl Fn(int8x16_t) -> int8x16_t,
    place: impl Fn([int8x16_t; 4]) -> [int8x16_t; 4],
    dots: impl Fn(&mut Dots<Q>, &[[[int8x16_t; 4]; Q]; N], [&[[i8; 16]; N]; TOKENS]) -> Dots<Q>,
) {
    const { assert!(2 * P * N * 16 == SUPER) };
    let mut tile =
        Super { q: [[[vdupq_n_s8(0); 4]; Q]; 16], scales: [[vdupq_n_s32(0); Q]; 16], heads: [Head::empty(); Q] };
    let unpack = |rows: &[[&[B]; 4]; Q], b: usize, tile: &mut Super<P, Q>| {
        for h in 0..Q {
            let w = [&rows[h][0][b], &rows[h][1][b], &rows[h][2][b], &rows[h][3][b]];
            let head = head(w);
            for j in 0..2 * P {
                tile.scales[j][h] = scale(head.scale(j), head.scale(j + 1));
            }
            tile.heads[h] = head;
            unrolled!(P, |i| {
                let rows = [levels(w[0], i), levels(w[1], i), levels(w[2], i), levels(w[3], i)];
                for k in 0..2 {
                    for c in 0..N {
                        let row = |r: usize| centred(rows[r][k][c]);
                        tile.q[N * pair::<N>(i)[k] + c][h] = place([row(0), row(1), row(2), row(3)]);
                    }
                }
            });
        }
    };
    let add = |tile: &Super<P, Q>, four: &Four<'_, 16, 16>, b: usize, sums: &mut [Sums<Q>; TOKENS]| {
        let tokens = &four.tokens;
        let q = tokens.map(|token| token.q[b].as_chunks::<N>().0);
        let (mut run, mut scaled) = ([[vdupq_n_s32(0); Q]; TOKENS], [[vdupq_n_s32(0); Q]; TOKENS]);
        for (j, columns) in tile.q.as_chunks::<N>().0.iter().enumerate() {
            let dots = dots(&mut run, columns, [&q[0][j], &q[1][j], &q[2][j], &q[3][j]]);
            for i in 0..TOKENS {
                for h in 0..Q {
                    scaled[i][h] = vmlaq_s32(scaled[i][h], dots[i][h], tile.scales[j][h]);
                }
            }
        }
        for i in 0..TOKENS {
            let (da, act_sums) = (tokens[i].scales[b], &tokens[i].sums[b]);
            for h in 0..Q {
                let Head { d, dmin, mins, .. } = &tile.heads[h];
                let mut value = vmulq_f32(*d, vcvtq_f32_s32(scaled[i][h]));
                if MINS {
                    value = vsubq_f32(value, vmulq_f32(*dmin, vcvtq_f32_s32(offset(mins, act_sums))));
                }
                sums[i][h] = vaddq_f32(sums[i][h], vmulq_n_f32(value, da));
            }
        }
    };
    multiply(blocks::<B>(w), acts, out, 1, &mut tile, unpack, add);
}

/// Dot products of 32 columns out of sums that `dots` adds to [`START`]: less than 2²² apart from it they are floats as they
/// stand, and a subtraction makes a dot product of one, where a conversion of integers takes one pipe of a Cortex-A76 twice.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn from_start<const Q: usize>(dots: impl Fn(&mut Dots<Q>) -> Dots<Q>) -> Floats<Q> {
    // In memory, since loading it leaves the multipliers alone.
    static STARTS: [[f32; 4]; TOKENS * MOST_QUADS] = [[START; 4]; TOKENS * MOST_QUADS];
    let starts = settled_ref(&STARTS);
    let mut run = [[vdupq_n_s32(0); Q]; TOKENS];
    for i in 0..TOKENS {
        for h in 0..Q {
            run[i][h] = vreinterpretq_s32_f32(load_f32(&starts[Q * i + h]));
        }
    }
    let (dots, mut floats) = (dots(&mut run), [[vdupq_n_f32(0.0); Q]; TOKENS]);
    for i in 0..TOKENS {
        for h in 0..Q {
            floats[i][h] = vsubq_f32(vreinterpretq_f32_s32(dots[i][h]), vdupq_n_f32(START));
        }
    }
    floats
}

/// `sum += (d · da) · (q·a)`, then with a minimum `sum += (m · da) · (Σ a)`. `place` as in [`of_256`]; `dots` multiplies a block.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn of_32<B: Block, const Q: usize, const MINS: bool>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    units: impl Fn(&B) -> (u16, Option<u16>),
    levels: impl Fn(&B) -> Small,
    place: impl Fn([int8x16_t; 4]) -> [int8x16_t; 4],
    dots: impl Fn(&[[[int8x16_t; 4]; Q]; 2], [&[[i8; 16]; 2]; TOKENS]) -> Floats<Q>,
) {
    let zeros = [[vdupq_n_f32(0.0); Q]; STEP];
    let mut tile = Smalls { q: [[[vdupq_n_s8(0); 4]; Q]; 16], d: zeros, m: zeros, len: 0 };
    let unpack = |rows: &[[&[B]; 4]; Q], first: usize, tile: &mut Smalls<Q>| {
        tile.len = STEP.min(rows[0][0].len() - first);
        for b in 0..tile.len {
            for h in 0..Q {
                let at = first + b;
                let w = [&rows[h][0][at], &rows[h][1][at], &rows[h][2][at], &rows[h][3][at]];
                let units = w.map(&units);
                tile.d[b][h] = halves(units.map(|(d, _)| d));
                tile.m[b][h] = halves(units.map(|(_, m)| m.unwrap_or(0)));
                let rows = [levels(w[0]), levels(w[1]), levels(w[2]), levels(w[3])];
                for c in 0..2 {
                    tile.q[2 * b + c][h] = place([rows[0][c], rows[1][c], rows[2][c], rows[3][c]]);
                }
            }
        }
    };
    let add = |tile: &Smalls<Q>, four: &Four<'_, 2, 1>, first: usize, sums: &mut [Sums<Q>; TOKENS]| {
        let q = four.tokens.map(|token| &token.q[first..][..tile.len]);
        let act_sums = four.tokens.map(|token| if MINS { &token.sums[first..][..tile.len] } else { &[] });
        let scales = &four.scales[first..][..tile.len];
        let mut totals = *sums;
        for b in 0..tile.len {
            let dots = dots(&tile.q.as_chunks::<2>().0[b], [&q[0][b], &q[1][b], &q[2][b], &q[3][b]]);
            let scales = load_f32(&scales[b]);
            for i in 0..TOKENS {
                let da = lane(scales, i);
                for h in 0..Q {
                    let value = vmulq_f32(vmulq_f32(tile.d[b][h], da), dots[i][h]);
                    totals[i][h] = vaddq_f32(totals[i][h], value);
                    if MINS {
                        let m = vmulq_f32(tile.m[b][h], da);
                        totals[i][h] = vaddq_f32(totals[i][h], vmulq_n_f32(m, f32::from(act_sums[i][b][0])));
                    }
                }
            }
        }
        *sums = totals;
    };
    multiply(blocks::<B>(w), acts, out, STEP, &mut tile, unpack, add);
}

/// Tokens that are multiplied together.
struct Four<'a, const K: usize, const S: usize> {
    tokens: [Token<'a, K, S>; TOKENS],
    /// `[block][token]` of blocks of 32 columns: one load for all, and products by element. Of those of 256 none.
    scales: Vec<[f32; TOKENS]>,
}

impl<'a, const K: usize, const S: usize> Four<'a, K, S> {
    fn new(tokens: [Token<'a, K, S>; TOKENS]) -> Self {
        let mut scales = vec![[0.0; TOKENS]; if 16 * K == SUPER { 0 } else { tokens[0].scales.len() }];
        for (i, token) in tokens.iter().enumerate() {
            for (four, scale) in scales.iter_mut().zip(token.scales) {
                four[i] = *scale;
            }
        }
        Four { tokens, scales }
    }
}

/// Calls `unpack(rows, first block, tile)` for each tile along the columns and then `add(tile, four tokens, first block,
/// their sums)`; a tile spans up to `step` blocks. At the end the last token stands for those that are missing.
#[inline]
#[target_feature(enable = "neon")]
fn multiply<B: Block, T, const Q: usize, const K: usize, const S: usize>(
    w: &[B],
    acts: ActView<'_>,
    out: &mut [f32],
    step: usize,
    tile: &mut T,
    unpack: impl Fn(&[[&[B]; 4]; Q], usize, &mut T),
    add: impl Fn(&T, &Four<'_, K, S>, usize, &mut [Sums<Q>; TOKENS]),
) {
    let per_row = acts.cols() / B::LEN;
    let rows = w.len() / per_row;
    for t0 in (0..acts.tokens()).step_by(BATCH) {
        let tokens = BATCH.min(acts.tokens() - t0);
        let token = |i: usize| Token::new(acts, t0 + i.min(tokens - 1), per_row);
        let fours = (0..tokens).step_by(TOKENS);
        let batch: Vec<_> = fours.map(|t| Four::new([token(t), token(t + 1), token(t + 2), token(t + 3)])).collect();
        for first in (0..rows).step_by(4 * Q) {
            let w = std::array::from_fn(|h| lanes::rows(w, per_row, rows, first + 4 * h));
            let mut sums = [[[vdupq_n_f32(0.0); Q]; TOKENS]; BATCH / TOKENS];
            for b in (0..per_row).step_by(step) {
                unpack(&w, b, tile);
                for (four, sums) in batch.iter().zip(&mut sums) {
                    add(tile, four, b, sums);
                }
            }
            let n = (4 * Q).min(rows - first);
            for (t, sums) in sums.as_flattened()[..tokens].iter().enumerate() {
                let mut values = [[0.0; 4]; Q];
                for h in 0..Q {
                    store_f32(&mut values[h], sums[h]);
                }
                out[(t0 + t) * rows + first..][..n].copy_from_slice(&values.as_flattened()[..n]);
            }
        }
    }
}
