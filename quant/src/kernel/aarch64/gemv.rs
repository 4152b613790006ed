//! One token times four rows at a time, straight from the blocks: those of 32 columns, and what those of 256 have in common
//! with them.
use std::arch::aarch64::*;

use super::instructions::{settled, settled_float};
use super::lanes::{self, *};
use super::levels::Small;
use super::token::Token;
use super::unroll::unrolled;
use crate::act::ActView;
use crate::block::{Block, blocks};

/// Rows whose sums make one vector.
pub(super) const ROWS: usize = 4;

/// Blocks of 32 columns that are multiplied one after the other without a test between them.
pub(super) const STEP: usize = 8;

/// 1.5 · 2²³: integers below 2²² that are added to its bits make it the float that is as much larger.
pub(super) const START: f32 = 12_582_912.0;

/// Dot products of the rows' blocks of 32 columns that run on, at most [`STEP`] of them, from [`START`]: as long as what is
/// added stays below 2²², they are the bits of that integer as a float, and the difference of two is a block's dot product. It
/// takes one instruction instead of one to subtract and two to convert.
pub(super) struct RowSums {
    pub(super) sums: [int32x4_t; ROWS],
    pub(super) total: float32x4_t,
}

impl RowSums {
    #[inline]
    #[target_feature(enable = "neon")]
    fn start() -> Self {
        RowSums { sums: [vdupq_n_s32(START.to_bits() as i32 / 4); ROWS], total: vdupq_n_f32(START) }
    }
}

/// `sum += (d · da) · (q·a)`, then with a minimum `sum += (m · da) · (Σ a)`, block by block, as the scalar definition
/// has it. `dot(run, levels, a)` multiplies one block.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn of_32<B: Block>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    units: impl Fn(&B) -> (u16, Option<u16>),
    levels: impl Fn(&B) -> Small,
    dot: impl Fn(&mut RowSums, [Small; ROWS], Small) -> float32x4_t,
) {
    let add = |w: [&B; ROWS],
               q: &[[i8; 16]; 2],
               sum: &[i16; 1],
               scale: float32x4_t,
               run: &mut RowSums,
               total: float32x4_t| {
        let a = [load_i8(&q[0]), load_i8(&q[1])];
        let dot = dot(run, [levels(w[0]), levels(w[1]), levels(w[2]), levels(w[3])], a);
        let units = w.map(&units);
        let d = vmulq_f32(halves(units.map(|(d, _)| d)), scale);
        let total = vaddq_f32(total, vmulq_f32(d, dot));
        match units {
            [(_, Some(m0)), (_, Some(m1)), (_, Some(m2)), (_, Some(m3))] => {
                let m = vmulq_f32(halves([m0, m1, m2, m3]), scale);
                vaddq_f32(total, vmulq_n_f32(m, f32::from(sum[0])))
            }
            _ => total,
        }
    };
    let per_row = acts.cols() / 32;
    let tokens = Token::<2, 1>::all(acts, per_row);
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    for first in (0..rows).step_by(ROWS) {
        let w: [&[B]; ROWS] = lanes::rows(w, per_row, rows, first);
        for (t, token) in tokens.iter().enumerate() {
            let (q, sums, scales) = (&token.q[..per_row], &token.sums[..per_row], &token.scales[..per_row]);
            let mut total = vdupq_n_f32(0.0);
            // Chunks of slices of one length, so that nothing is tested but the end.
            let w_steps = [chunks(w[0]), chunks(w[1]), chunks(w[2]), chunks(w[3])];
            let (q_steps, sum_steps, scale_steps) = (chunks(q), chunks(sums), chunks(scales));
            for s in 0..per_row / STEP {
                let w = [&w_steps[0][s], &w_steps[1][s], &w_steps[2][s], &w_steps[3][s]];
                let scales = scale_steps[s].as_chunks().0;
                let scales = [load_f32(&scales[0]), load_f32(&scales[1])];
                let mut run = RowSums::start();
                unrolled!(STEP, |i| {
                    let w = [&w[0][i], &w[1][i], &w[2][i], &w[3][i]];
                    total = add(w, &q_steps[s][i], &sum_steps[s][i], lane(scales[i / 4], i % 4), &mut run, total);
                    // One after the other: all of them at once would not fit the registers.
                    total = settled_float(total);
                });
            }
            for b in per_row / STEP * STEP..per_row {
                let w = [&w[0][b], &w[1][b], &w[2][b], &w[3][b]];
                total = add(w, &q[b], &sums[b], vdupq_n_f32(scales[b]), &mut RowSums::start(), total);
            }
            put(total, first, &mut out[t * rows..][..rows]);
        }
    }
}

#[inline]
fn chunks<T>(x: &[T]) -> &[[T; STEP]] {
    x.as_chunks().0
}

/// [`settled`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn settled_sum(v: int32x4_t) -> int32x4_t {
    vreinterpretq_s32_s16(settled(vreinterpretq_s16_s32(v)))
}

/// Element `i`, which must be known at compile time, in all lanes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn lane(v: float32x4_t, i: usize) -> float32x4_t {
    match i {
        0 => vdupq_laneq_f32::<0>(v),
        1 => vdupq_laneq_f32::<1>(v),
        2 => vdupq_laneq_f32::<2>(v),
        _ => vdupq_laneq_f32::<3>(v),
    }
}

/// Writes the rows `first …`, as many as there are.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn put(total: float32x4_t, first: usize, out: &mut [f32]) {
    match out[first..].first_chunk_mut() {
        Some(out) => store_f32(out, total),
        None => {
            let mut totals = [0.0; ROWS];
            store_f32(&mut totals, total);
            let n = out.len() - first;
            out[first..].copy_from_slice(&totals[..n]);
        }
    }
}
