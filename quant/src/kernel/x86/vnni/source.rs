//! Where a panel's sixteen rows lie: one after the other, or in two interleaved groups of eight.
use super::lanes::{Lanes, ROWS};
use crate::block::Block;
use crate::kernel::x86::groups::{Group, word_offset};
use crate::kernel::x86::prefetch;

/// Sixteen rows of blocks.
pub(in crate::kernel::x86) trait Source<V: Lanes>: Copy {
    /// Blocks of a row.
    fn blocks(self) -> usize;

    /// Four words of block `b`, from word `at` on: those of 32 bits that a block is made of, its lone half aside.
    fn words(self, token: V::Token, b: usize, at: usize) -> [V; 4];

    /// The half-precision numbers that are no words.
    fn half(self, token: V::Token, b: usize) -> V::Floats;

    /// Asks for a part, number `part` of sixteen, of `n` blocks from `b` on, which may lie beyond the end.
    fn ask(self, part: usize, b: usize, n: usize);
}

/// One after the other.
#[derive(Clone, Copy)]
pub(super) struct Plain<'a, B>(pub(super) [&'a [B]; ROWS]);

impl<V: Lanes, B: Block + Copy> Source<V> for Plain<'_, B> {
    #[inline(always)]
    fn blocks(self) -> usize {
        self.0[0].len()
    }

    #[inline(always)]
    fn words(self, token: V::Token, b: usize, at: usize) -> [V; 4] {
        let first = const { word_offset::<B>() } + 4 * at;
        V::words(token, |r| self.0[r][b].as_bytes()[first..].first_chunk().expect("four words of a block"))
    }

    #[inline(always)]
    fn half(self, token: V::Token, b: usize) -> V::Floats {
        let at = if const { word_offset::<B>() } == 0 { size_of::<B>() - 2 } else { 0 };
        let mut bits = [0; ROWS];
        for (bits, row) in bits.iter_mut().zip(self.0) {
            let bytes = row[b].as_bytes();
            *bits = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        }
        V::widen(token, &bits)
    }

    #[inline(always)]
    fn ask(self, part: usize, b: usize, n: usize) {
        prefetch(self.0[part], b * size_of::<B>(), n * size_of::<B>());
    }
}

/// In two groups.
#[derive(Clone, Copy)]
pub(super) struct Interleaved<'a, const W: usize>(pub(super) [Group<'a, W>; 2]);

impl<V: Lanes, const W: usize> Source<V> for Interleaved<'_, W> {
    #[inline(always)]
    fn blocks(self) -> usize {
        self.0[0].words.len()
    }

    #[inline(always)]
    fn words(self, token: V::Token, b: usize, at: usize) -> [V; 4] {
        let [low, high] = self.0;
        let mut words = [V::all(token, 0); 4];
        for (k, word) in words.iter_mut().enumerate() {
            *word = V::eights(token, &low.words[b][at + k], &high.words[b][at + k]);
        }
        words
    }

    #[inline(always)]
    fn half(self, token: V::Token, b: usize) -> V::Floats {
        let mut bits = [0; ROWS];
        let halves = self.0.iter().flat_map(|group| group.halves[b].as_chunks::<2>().0);
        for (bits, half) in bits.iter_mut().zip(halves) {
            *bits = u16::from_le_bytes(*half);
        }
        V::widen(token, &bits)
    }

    #[inline(always)]
    fn ask(self, part: usize, b: usize, n: usize) {
        // An eighth of the words of one of the groups.
        let bytes = n * W * 4;
        prefetch(self.0[part % 2].words, b * W * 32 + part / 2 * bytes, bytes);
    }
}
