//! Panels of blocks of 32, each with a float scale.
use super::lanes::Lanes;
use super::panel::Panel;
use super::source::Source;
use crate::act::ActView;
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

    /// `sum += (d · da) · (q·a)`, then with a minimum `sum += (m · da) · (Σ a)`.
    #[inline(always)]
    fn multiply<const T: usize>(
        &self,
        token: V::Token,
        acts: ActView<'_>,
        tokens: [usize; T],
        first: usize,
        sums: &mut [V::Floats; T],
    ) {
        let n = self.blocks;
        let mut a: [&[[[i8; 4]; GROUPS]]; T] = [&[]; T];
        let mut scales: [&[f32]; T] = [&[]; T];
        // Broadcast as they lie in memory.
        let (mut starts, mut act_sums) = ([[0; BLOCKS]; T], [[0.0; BLOCKS]; T]);
        for i in 0..T {
            a[i] = &acts.quants(tokens[i]).as_chunks().0.as_chunks().0[first..][..n];
            scales[i] = &acts.scales(tokens[i])[first..][..n];
            for (b, sum) in acts.sums(tokens[i])[first..][..n].iter().enumerate() {
                starts[i][b] = -B::ZERO * i32::from(*sum);
                act_sums[i][b] = f32::from(*sum);
            }
        }
        let mut totals = *sums;
        for b in 0..n {
            let mut dots = [V::all(token, 0); T];
            if B::ZERO != 0 {
                for i in 0..T {
                    dots[i] = V::all(token, starts[i][b]);
                }
            }
            for (g, w) in self.q[b].iter().enumerate() {
                for i in 0..T {
                    dots[i] = dots[i].dot_bytes(*w, V::quad(token, a[i][b][g]));
                }
            }
            for i in 0..T {
                let da = V::all_floats(token, scales[i][b]);
                totals[i] = totals[i] + (self.d[b] * da) * dots[i].to_floats();
                if B::MIN {
                    totals[i] = totals[i] + (self.m[b] * da) * V::all_floats(token, act_sums[i][b]);
                }
            }
        }
        *sums = totals;
    }
}
