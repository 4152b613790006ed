//! Stored weights to f32.

use std::sync::LazyLock;

use qwren_quant::block::{self, Codec};
use qwren_quant::dtype::DType;
use safetensors::tensor::Dtype;

/// FP8 scales that a run of rows needs, already f32.
#[derive(Debug)]
pub(crate) struct Scales {
    /// `[block rows, block_cols]`.
    pub values: Vec<f32>,
    /// Columns of `values`.
    pub block_cols: usize,
    /// Rows and columns that share a scale.
    pub block: [usize; 2],
    /// Row of the tensor that row 0 of the run is, less the first row of the first block.
    pub skip: usize,
}

/// The codec of a safetensors type that is stored as ggml stores it; `None` for FP8.
///
/// # Panics
/// For a type that is no weight's: those were refused when the tensors were mapped.
fn plain(dtype: Dtype) -> Option<&'static Codec> {
    let same = match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F8_E4M3 => return None,
        other => unreachable!("{other:?} was refused"),
    };
    block::codec(same)
}

/// Decodes whole rows of `cols`; `first` is the number of the first one within the run that `scales` belong to.
pub(crate) fn rows(dtype: Dtype, raw: &[u8], cols: usize, first: usize, scales: Option<&Scales>, out: &mut [f32]) {
    match (plain(dtype), scales) {
        (Some(codec), _) => codec.dequantize(raw, out),
        (None, Some(scales)) => fp8_rows(raw, cols, first, scales, out),
        (None, None) => unreachable!("FP8 without scales was refused"),
    }
}

/// Decodes scales.
pub(crate) fn scales(dtype: Dtype, raw: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; raw.len() / (dtype.bitsize() / 8)];
    rows(dtype, raw, out.len(), 0, None, &mut out);
    out
}

/// `out[r, c] = raw[r, c] · scale[r / block rows, c / block cols]`
fn fp8_rows(raw: &[u8], cols: usize, first: usize, scales: &Scales, out: &mut [f32]) {
    for (r, (row, out)) in raw.chunks_exact(cols).zip(out.chunks_exact_mut(cols)).enumerate() {
        let block_row = (scales.skip + first + r) / scales.block[0];
        let row_scales = &scales.values[block_row * scales.block_cols..][..scales.block_cols];
        let blocks = row.chunks(scales.block[1]).zip(out.chunks_mut(scales.block[1]));
        for ((bytes, values), scale) in blocks.zip(row_scales) {
            for (byte, value) in bytes.iter().zip(values) {
                *value = E4M3[usize::from(*byte)] * scale;
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
        let scales = Scales { values: vec![1.0, 2.0, 3.0, 4.0], block_cols: 2, block: [2, 3], skip: 1 };
        let one = [0x38; 12];
        let mut out = [0.0; 12];
        rows(Dtype::F8_E4M3, &one, 4, 0, Some(&scales), &mut out);
        assert_eq!(out, [1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0, 3.0, 3.0, 3.0, 4.0]);
        // The same rows in two pieces.
        let mut again = [0.0; 12];
        rows(Dtype::F8_E4M3, &one[..4], 4, 0, Some(&scales), &mut again[..4]);
        rows(Dtype::F8_E4M3, &one[4..], 4, 1, Some(&scales), &mut again[4..]);
        assert_eq!(out, again);
    }

    #[test]
    fn plain_types() {
        let mut out = [0.0; 2];
        rows(Dtype::BF16, &[0x80, 0x3f, 0x20, 0xc0], 2, 0, None, &mut out);
        assert_eq!(out, [1.0, -2.5]);
        rows(Dtype::F16, &[0x00, 0x3c, 0x01, 0x00], 2, 0, None, &mut out);
        assert_eq!(out, [1.0, 5.960_464_5e-8]);
        assert_eq!(scales(Dtype::F32, &1.5f32.to_le_bytes()), [1.5]);
    }
}
