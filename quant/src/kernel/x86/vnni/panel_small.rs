//! Panels of blocks of 32, each with a float scale.
use super::lanes::Lanes;
use super::panel::Panel;
use super::source::Source;
use crate::act::TokenRow;
use crate::block::Block;

/// Blocks along the columns.
const BLOCKS: usize = 8;

/// Groups of four columns in a block.
const GROUPS: usize = 8;

/// 16 rows × up to 256 columns.
pub(in crate::kernel::x86) struct SmallPanel<V: Lanes> {
    /// `[block][column / 4]`: levels from 0 up.
    q: [[V; GROUPS]; BLOCKS],
    d: [V::Floats; BLOCKS],
    m: [V::Floats; BLOCKS],
    /// Blocks that are filled.
    blocks: usize,
}

/// What distinguishes the formats.
pub(in crate::kernel::x86) trait SmallBlock: Block {
    /// What is added to levels where they are stored, to be subtracted again from their products.
    const ZERO: i32;
    /// The format has a minimum.
    const MIN: bool;

    /// The levels of block `b` of each row, `[column / 4]`.
    fn levels<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize) -> [V; GROUPS];

    /// The scales and, if the format has them, the minimums.
    #[inline(always)]
    fn units<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize) -> (V::Floats, V::Floats) {
        if Self::MIN {
            // Both in one word.
            return rows.words(token, b, 0)[0].halves();
        }
        (rows.half(token, b), V::all_floats(token, 0.0))
    }
}

impl<V: Lanes, B: SmallBlock> Panel<V, B> for SmallPanel<V> {
    const BLOCKS: usize = BLOCKS;

    #[inline(always)]
    fn empty(token: V::Token) -> Self {
        let (zero, none) = (V::all(token, 0), V::all_floats(token, 0.0));
        SmallPanel { q: [[zero; GROUPS]; BLOCKS], d: [none; BLOCKS], m: [none; BLOCKS], blocks: 0 }
    }

    #[inline(always)]
    fn unpack(&mut self, token: V::Token, rows: impl Source<V>, first: usize) {
        self.blocks = BLOCKS.min(rows.blocks() - first);
        for b in 0..self.blocks {
            self.q[b] = B::levels(token, rows, first + b);
            (self.d[b], self.m[b]) = B::units(token, rows, first + b);
        }
    }

    #[inline(always)]
    fn multiply<const T: usize>(
        &self,
        token: V::Token,
        rows: &[TokenRow<'_>; T],
        first: usize,
        sums: &mut [V::Floats; T],
    ) {
        if self.blocks == BLOCKS {
            return self.blocks::<B, T, BLOCKS>(token, rows, first, 0, sums);
        }
        for b in 0..self.blocks {
            self.blocks::<B, T, 1>(token, rows, first, b, sums);
        }
    }
}

impl<V: Lanes> SmallPanel<V> {
    /// `sum += (d · da) · (q·a)`, then with a minimum `sum += (m · da) · (Σ a)`, for `N` blocks from `at` on; `first` is the panel's
    /// first block.
    #[inline(always)]
    fn blocks<B: SmallBlock, const T: usize, const N: usize>(
        &self,
        token: V::Token,
        rows: &[TokenRow<'_>; T],
        first: usize,
        at: usize,
        sums: &mut [V::Floats; T],
    ) {
        let mut a = [&[[[0; 4]; GROUPS]; N]; T];
        let mut scales = [&[0.0; N]; T];
        // Broadcast as they lie in memory.
        let (mut starts, mut act_sums) = ([[0; N]; T], [[0.0; N]; T]);
        for i in 0..T {
            let row = &rows[i];
            a[i] = row.quants.as_chunks().0.as_chunks().0[first + at..].first_chunk().expect("blocks of a row");
            scales[i] = row.scales[first + at..].first_chunk().expect("blocks of a row");
            let all: &[i16; N] = row.sums_32[first + at..].first_chunk().expect("blocks of a row");
            for b in 0..N {
                starts[i][b] = -B::ZERO * i32::from(all[b]);
                act_sums[i][b] = f32::from(all[b]);
            }
        }
        let mut totals = *sums;
        for b in 0..N {
            let mut dots = [V::all(token, 0); T];
            if B::ZERO != 0 {
                for i in 0..T {
                    dots[i] = V::all(token, starts[i][b]);
                }
            }
            for (g, w) in self.q[at + b].iter().enumerate() {
                for i in 0..T {
                    dots[i] = dots[i].dot_bytes(*w, V::quad(token, a[i][b][g]));
                }
            }
            for i in 0..T {
                let da = V::all_floats(token, scales[i][b]);
                totals[i] = totals[i] + (self.d[at + b] * da) * dots[i].to_floats();
                if B::MIN {
                    totals[i] = totals[i] + (self.m[at + b] * da) * V::all_floats(token, act_sums[i][b]);
                }
            }
        }
        *sums = totals;
    }
}
