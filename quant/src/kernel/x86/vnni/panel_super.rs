//! Panels of blocks of 256: integer sums over a block, then one float operation a token.
use super::lanes::Lanes;
use super::panel::Panel;
use super::source::Source;
use crate::act::TokenRow;
use crate::block::{Block, SUPER};

/// Groups of four columns.
const GROUPS: usize = SUPER / 4;

/// 16 rows × 256 columns.
pub(in crate::kernel::x86) struct SuperPanel<V: Lanes> {
    /// `[column / 4]`: levels from 0 up.
    pub(super) q: [V; GROUPS],
    /// The scales of the sub-blocks. Where sums are int16, the upper halves of the lanes are 0.
    pub(super) scales: [V; 16],
    /// For each two sub-blocks their minimums, as int16.
    pub(super) mins: [V; 8],
    pub(super) d: V::Floats,
    pub(super) dmin: V::Floats,
}

/// What distinguishes the formats.
pub(in crate::kernel::x86) trait SuperBlock: Block {
    /// Groups of four columns with one scale.
    const SUB: usize;
    /// Their products add up to an int16, so that one instruction scales and adds.
    const WORDS: bool;
    /// What is added to levels where they are stored, to be subtracted again from their products.
    const ZERO: i32;
    /// The format has minimums.
    const MIN: bool;

    /// Fills the panel with block `b`.
    fn unpack<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize, panel: &mut SuperPanel<V>);
}

impl<V: Lanes, B: SuperBlock> Panel<V, B> for SuperPanel<V> {
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn empty(token: V::Token) -> Self {
        let (zero, none) = (V::all(token, 0), V::all_floats(token, 0.0));
        SuperPanel { q: [zero; GROUPS], scales: [zero; 16], mins: [zero; 8], d: none, dmin: none }
    }

    #[inline(always)]
    fn unpack(&mut self, token: V::Token, rows: impl Source<V>, first: usize) {
        B::unpack(token, rows, first, self);
    }

    /// `sum += da · (d · Σ scale·(q·a) − dmin · Σ min·(Σ a))`.
    #[inline(always)]
    fn multiply<const T: usize>(
        &self,
        token: V::Token,
        rows: &[TokenRow<'_>; T],
        first: usize,
        sums: &mut [V::Floats; T],
    ) {
        let mut a = [&[[0; 4]; GROUPS]; T];
        let (mut sums_16, mut sums_32) = ([&[0; 16]; T], [&[0; 8]; T]);
        // Broadcast as they lie in memory.
        let mut starts = [[0; 16]; T];
        for i in 0..T {
            a[i] = &rows[i].quants.as_chunks().0.as_chunks().0[first];
            if B::SUB == 8 {
                sums_32[i] = &rows[i].sums_32.as_chunks().0[first];
            } else {
                sums_16[i] = &rows[i].sums_16.as_chunks().0[first];
            }
            if B::ZERO != 0 {
                for j in 0..GROUPS / B::SUB {
                    starts[i][j] = -B::ZERO * i32::from(if B::SUB == 8 { sums_32[i][j] } else { sums_16[i][j] });
                }
            }
        }
        let mut totals = [V::all(token, 0); T];
        for j in 0..GROUPS / B::SUB {
            let scale = self.scales[j];
            let mut dots = [V::all(token, 0); T];
            if B::ZERO != 0 {
                for i in 0..T {
                    dots[i] = V::all(token, starts[i][j]);
                }
            }
            for k in 0..B::SUB {
                let g = j * B::SUB + k;
                let w = self.q[g];
                for i in 0..T {
                    dots[i] = dots[i].dot_bytes(w, V::quad(token, a[i][g]));
                }
            }
            for i in 0..T {
                totals[i] = if B::WORDS { totals[i].dot_words(dots[i], scale) } else { totals[i] + dots[i] * scale };
            }
        }
        for i in 0..T {
            let mut value = self.d * totals[i].to_floats();
            if B::MIN {
                let mut offset = V::all(token, 0);
                for p in 0..GROUPS / B::SUB / 2 {
                    let pair = if B::SUB == 8 { sums_32[i].as_chunks().0[p] } else { sums_16[i].as_chunks().0[p] };
                    offset = offset.dot_words(self.mins[p], V::pair(token, pair));
                }
                value = value - self.dmin * offset.to_floats();
            }
            sums[i] = sums[i] + V::all_floats(token, rows[i].scales[first]) * value;
        }
    }
}
