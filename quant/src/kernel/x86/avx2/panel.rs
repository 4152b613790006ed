//! The loop around a panel: sixteen rows × 256 columns, unpacked once and multiplied with a batch of tokens.
//!
//! In a panel a lane is a row: a vector holds four neighbouring columns of eight rows, and meets the same four columns
//! of a token in every lane. So no sum crosses lanes, and products of one scale add up in 16 bits before it is applied.
use std::arch::x86_64::*;
use std::iter::StepBy;
use std::ops::Range;

use super::lanes::store_f32;
use crate::act::ActView;

/// Rows of a panel: two vectors, so that a broadcast of a token's values serves twice.
pub(super) const ROWS: usize = 16;
/// Tokens multiplied together: with two vectors of rows, their 16-bit and 32-bit sums fill 12 of 16 registers.
pub(super) const TOKENS: usize = 3;
/// Tokens whose float sums are kept in the first-level cache (8 KiB) while the panels pass. Unpacking a panel again
/// for the next ones costs a few per cent.
pub(super) const BATCH: usize = 128;

/// Two vectors of eight rows each.
pub(super) type Pair<T> = [T; 2];

/// Columns in panel order: `[column / 4][rows / 8]`, each vector `[8 rows][4 columns]`.
pub(super) type Columns = [Pair<__m256i>; 64];

/// Zeros.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn empty_columns() -> Columns {
    [[_mm256_setzero_si256(); 2]; 64]
}

/// Calls `unpack(rows, first block, panel)` for each panel along the columns and then `tile(panel, first token, first
/// block, sums of TOKENS or fewer tokens)`. `firsts` are the first blocks of the panels along a row. `rows` gives sixteen rows from
/// a number on, as `unpack` wants them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply<R, P>(
    acts: ActView<'_>,
    out: &mut [f32],
    firsts: StepBy<Range<usize>>,
    panel: &mut P,
    rows: impl Fn(usize) -> R,
    unpack: impl Fn(&R, usize, &mut P),
    mut tile: impl FnMut(&P, usize, usize, &mut [Pair<__m256>]),
) {
    let n_rows = out.len() / acts.tokens();
    for t0 in (0..acts.tokens()).step_by(BATCH) {
        let tokens = BATCH.min(acts.tokens() - t0);
        for first in (0..n_rows).step_by(ROWS) {
            let w = rows(first);
            let mut sums = [[_mm256_setzero_ps(); 2]; BATCH];
            for b in firsts.clone() {
                unpack(&w, b, panel);
                for t in (0..tokens).step_by(TOKENS) {
                    tile(panel, t0 + t, b, &mut sums[t..tokens.min(t + TOKENS)]);
                }
            }
            put(&sums[..tokens], &mut out[t0 * n_rows..], n_rows, first);
        }
    }
}

/// Writes the sums of the rows from `first` on, as many as there are, to `out` `[tokens, n_rows]`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn put(sums: &[Pair<__m256>], out: &mut [f32], n_rows: usize, first: usize) {
    let n = ROWS.min(n_rows - first);
    for (t, sums) in sums.iter().enumerate() {
        let mut values = [[0.0; 8]; 2];
        store_f32(&mut values[0], sums[0]);
        store_f32(&mut values[1], sums[1]);
        out[t * n_rows + first..][..n].copy_from_slice(&values.as_flattened()[..n]);
    }
}
