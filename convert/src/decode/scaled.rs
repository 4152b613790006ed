//! FP8 (E4M3) or int8 weights with a scale for each block, row or tensor: Qwen's own FP8 files, compressed-tensors'
//! float-, int- and naive-quantized, fbgemm's and ModelOpt's FP8.

use std::sync::LazyLock;

use safetensors::tensor::Dtype;

use super::{Run, floats};
use crate::checkpoint::{Lookup, Quantization, Stored, WeightArgs};
use crate::error::{Error, Problem};

/// The value of element `[r, c]` is `(stored − zero) · scale[r / block[0], c / block[1]]`; zeros lie as the scales do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaled {
    /// Index of the stored scales, `[rows.div_ceil(block[0]), cols.div_ceil(block[1])]`.
    pub scale: usize,
    /// Index of the stored zero points; `None` when they are zero.
    pub zero: Option<usize>,
    /// Rows and columns that share a scale.
    pub block: [u64; 2],
}

/// The scales of `weight`, a stored matrix of `shape`.
pub(super) fn locate(
    lookup: &mut Lookup,
    quantization: &Quantization,
    weight: &Stored,
    shape: [u64; 2],
) -> Result<Option<Scaled>, Error> {
    let int8 = weight.dtype == Dtype::I8;
    let (suffixes, blocks): (&[&str], Vec<[u64; 2]>) = match quantization {
        Quantization::Fp8 { block: Some(block) } if !int8 => (&["_scale_inv"], vec![*block]),
        // One for all, or one a row: the scales' shape tells.
        Quantization::Fp8 { block: None } if !int8 => (&["_scale", "_scale_inv"], vec![shape, [1, shape[1]]]),
        Quantization::CompressedTensors(args) => {
            let kind = |a: &&WeightArgs| a.float != int8 && a.bits == 8;
            (&["_scale"], args.iter().filter(kind).map(|a| a.block(shape)).collect())
        }
        _ => (&[], Vec::new()),
    };
    let Some(&first) = blocks.first() else {
        let seen = format!("tensor {}, of which config.json says nothing", weight.name);
        let problem = Problem::QuantMethod { method: format!("{:?}", weight.dtype), seen, original: None };
        return Err(problem.of(lookup.checkpoint().file_of(weight)));
    };
    let names: Vec<String> = suffixes.iter().map(|suffix| format!("{}{suffix}", weight.name)).collect();
    let there = names.iter().find(|n| lookup.checkpoint().tensor(n).is_some());
    let Some((scale, stored)) = lookup.find(there.unwrap_or(&names[0])) else { return Ok(None) };
    let Some(block) = blocks.into_iter().find(|b| has_shape(&stored.shape, grid(shape, *b))) else {
        return Err(lookup.shape_error(stored, &grid(shape, first)));
    };
    lookup.check_type(scale, &[Dtype::F32, Dtype::F16, Dtype::BF16])?;
    let zero = lookup.find_optional(&format!("{}_zero_point", weight.name));
    if let Some((zero, stored)) = zero {
        if !has_shape(&stored.shape, grid(shape, block)) {
            return Err(lookup.shape_error(stored, &grid(shape, block)));
        }
        lookup.check_type(zero, &[Dtype::I8, Dtype::F32, Dtype::F16, Dtype::BF16])?;
    }
    Ok(Some(Scaled { scale, zero: zero.map(|z| z.0), block }))
}

/// How many blocks a matrix has in each direction.
fn grid(shape: [u64; 2], block: [u64; 2]) -> [u64; 2] {
    [shape[0].div_ceil(block[0]), shape[1].div_ceil(block[1])]
}

/// Whether `stored` is `grid`, or the same without dimensions of 1 at its end: `[rows, 1]` and `[rows]`, `[1, 1]` and `[]`.
fn has_shape(stored: &[u64], grid: [u64; 2]) -> bool {
    stored.len() <= 2 && (0..2).all(|i| stored.get(i).copied().unwrap_or(1) == grid[i])
}

/// Scales of a run of rows.
pub(crate) struct Decoder {
    /// The value of each stored byte.
    values: &'static [f32; 256],
    /// `[block rows, block cols]`
    scales: Vec<f32>,
    /// The same, or empty when all are zero.
    zeros: Vec<f32>,
    block_cols: usize,
    block: [usize; 2],
    /// Rows between the start of the first block and the run's first row.
    skip: usize,
}

