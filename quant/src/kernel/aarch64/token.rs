//! A token's activations, block by block.
use crate::act::ActView;

/// The blocks of a token's row, of `16 * K` columns and `S` sums each.
#[derive(Clone, Copy)]
pub(super) struct Token<'a, const K: usize, const S: usize> {
    pub(super) q: &'a [[[i8; 16]; K]],
    pub(super) sums: &'a [[i16; S]],
    pub(super) scales: &'a [f32],
}

impl<'a, const K: usize, const S: usize> Token<'a, K, S> {
    /// Token `t`, whose row is `per_row` blocks.
    pub(super) fn new(acts: ActView<'a>, t: usize, per_row: usize) -> Self {
        let (q, sums) = (acts.quants(t).as_chunks().0.as_chunks().0, acts.sums(t).as_chunks().0);
        Token { q: &q[..per_row], sums: &sums[..per_row], scales: &acts.scales(t)[..per_row] }
    }

    /// All of them, so that nothing about them is worked out once a row.
    pub(super) fn all(acts: ActView<'a>, per_row: usize) -> Vec<Self> {
        (0..acts.tokens()).map(|t| Token::new(acts, t, per_row)).collect()
    }
}
