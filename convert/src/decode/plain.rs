//! Weights that are stored as ggml stores them too.

use qwren_quant::block::{self, Codec};
use qwren_quant::dtype::DType;
use safetensors::tensor::Dtype;

use super::Run;
use crate::error::Error;

/// The codec of a float type.
///
/// # Panics
/// For a type that is none: those were refused when the tensors were located.
pub(super) fn codec(dtype: Dtype) -> &'static Codec {
    let same = match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => unreachable!("{other:?} was refused"),
    };
    block::codec(same).unwrap_or_else(|| unreachable!("every float type has a codec"))
}

pub(super) fn read(run: &Run, raw: &mut Vec<u8>) -> Result<&'static Codec, Error> {
    run.read_rows(run.tensor, run.cols, [run.first, run.first + run.rows], raw)?;
    Ok(codec(run.checkpoint.tensors()[run.tensor].dtype))
}

pub(super) fn rows(codec: &Codec, raw: &[u8], cols: usize, first: usize, out: &mut [f32]) {
    let bytes = codec.dtype.block_bytes();
    codec.dequantize(&raw[first * cols * bytes..][..out.len() * bytes], out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_run_of_rows() {
        let mut out = [0.0; 2];
        rows(codec(Dtype::BF16), &[0, 0, 0, 0, 0x80, 0x3f, 0x20, 0xc0], 2, 1, &mut out);
        assert_eq!(out, [1.0, -2.5]);
        rows(codec(Dtype::F16), &[0x00, 0x3c, 0x01, 0x00], 2, 0, &mut out);
        assert_eq!(out, [1.0, 5.960_464_5e-8]);
        rows(codec(Dtype::F32), &[1.5f32.to_le_bytes(), 2f32.to_le_bytes()].concat(), 1, 1, &mut out[..1]);
        assert_eq!(out[0], 2.0);
    }
}