pub(super) fn read(run: &Run, scaled: &Scaled, raw: &mut Vec<u8>) -> Result<Decoder, Error> {
    let (first, end) = (run.first, run.first + run.rows);
    run.read_rows(run.tensor, run.cols, [first, end], raw)?;
    let [block_rows, block_width] = scaled.block;
    let block_cols = run.cols.div_ceil(block_width);
    let top = first / block_rows;
    let read = |tensor: usize| -> Result<Vec<f32>, Error> {
        let mut raw = Vec::new();
        run.read_rows(tensor, block_cols, [top, end.div_ceil(block_rows)], &mut raw)?;
        Ok(floats(run.checkpoint.tensors()[tensor].dtype, &raw))
    };
    let int8 = run.checkpoint.tensors()[run.tensor].dtype == Dtype::I8;
    Ok(Decoder {
        values: if int8 { &INT8 } else { &E4M3 },
        scales: read(scaled.scale)?,
        zeros: scaled.zero.map(read).transpose()?.unwrap_or_default(),
        block_cols: block_cols as usize,
        block: scaled.block.map(|n| n as usize),
        skip: (first - top * block_rows) as usize,
    })
}

impl Decoder {
    pub fn rows(&self, raw: &[u8], cols: usize, first: usize, out: &mut [f32]) {
        let raw = &raw[first * cols..][..out.len()];
        for (r, (row, out)) in raw.chunks_exact(cols).zip(out.chunks_exact_mut(cols)).enumerate() {
            let at = (self.skip + first + r) / self.block[0] * self.block_cols;
            let blocks = row.chunks(self.block[1]).zip(out.chunks_mut(self.block[1]));
            for (b, (bytes, values)) in blocks.enumerate() {
                let scale = self.scales[at + b];
                let zero = self.zeros.get(at + b).copied().unwrap_or(0.0);
                for (byte, value) in bytes.iter().zip(values) {
                    *value = (self.values[usize::from(*byte)] - zero) * scale;
                }
            }
        }
    }
}

/// Every float8_e4m3fn: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities, all ones is NaN.
static E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|bits| {
        let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
        let (exponent, mantissa) = ((bits >> 3 & 15) as i32, (bits & 7) as f32);
        sign * match (exponent, bits & 7) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa / 8.0 * 2f32.powi(-6),
            _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
        }
    })
});

static INT8: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|bits| f32::from((bits as u8).cast_signed())));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_values() {
        for (bits, value) in
            [(0x00, 0.0), (0x01, 0.001953125), (0x08, 0.015625), (0x38, 1.0), (0x7e, 448.0), (0xb8, -1.0), (0xc4, -3.0)]
        {
            assert_eq!(E4M3[bits], value, "{bits:#x}");
        }
        assert!(E4M3[0x7f].is_nan() && E4M3[0xff].is_nan());
        assert_eq!(E4M3[0x80].to_bits(), (-0.0f32).to_bits());
        assert_eq!(E4M3.iter().filter(|x| !x.is_finite()).count(), 2);
    }

    #[test]
    fn ragged_blocks_take_the_scale_that_they_lie_in() {
        // Blocks of 2 × 3 over rows of 4; the run begins at row 1 of the first block.
        let mut decoder = Decoder {
            values: &E4M3,
            scales: vec![1.0, 2.0, 3.0, 4.0],
            zeros: vec![],
            block_cols: 2,
            block: [2, 3],
            skip: 1,
        };
        let one = [0x38; 12];
        let mut out = [0.0; 12];
        decoder.rows(&one, 4, 0, &mut out);
        assert_eq!(out, [1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0, 3.0, 3.0, 3.0, 4.0]);
        // The same rows in two pieces.
        let mut again = [0.0; 12];
        decoder.rows(&one, 4, 0, &mut again[..4]);
        decoder.rows(&one, 4, 1, &mut again[4..]);
        assert_eq!(out, again);

        (decoder.values, decoder.zeros) = (&INT8, vec![0.0, 1.0, 2.0, -128.0]);
        decoder.rows(&[0xfe; 12], 4, 0, &mut out);
        assert_eq!(out[..8], [-2.0, -2.0, -2.0, -6.0, -12.0, -12.0, -12.0, 504.0]);
    }

    #[test]
    fn trailing_ones_of_a_shape_may_be_left_out() {
        for (stored, grid, same) in [
            (&[][..], [1, 1], true),
            (&[1], [1, 1], true),
            (&[5], [5, 1], true),
            (&[5, 1], [5, 1], true),
            (&[1, 5], [5, 1], false),
            (&[5], [1, 5], false),
            (&[5, 1, 1], [5, 1], false),
        ] {
            assert_eq!(has_shape(stored, grid), same, "{stored:?} {grid:?}");
        }
    }
}
