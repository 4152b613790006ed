//! Interleaved rows, as kernels read them.
use std::marker::PhantomData;

use crate::block::Block;
use crate::kernel::interleaved::{GROUP, parts};

/// Where the words of a block begin.
pub(crate) const fn word_offset<B: Block>() -> usize {
    parts(B::LEN, size_of::<B>()).first
}

/// A group of rows in blocks of `W` words.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a, const W: usize> {
    /// `[block][word]`, each `[row]`.
    pub(crate) words: &'a [[[u8; 4 * GROUP]; W]],
    /// `[block]`, each `[row]`; empty for formats of whole words.
    pub(crate) halves: &'a [[u8; 2 * GROUP]],
}

/// The groups of rows of `per_row` blocks `B`, which have `W` words.
pub(crate) struct Groups<'a, B, const W: usize> {
    w: &'a [u8],
    per_row: usize,
    block: PhantomData<B>,
}

impl<'a, B: Block, const W: usize> Groups<'a, B, W> {
    /// # Panics
    /// When there is none.
    #[inline(always)]
    pub(crate) fn new(w: &'a [u8], per_row: usize) -> Groups<'a, B, W> {
        const { assert!(W == parts(B::LEN, size_of::<B>()).words, "the words of a block") };
        let groups = Groups { w, per_row, block: PhantomData };
        assert!(groups.count() > 0, "no rows");
        groups
    }

    #[inline(always)]
    fn bytes(&self) -> usize {
        GROUP * self.per_row * size_of::<B>()
    }

    /// Their number.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.w.len() / self.bytes()
    }

    /// Group `i`, or the last one beyond the end.
    #[inline(always)]
    pub(crate) fn get(&self, i: usize) -> Group<'a, W> {
        let group = &self.w[i.min(self.count() - 1) * self.bytes()..][..self.bytes()];
        let (words, halves) = group.split_at(self.per_row * W * 4 * GROUP);
        let (words, halves) = (words.as_chunks().0.as_chunks().0, halves.as_chunks().0);
        // Said once more for the loops over the blocks.
        Group {
            words: &words[..self.per_row],
            halves: if halves.is_empty() { halves } else { &halves[..self.per_row] },
        }
    }

    /// The two groups from row `first` on.
    #[inline(always)]
    pub(crate) fn pair(&self, first: usize) -> [Group<'a, W>; 2] {
        [self.get(first / GROUP), self.get(first / GROUP + 1)]
    }
}
