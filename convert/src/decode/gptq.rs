//! GPTQ: `qweight [cols · bits / 32, rows]` of i32, each word holding consecutive inputs of one output, the lowest bits
//! first; `qzeros [groups, rows · bits / 32]` with consecutive outputs in a word; `scales [groups, rows]`; `g_idx [cols]`,
//! the group of each input, which act-order makes irregular.
//!
//! The older and usual format stores zero points less 1, by a subtraction from whole words; `gptq_v2` stores them as they are.

use safetensors::tensor::Dtype;

use super::groups::Groups;
use super::{Encoding, Run, Source, word};
use crate::checkpoint::{GptqConfig, Lookup};
use crate::error::{Error, Problem};

/// Where a GPTQ matrix lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gptq {
    /// 4 or 8.
    pub bits: u32,
    /// Indices of the stored tensors.
    pub zeros: usize,
    /// The same.
    pub scales: usize,
    /// The same; `None` when groups follow each other.
    pub index: Option<usize>,
    /// How many groups.
    pub groups: u64,
    /// Columns of a group, where there is no index.
    pub group: u64,
    /// Whether zero points are stored less 1.
    pub less_one: bool,
}

pub(super) fn locate(
    lookup: &mut Lookup,
    config: &GptqConfig,
    module: &str,
    [rows, cols]: [u64; 2],
) -> Result<Option<Source>, Error> {
    let name = format!("{module}.qweight");
    let Some((tensor, stored)) = lookup.find(&name) else { return Ok(None) };
    // Single modules may have other bits than the rest: the shape tells.
    let width = |bits: u64| cols.checked_mul(bits).filter(|n| n.is_multiple_of(32)).map(|n| n / 32);
    let bits = [4, 8, 2, 3].into_iter().find(|b| width(*b).is_some_and(|w| stored.shape == [w, rows]));
    let bits = match bits {
        Some(bits @ (4 | 8)) => bits,
        Some(bits) => {
            let method = format!("GPTQ with {bits} bits");
            let problem = Problem::QuantMethod { method, seen: format!("tensor {name}"), original: None };
            return Err(problem.of(lookup.checkpoint().file_of(stored)));
        }
        None => return Err(lookup.shape_error(stored, &[cols.div_ceil(32 / 4), rows])),
    };
    lookup.check_type(tensor, &[Dtype::I32])?;

    let index = lookup.find_optional(&format!("{module}.g_idx"));
    if let Some((index, stored)) = index {
        lookup.check_shape(stored, &[cols])?;
        lookup.check_type(index, &[Dtype::I32])?;
    }
    let group = config.group.unwrap_or(cols).min(cols);
    let Some((scales, stored)) = lookup.find(&format!("{module}.scales")) else { return Ok(None) };
    let groups = match (index, stored.shape.as_slice()) {
        (Some(_), &[groups, _]) if (1..=cols).contains(&groups) => groups,
        _ => cols.div_ceil(group),
    };
    lookup.check_shape(stored, &[groups, rows])?;
    lookup.check_type(scales, &[Dtype::F16, Dtype::BF16, Dtype::F32])?;
    let words = rows.saturating_mul(bits).div_ceil(32);
    let Some(zeros) = lookup.shaped(&format!("{module}.qzeros"), &[groups, words])? else { return Ok(None) };
    lookup.check_type(zeros, &[Dtype::I32])?;
    let index = index.map(|i| i.0);
    let gptq = Gptq { bits: bits as u32, zeros, scales, index, groups, group, less_one: config.less_one };
    Ok(Some(Source { tensor, encoding: Encoding::Gptq(gptq) }))
}

/// Groups of a run of rows.
pub(crate) struct Decoder {
    bits: u32,
    groups: Groups,
}

pub(super) fn read(run: &Run, gptq: &Gptq, raw: &mut Vec<u8>) -> Result<Decoder, Error> {
    let (first, end) = (run.first, run.first + run.rows);
    let total = run.checkpoint.tensors()[run.tensor].shape[1];
    let (bits, per_word) = (u64::from(gptq.bits), 32 / u64::from(gptq.bits));
    run.read_columns(run.tensor, [run.cols * bits / 32, total], [first, end], raw)?;

    let of = run.groups(gptq.index, gptq.group, gptq.groups)?;
    let scales = run.floats(gptq.scales, [gptq.groups, total], [first, end])?;
    let words = [first / per_word, end.div_ceil(per_word)];
    let mut packed = Vec::new();
    run.read_columns(gptq.zeros, [gptq.groups, total.div_ceil(per_word)], words, &mut packed)?;
    let skip = (first % per_word) as usize;
    let zeros = zeros(&packed, words[1] - words[0], gptq.bits, gptq.less_one, skip, run.rows as usize);
    Ok(Decoder { bits: gptq.bits, groups: Groups { of, scales, zeros, rows: run.rows as usize } })
}

/// Unpacks `[groups, words]` to `[groups, rows]`, without the first `skip` of each group.
fn zeros(packed: &[u8], words: u64, bits: u32, less_one: bool, skip: usize, rows: usize) -> Vec<f32> {
    // 0x11111111 for 4 bits, 0x01010101 for 8.
    let ones = u32::MAX / mask(bits);
    let unpack = |bytes: &[u8]| {
        let word = if less_one { word(bytes).wrapping_add(ones) } else { word(bytes) };
        (0..32 / bits).map(move |k| (word >> (k * bits) & mask(bits)) as f32)
    };
    let groups = packed.chunks_exact(words as usize * 4);
    groups.flat_map(|group| group.chunks_exact(4).flat_map(unpack).skip(skip).take(rows)).collect()
}

fn mask(bits: u32) -> u32 {
    (1 << bits) - 1
}

impl Decoder {
    /// `raw` is `[cols · bits / 32, rows]`.
    pub fn rows(&self, raw: &[u8], cols: usize, first: usize, out: &mut [f32]) {
        let (bits, mask, rows) = (self.bits, mask(self.bits), self.groups.rows);
        let per_word = (32 / bits) as usize;
        for (row, out) in (first..).zip(out.chunks_exact_mut(cols)) {
            for (i, values) in out.chunks_exact_mut(per_word).enumerate() {
                let mut word = word(&raw[(i * rows + row) * 4..][..4]);
                for (col, value) in (i * per_word..).zip(values) {
                    *value = self.groups.weight(word & mask, row, col);
                    word >>= bits;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_points_are_unpacked_in_both_conventions() {
        let packed = [0x7654_3210u32, 0xffff_f8ff].map(u32::to_le_bytes).concat();
        assert_eq!(zeros(&packed, 1, 4, false, 2, 5), [2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 15.0, 15.0, 15.0, 15.0]);
        assert_eq!(zeros(&packed[..4], 1, 4, true, 0, 8), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        // A zero point of 0 borrowed from its neighbours: 0x80 less 0x11111111 is 0xeeeeef6f.
        let borrowed = 0xeeee_ef6fu32.to_le_bytes();
        assert_eq!(zeros(&borrowed, 1, 4, true, 0, 8), [0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let bytes = 0x7f80_00feu32.to_le_bytes();
        assert_eq!(zeros(&bytes, 1, 8, true, 0, 4), [255.0, 1.0, 129.0, 128.0]);
    }
}
