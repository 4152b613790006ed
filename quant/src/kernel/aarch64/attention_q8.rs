//! Attention over int8 keys and values with a scale per 32.
use std::arch::aarch64::*;

use half::f16;

use super::attention::WIDEN;
use super::float::{Eight, fma, load_8, store_8, sums};
use super::gemv::lane;
use super::instructions::settled_float;
use super::lanes::{half_in_all, load_f32};
use super::unroll::unrolled;
use crate::kernel::{Ahead, Q8_BLOCK, Q8Rows};

#[target_feature(enable = "neon")]
pub(super) fn dots_q8(k: Q8Rows<'_>, q: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    match widened(k, q.len() / dim) {
        Some(keys) => dots::<_, 2>(keys.as_chunks().0, k.scales, q, dim, out, |x| load_8(x)),
        None => dots::<_, 4>(k.q.as_chunks().0.as_chunks().0, k.scales, q, dim, out, |x| load_q8(x)),
    }
}

/// The values as floats, where that pays.
#[inline]
#[target_feature(enable = "neon")]
fn widened(rows: Q8Rows<'_>, queries: usize) -> Option<Vec<[f32; 8]>> {
    (queries >= WIDEN).then(|| {
        let widen = |x: &[i8; 8]| {
            let mut wide = [0.0; 8];
            store_8(&mut wide, load_q8(x));
            wide
        };
        rows.q.as_chunks().0.iter().map(widen).collect()
    })
}

/// A block of 32 in eights.
type Eights<E> = [[E; 8]; Q8_BLOCK / 8];

/// `out[j * n + i]` = row i · query j: each 32 products in eight fused lanes, which the block's scale weighs as they join
/// the row's lanes, in any tile. `Q` queries share each load of a key, two rows each load of a query; with four of them sums
/// don't all fit the registers, which a conversion of keys for each two would cost more than.
#[inline]
#[target_feature(enable = "neon")]
fn dots<E, const Q: usize>(
    keys: &[Eights<E>],
    scales: &[f16],
    q: &[f32],
    dim: usize,
    out: &mut [f32],
    load: impl Fn(&[E; 8]) -> Eight,
) {
    let queries = q.len() / dim;
    let n = out.len() / queries;
    let mut j = 0;
    while j < queries {
        let many = queries - j;
        for i in (0..n).step_by(2) {
            let rows = [i, (i + 1).min(n - 1)];
            match many {
                _ if many >= Q => tile::<E, Q>(keys, scales, rows, q, j, dim, n, out, &load),
                2.. => tile::<E, 2>(keys, scales, rows, q, j, dim, n, out, &load),
                _ => tile::<E, 1>(keys, scales, rows, q, j, dim, n, out, &load),
            }
        }
        j += match many {
            _ if many >= Q => Q,
            2.. => 2,
            _ => 1,
        };
    }
}

/// Two rows and the queries `first …`.
#[inline]
#[target_feature(enable = "neon")]
#[allow(clippy::too_many_arguments, reason = "what a tile is made of")]
fn tile<E, const Q: usize>(
    keys: &[Eights<E>],
    scales: &[f16],
    rows: [usize; 2],
    q: &[f32],
    first: usize,
    dim: usize,
    n: usize,
    out: &mut [f32],
    load: &impl Fn(&[E; 8]) -> Eight,
) {
    let per_row = dim / Q8_BLOCK;
    let keys = rows.map(|row| &keys[row * per_row..][..per_row]);
    let scales = rows.map(|row| &scales[row * per_row..][..per_row]);
    let mut queries: [&[Eights<f32>]; Q] = [&[]; Q];
    for j in 0..Q {
        queries[j] = &q[(first + j) * dim..][..dim].as_chunks().0.as_chunks().0[..per_row];
    }
    let mut totals = [[[vdupq_n_f32(0.0); 2]; 2]; Q];
    for b in 0..per_row {
        let mut block = [[[vdupq_n_f32(0.0); 2]; 2]; Q];
        for g in 0..Q8_BLOCK / 8 {
            let keys = [load(&keys[0][b][g]), load(&keys[1][b][g])];
            for j in 0..Q {
                let query = load_8(&queries[j][b][g]);
                for r in 0..2 {
                    block[j][r] = fma(block[j][r], keys[r], query);
                }
            }
        }
        for r in 0..2 {
            let scale = [half_in_all(scales[r][b]); 2];
            for j in 0..Q {
                totals[j][r] = fma(totals[j][r], block[j][r], scale);
            }
        }
    }
    for (j, sums) in sums(&totals).iter().enumerate() {
        for r in 0..2 {
            out[(first + j) * n + rows[r]] = sums[r];
        }
    }
}

