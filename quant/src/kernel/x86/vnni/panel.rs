//! The loop around a panel: sixteen rows × up to 256 columns, unpacked once and multiplied with a batch of tokens.
//!
//! Everything that is called with vectors is marked `#[inline(always)]`: a function of its own would be compiled without
//! their instructions.
use super::lanes::{Lanes, ROWS};
use super::source::{Interleaved, Plain, Source};
use crate::act::{ActView, TokenRow};
use crate::block::{Block, blocks};
use crate::kernel::x86::groups::Groups;

/// Tokens whose float sums (16 KiB) are kept while the panels pass. Unpacking a panel again for the next ones costs 2 %.
const BATCH: usize = 256;

/// The largest tile.
const MOST: usize = 12;

/// Blocks of sixteen rows as vectors.
pub(in crate::kernel::x86) trait Panel<V: Lanes, B: Block> {
    /// Blocks along the columns.
    const BLOCKS: usize;

    /// Zeros.
    fn empty(token: V::Token) -> Self;

    /// Fills it with the blocks `first …` of each row, as many as there are.
    fn unpack(&mut self, token: V::Token, rows: impl Source<V>, first: usize);

    /// Adds the products with some tokens to their sums.
    fn multiply<const T: usize>(
        &self,
        token: V::Token,
        rows: &[TokenRow<'_>; T],
        first: usize,
        sums: &mut [V::Floats; T],
    );
}

/// `out[t * rows + r]` for blocks `B` in panels `P`.
#[inline(always)]
pub(in crate::kernel::x86) fn multiply<V: Lanes, B: Block + Copy, P: Panel<V, B>>(
    token: V::Token,
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
) {
    let w = blocks::<B>(w);
    let per_row = acts.cols() / B::LEN;
    let rows = w.len() / per_row;
    for_rows::<V, B, P, _>(token, acts, out, |first| {
        // Beyond the end the last row again.
        let mut lanes: [&[B]; ROWS] = [&[]; ROWS];
        for (r, lane) in lanes.iter_mut().enumerate() {
            *lane = &w[(first + r).min(rows - 1) * per_row..][..per_row];
        }
        Plain(lanes)
    });
}

/// As [`multiply`], of interleaved rows; `W` words a block.
#[inline(always)]
pub(in crate::kernel::x86) fn multiply_interleaved<V: Lanes, B: Block, P: Panel<V, B>, const W: usize>(
    token: V::Token,
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
) {
    let groups = Groups::<B, W>::new(w, acts.cols() / B::LEN);
    for_rows::<V, B, P, _>(token, acts, out, |first| Interleaved(groups.pair(first)));
}

/// Panels of the rows that `source` gives from a number on.
#[inline(always)]
fn for_rows<V: Lanes, B: Block, P: Panel<V, B>, S: Source<V>>(
    token: V::Token,
    acts: ActView<'_>,
    out: &mut [f32],
    source: impl Fn(usize) -> S,
) {
    let rows = out.len() / acts.tokens();
    let mut panel = P::empty(token);
    for t0 in (0..acts.tokens()).step_by(BATCH) {
        let n = BATCH.min(acts.tokens() - t0);
        // The last tile may be larger than what is left of the tokens: beyond the end the last token again.
        let mut tokens = [acts.token(t0); BATCH + MOST];
        for (i, row) in tokens[..n + MOST].iter_mut().enumerate() {
            *row = acts.token(t0 + i.min(n - 1));
        }
        for first in (0..rows).step_by(ROWS) {
            let source = source(first);
            let mut sums = [V::all_floats(token, 0.0); BATCH + MOST];
            for b in (0..source.blocks()).step_by(P::BLOCKS) {
                panel.unpack(token, source, b);
                for_tiles::<V, B, P>(token, &panel, &tokens[..n + MOST], b, source, &mut sums);
            }
            let width = ROWS.min(rows - first);
            for (t, sums) in sums[..n].iter().enumerate() {
                let (sums, out) = (V::get(*sums), &mut out[(t0 + t) * rows + first..]);
                // Of a length known here: a call for each would take as long as a part of the panel.
                match out.first_chunk_mut() {
                    Some(out) if width == ROWS => *out = sums,
                    _ => out[..width].copy_from_slice(&sums[..width]),
                }
            }
        }
    }
}

/// All tokens but the last `MOST` in tiles; meanwhile asks for the next panel's blocks, a part with each tile.
#[inline(always)]
fn for_tiles<V: Lanes, B: Block, P: Panel<V, B>>(
    token: V::Token,
    panel: &P,
    tokens: &[TokenRow<'_>],
    b: usize,
    source: impl Source<V>,
    sums: &mut [V::Floats],
) {
    let n = tokens.len() - MOST;
    let mut ahead = 0..ROWS;
    let (mut t, mut left) = (0, n.div_ceil(if V::WIDE { MOST } else { MOST / 2 }));
    while t < n {
        for part in ahead.by_ref().take(ROWS.div_ceil(left)) {
            source.ask(part, b + P::BLOCKS, P::BLOCKS);
        }
        left -= 1;
        let (rows, sums) = (&tokens[t..], &mut sums[t..]);
        t += if V::WIDE {
            match n - t {
                9.. => tile::<V, B, P, MOST>(token, panel, rows, b, sums),
                5..=8 => tile::<V, B, P, 8>(token, panel, rows, b, sums),
                _ => tile::<V, B, P, 4>(token, panel, rows, b, sums),
            }
        } else {
            match n - t {
                5.. => tile::<V, B, P, { MOST / 2 }>(token, panel, rows, b, sums),
                3..=4 => tile::<V, B, P, 4>(token, panel, rows, b, sums),
                _ => tile::<V, B, P, 2>(token, panel, rows, b, sums),
            }
        };
    }
}

/// The first `T` tokens. Returns `T`.
#[inline(always)]
fn tile<V: Lanes, B: Block, P: Panel<V, B>, const T: usize>(
    token: V::Token,
    panel: &P,
    rows: &[TokenRow<'_>],
    b: usize,
    sums: &mut [V::Floats],
) -> usize {
    let rows = rows.first_chunk::<T>().expect("rows for a whole tile");
    panel.multiply(token, rows, b, sums.first_chunk_mut().expect("sums for a whole tile"));
    T
}
