//! Panels of Q8_0, IQ4_NL, IQ4_XS: 256 columns of signed levels, as int16.
//!
//! int8 times int8 has no instruction that neither saturates nor needs a sign moved over first; int16 pairs do, and
//! need fewer steps than that. Even and odd columns go to vectors of their own, which costs two shifts.
use std::arch::x86_64::*;

use super::gemv_small::levels_4_bits;
use super::lanes::*;
use super::panel::{BATCH, Pair, ROWS, TOKENS, put};
use crate::act::ActView;
use crate::block::{Block, BlockIq4Nl, BlockIq4Xs, BlockQ8_0, blocks};
use crate::kernel::x86::groups::Groups;

/// Runs of 32 columns in a panel.
const RUNS: usize = 8;

/// Panels for which a token's values are widened together: as many as a worker's rows make.
const PANELS: usize = 2;

/// 16 rows × up to 256 columns.
struct Panel {
    /// `[run][column / 4][even, odd][rows / 8]`, each vector `[8 rows][2 columns]`.
    q: [[[Pair<__m256i>; 2]; 8]; RUNS],
    d: [Pair<__m256>; RUNS],
    /// Runs that are filled.
    runs: usize,
}

/// A token's values beside a panel: `[run][even, odd][column / 4][2 columns]`.
type Token = [[[[i16; 2]; 8]; 2]; RUNS];

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q8_0(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    of_rows::<BlockQ8_0, 1>(w, acts, out, |rows, first, panel| {
        panel.unpack_rows(rows, first, |w| load_i8(&w.qs), |w| w.d.bits());
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q8_0_interleaved(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let groups = Groups::<BlockQ8_0, 8>::new(w, acts.cols() / BlockQ8_0::LEN);
    gemm::<_, 1>(
        acts,
        out,
        |first| groups.pair(first),
        |groups, first, panel| {
            panel.unpack_small(groups[0].words.len() - first, |h, b| {
                let mut words = [_mm256_setzero_si256(); 8];
                for k in 0..8 {
                    words[k] = load_u8(&groups[h].words[first + b][k]);
                }
                (words, halves(&groups[h].halves[first + b]))
            });
        },
    );
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq4_nl(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    of_rows::<BlockIq4Nl, 1>(w, acts, out, |rows, first, panel| {
        panel.unpack_rows(rows, first, |w| non_linear(levels_4_bits(&w.qs)), |w| w.d.bits());
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq4_xs(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    of_rows::<BlockIq4Xs, RUNS>(w, acts, out, |rows, b, panel| panel.unpack_iq4_xs(rows, b));
}

/// Rows one after the other.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn of_rows<B: Block, const SHARE: usize>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    unpack: impl Fn(&[&[B]; ROWS], usize, &mut Panel),
) {
    let (w, per_row) = (blocks::<B>(w), acts.cols() / B::LEN);
    gemm::<_, SHARE>(acts, out, |first| rows(w, per_row, first), unpack);
}

/// `SHARE`: runs that share a scale of the weights and one of the activations. `rows` gives sixteen rows from a number on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn gemm<R, const SHARE: usize>(
    acts: ActView<'_>,
    out: &mut [f32],
    rows: impl Fn(usize) -> R,
    unpack: impl Fn(&R, usize, &mut Panel),
) {
    let mut panel =
        Panel { q: [[[[_mm256_setzero_si256(); 2]; 2]; 8]; RUNS], d: [[_mm256_setzero_ps(); 2]; RUNS], runs: 0 };
    let n_rows = out.len() / acts.tokens();
    let blocks = acts.cols() / (32 * SHARE);
    let mut a: Vec<Token> = vec![[[[[0; 2]; 8]; 2]; RUNS]; BATCH.min(acts.tokens())];
    for t0 in (0..acts.tokens()).step_by(BATCH) {
        let tokens = BATCH.min(acts.tokens() - t0);
        for first in (0..n_rows).step_by(PANELS * ROWS) {
            let mut sums = [[[_mm256_setzero_ps(); 2]; BATCH]; PANELS];
            for b in (0..blocks).step_by(RUNS / SHARE) {
                widen(acts, t0, b * SHARE, &mut a[..tokens]);
                for (first, sums) in (first..n_rows).step_by(ROWS).zip(&mut sums) {
                    unpack(&rows(first), b, &mut panel);
                    for t in (0..tokens).step_by(TOKENS) {
                        let a = &a[t..];
                        match &mut sums[t..tokens.min(t + TOKENS)] {
                            [s0, s1, s2] => tile::<3, SHARE>(&panel, acts, t0 + t, b, a, [s0, s1, s2]),
                            [s0, s1] => tile::<2, SHARE>(&panel, acts, t0 + t, b, a, [s0, s1]),
                            [s0] => tile::<1, SHARE>(&panel, acts, t0 + t, b, a, [s0]),
                            _ => unreachable!("1 to {TOKENS} tokens"),
                        }
                    }
                }
            }
            for (first, sums) in (first..n_rows).step_by(ROWS).zip(&sums) {
                put(&sums[..tokens], &mut out[t0 * n_rows..], n_rows, first);
            }
        }
    }
}

/// The tokens from `t0` on beside up to [`RUNS`] runs, of which `first` is the first one. Done for two panels at a time, and for
/// all tokens before the first tile: read right after it, what was just written would be waited for.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(acts: ActView<'_>, t0: usize, first: usize, a: &mut [Token]) {
    for (i, token) in a.iter_mut().enumerate() {
        let runs = &acts.quants(t0 + i).as_chunks::<32>().0[first..];
        for (a, q) in token.iter_mut().zip(runs) {
            for (a, v) in a.iter_mut().zip(even_odd(load_i8(q))) {
                store_i16(a, v);
            }
        }
    }
}

impl Panel {
    /// Up to eight blocks of 32, from `first` on.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn unpack_rows<B>(
        &mut self,
        rows: &[&[B]; ROWS],
        first: usize,
        levels: impl Fn(&B) -> __m256i,
        d: impl Fn(&B) -> u16,
    ) {
        self.unpack_small(rows[0].len() - first, |h, b| {
            let row = |r: usize| &rows[8 * h + r][first + b];
            let qs = |r: usize| levels(row(r));
            let words = transpose([qs(0), qs(1), qs(2), qs(3), qs(4), qs(5), qs(6), qs(7)]);
            let mut bits = [0; 8];
            for r in 0..8 {
                bits[r] = d(row(r));
            }
            (words, halves8(bits))
        });
    }

    /// Up to eight of the `left` blocks of 32; `block(h, b)` gives the levels and the scales of the rows 8·h ….
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn unpack_small(&mut self, left: usize, block: impl Fn(usize, usize) -> ([__m256i; 8], __m256)) {
        self.runs = RUNS.min(left);
        for b in 0..self.runs {
            for h in 0..2 {
                let (words, d) = block(h, b);
                self.d[b][h] = d;
                for k in 0..8 {
                    let [even, odd] = even_odd(words[k]);
                    self.q[b][k][0][h] = even;
                    self.q[b][k][1][h] = odd;
                }
            }
        }
    }

    /// Block `b`, with the scales of the sub-blocks multiplied in: 32 · 127 fits 16 bits, and 256 products 32.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn unpack_iq4_xs(&mut self, rows: &[&[BlockIq4Xs]; ROWS], b: usize) {
        self.runs = RUNS;
        for h in 0..2 {
            let row = |r: usize| &rows[8 * h + r][b];
            let mut bits = [0; 8];
            let mut scales = [[0; 8]; 8];
            for r in 0..8 {
                bits[r] = row(r).d.bits();
                for (j, scale) in row(r).unpack_scales().into_iter().enumerate() {
                    scales[j][r] = i16::from(scale);
                }
            }
            self.d[0][h] = halves8(bits);
            for (j, scales) in scales.into_iter().enumerate() {
                let qs = |r: usize| non_linear(levels_4_bits(&row(r).qs[j]));
                let words = transpose([qs(0), qs(1), qs(2), qs(3), qs(4), qs(5), qs(6), qs(7)]);
                // A row's scale twice in its lane.
                let mut twice = [[0; 2]; 8];
                for r in 0..8 {
                    twice[r] = [scales[r]; 2];
                }
                let scales = load_i16(zerocopy::transmute_ref!(&twice));
                for k in 0..8 {
                    let [even, odd] = even_odd(words[k]);
                    self.q[j][k][0][h] = _mm256_mullo_epi16(even, scales);
                    self.q[j][k][1][h] = _mm256_mullo_epi16(odd, scales);
                }
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

/// Adds the panel's blocks, of which `first` is the first one: `sum += (d · da) · (q·a)` where each run has a scale, and
/// `sum += da · (d · (q·a))` where all share one. `a` are the tokens' values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const T: usize, const SHARE: usize>(
    panel: &Panel,
    acts: ActView<'_>,
    t: usize,
    first: usize,
    a: &[Token],
    sums: [&mut Pair<__m256>; T],
) {
    let a: &[Token; T] = a.first_chunk().expect("a tile's tokens");
    let scales: [&[f32]; T] = acts.scale_rows(t);
    let mut totals = [[_mm256_setzero_ps(); 2]; T];
    for i in 0..T {
        totals[i] = *sums[i];
    }
    for b in 0..panel.runs / SHARE {
        let mut dots = [[_mm256_setzero_si256(); 2]; T];
        for run in b * SHARE..(b + 1) * SHARE {
            for (k, w) in panel.q[run].iter().enumerate() {
                for parity in 0..2 {
                    for i in 0..T {
                        let a = broadcast_pair(a[i][run][parity][k]);
                        for h in 0..2 {
                            dots[i][h] = pin(_mm256_add_epi32(dots[i][h], _mm256_madd_epi16(w[parity][h], a)));
                        }
                    }
                }
            }
        }
        for i in 0..T {
            let da = _mm256_set1_ps(scales[i][first + b]);
            for h in 0..2 {
                let (d, dot) = (panel.d[b][h], _mm256_cvtepi32_ps(dots[i][h]));
                let product = if SHARE > 1 {
                    _mm256_mul_ps(da, _mm256_mul_ps(d, dot))
                } else {
                    _mm256_mul_ps(_mm256_mul_ps(d, da), dot)
                };
                totals[i][h] = _mm256_add_ps(totals[i][h], product);
            }
        }
    }
    for (sums, totals) in sums.into_iter().zip(totals) {
        *sums = totals;
    }
}
