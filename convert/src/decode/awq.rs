//! AWQ in its GEMM layout: `qweight [cols, rows / 8]` of i32, each word holding eight consecutive outputs of one input in
//! the order 0, 2, 4, 6, 1, 3, 5, 7 from the lowest bits on; `qzeros [groups, rows / 8]` likewise; `scales [groups, rows]`.

use safetensors::tensor::Dtype;

use super::groups::Groups;
use super::{Encoding, Run, Source, word};
use crate::checkpoint::{AwqConfig, Lookup};
use crate::error::Error;

/// Outputs in a word.
const PER_WORD: u64 = 8;
/// Which nibble of a word holds output `i` of its eight.
const NIBBLE: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Where an AWQ matrix lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awq {
    /// Indices of the stored tensors.
    pub zeros: usize,
    /// The same.
    pub scales: usize,
    /// Columns of a group.
    pub group: u64,
}

pub(super) fn locate(
    lookup: &mut Lookup,
    config: &AwqConfig,
    module: &str,
    [rows, cols]: [u64; 2],
) -> Result<Option<Source>, Error> {
    let group = config.group.unwrap_or(cols).min(cols);
    let (groups, words) = (cols.div_ceil(group), rows.div_ceil(PER_WORD));
    let tensor = lookup.shaped(&format!("{module}.qweight"), &[cols, words])?;
    let zeros = lookup.shaped(&format!("{module}.qzeros"), &[groups, words])?;
    let scales = lookup.shaped(&format!("{module}.scales"), &[groups, rows])?;
    let (Some(tensor), Some(zeros), Some(scales)) = (tensor, zeros, scales) else { return Ok(None) };
    lookup.check_type(tensor, &[Dtype::I32])?;
    lookup.check_type(zeros, &[Dtype::I32])?;
    lookup.check_type(scales, &[Dtype::F16, Dtype::BF16, Dtype::F32])?;
    Ok(Some(Source { tensor, encoding: Encoding::Awq(Awq { zeros, scales, group }) }))
}

/// Groups of a run of rows, and where in its first word it begins.
pub(crate) struct Decoder {
    groups: Groups,
    skip: usize,
    /// Words in a stored row of the run.
    words: usize,
}

pub(super) fn read(run: &Run, awq: &Awq, raw: &mut Vec<u8>) -> Result<Decoder, Error> {
    let (first, end) = (run.first, run.first + run.rows);
    let rows = run.checkpoint.tensors()[awq.scales].shape[1];
    let (groups, width) = (run.cols.div_ceil(awq.group), rows.div_ceil(PER_WORD));
    let columns = [first / PER_WORD, end.div_ceil(PER_WORD)];
    run.read_columns(run.tensor, [run.cols, width], columns, raw)?;

    let of = run.groups(None, awq.group, groups)?;
    let scales = run.floats(awq.scales, [groups, rows], [first, end])?;
    let mut packed = Vec::new();
    run.read_columns(awq.zeros, [groups, width], columns, &mut packed)?;
    let (skip, words) = ((first % PER_WORD) as usize, (columns[1] - columns[0]) as usize);
    let zero = |g: usize, row: usize| nibble(&packed, g * words, skip + row) as f32;
    let rows = run.rows as usize;
    let zeros =
        (0..groups as usize).flat_map(|g| (0..rows).map(move |row| (g, row))).map(|(g, r)| zero(g, r)).collect();
    Ok(Decoder { groups: Groups { of, scales, zeros, rows }, skip, words })
}

/// The integer of output `i` in the words that begin at word `at`.
#[inline]
fn nibble(packed: &[u8], at: usize, i: usize) -> u32 {
    word(&packed[(at + i / 8) * 4..][..4]) >> (4 * NIBBLE[i % 8]) & 15
}

impl Decoder {
    /// `raw` is `[cols, words]`.
    pub fn rows(&self, raw: &[u8], cols: usize, first: usize, out: &mut [f32]) {
        for (row, out) in (first..).zip(out.chunks_exact_mut(cols)) {
            for (col, value) in out.iter_mut().enumerate() {
                let q = nibble(raw, col * self.words, self.skip + row);
                *value = self.groups.weight(q, row, col);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_are_interleaved() {
        // Outputs 0 … 7 packed by the order 0, 2, 4, 6, 1, 3, 5, 7, then outputs 8 … 15.
        let packed = [0x7531_6420u32, 0xfdb9_eca8].map(u32::to_le_bytes).concat();
        let all: Vec<u32> = (0..16).map(|i| nibble(&packed, 0, i)).collect();
        assert_eq!(all, (0..16).collect::<Vec<_>>());
        assert_eq!(nibble(&packed, 1, 3), 11);
    }
}