/// `out[j][c] += Σ (p[j][i] · scale) · v[i][c]`, fused, positions ascending: each element's chain of sums is the same in
/// every tile.
#[target_feature(enable = "neon")]
pub(super) fn weighted_rows_q8(v: Q8Rows<'_>, p: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    match widened(v, out.len() / dim) {
        Some(values) => weighted_rows(values.as_chunks().0, v.scales, p, dim, out, |x| load_8(x)),
        None => weighted_rows(v.q.as_chunks().0.as_chunks().0, v.scales, p, dim, out, |x| load_q8(x)),
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn weighted_rows<E>(
    values: &[Eights<E>],
    scales: &[f16],
    p: &[f32],
    dim: usize,
    out: &mut [f32],
    load: impl Fn(&[E; 8]) -> Eight,
) {
    let n = p.len() / (out.len() / dim);
    let per_row = dim / Q8_BLOCK;
    let mut column_scales = vec![0.0; n];
    for b in 0..per_row {
        // No closure: it would be compiled outside, without the instructions.
        for (scale, row) in column_scales.iter_mut().zip(scales.chunks_exact(per_row)) {
            *scale = vgetq_lane_f32::<0>(half_in_all(row[b]));
        }
        let column = Column { values: &values[b..], scales: &column_scales, per_row };
        let (mut p, mut out) = (p, &mut *out);
        while !out.is_empty() {
            let queries = match out.len() / dim {
                2.. => 2,
                _ => 1,
            };
            let (p_now, p_rest) = p.split_at(queries * n);
            let (out_now, out_rest) = out.split_at_mut(queries * dim);
            match queries {
                2 => column.add::<2>(p_now, b, dim, out_now, &load),
                _ => column.add::<1>(p_now, b, dim, out_now, &load),
            }
            (p, out) = (p_rest, out_rest);
        }
    }
}

/// A block of each row.
struct Column<'a, E> {
    /// One in `per_row`.
    values: &'a [Eights<E>],
    scales: &'a [f32],
    per_row: usize,
}

impl<E> Column<'_, E> {
    /// Adds up for `Q` queries.
    #[inline]
    #[target_feature(enable = "neon")]
    fn add<const Q: usize>(&self, p: &[f32], b: usize, dim: usize, out: &mut [f32], load: &impl Fn(&[E; 8]) -> Eight) {
        let n = self.scales.len();
        let mut sums = [[[vdupq_n_f32(0.0); 2]; 4]; Q];
        let mut weights: [&[f32]; Q] = [&[]; Q];
        for j in 0..Q {
            weights[j] = &p[j * n..][..n];
            let out = out[j * dim + b * Q8_BLOCK..].as_chunks::<8>().0;
            for g in 0..4 {
                sums[j][g] = load_8(&out[g]);
            }
        }
        let add = |i: usize, weights: [float32x4_t; Q], sums: &mut [[Eight; 4]; Q]| {
            let values = &self.values[i * self.per_row];
            for g in 0..4 {
                let values = load(&values[g]);
                for j in 0..Q {
                    sums[j][g] = fma(sums[j][g], values, [weights[j]; 2]);
                }
            }
            for sum in sums.as_flattened_mut().as_flattened_mut() {
                // Position by position: several at once would not fit the registers.
                *sum = settled_float(*sum);
            }
        };
        for (k, scales) in self.scales.as_chunks().0.iter().enumerate() {
            let weights = weights.map(|w| vmulq_f32(load_f32(scales), load_f32(&w.as_chunks().0[k])));
            unrolled!(4, |i| {
                add(4 * k + i, weights.map(|w| lane(w, i)), &mut sums);
            });
        }
        for i in n / 4 * 4..n {
            add(i, weights.map(|w| vdupq_n_f32(self.scales[i] * w[i])), &mut sums);
        }
        for j in 0..Q {
            let out = out[j * dim + b * Q8_BLOCK..].as_chunks_mut::<8>().0;
            for g in 0..4 {
                store_8(&mut out[g], sums[j][g]);
            }
        }
    }
}

/// Eight int8 as floats.
#[inline]
#[target_feature(enable = "neon")]
fn load_q8(x: &[i8; 8]) -> Eight {
    // SAFETY: 8 readable bytes; the load takes any alignment.
    let x = vmovl_s8(unsafe { vld1_s8(x.as_ptr()) });
    [vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))), vcvtq_f32_s32(vmovl_high_s16(x))]
}
