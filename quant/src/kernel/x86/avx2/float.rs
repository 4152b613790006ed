//! Dot products of float32, float16 and bfloat16 rows with float32 vectors: matrix products and attention scores.
//!
//! Every result is eight fused sums, lane i over the elements i, i + 8, …, added up at the end as `scalar::add_lanes`
//! does, whatever tile it is computed in.
use std::arch::x86_64::*;

use half::f16;

use super::lanes::*;
use crate::act::ActView;
use crate::kernel::Ahead;
use crate::kernel::x86::Stream;

/// Rows taken through all vectors before the next ones: at most 128 KiB of 4,096 columns in F16, so that they stay in
/// the second-level cache.
const ROWS: usize = 16;

/// Rows that few vectors meet are asked for at least so many bytes before they are read: what arrives in the time that
/// memory takes to answer.
const AHEAD: usize = 8192;

/// Vectors up to which reading the rows takes longer than the arithmetic.
const FEW: usize = 4;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn mul_f32(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    multiply(w.as_chunks::<4>().0, acts, out, |x| load_f32(&x.map(f32::from_le_bytes)));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn mul_f16(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    multiply(w.as_chunks::<2>().0, acts, out, |x: &[[u8; 2]; 8]| _mm256_cvtph_ps(load_16_bytes(x)));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn mul_bf16(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    // A bfloat16 is the upper half of a float32.
    let widen =
        |x: &[[u8; 2]; 8]| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_16_bytes(x))));
    multiply(w.as_chunks::<2>().0, acts, out, widen);
}

/// Eight halves.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn load_f16(x: &[f16; 8]) -> __m256 {
    // SAFETY: 16 readable bytes; the load takes any alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(x.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_16_bytes(x: &[[u8; 2]; 8]) -> __m128i {
    // SAFETY: 16 readable bytes; the load takes any alignment.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

/// `out[t * rows + r]` for elements `E` that `load` widens eight at a time.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply<E: Copy + Default>(w: &[E], acts: ActView<'_>, out: &mut [f32], load: impl Fn(&[E; 8]) -> __m256) {
    let cols = acts.cols();
    let rows = w.len() / cols;
    for first in (0..rows).step_by(ROWS) {
        let n = ROWS.min(rows - first);
        let row = |r: usize| &w[(first + r) * cols..][..cols];
        // Whole tiles further: their rows are being read already.
        let distance = AHEAD.next_multiple_of(4 * size_of_val(row(0)));
        let stream = Stream((acts.tokens() <= FEW).then(|| Ahead::of(row(0)).skip(distance)));
        tiles(n, row, acts.tokens(), |t| acts.floats(t), &load, stream, |r, t, dot| out[t * rows + first + r] = dot);
    }
}

/// Calls `put(row, vector, dot product)` for every pair; meanwhile asks for as many bytes of `stream` as the rows have.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn tiles<'a, E: Copy + Default + 'a>(
    rows: usize,
    row: impl Fn(usize) -> &'a [E],
    vectors: usize,
    vector: impl Fn(usize) -> &'a [f32],
    load: &impl Fn(&[E; 8]) -> __m256,
    mut stream: Stream,
    mut put: impl FnMut(usize, usize, f32),
) {
    // Tiles of 2 × 6, then 4 × 2, then 4 × 1: the sums and operands of each fit the 16 registers, and a row's
    // conversion serves six vectors.
    let mut t = 0;
    while t + 6 <= vectors {
        let six = [vector(t), vector(t + 1), vector(t + 2), vector(t + 3), vector(t + 4), vector(t + 5)];
        let mut r = 0;
        while r + 2 <= rows {
            tile::<E, 2, 6>([row(r), row(r + 1)], six, load, &mut stream, |i, j, dot| {
                put(r + i, t + j, dot);
            });
            r += 2;
        }
        if r < rows {
            tile::<E, 1, 6>([row(r)], six, load, &mut stream, |_, j, dot| put(r, t + j, dot));
        }
        t += 6;
        stream = Stream(None);
    }
    while t < vectors {
        let pair = t + 2 <= vectors;
        let mut r = 0;
        while r + 4 <= rows {
            let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
            if pair {
                tile::<E, 4, 2>(four, [vector(t), vector(t + 1)], load, &mut stream, |i, j, dot| {
                    put(r + i, t + j, dot)
                });
            } else {
                tile::<E, 4, 1>(four, [vector(t)], load, &mut stream, |i, _, dot| put(r + i, t, dot));
            }
            r += 4;
        }
        for r in r..rows {
            if pair {
                tile::<E, 1, 2>([row(r)], [vector(t), vector(t + 1)], load, &mut stream, |_, j, dot| {
                    put(r, t + j, dot)
                });
            } else {
                tile::<E, 1, 1>([row(r)], [vector(t)], load, &mut stream, |_, _, dot| put(r, t, dot));
            }
        }
        t += if pair { 2 } else { 1 };
        stream = Stream(None);
    }
}

/// The dot products of `R` rows with `T` vectors of the same length.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn tile<E: Copy + Default, const R: usize, const T: usize>(
    rows: [&[E]; R],
    vectors: [&[f32]; T],
    load: &impl Fn(&[E; 8]) -> __m256,
    stream: &mut Stream,
    mut put: impl FnMut(usize, usize, f32),
) {
    let len = rows[0].len();
    let (rows_8, vectors_8) = (eights(rows, len / 8), eights(vectors, len / 8));
    let mut sums = [[_mm256_setzero_ps(); T]; R];
    for c in 0..len / 8 {
        stream.next(R * size_of::<[E; 8]>());
        let mut w = [_mm256_setzero_ps(); R];
        for r in 0..R {
            w[r] = load(&rows_8[r][c]);
        }
        for t in 0..T {
            let x = load_f32(&vectors_8[t][c]);
            for r in 0..R {
                sums[r][t] = _mm256_fmadd_ps(w[r], x, sums[r][t]);
            }
        }
    }
    if !len.is_multiple_of(8) {
        for r in 0..R {
            let w = load(&padded(rows[r]));
            for t in 0..T {
                sums[r][t] = _mm256_fmadd_ps(w, load_f32(&padded(vectors[t])), sums[r][t]);
            }
        }
    }
    let sums = sums.as_flattened();
    let (fours, rest) = sums.as_chunks::<4>();
    for (i, four) in fours.iter().enumerate() {
        for (j, sum) in sum4_f32(*four).into_iter().enumerate() {
            put((4 * i + j) / T, (4 * i + j) % T, sum);
        }
    }
    for (i, sum) in rest.iter().enumerate() {
        let i = 4 * fours.len() + i;
        put(i / T, i % T, sum_f32(*sum));
    }
}

/// The first `8 * n` elements of each.
#[inline]
fn eights<E, const N: usize>(slices: [&[E]; N], n: usize) -> [&[[E; 8]]; N] {
    slices.map(|slice| &slice.as_chunks().0[..n])
}

/// The last `len % 8` elements, then zeros.
#[inline]
fn padded<E: Copy + Default>(x: &[E]) -> [E; 8] {
    let rest = x.as_chunks::<8>().1;
    std::array::from_fn(|i| rest.get(i).copied().unwrap_or_default())
}
