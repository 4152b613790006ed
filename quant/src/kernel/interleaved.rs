//! The layout that weights are copied to when they are moved in memory: eight rows side by side, in as many bytes.
//!
//! A vector of 32 bytes then holds the same four bytes of eight rows, a lane is a row, and nothing has to be transposed, nor
//! summed across lanes. The bytes of a group of eight rows are, of each block, `[word][row]` in words of 32 bits, and after the
//! words of all blocks the half-precision numbers of formats whose blocks are no whole words, `[block][row]`.
use crate::dtype::DType;

/// Rows side by side.
pub const GROUP: usize = 8;

/// How the rows of a matrix lie in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RowLayout {
    /// One after the other, as in a file.
    Plain,
    /// Groups of [`GROUP`] rows, interleaved as [`interleave`] does. Their number is a multiple of it.
    Interleaved,
}

/// The parts of a block, as they lie in a group.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    /// Bytes of a block.
    bytes: usize,
    /// Whole words.
    pub(super) words: usize,
    /// Where they start: the number that is no word stands before them in blocks of 32 values, else behind them.
    pub(super) first: usize,
}

pub(super) const fn parts(block_len: usize, bytes: usize) -> Parts {
    let half = bytes % 4;
    assert!(half == 0 || half == 2, "words and at most one half-precision number");
    Parts { bytes, words: bytes / 4, first: if block_len == 32 { half } else { 0 } }
}

/// Copies whole groups of rows into the interleaved layout.
///
/// # Panics
/// When `rows` are not whole groups of rows of `cols` columns of a block format, or `out` has another length.
pub fn interleave(weight: DType, cols: usize, rows: &[u8], out: &mut [u8]) {
    let parts = parts(weight.block_len(), weight.block_bytes());
    let per_row = cols / weight.block_len();
    let group_bytes = GROUP * per_row * parts.bytes;
    assert!(group_bytes > 0 && rows.len().is_multiple_of(group_bytes), "no whole groups of rows");
    assert_eq!(rows.len(), out.len(), "room for another number of rows");
    for (rows, out) in rows.chunks_exact(group_bytes).zip(out.chunks_exact_mut(group_bytes)) {
        let (words, halves) = out.split_at_mut(per_row * parts.words * 4 * GROUP);
        for (r, row) in rows.chunks_exact(per_row * parts.bytes).enumerate() {
            for (b, block) in row.chunks_exact(parts.bytes).enumerate() {
                let from = block[parts.first..].as_chunks::<4>().0;
                let to = words.as_chunks_mut::<4>().0[b * parts.words * GROUP..].chunks_exact_mut(GROUP);
                for (from, to) in from[..parts.words].iter().zip(to) {
                    to[r] = *from;
                }
                if let Some(half) = halves.as_chunks_mut::<2>().0.get_mut(b * GROUP + r) {
                    let at = if parts.first == 0 { parts.bytes - 2 } else { 0 };
                    half.copy_from_slice(&block[at..at + 2]);
                }
            }
        }
    }
}
