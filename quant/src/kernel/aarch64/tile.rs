//! The loop around a tile: `4 * Q` rows × 256 columns, unpacked once and multiplied with a batch of tokens.
use std::arch::aarch64::*;

use super::heads::Head;
use super::lanes::{self, *};
use super::levels::{Pair, Small, pair};
use super::token::Token;
use super::unroll::unrolled;
use crate::act::ActView;
use crate::block::{Block, SUPER, blocks};

/// Tokens multiplied together: with two vectors of rows their dot products, scaled sums and levels fill 22 of 32
/// registers.
pub(super) const TOKENS: usize = 4;
/// Tokens whose float sums are kept in the first-level cache (4 KiB of eight rows) while the tiles pass.
const BATCH: usize = 128;

/// Levels in the order that the instructions of a level want: `[column / 16][row / 4]`, each 4 rows × 16 columns.
pub(super) type Columns<const Q: usize> = [[[int8x16_t; 4]; Q]; 16];

/// Integer sums: `[token][row / 4][4 rows]`.
pub(super) type Dots<const Q: usize> = [[int32x4_t; Q]; TOKENS];

/// Float sums of a token: `[row / 4][4 rows]`.
type Sums<const Q: usize> = [float32x4_t; Q];

/// Blocks of 256 columns.
struct Super<const P: usize, const Q: usize> {
    q: Columns<Q>,
    /// `[sub-block][row / 4][4 rows]`
    scales: [[int32x4_t; Q]; 16],
    heads: [Head<P>; Q],
}

/// Up to eight blocks of 32 columns.
struct Smalls<const Q: usize> {
    q: Columns<Q>,
    /// `[block][row / 4][4 rows]`
    d: [[float32x4_t; Q]; 8],
    m: [[float32x4_t; Q]; 8],
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
    let add = |tile: &Super<P, Q>, tokens: &[Token<'_, 16, 16>; TOKENS], b: usize, sums: &mut [Sums<Q>; TOKENS]| {
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

/// `sum += (d · da) · (q·a)`, then with a minimum `sum += (m · da) · (Σ a)`. `place` and `dots` as in [`of_256`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn of_32<B: Block, const Q: usize, const MINS: bool>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    units: impl Fn(&B) -> (u16, Option<u16>),
    levels: impl Fn(&B) -> Small,
    place: impl Fn([int8x16_t; 4]) -> [int8x16_t; 4],
    dots: impl Fn(&mut Dots<Q>, &[[[int8x16_t; 4]; Q]; 2], [&[[i8; 16]; 2]; TOKENS]) -> Dots<Q>,
) {
    let zeros = [[vdupq_n_f32(0.0); Q]; 8];
    let mut tile = Smalls { q: [[[vdupq_n_s8(0); 4]; Q]; 16], d: zeros, m: zeros, len: 0 };
    let unpack = |rows: &[[&[B]; 4]; Q], first: usize, tile: &mut Smalls<Q>| {
        tile.len = 8.min(rows[0][0].len() - first);
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
    let add = |tile: &Smalls<Q>, tokens: &[Token<'_, 2, 1>; TOKENS], first: usize, sums: &mut [Sums<Q>; TOKENS]| {
        let q = tokens.map(|token| &token.q[first..][..tile.len]);
        let scales = tokens.map(|token| &token.scales[first..][..tile.len]);
        let act_sums = tokens.map(|token| &token.sums[first..][..tile.len]);
        let mut totals = *sums;
        for b in 0..tile.len {
            let columns = &tile.q.as_chunks::<2>().0[b];
            let mut run = [[vdupq_n_s32(0); Q]; TOKENS];
            let dots = dots(&mut run, columns, [&q[0][b], &q[1][b], &q[2][b], &q[3][b]]);
            for i in 0..TOKENS {
                let da = scales[i][b];
                for h in 0..Q {
                    let value = vmulq_f32(vmulq_n_f32(tile.d[b][h], da), vcvtq_f32_s32(dots[i][h]));
                    totals[i][h] = vaddq_f32(totals[i][h], value);
                    if MINS {
                        let value = vmulq_n_f32(vmulq_n_f32(tile.m[b][h], da), f32::from(act_sums[i][b][0]));
                        totals[i][h] = vaddq_f32(totals[i][h], value);
                    }
                }
            }
        }
        *sums = totals;
    };
    multiply(blocks::<B>(w), acts, out, 8, &mut tile, unpack, add);
}

/// Calls `unpack(rows, first block, tile)` for each tile along the columns and then `add(tile, tokens, first block, their
/// sums)`; a tile spans up to `step` blocks. At the end the last token stands for those that are missing.
#[inline]
#[target_feature(enable = "neon")]
fn multiply<B: Block, T, const Q: usize, const K: usize, const S: usize>(
    w: &[B],
    acts: ActView<'_>,
    out: &mut [f32],
    step: usize,
    tile: &mut T,
    unpack: impl Fn(&[[&[B]; 4]; Q], usize, &mut T),
    add: impl Fn(&T, &[Token<'_, K, S>; TOKENS], usize, &mut [Sums<Q>; TOKENS]),
) {
    let per_row = acts.cols() / B::LEN;
    let rows = w.len() / per_row;
    for t0 in (0..acts.tokens()).step_by(BATCH) {
        let tokens = BATCH.min(acts.tokens() - t0);
        let token = |i: usize| Token::new(acts, t0 + i.min(tokens - 1), per_row);
        let fours = (0..tokens).step_by(TOKENS);
        let batch: Vec<[_; TOKENS]> = fours.map(|t| [token(t), token(t + 1), token(t + 2), token(t + 3)]).collect();
        for first in (0..rows).step_by(4 * Q) {
            let w = std::array::from_fn(|h| lanes::rows(w, per_row, rows, first + 4 * h));
            let mut sums = [[[vdupq_n_f32(0.0); Q]; TOKENS]; BATCH / TOKENS];
            for b in (0..per_row).step_by(step) {
                unpack(&w, b, tile);
                for (tokens, sums) in batch.iter().zip(&mut sums) {
                    add(tile, tokens, b, sums);
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
