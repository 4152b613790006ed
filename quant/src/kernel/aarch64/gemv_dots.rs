//! One token with dot products, four rows at a time, straight from the blocks: a lane is a row.
//!
//! Sums run on over the sub-blocks. With A\[j\] the sum up to sub-block j, Σ scale\[j\]·(A\[j\] − A\[j − 1\]) =
//! Σ (scale\[j\] − scale\[j + 1\])·A\[j\], and no sum is set to zero.
use std::arch::aarch64::*;

use super::gemv::{ROWS, put, settled_sum};
use super::heads::{self, Head};
use super::instructions::{settled, settled_ref};
use super::lanes::{self, *};
use super::levels::{self, Pair, pair};
use super::offsets::offset_of_bytes;
use super::products::run_on;
use super::token::Token;
use super::unroll::unrolled;
use crate::act::ActView;
use crate::block::{Block, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, SUPER, blocks};

/// A format in `$p` pairs of sub-blocks of `$n` vectors.
macro_rules! product {
    ($name:ident, $block:ty, $p:literal, $n:literal, $form:expr) => {
        #[inline]
        #[target_feature(enable = "neon,dotprod")]
        pub(super) fn $name(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            of_256::<$block, $p, $n>(w, acts, out, $form, |w| heads::$name::<true>(w), |w, i| levels::$name(w, i));
        }
    };
}

product!(q4_k, BlockQ4K, 4, 2, Form::Affine);
product!(q5_k, BlockQ5K, 4, 2, Form::Affine);
product!(q6_k, BlockQ6K, 8, 1, Form::Centred(32));
product!(q3_k, BlockQ3K, 8, 1, Form::Centred(4));
product!(q2_k, BlockQ2K, 8, 1, Form::Affine);
product!(iq4_xs, BlockIq4Xs, 4, 2, Form::Signed);

/// What a format of 256 columns makes of the levels.
#[derive(Clone, Copy)]
enum Form {
    /// `d · Σ scale·(q·a) − dmin · Σ min·(Σ a)`
    Affine,
    /// `d · Σ scale·(q·a)`; the levels have this number added.
    Centred(i32),
    /// `d · Σ scale·(q·a)`
    Signed,
}

/// `sum += da · value`, block by block, as the scalar definition has it. `P` pairs of sub-blocks of `16 * N` columns.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn of_256<B: Block, const P: usize, const N: usize>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    form: Form,
    head: impl Fn([&B; ROWS]) -> Head<P>,
    levels: impl Fn(&B, usize) -> Pair<N>,
) {
    const { assert!(2 * P * N * 16 == SUPER) };
    // The sub-block that is the k-th one multiplied.
    let at = const { sequence::<N>() };
    let per_row = acts.cols() / SUPER;
    let tokens = Token::<16, 16>::all(acts, per_row);
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    for first in (0..rows).step_by(ROWS) {
        let w: [&[B]; ROWS] = lanes::rows(w, per_row, rows, first);
        for (t, &Token { q, sums, scales }) in tokens.iter().enumerate() {
            let mut total = vdupq_n_f32(0.0);
            for b in 0..per_row {
                let mut w = [&w[0][b], &w[1][b], &w[2][b], &w[3][b]];
                let mut head = head(w);
                for i in 0..P {
                    head.scales[i] = settled(head.scales[i]);
                    head.mins[i] = settled(head.mins[i]);
                }
                // First of all, so that the minimums take no registers later.
                let mut offset = match form {
                    Form::Signed => vdupq_n_s32(0),
                    Form::Affine | Form::Centred(_) => settled_sum(offset_of_bytes(&head.mins, &sums[b])),
                };
                let (mut run, mut sum) = ([vdupq_n_s32(0); ROWS], vdupq_n_s32(0));
                // Not a loop: where things lie in a block must be known at compile time.
                unrolled!(P, |i| {
                    // Pair by pair: what the whole block has in common would not fit the registers.
                    sum = settled_sum(sum);
                    w = [settled_ref(w[0]), settled_ref(w[1]), settled_ref(w[2]), settled_ref(w[3])];
                    let w = [levels(w[0], i), levels(w[1], i), levels(w[2], i), levels(w[3], i)];
                    for k in 0..2 {
                        let j = at[2 * i + k];
                        let mut a = [vdupq_n_s8(0); N];
                        for c in 0..N {
                            a[c] = load_i8(&q[b][N * j + c]);
                        }
                        let dot = run_on(&mut run, [w[0][k], w[1][k], w[2][k], w[3][k]], a);
                        let next = head.scale(at[2 * i + k + 1]);
                        sum = vmlaq_s32(sum, dot, vsubl_s16(head.scale(j), next));
                    }
                });
                let value = match form {
                    Form::Affine => {
                        vsubq_f32(vmulq_f32(head.d, vcvtq_f32_s32(sum)), vmulq_f32(head.dmin, vcvtq_f32_s32(offset)))
                    }
                    Form::Centred(zero) => {
                        offset = vmlsq_n_s32(sum, offset, zero);
                        vmulq_f32(head.d, vcvtq_f32_s32(offset))
                    }
                    Form::Signed => vmulq_f32(head.d, vcvtq_f32_s32(sum)),
                };
                total = vaddq_f32(total, vmulq_n_f32(value, scales[b]));
            }
            put(total, first, &mut out[t * rows..][..rows]);
        }
    }
}

/// The sub-blocks pair by pair, then one that no block has.
const fn sequence<const N: usize>() -> [usize; 17] {
    let mut at = [SUPER; 17];
    let mut i = 0;
    while i < 8 / N {
        [at[2 * i], at[2 * i + 1]] = pair::<N>(i);
        i += 1;
    }
    at
}
