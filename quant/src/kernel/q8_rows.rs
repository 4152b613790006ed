//! Rows of int8 values with a half-precision scale per 32: keys and values of a cache of type q8_0.
use half::f16;

/// Values that share a scale.
pub const Q8_BLOCK: usize = 32;

/// Rows `[n, dim]`, one after the other: value i of a row is `scales[i / 32] · q[i]`.
#[derive(Clone, Copy, Debug)]
pub struct Q8Rows<'a> {
    /// `[n, dim]`
    pub q: &'a [i8],
    /// `[n, dim / 32]`
    pub scales: &'a [f16],
}

/// Rows to be written.
#[derive(Debug)]
pub struct Q8RowsMut<'a> {
    /// `[n, dim]`
    pub q: &'a mut [i8],
    /// `[n, dim / 32]`
    pub scales: &'a mut [f16],
}

impl<'a> Q8Rows<'a> {
    /// The rows `span` of rows of `dim` values.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn rows(self, span: std::ops::Range<usize>, dim: usize) -> Q8Rows<'a> {
        let per_row = dim / Q8_BLOCK;
        Q8Rows {
            q: &self.q[span.start * dim..span.end * dim],
            scales: &self.scales[span.start * per_row..span.end * per_row],
        }
    }
}

impl Q8RowsMut<'_> {
    /// The rows `span` of rows of `dim` values.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn rows(&mut self, span: std::ops::Range<usize>, dim: usize) -> Q8RowsMut<'_> {
        let per_row = dim / Q8_BLOCK;
        Q8RowsMut {
            q: &mut self.q[span.start * dim..span.end * dim],
            scales: &mut self.scales[span.start * per_row..span.end * per_row],
        }
    }
}
