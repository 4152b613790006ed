//! One token times four rows at a time, straight from the blocks.
use std::arch::aarch64::*;

use super::heads::Head;
use super::lanes::{self, *};
use super::levels::{Part, Small};
use super::offsets::{half, offset};
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
    levels: impl Fn(&B, usize) -> Part,
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
                let (mut run, mut sum) = ([vdupq_n_s32(0); ROWS], vdupq_n_s32(0));
                // Not a loop: where things lie in a block must be known at compile time.
                macro_rules! part {
                    ($p:literal) => {
                        let levels = [levels(w[0], $p), levels(w[1], $p), levels(w[2], $p), levels(w[3], $p)];
                        for i in 0..4 / N {
                            let (mut part, mut a) = ([[vdupq_n_s8(0); N]; ROWS], [vdupq_n_s8(0); N]);
                            for k in 0..N {
                                a[k] = load_i8(&q[b][4 * $p + N * i + k]);
                                for r in 0..ROWS {
                                    part[r][k] = levels[r][N * i + k];
                                }
                            }
                            let j = $p * (4 / N) + i;
                            sum = vmlaq_s32(sum, dot(&mut run, part, a), half(head.scales[j / 2], j % 2));
                        }
                    };
                }
                part!(0);
                part!(1);
                part!(2);
                part!(3);
                let value = match form {
                    Form::Affine => {
                        let offset = offset(&head.mins, &sums[b]);
                        vsubq_f32(vmulq_f32(head.d, vcvtq_f32_s32(sum)), vmulq_f32(head.dmin, vcvtq_f32_s32(offset)))
                    }
                    Form::Centred(zero) => {
                        let sum = vmlsq_n_s32(sum, offset(&head.mins, &sums[b]), zero);
                        vmulq_f32(head.d, vcvtq_f32_s32(sum))
                    }
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
    let per_row = acts.cols() / 32;
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    for first in (0..rows).step_by(ROWS) {
        let w: [&[B]; ROWS] = lanes::rows(w, per_row, first);
        for t in 0..acts.tokens() {
            let q = &acts.quants(t).as_chunks::<16>().0.as_chunks::<2>().0[..per_row];
            let (sums, scales) = (&acts.sums(t)[..per_row], &acts.scales(t)[..per_row]);
            let mut total = vdupq_n_f32(0.0);
            for b in 0..per_row {
                let w = [&w[0][b], &w[1][b], &w[2][b], &w[3][b]];
                let a = [load_i8(&q[b][0]), load_i8(&q[b][1])];
                let dot = dot([levels(w[0]), levels(w[1]), levels(w[2]), levels(w[3])], a);
                let units = w.map(|w| units(w));
                let d = vmulq_n_f32(halves(units.map(|(d, _)| d)), scales[b]);
                total = vaddq_f32(total, vmulq_f32(d, vcvtq_f32_s32(dot)));
                if let [(_, Some(m0)), (_, Some(m1)), (_, Some(m2)), (_, Some(m3))] = units {
                    let m = vmulq_n_f32(halves([m0, m1, m2, m3]), scales[b]);
                    total = vaddq_f32(total, vmulq_n_f32(m, f32::from(sums[b])));
                }
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
