//! One token times four rows at a time, straight from the blocks.
use std::arch::aarch64::*;

use super::heads::Head;
use super::lanes::{self, *};
use super::levels::Small;
use super::offsets::{half, offset};
use super::unroll::unrolled;
use crate::act::ActView;
use crate::block::{Block, SUPER, blocks};

/// Rows whose sums make one vector.
pub(super) const ROWS: usize = 4;

/// What a format of 256 columns makes of the levels.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// `d · Σ scale·(q·a) − dmin · Σ min·(Σ a)`
    Affine,
    /// `d · Σ scale·(q·a)`; the levels have this number added.
    Centred(i32),
    /// `d · Σ scale·(q·a)`
    Signed,
}

/// `sum += da · value`, block by block, as the scalar definition has it.
///
/// `P` pairs of sub-blocks of `16 * N` columns. `dot(sums, levels, a)` multiplies those of one sub-block; `sums` are
/// zeros at a block's start and its own.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn of_256<B: Block, const P: usize, const N: usize>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    form: Form,
    head: impl Fn([&B; ROWS]) -> Head<P>,
    levels: impl Fn(&B, usize) -> [int8x16_t; N],
    dot: impl Fn(&mut [int32x4_t; ROWS], [[int8x16_t; N]; ROWS], [int8x16_t; N]) -> int32x4_t,
) {
    const { assert!(2 * P * N * 16 == SUPER) };
    let per_row = acts.cols() / SUPER;
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    for first in (0..rows).step_by(ROWS) {
        let w: [&[B]; ROWS] = lanes::rows(w, per_row, first);
        for t in 0..acts.tokens() {
            let q = &acts.quants(t).as_chunks::<16>().0.as_chunks::<16>().0[..per_row];
            let sums = &acts.sums(t).as_chunks::<16>().0[..per_row];
            let scales = &acts.scales(t)[..per_row];
            let mut total = vdupq_n_f32(0.0);
            for b in 0..per_row {
                let w = [&w[0][b], &w[1][b], &w[2][b], &w[3][b]];
                let head = head(w);
                // First of all, so that the minimums take no registers later.
                let offset = match form {
                    Form::Signed => vdupq_n_s32(0),
                    Form::Affine | Form::Centred(_) => offset(&head.mins, &sums[b]),
                };
                let (mut run, mut sum) = ([vdupq_n_s32(0); ROWS], vdupq_n_s32(0));
                // Not a loop: where things lie in a block must be known at compile time.
                unrolled!(2 * P, |j| {
                    let levels = [levels(w[0], j), levels(w[1], j), levels(w[2], j), levels(w[3], j)];
                    let mut a = [vdupq_n_s8(0); N];
                    for k in 0..N {
                        a[k] = load_i8(&q[b][N * j + k]);
                    }
                    sum = vmlaq_s32(sum, dot(&mut run, levels, a), half(head.scales[j / 2], j % 2));
                });
                let value = match form {
                    Form::Affine => {
                        vsubq_f32(vmulq_f32(head.d, vcvtq_f32_s32(sum)), vmulq_f32(head.dmin, vcvtq_f32_s32(offset)))
                    }
                    Form::Centred(zero) => vmulq_f32(head.d, vcvtq_f32_s32(vmlsq_n_s32(sum, offset, zero))),
                    Form::Signed => vmulq_f32(head.d, vcvtq_f32_s32(sum)),
                };
                total = vaddq_f32(total, vmulq_n_f32(value, scales[b]));
            }
            put(total, first, &mut out[t * rows..][..rows]);
        }
    }
}

/// `sum += (d · da) · (q·a)`, then with a minimum `sum += (m · da) · (Σ a)`, block by block, as the scalar definition
/// has it.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn of_32<B: Block>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    units: impl Fn(&B) -> (u16, Option<u16>),
    levels: impl Fn(&B) -> Small,
    dot: impl Fn([Small; ROWS], Small) -> int32x4_t,
) {
    // Blocks of a row that are found from one address.
    const STEP: usize = 4;
    let add = |w: [&B; ROWS], q: &[[i8; 16]; 2], sum: i16, scale: f32, total: float32x4_t| {
        let a = [load_i8(&q[0]), load_i8(&q[1])];
        let dot = dot([levels(w[0]), levels(w[1]), levels(w[2]), levels(w[3])], a);
        let units = w.map(&units);
        let d = vmulq_n_f32(halves(units.map(|(d, _)| d)), scale);
        let total = vaddq_f32(total, vmulq_f32(d, vcvtq_f32_s32(dot)));
        match units {
            [(_, Some(m0)), (_, Some(m1)), (_, Some(m2)), (_, Some(m3))] => {
                let m = vmulq_n_f32(halves([m0, m1, m2, m3]), scale);
                vaddq_f32(total, vmulq_n_f32(m, f32::from(sum)))
            }
            _ => total,
        }
    };
    let per_row = acts.cols() / 32;
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    for first in (0..rows).step_by(ROWS) {
        let w: [&[B]; ROWS] = lanes::rows(w, per_row, first);
        for t in 0..acts.tokens() {
            let q = &acts.quants(t).as_chunks::<16>().0.as_chunks::<2>().0[..per_row];
            let (sums, scales) = (&acts.sums(t)[..per_row], &acts.scales(t)[..per_row]);
            let mut total = vdupq_n_f32(0.0);
            for b in (0..per_row / STEP).map(|b| b * STEP) {
                let (w, q) = (w.map(|w| &w[b..b + STEP]), &q[b..b + STEP]);
                let (sums, scales) = (&sums[b..b + STEP], &scales[b..b + STEP]);
                unrolled!(STEP, |i| {
                    total = add([&w[0][i], &w[1][i], &w[2][i], &w[3][i]], &q[i], sums[i], scales[i], total);
                });
            }
            for b in per_row / STEP * STEP..per_row {
                total = add([&w[0][b], &w[1][b], &w[2][b], &w[3][b]], &q[b], sums[b], scales[b], total);
            }
            put(total, first, &mut out[t * rows..][..rows]);
        }
    }
}

/// Writes the rows `first …`, as many as there are.
#[inline]
#[target_feature(enable = "neon")]
fn put(total: float32x4_t, first: usize, out: &mut [f32]) {
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
