//! Attention over int8 keys and values with a scale per 32.
use std::arch::aarch64::*;

use super::float::{Eight, fma, load_8, store_8, sum_8};
use super::lanes::half_in_all;
use crate::kernel::{Ahead, Q8_BLOCK, Q8Rows};

/// `out[j * n + i]` = row i · query j: each 32 products in eight fused lanes, which the block's scale weighs as they join
/// the row's lanes, in any tile.
#[target_feature(enable = "neon")]
pub(super) fn dots_q8(k: Q8Rows<'_>, q: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    let queries = q.len() / dim;
    let n = out.len() / queries;
    let mut j = 0;
    while j < queries {
        // Queries share each conversion of a key, two rows each load of a query.
        let many = queries - j;
        for i in (0..n).step_by(2) {
            let rows = [i, (i + 1).min(n - 1)];
            match many {
                4.. => tile::<4>(k, rows, q, j, dim, n, out),
                2.. => tile::<2>(k, rows, q, j, dim, n, out),
                _ => tile::<1>(k, rows, q, j, dim, n, out),
            }
        }
        j += match many {
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
    }
}

/// Two rows and the queries `first …`.
#[inline]
#[target_feature(enable = "neon")]
fn tile<const Q: usize>(
    k: Q8Rows<'_>,
    rows: [usize; 2],
    q: &[f32],
    first: usize,
    dim: usize,
    n: usize,
    out: &mut [f32],
) {
    let per_row = dim / Q8_BLOCK;
    let (q8, scales) = (k.q.as_chunks::<Q8_BLOCK>().0, k.scales);
    let keys = rows.map(|row| &q8[row * per_row..][..per_row]);
    let scales = rows.map(|row| &scales[row * per_row..][..per_row]);
    let mut queries: [&[[f32; Q8_BLOCK]]; Q] = [&[]; Q];
    for j in 0..Q {
        queries[j] = &q[(first + j) * dim..][..dim].as_chunks().0[..per_row];
    }
    let mut sums = [[[vdupq_n_f32(0.0); 2]; Q]; 2];
    for b in 0..per_row {
        let mut block = [[[vdupq_n_f32(0.0); 2]; Q]; 2];
        let keys = keys.map(|key| key[b].as_chunks::<8>().0);
        for g in 0..4 {
            let keys = keys.map(|key| load_q8(&key[g]));
            for j in 0..Q {
                let query = load_8(&queries[j][b].as_chunks().0[g]);
                for r in 0..2 {
                    block[r][j] = fma(block[r][j], keys[r], query);
                }
            }
        }
        for r in 0..2 {
            let scale = [half_in_all(scales[r][b]); 2];
            for j in 0..Q {
                sums[r][j] = fma(sums[r][j], block[r][j], scale);
            }
        }
    }
    for r in 0..2 {
        for j in 0..Q {
            out[(first + j) * n + rows[r]] = sum_8(sums[r][j]);
        }
    }
}

/// `out[j][c] += Σ (p[j][i] · scale) · v[i][c]`, fused, positions ascending: each element's chain of sums is the same in
/// every tile.
#[target_feature(enable = "neon")]
pub(super) fn weighted_rows_q8(v: Q8Rows<'_>, p: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    let n = p.len() / (out.len() / dim);
    let (mut p, mut out) = (p, out);
    while !out.is_empty() {
        let queries = match out.len() / dim {
            2.. => 2,
            _ => 1,
        };
        let (p_now, p_rest) = p.split_at(queries * n);
        let (out_now, out_rest) = out.split_at_mut(queries * dim);
        for b in 0..dim / Q8_BLOCK {
            match queries {
                2 => columns::<2>(v, p_now, b, n, dim, out_now),
                _ => columns::<1>(v, p_now, b, n, dim, out_now),
            }
        }
        (p, out) = (p_rest, out_rest);
    }
}

/// The columns of block `b` for `Q` queries.
#[inline]
#[target_feature(enable = "neon")]
fn columns<const Q: usize>(v: Q8Rows<'_>, p: &[f32], b: usize, n: usize, dim: usize, out: &mut [f32]) {
    let per_row = dim / Q8_BLOCK;
    let mut sums = [[[vdupq_n_f32(0.0); 2]; 4]; Q];
    let mut weights: [&[f32]; Q] = [&[]; Q];
    for j in 0..Q {
        weights[j] = &p[j * n..][..n];
        let out = out[j * dim + b * Q8_BLOCK..].as_chunks::<8>().0;
        for g in 0..4 {
            sums[j][g] = load_8(&out[g]);
        }
    }
    let rows = v.q.as_chunks::<Q8_BLOCK>().0[b..].iter().step_by(per_row);
    let scales = v.scales[b..].iter().step_by(per_row);
    for (i, (row, scale)) in rows.zip(scales).take(n).enumerate() {
        let (row, scale) = (row.as_chunks::<8>().0, half_in_all(*scale));
        let mut values = [[vdupq_n_f32(0.0); 2]; 4];
        for g in 0..4 {
            values[g] = load_q8(&row[g]);
        }
        for j in 0..Q {
            let weight = [vmulq_n_f32(scale, weights[j][i]); 2];
            for g in 0..4 {
                sums[j][g] = fma(sums[j][g], values[g], weight);
            }
        }
    }
    for j in 0..Q {
        let out = out[j * dim + b * Q8_BLOCK..].as_chunks_mut::<8>().0;
        for g in 0..4 {
            store_8(&mut out[g], sums[j][g]);
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
