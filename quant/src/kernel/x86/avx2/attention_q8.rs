//! Attention over int8 keys and values with a scale per 32.
use std::arch::x86_64::*;
use std::ops::Range;

use half::f16;

use super::float::load_f16;
use super::lanes::*;
use crate::kernel::x86::Stream;
use crate::kernel::{Ahead, Q8_BLOCK, Q8Rows};

/// Scales that are widened together, a load for eight of them: those of 32 rows of 128 values.
const SCALES: usize = 128;

/// `out[j * n + i]` = row i · query j: each 32 products in eight fused lanes, which the block's scale weighs as they join
/// the row's lanes, in any tile.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dots_q8(k: Q8Rows<'_>, q: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
    let queries = q.len() / dim;
    let n = out.len() / queries;
    let per_row = dim / Q8_BLOCK;
    let mut scales = [0.0; SCALES];
    for rows in chunks(n, per_row) {
        widen(&k.scales[rows.start * per_row..rows.end * per_row], &mut scales);
        let mut stream = Stream(ahead).skip(rows.start * dim);
        let chunk = Chunk { q: k.q, scales: &scales, rows };
        let mut j = 0;
        while j < queries {
            // Four queries share each conversion of a key, two rows each load of a query.
            let many = queries - j;
            for i in chunk.rows.clone().step_by(2) {
                match many {
                    4.. => chunk.tile::<4>(i, q, j, dim, &mut stream, out),
                    2.. => chunk.tile::<2>(i, q, j, dim, &mut stream, out),
                    _ => chunk.tile::<1>(i, q, j, dim, &mut stream, out),
                }
            }
            stream = Stream(None);
            j += match many {
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
        }
    }
}

/// The rows `0..n`, as many at a time as scales are widened together.
fn chunks(n: usize, per_row: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = SCALES / per_row;
    (0..n).step_by(rows).map(move |first| first..(first + rows).min(n))
}

/// `scales` as floats.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen(scales: &[f16], out: &mut [f32; SCALES]) {
    let (eights, rest) = scales.as_chunks::<8>();
    for (scales, out) in eights.iter().zip(out.as_chunks_mut::<8>().0) {
        store_f32(out, load_f16(scales));
    }
    for (scale, out) in rest.iter().zip(&mut out[8 * eights.len()..]) {
        *out = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(scale.to_bits().into())));
    }
}

/// Some of the keys.
struct Chunk<'a> {
    /// Of all keys, `[n, dim]`.
    q: &'a [i8],
    /// Of these alone, `[rows, dim / 32]`.
    scales: &'a [f32],
    rows: Range<usize>,
}

impl Chunk<'_> {
    /// The rows `i` and `i + 1` (or twice the last one) and the queries `first …`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn tile<const Q: usize>(
        &self,
        i: usize,
        q: &[f32],
        first: usize,
        dim: usize,
        stream: &mut Stream,
        out: &mut [f32],
    ) {
        let (per_row, n) = (dim / Q8_BLOCK, out.len() / (q.len() / dim));
        let rows = [i, (i + 1).min(self.rows.end - 1)];
        // Indexed within one known length: no checks, and no calls, in the loop.
        let q8 = self.q.as_chunks::<Q8_BLOCK>().0;
        let [k0, k1] = [&q8[rows[0] * per_row..][..per_row], &q8[rows[1] * per_row..][..per_row]];
        let at = [rows[0] - self.rows.start, rows[1] - self.rows.start];
        let [s0, s1] = [&self.scales[at[0] * per_row..][..per_row], &self.scales[at[1] * per_row..][..per_row]];
        let mut queries: [&[[f32; Q8_BLOCK]]; Q] = [&[]; Q];
        for j in 0..Q {
            queries[j] = &q[(first + j) * dim..][..dim].as_chunks().0[..per_row];
        }
        let mut sums = [[_mm256_setzero_ps(); Q]; 2];
        for b in 0..per_row {
            stream.next(2 * Q8_BLOCK);
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
            let (scale0, scale1) = (_mm256_set1_ps(s0[b]), _mm256_set1_ps(s1[b]));
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
}

/// `out[j][c] += Σ (p[j][i] · scale) · v[i][c]`, fused, positions ascending: each element's chain of sums is the same in
/// every tile.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn weighted_rows_q8(v: Q8Rows<'_>, p: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
    let n = p.len() / (out.len() / dim);
    let per_row = dim / Q8_BLOCK;
    let mut scales = [0.0; SCALES];
    for rows in chunks(n, per_row) {
        widen(&v.scales[rows.start * per_row..rows.end * per_row], &mut scales);
        let q = &v.q.as_chunks::<Q8_BLOCK>().0[rows.start * per_row..rows.end * per_row];
        let (mut p, mut out) = (p, &mut *out);
        let mut stream = Stream(ahead).skip(rows.start * dim);
        while !out.is_empty() {
            let queries = match out.len() / dim {
                2.. => 2,
                _ => 1,
            };
            let (p_now, p_rest) = p.split_at(queries * n);
            let (out_now, out_rest) = out.split_at_mut(queries * dim);
            let first = &p_now[rows.clone()];
            for b in 0..per_row {
                match queries {
                    2 => columns(q, &scales, [first, &p_now[n..][rows.clone()]], b, per_row, out_now, &mut stream),
                    _ => columns(q, &scales, [first], b, per_row, out_now, &mut stream),
                }
            }
            stream = Stream(None);
            (p, out) = (p_rest, out_rest);
        }
    }
}

/// The columns of block `b` of rows of `per_row` blocks each for `Q` queries, which weigh the rows by `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn columns<const Q: usize>(
    q: &[[i8; Q8_BLOCK]],
    scales: &[f32; SCALES],
    p: [&[f32]; Q],
    b: usize,
    per_row: usize,
    out: &mut [f32],
    stream: &mut Stream,
) {
    let (n, dim) = (q.len() / per_row, per_row * Q8_BLOCK);
    // Apart, so that the sums below read them in one run.
    let mut weights = [[0.0; Q]; SCALES];
    for i in 0..n {
        for j in 0..Q {
            weights[i][j] = p[j][i] * scales[(i * per_row + b) % SCALES];
        }
    }
    let mut sums = [[_mm256_setzero_ps(); 4]; Q];
    for j in 0..Q {
        let out = out[j * dim + b * Q8_BLOCK..].as_chunks::<8>().0;
        for g in 0..4 {
            sums[j][g] = load_f32(&out[g]);
        }
    }
    let mut at = b;
    for weights in &weights[..n] {
        stream.next(Q8_BLOCK);
        let row = q[at].as_chunks::<8>().0;
        at += per_row;
        let mut values = [_mm256_setzero_ps(); 4];
        for g in 0..4 {
            values[g] = load_q8(&row[g]);
        }
        for j in 0..Q {
            let weight = _mm256_set1_ps(weights[j]);
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
