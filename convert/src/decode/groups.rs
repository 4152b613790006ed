//! Integers with a scale and a zero point for each group of columns in a row: what GPTQ, AWQ and compressed-tensors share.

/// `w[r, c] = (q[r, c] − zero[g, r]) · scale[g, r]`, g being the group of column c.
///
/// The difference of two small integers is exact, so that one rounding remains.
pub(super) struct Groups {
    /// The group of each column.
    pub of: Vec<u32>,
    /// `[groups, rows]`
    pub scales: Vec<f32>,
    /// `[groups, rows]`
    pub zeros: Vec<f32>,
    /// Rows of the run.
    pub rows: usize,
}

impl Groups {
    /// The weight that is stored as `q` at `[row, col]`.
    #[inline]
    pub fn weight(&self, q: u32, row: usize, col: usize) -> f32 {
        let at = self.of[col] as usize * self.rows + row;
        (q as f32 - self.zeros[at]) * self.scales[at]
    }
}

/// Turns `[rows, groups]` into `[groups, rows]`.
pub(super) fn transposed(values: &[f32], groups: usize) -> Vec<f32> {
    (0..groups).flat_map(|g| values.iter().skip(g).step_by(groups)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_take_their_groups_scale_and_zero() {
        let groups = Groups {
            of: vec![1, 0, 1],
            scales: transposed(&[0.5, 2.0, 1.0, 4.0], 2),
            zeros: transposed(&[8.0, 0.0, 7.0, 1.0], 2),
            rows: 2,
        };
        let row = |r: usize| [0, 1, 2].map(|c| groups.weight(9, r, c));
        assert_eq!(row(0), [18.0, 0.5, 18.0]);
        assert_eq!(row(1), [32.0, 2.0, 32.0]);
    }
}
