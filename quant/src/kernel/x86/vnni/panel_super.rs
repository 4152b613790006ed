//! Panels of blocks of 256: integer sums over a block, then one float operation a token.
use super::lanes::Lanes;
use super::panel::Panel;
use super::source::Source;
use crate::act::ActView;
use crate::block::{Block, SUPER};

/// Groups of four columns.
const GROUPS: usize = SUPER / 4;

/// 16 rows × 256 columns.
pub(in crate::kernel::x86) struct SuperPanel<V: Lanes> {
    /// `[column / 4]`: levels from 0 up.
    pub(super) q: [V; GROUPS],
    /// The scales of the sub-blocks. Where sums are int16, the upper halves of the lanes are 0.
    pub(super) scales: [V; 16],
    /// For each 32 columns the minimums of the two halves, as int16.
    pub(super) mins: [V; 8],
    pub(super) d: V::Floats,
    pub(super) dmin: V::Floats,
}

/// What distinguishes the formats.
pub(in crate::kernel::x86) trait SuperBlock: Block {
    /// Groups of four columns with one scale.
    const SUB: usize;
    /// Groups whose products add up before they meet the scale.
    const RUN: usize;
    /// Sums of `RUN` groups fit int16, so that one instruction scales and adds.
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
        acts: ActView<'_>,
        tokens: [usize; T],
        first: usize,
        sums: &mut [V::Floats; T],
    ) {
        const { assert!(B::ZERO == 0 || B::RUN == B::SUB, "the sums are those of a sub-block") };
        let mut a = [&[[0; 4]; GROUPS]; T];
        let mut act_sums = [&[[0; 2]; 8]; T];
        for i in 0..T {
            a[i] = &acts.quants(tokens[i]).as_chunks().0.as_chunks().0[first];
            act_sums[i] = &acts.sums(tokens[i]).as_chunks().0.as_chunks().0[first];
        }
        // Broadcast as they lie in memory.
        let mut starts = [[0; 16]; T];
        if B::ZERO != 0 {
            for i in 0..T {
                for j in 0..GROUPS / B::SUB {
                    let sums = act_sums[i].as_flattened();
                    let sum =
                        if B::SUB == 4 { sums[j].into() } else { i32::from(sums[2 * j]) + i32::from(sums[2 * j + 1]) };
                    starts[i][j] = -B::ZERO * sum;
                }
            }
        }
        let mut totals = [V::all(token, 0); T];
        for j in 0..GROUPS / B::SUB {
            let scale = self.scales[j];
            for r in 0..B::SUB / B::RUN {
                let mut dots = [V::all(token, 0); T];
                if B::ZERO != 0 {
                    for i in 0..T {
                        dots[i] = V::all(token, starts[i][j]);
                    }
                }
                for k in 0..B::RUN {
                    let g = j * B::SUB + r * B::RUN + k;
                    let w = self.q[g];
                    for i in 0..T {
                        dots[i] = dots[i].dot_bytes(w, V::quad(token, a[i][g]));
                    }
                }
                for i in 0..T {
                    totals[i] =
                        if B::WORDS { totals[i].dot_words(dots[i], scale) } else { totals[i] + dots[i] * scale };
                }
            }
        }
        let mut offsets = [V::all(token, 0); T];
        if B::MIN {
            for (p, mins) in self.mins.iter().enumerate() {
                for i in 0..T {
                    offsets[i] = offsets[i].dot_words(*mins, V::pair(token, act_sums[i][p]));
                }
            }
        }
        for i in 0..T {
            let da = V::all_floats(token, acts.scales(tokens[i])[first]);
            let mut value = self.d * totals[i].to_floats();
            if B::MIN {
                value = value - self.dmin * offsets[i].to_floats();
            }
            sums[i] = sums[i] + da * value;
        }
    }
}
