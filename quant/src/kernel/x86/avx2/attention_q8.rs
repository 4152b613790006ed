//! Attention over int8 keys and values with a scale per 32.
use std::arch::x86_64::*;

use half::f16;

use super::float::FEW;
use super::lanes::*;
use crate::kernel::{Q8_BLOCK, Q8Rows};

/// Rows that are asked for ahead of those that few queries meet, in bytes.
const AHEAD: usize = 4096;

/// `out[j * n + i]` = row i · query j: each 32 products in eight fused lanes, which the block's scale weighs as they join
/// the row's lanes, in any tile.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dots_q8(k: Q8Rows<'_>, q: &[f32], dim: usize, out: &mut [f32]) {
    let queries = q.len() / dim;
    let n = out.len() / queries;
    let mut j = 0;
    while j < queries {
        // Four queries share each conversion of a key, two rows each load of a query.
        let many = queries - j;
        for i in (0..n).step_by(2) {
            let rows = [i, (i + 1).min(n - 1)];
            match many {
                4.. => tile::<4>(k, rows, q, j, dim, n, out, queries <= FEW),
                2.. => tile::<2>(k, rows, q, j, dim, n, out, queries <= FEW),
                _ => tile::<1>(k, rows, q, j, dim, n, out, queries <= FEW),
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
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const Q: usize>(
    k: Q8Rows<'_>,
    rows: [usize; 2],
    q: &[f32],
    first: usize,
    dim: usize,
    n: usize,
    out: &mut [f32],
    few: bool,
) {
    let per_row = dim / Q8_BLOCK;
    // Indexed within one known length: no checks, and no calls, in the loop.
    let (q8, scales) = (k.q.as_chunks::<Q8_BLOCK>().0, k.scales);
    let [k0, k1] = [&q8[rows[0] * per_row..][..per_row], &q8[rows[1] * per_row..][..per_row]];
    let [s0, s1] = [&scales[rows[0] * per_row..][..per_row], &scales[rows[1] * per_row..][..per_row]];
    let mut queries: [&[[f32; Q8_BLOCK]]; Q] = [&[]; Q];
    for j in 0..Q {
        queries[j] = &q[(first + j) * dim..][..dim].as_chunks().0[..per_row];
    }
    let mut sums = [[_mm256_setzero_ps(); Q]; 2];
    for b in 0..per_row {
        if few {
            prefetch(k0, AHEAD + 2 * Q8_BLOCK * b, 2 * Q8_BLOCK);
        }
        let mut block = [[_mm256_setzero_ps(); Q]; 2];
        let (k0, k1) = (k0[b].as_chunks::<8>().0, k1[b].as_chunks::<8>().0);
        for g in 0..4 {
            let (v0, v1) = (load_q8(&k0[g]), load_q8(&k1[g]));
            for j in 0..Q {
                let query = load_f32(&queries[j][b].as_chunks().0[g]);
                block[0][j] = _mm256_fmadd_ps(v0, query, block[0][j]);
                block[1][j] = _mm256_fmadd_ps(v1, query, block[1][j]);
            }
        }
        let (scale0, scale1) = (_mm256_set1_ps(widen(s0[b])), _mm256_set1_ps(widen(s1[b])));
        for j in 0..Q {
            sums[0][j] = _mm256_fmadd_ps(scale0, block[0][j], sums[0][j]);
            sums[1][j] = _mm256_fmadd_ps(scale1, block[1][j], sums[1][j]);
        }
    }
    if Q == 2 {
        let dots = sum4_f32([sums[0][0], sums[0][1], sums[1][0], sums[1][1]]);
        for (i, dot) in dots.into_iter().enumerate() {
            out[(first + i % 2) * n + rows[i / 2]] = dot;
        }
        return;
    }
    for r in 0..2 {
        for j in 0..Q {
            out[(first + j) * n + rows[r]] = sum_f32(sums[r][j]);
        }
    }
}

/// `out[j][c] += Σ (p[j][i] · scale) · v[i][c]`, fused, positions ascending: each element's chain of sums is the same in
/// every tile.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn weighted_rows_q8(v: Q8Rows<'_>, p: &[f32], dim: usize, out: &mut [f32]) {
    let n = p.len() / (out.len() / dim);
    let few = out.len() / dim <= FEW;
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
                2 => columns::<2>(v, p_now, b, n, dim, out_now, few),
                _ => columns::<1>(v, p_now, b, n, dim, out_now, few),
            }
        }
        (p, out) = (p_rest, out_rest);
    }
}

/// The columns of block `b` for `Q` queries.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn columns<const Q: usize>(v: Q8Rows<'_>, p: &[f32], b: usize, n: usize, dim: usize, out: &mut [f32], few: bool) {
    let per_row = dim / Q8_BLOCK;
    let mut sums = [[_mm256_setzero_ps(); 4]; Q];
    let mut weights: [&[f32]; Q] = [&[]; Q];
    for j in 0..Q {
        weights[j] = &p[j * n..][..n];
        let out = out[j * dim + b * Q8_BLOCK..].as_chunks::<8>().0;
        for g in 0..4 {
            sums[j][g] = load_f32(&out[g]);
        }
    }
    // The rows after these, in the order of memory: each block of columns asks for its share.
    let mut next = v.q.len() + b * n * Q8_BLOCK;
    let rows = v.q.as_chunks::<Q8_BLOCK>().0[b..].iter().step_by(per_row);
    let scales = v.scales[b..].iter().step_by(per_row);
    for (i, (row, scale)) in rows.zip(scales).take(n).enumerate() {
        if few {
            prefetch(v.q, next, Q8_BLOCK);
            next += Q8_BLOCK;
        }
        let (row, scale) = (row.as_chunks::<8>().0, widen(*scale));
        let mut values = [_mm256_setzero_ps(); 4];
        for g in 0..4 {
            values[g] = load_q8(&row[g]);
        }
        for j in 0..Q {
            let weight = _mm256_set1_ps(weights[j][i] * scale);
            for g in 0..4 {
                sums[j][g] = _mm256_fmadd_ps(weight, values[g], sums[j][g]);
            }
        }
    }
    for j in 0..Q {
        let out = out[j * dim + b * Q8_BLOCK..].as_chunks_mut::<8>().0;
        for g in 0..4 {
            store_f32(&mut out[g], sums[j][g]);
        }
    }
}

/// Eight int8 as floats.
#[inline]
#[target_feature(enable = "avx2")]
fn load_q8(x: &[i8; 8]) -> __m256 {
    // SAFETY: 8 readable bytes; the load takes any alignment.
    let bytes = unsafe { _mm_loadl_epi64(x.as_ptr().cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen(x: f16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(x.to_bits().into())))
}
