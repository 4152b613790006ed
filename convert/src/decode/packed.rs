//! compressed-tensors' pack-quantized: `weight_packed [rows, cols · bits / 32]` of i32, each word holding consecutive
//! inputs, the lowest bits first, raised by half of their range; `weight_scale [rows, groups]`; `weight_shape` = (rows,
//! cols); `weight_zero_point` packed likewise but along the outputs, `[rows · bits / 32, groups]` (older versions: plain
//! int8 `[rows, groups]`), none for symmetric weights; `weight_g_idx [cols]`, the group of each input, with act-order.

use safetensors::tensor::Dtype;

use super::groups::{Groups, transposed};
use super::{Encoding, Run, Source, floats, word};
use crate::checkpoint::{Lookup, WeightArgs};
use crate::error::Error;

/// Where a packed matrix lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// 4 or 8.
    pub bits: u32,
    /// Indices of the stored tensors.
    pub scales: usize,
    /// The same; `None` for symmetric weights.
    pub zeros: Option<usize>,
    /// The same; `None` when groups follow each other.
    pub index: Option<usize>,
    /// How many groups.
    pub groups: u64,
    /// Columns of a group, where there is no index.
    pub group: u64,
}

pub(super) fn locate(
    lookup: &mut Lookup,
    config: &[WeightArgs],
    module: &str,
    [rows, cols]: [u64; 2],
) -> Result<Option<Source>, Error> {
    let find = |lookup: &mut Lookup, suffix: &str| lookup.find(&format!("{module}.weight_{suffix}")).map(|f| f.0);
    let (tensor, scales) = (find(lookup, "packed"), find(lookup, "scale"));
    let (Some(tensor), Some(scales)) = (tensor, scales) else { return Ok(None) };
    let [packed, scale] = [tensor, scales].map(|i| &lookup.checkpoint().tensors()[i]);
    // Of several schemes the one whose shapes these tensors have.
    let shapes = |a: &WeightArgs| ([rows, words(cols, a.bits)], [rows, cols.div_ceil(a.block([rows, cols])[1])]);
    let fits = |a: &&WeightArgs| !a.float && packed.shape == shapes(a).0 && scale.shape == shapes(a).1;
    let Some(args) = config.iter().find(fits) else {
        let Some(first) = config.iter().find(|a| !a.float) else {
            return Err(lookup.type_error(packed));
        };
        lookup.check_shape(packed, &shapes(first).0)?;
        return Err(lookup.shape_error(scale, &shapes(first).1));
    };
    lookup.check_type(tensor, &[Dtype::I32])?;
    lookup.check_type(scales, &[Dtype::F16, Dtype::BF16, Dtype::F32])?;
    // It repeats what the shapes say.
    if let Some((shape, stored)) = lookup.find_optional(&format!("{module}.weight_shape")) {
        lookup.check_shape(stored, &[2])?;
        lookup.check_type(shape, &[Dtype::I64, Dtype::I32])?;
    }
    let groups = scale.shape[1];
    let zeros = if args.symmetric {
        None
    } else {
        let Some((zeros, stored)) = lookup.find(&format!("{module}.weight_zero_point")) else { return Ok(None) };
        lookup.check_type(zeros, &[Dtype::I32, Dtype::I8])?;
        let height = if stored.dtype == Dtype::I8 { rows } else { words(rows, args.bits) };
        lookup.check_shape(stored, &[height, groups])?;
        Some(zeros)
    };
    let index = lookup.find_optional(&format!("{module}.weight_g_idx"));
    if let Some((index, stored)) = index {
        lookup.check_shape(stored, &[cols])?;
        lookup.check_type(index, &[Dtype::I32])?;
    }
    let (index, group) = (index.map(|i| i.0), args.block([rows, cols])[1]);
    let packed = Packed { bits: args.bits, scales, zeros, index, groups, group };
    Ok(Some(Source { tensor, encoding: Encoding::Packed(packed) }))
}

/// Words that hold `n` integers.
fn words(n: u64, bits: u32) -> u64 {
    n.div_ceil(u64::from(32 / bits))
}

/// Groups of a run of rows.
pub(crate) struct Decoder {
    bits: u32,
    groups: Groups,
}

pub(super) fn read(run: &Run, packed: &Packed, raw: &mut Vec<u8>) -> Result<Decoder, Error> {
    let (first, end, groups) = (run.first, run.first + run.rows, packed.groups);
    run.read_rows(run.tensor, words(run.cols, packed.bits), [first, end], raw)?;
    let of = run.groups(packed.index, packed.group, groups)?;
    let tensors = run.checkpoint.tensors();
    let mut stored = Vec::new();
    run.read_rows(packed.scales, groups, [first, end], &mut stored)?;
    let scales = transposed(&floats(tensors[packed.scales].dtype, &stored), groups as usize);

    let half = (1u32 << (packed.bits - 1)) as f32;
    let zeros = match packed.zeros {
        None => vec![half; scales.len()],
        Some(zeros) if tensors[zeros].dtype == Dtype::I8 => {
            run.read_rows(zeros, groups, [first, end], &mut stored)?;
            transposed(&floats(Dtype::I8, &stored).iter().map(|z| z + half).collect::<Vec<_>>(), groups as usize)
        }
        Some(zeros) => {
            let per_word = u64::from(32 / packed.bits);
            let top = first / per_word;
            run.read_rows(zeros, groups, [top, end.div_ceil(per_word)], &mut stored)?;
            // [words of rows, groups]
            let zero = |g: u64, row: u64| {
                let at = ((row / per_word - top) * groups + g) as usize;
                integer(word(&stored[at * 4..][..4]), packed.bits, (row % per_word) as usize) as f32
            };
            (0..groups).flat_map(|g| (first..end).map(move |row| (g, row))).map(|(g, row)| zero(g, row)).collect()
        }
    };
    Ok(Decoder { bits: packed.bits, groups: Groups { of, scales, zeros, rows: run.rows as usize } })
}

/// Integer `i` of a word.
#[inline]
fn integer(word: u32, bits: u32, i: usize) -> u32 {
    word >> (bits * i as u32) & ((1 << bits) - 1)
}

impl Decoder {
    /// `raw` is `[rows, words]`.
    pub fn rows(&self, raw: &[u8], cols: usize, first: usize, out: &mut [f32]) {
        let per_word = (32 / self.bits) as usize;
        let row_bytes = cols.div_ceil(per_word) * 4;
        for (row, out) in (first..).zip(out.chunks_exact_mut(cols)) {
            let words = raw[row * row_bytes..][..row_bytes].chunks_exact(4);
            for (i, (bytes, values)) in words.zip(out.chunks_mut(per_word)).enumerate() {
                let word = word(bytes);
                for (k, value) in values.iter_mut().enumerate() {
                    *value = self.groups.weight(integer(word, self.bits, k), row, i * per_word + k);
                }
            }
        }
    }
}
