//! Panels of Q8_0: up to eight blocks of 32 columns, as int16.
//!
//! int8 times int8 has no instruction that neither saturates nor needs a sign moved over first; int16 pairs do, and
//! need fewer steps than that. Even and odd columns go to vectors of their own, which costs two shifts.
use std::arch::x86_64::*;

use super::lanes::*;
use super::panel::{Pair, ROWS, TOKENS, multiply};
use crate::act::ActView;
use crate::block::{BlockQ8_0, blocks};

/// Blocks along the columns.
const BLOCKS: usize = 8;

/// 16 rows × up to 256 columns.
struct Panel {
    /// `[block][column / 4][even, odd][rows / 8]`, each vector `[8 rows][2 columns]`.
    q: [[[Pair<__m256i>; 2]; 8]; BLOCKS],
    d: [Pair<__m256>; BLOCKS],
    blocks: usize,
}

/// A token's values beside a panel: `[block][even, odd][column / 4][2 columns]`.
type Tokens<const T: usize> = [[[[[i16; 2]; 8]; 2]; BLOCKS]; T];

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q8_0(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let mut panel =
        Panel { q: [[[[_mm256_setzero_si256(); 2]; 2]; 8]; BLOCKS], d: [[_mm256_setzero_ps(); 2]; BLOCKS], blocks: 0 };
    let tile = |panel: &Panel, t: usize, b: usize, sums: &mut [Pair<__m256>]| match sums {
        [s0, s1, s2] => tile::<3>(panel, acts, t, b, [s0, s1, s2]),
        [s0, s1] => tile::<2>(panel, acts, t, b, [s0, s1]),
        [s0] => tile::<1>(panel, acts, t, b, [s0]),
        _ => unreachable!("1 to {TOKENS} tokens"),
    };
    multiply(blocks::<BlockQ8_0>(w), acts, out, BLOCKS, &mut panel, |rows, b, panel| unpack(rows, b, panel), tile);
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unpack(rows: &[&[BlockQ8_0]; ROWS], first: usize, panel: &mut Panel) {
    panel.blocks = BLOCKS.min(rows[0].len() - first);
    for b in 0..panel.blocks {
        for h in 0..2 {
            let row = |r: usize| &rows[8 * h + r][first + b];
            let qs = |r: usize| load_i8(&row(r).qs);
            let words = transpose([qs(0), qs(1), qs(2), qs(3), qs(4), qs(5), qs(6), qs(7)]);
            let mut bits = [0; 8];
            for r in 0..8 {
                bits[r] = row(r).d.bits();
            }
            panel.d[b][h] = halves8(bits);
            for k in 0..8 {
                let [even, odd] = even_odd(words[k]);
                panel.q[b][k][0][h] = even;
                panel.q[b][k][1][h] = odd;
            }
        }
    }
}

/// int8 at even and at odd places as int16.
#[inline]
#[target_feature(enable = "avx2")]
fn even_odd(v: __m256i) -> [__m256i; 2] {
    [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(v)), _mm256_srai_epi16::<8>(v)]
}

/// Adds the panel's blocks, of which `first` is the first one: `sum += (d · da) · (q·a)`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const T: usize>(panel: &Panel, acts: ActView<'_>, t: usize, first: usize, sums: [&mut Pair<__m256>; T]) {
    let mut a: Tokens<T> = [[[[[0; 2]; 8]; 2]; BLOCKS]; T];
    for i in 0..T {
        let q = &acts.quants(t + i).as_chunks::<32>().0[first..][..panel.blocks];
        for (a, q) in a[i].iter_mut().zip(q) {
            for (a, v) in a.iter_mut().zip(even_odd(load_i8(q))) {
                store_i16(a, v);
            }
        }
    }
    let scales: [&[f32]; T] = acts.scale_rows(t);
    let mut totals = [[_mm256_setzero_ps(); 2]; T];
    for i in 0..T {
        totals[i] = *sums[i];
    }
    for b in 0..panel.blocks {
        let mut dots = [[_mm256_setzero_si256(); 2]; T];
        for (k, w) in panel.q[b].iter().enumerate() {
            for parity in 0..2 {
                for i in 0..T {
                    let a = broadcast_pair(a[i][b][parity][k]);
                    for h in 0..2 {
                        dots[i][h] = pin(_mm256_add_epi32(dots[i][h], _mm256_madd_epi16(w[parity][h], a)));
                    }
                }
            }
        }
        for i in 0..T {
            let da = _mm256_set1_ps(scales[i][first + b]);
            for h in 0..2 {
                let d = _mm256_mul_ps(panel.d[b][h], da);
                totals[i][h] = _mm256_add_ps(totals[i][h], _mm256_mul_ps(d, _mm256_cvtepi32_ps(dots[i][h])));
            }
        }
    }
    for (sums, totals) in sums.into_iter().zip(totals) {
        *sums = totals;
    }
}
