//! One token without dot products, row by row: a lane is half a sub-block, so that the scales stay as they lie in a block.
use std::arch::aarch64::*;

use super::gemv::{ROWS, put, settled_sum};
use super::heads_by_row::{self as heads, Head, fours};
use super::instructions::settled_ref;
use super::lanes::{self, *};
use super::levels::{self, Pair, pair};
use super::products::{add_four, halves_of_four};
use super::token::Token;
use super::unroll::unrolled;
use crate::act::ActView;
use crate::block::{Block, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, SUPER, blocks};

/// A format in sub-blocks of `$n` vectors with or without minimums. Its levels have `$centre` added, or `$lack` taken away;
/// `$max` is their largest magnitude without the first and with the second.
macro_rules! product {
    ($name:ident, $block:ty, $levels:ident, $n:literal, $mins:literal, $centre:literal, $lack:literal, $max:literal) => {
        #[inline]
        #[target_feature(enable = "neon")]
        pub(super) fn $name(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            let (head, levels) = (|w: [&$block; ROWS]| heads::$name(w), |w: &$block, i: usize| levels::$levels(w, i));
            of_256::<$block, $n, $mins, $centre, $lack, $max>(w, acts, out, head, levels);
        }
    };
}

product!(q4_k, BlockQ4K, q4_k, 2, true, 0, 0, 15);
product!(q5_k, BlockQ5K, q5_k_centred, 2, true, 0, 16, 16);
product!(q6_k, BlockQ6K, q6_k, 1, false, 32, 0, 32);
product!(q3_k, BlockQ3K, q3_k, 1, false, 4, 0, 4);
product!(q2_k, BlockQ2K, q2_k, 1, true, 0, 0, 3);
product!(iq4_xs, BlockIq4Xs, iq4_xs, 2, false, 0, 0, 127);

/// `sum += da · (d · Σ scale·(q·a) − dmin · Σ min·(Σ a))`, block by block, as the scalar definition has it.
///
/// Sub-blocks of `16 * N` columns; `MAX` is the largest magnitude of a level without `CENTRE`, which was added to it. What was
/// taken away, `LACK`, comes back as often as the scales count the activations.
#[inline]
#[target_feature(enable = "neon")]
fn of_256<B: Block, const N: usize, const MINS: bool, const CENTRE: i8, const LACK: i32, const MAX: i32>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    head: impl Fn([&B; ROWS]) -> Head<N>,
    levels: impl Fn(&B, usize) -> Pair<N>,
) {
    let per_row = acts.cols() / SUPER;
    let tokens = Token::<16, 16>::all(acts, per_row);
    let centres: Vec<Vec<Centres>> =
        tokens.iter().map(|token| if CENTRE == 0 { Vec::new() } else { centres::<CENTRE>(token) }).collect();
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    for first in (0..rows).step_by(ROWS) {
        let w: [&[B]; ROWS] = lanes::rows(w, per_row, rows, first);
        for (t, (token, centres)) in tokens.iter().zip(&centres).enumerate() {
            let (q, sums, scales) = (&token.q[..per_row], &token.sums[..per_row], &token.scales[..per_row]);
            let centres = &centres[..if CENTRE == 0 { 0 } else { per_row }];
            let zero = vdupq_n_s32(0);
            let mut total = vdupq_n_f32(0.0);
            for b in 0..per_row {
                let w = [&w[0][b], &w[1][b], &w[2][b], &w[3][b]];
                let head = head(w);
                let a_sums = by_scale::<N>(&sums[b]);
                let (mut offset, mut lack) = (zero, zero);
                // First of all, so that the minimums take no registers later.
                if MINS {
                    let mut offsets = [zero; ROWS];
                    for r in 0..ROWS {
                        for h in 0..2 / N {
                            offsets[r] = add_products(offsets[r], head.mins(r, h), a_sums[h]);
                        }
                    }
                    offset = settled_sum(sum4(offsets));
                }
                if LACK != 0 {
                    let row = |r: usize| add_products(zero, head.plain(r), a_sums[0]);
                    lack = settled_sum(vmulq_n_s32(sum4([row(0), row(1), row(2), row(3)]), LACK));
                }
                let mut dots = [zero; ROWS];
                // Not loops: where things lie in a block must be known at compile time.
                unrolled!(2, |h| {
                    let mut a = [vdupq_n_s8(0); 8];
                    for c in 0..8 {
                        a[c] = load_i8(&q[b][8 * h + c]);
                    }
                    let a: &[[int8x16_t; N]] = a.as_chunks().0;
                    unrolled!(4, |r| {
                        // Row by row: the levels of several would not fit the registers.
                        let w = settled_ref(w[r]);
                        let mut x = [[vdupq_n_s8(0); N]; 8];
                        for i in 4 / N * h..4 / N * (h + 1) {
                            let [j, k] = pair::<N>(i);
                            [x[j % (8 / N)], x[k % (8 / N)]] = levels(w, i);
                        }
                        let scales = head.scales(r, h);
                        for e in 0..2 / N {
                            let (four, centre) = (fours::<N>()[e], (CENTRE != 0).then(|| load_i16(&centres[b][h][e])));
                            let (x, a) = (four.map(|j| x[j]), four.map(|j| a[j]));
                            dots[r] = add_four::<N, MAX>(dots[r], x, a, scales[e], centre);
                        }
                        dots[r] = settled_sum(dots[r]);
                    });
                });
                let mut value = vmulq_f32(head.d, vcvtq_f32_s32(vaddq_s32(sum4(dots), lack)));
                if MINS {
                    value = vsubq_f32(value, vmulq_f32(head.dmin, vcvtq_f32_s32(offset)));
                }
                total = vaddq_f32(total, vmulq_n_f32(value, scales[b]));
            }
            put(total, first, &mut out[t * rows..][..rows]);
        }
    }
}

/// What `CENTRE` in all levels adds to the dot products: `[half][four]`, as [`halves_of_four`] has them.
type Centres = [[[i16; 8]; 2]; 2];

#[inline]
#[target_feature(enable = "neon")]
fn centres<const CENTRE: i8>(token: &Token<'_, 16, 16>) -> Vec<Centres> {
    let mut all = vec![[[[0; 8]; 2]; 2]; token.q.len()];
    for (q, centres) in token.q.iter().zip(&mut all) {
        for h in 0..2 {
            for e in 0..2 {
                let a = fours::<1>()[e].map(|j| [load_i8(&q[8 * h + j])]);
                store_i16(&mut centres[h][e], halves_of_four([[vdupq_n_s8(CENTRE)]; 4], a));
            }
        }
    }
    all
}

/// The sums of the activations that each scale counts for, in groups of eight.
#[inline]
#[target_feature(enable = "neon")]
fn by_scale<const N: usize>(sums: &[i16; 16]) -> [int16x8_t; 2] {
    let sums = sums.as_chunks().0;
    let (low, high) = (load_i16(&sums[0]), load_i16(&sums[1]));
    if N == 2 { [vpaddq_s16(low, high); 2] } else { [low, high] }
}

/// Adds eight products.
#[inline]
#[target_feature(enable = "neon")]
fn add_products(sum: int32x4_t, x: int16x8_t, y: int16x8_t) -> int32x4_t {
    vmlal_high_s16(vmlal_s16(sum, vget_low_s16(x), vget_low_s16(y)), x, y)
}
