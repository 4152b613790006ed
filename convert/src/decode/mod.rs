//! Stored weights to f32: a file for each way to store them.
//!
//! [`Encoding`] says how a part's rows are stored and in which tensors; a [`Decoder`] holds what a run of rows needs
//! besides their own bytes: scales, zero points, groups.

mod awq;
mod gptq;
mod groups;
mod packed;
mod plain;
mod scaled;
#[cfg(test)]
mod tests;

use qwren_quant::block::Codec;
use safetensors::tensor::Dtype;

use crate::arch::Part;
use crate::checkpoint::{Checkpoint, Lookup, Quantization};
use crate::error::{Error, Problem};

pub use awq::Awq;
pub use gptq::Gptq;
pub use packed::Packed;
pub use scaled::Scaled;

/// How the rows of a matrix `[rows, cols]` are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are: F32, F16 or BF16.
    Plain,
    /// FP8 or int8, with a scale for each block.
    Scaled(Scaled),
    /// GPTQ: 4 or 8 bits, input by output.
    Gptq(Gptq),
    /// AWQ's GEMM layout: 4 bits, input by output, interleaved.
    Awq(Awq),
    /// compressed-tensors' pack-quantized: 4 or 8 bits, output by input.
    Packed(Packed),
}

/// A stored tensor, and how its rows are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    /// Index of the tensor that holds the weights themselves.
    pub tensor: usize,
    /// How they are stored there.
    pub encoding: Encoding,
}

/// Finds the weights `name` of `shape` in whichever form the checkpoint has them, and checks the shapes and types of all
/// tensors that they need. `None`: something is missing, which `lookup` counted.
///
/// # Errors
/// Another shape than expected, or a type or method that is not read.
pub(crate) fn locate(
    lookup: &mut Lookup,
    quantization: &Quantization,
    name: &str,
    shape: &[u64],
) -> Result<Option<Source>, Error> {
    if let Some((tensor, stored)) = lookup.find_optional(name) {
        lookup.check_shape(stored, shape)?;
        return match (stored.dtype, shape) {
            (Dtype::F32 | Dtype::F16 | Dtype::BF16, _) => Ok(Some(Source { tensor, encoding: Encoding::Plain })),
            (Dtype::F8_E4M3 | Dtype::I8, &[rows, cols]) => {
                let scaled = scaled::locate(lookup, quantization, stored, [rows, cols])?;
                Ok(scaled.map(|s| Source { tensor, encoding: Encoding::Scaled(s) }))
            }
            _ => Err(lookup.type_error(stored)),
        };
    }
    // A quantized module has other tensors in place of its weight; a module that was left alone has its weight.
    if let (Some(module), &[rows, cols]) = (name.strip_suffix(".weight"), shape) {
        let has = |suffix: &str| lookup.checkpoint().tensor(&format!("{module}{suffix}")).is_some();
        match quantization {
            Quantization::Gptq(config) if has(".qweight") => return gptq::locate(lookup, config, module, [rows, cols]),
            Quantization::Awq(config) if has(".qweight") => return awq::locate(lookup, config, module, [rows, cols]),
            Quantization::CompressedTensors(config) if has(".weight_packed") => {
                return packed::locate(lookup, config, module, [rows, cols]);
            }
            _ => {}
        }
    }
    lookup.missing(name);
    Ok(None)
}

/// What a run of rows needs besides its own bytes.
pub(crate) enum Decoder {
    Plain(&'static Codec),
    Scaled(scaled::Decoder),
    Gptq(gptq::Decoder),
    Awq(awq::Decoder),
    Packed(packed::Decoder),
}

/// Reads `rows` rows of `cols` of a part, from its row `first` on: their bytes into `raw`, a buffer that is used again and
/// again, the rest into the decoder.
///
/// # Errors
/// A read fails, or a group number lies outside of the groups.
pub(crate) fn read(
    checkpoint: &Checkpoint,
    part: &Part,
    cols: u64,
    first: u64,
    rows: u64,
    raw: &mut Vec<u8>,
) -> Result<Decoder, Error> {
    // Spans were checked against shapes, so that all products here lie inside of their tensors.
    let run = Run { checkpoint, tensor: part.tensor, first: part.first_row + first, rows, cols };
    Ok(match &part.encoding {
        Encoding::Plain => Decoder::Plain(plain::read(&run, raw)?),
        Encoding::Scaled(scaled) => Decoder::Scaled(scaled::read(&run, scaled, raw)?),
        Encoding::Gptq(gptq) => Decoder::Gptq(gptq::read(&run, gptq, raw)?),
        Encoding::Awq(awq) => Decoder::Awq(awq::read(&run, awq, raw)?),
        Encoding::Packed(packed) => Decoder::Packed(packed::read(&run, packed, raw)?),
    })
}

impl Decoder {
    /// Decodes whole rows of `cols` into `out`, from row `first` of the run on. `raw` holds the run's bytes.
    pub fn rows(&self, raw: &[u8], cols: usize, first: usize, out: &mut [f32]) {
        match self {
            Decoder::Plain(codec) => plain::rows(codec, raw, cols, first, out),
            Decoder::Scaled(decoder) => decoder.rows(raw, cols, first, out),
            Decoder::Gptq(decoder) => decoder.rows(raw, cols, first, out),
            Decoder::Awq(decoder) => decoder.rows(raw, cols, first, out),
            Decoder::Packed(decoder) => decoder.rows(raw, cols, first, out),
        }
    }
}

/// Consecutive rows of a matrix, to be read.
struct Run<'a> {
    checkpoint: &'a Checkpoint,
    /// Index of the tensor that holds the weights.
    tensor: usize,
    first: u64,
    rows: u64,
    cols: u64,
}

impl Run<'_> {
    /// Whole rows `top..bottom` of a stored matrix `[_, width]`.
    fn read_rows(&self, tensor: usize, width: u64, [top, bottom]: [u64; 2], out: &mut Vec<u8>) -> Result<(), Error> {
        let stored = &self.checkpoint.tensors()[tensor];
        let row_bytes = width * (stored.dtype.bitsize() as u64 / 8);
        out.resize(((bottom - top) * row_bytes) as usize, 0);
        self.checkpoint.read_at(stored, top * row_bytes, out)
    }

    /// Columns `left..right` of every row of a stored matrix `[height, width]`, one row after the other. Rows lie apart in
    /// the file, so each is a read of its own, unless all columns are wanted.
    fn read_columns(
        &self,
        tensor: usize,
        [height, width]: [u64; 2],
        [left, right]: [u64; 2],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if right - left == width {
            return self.read_rows(tensor, width, [0, height], out);
        }
        let stored = &self.checkpoint.tensors()[tensor];
        let element = stored.dtype.bitsize() as u64 / 8;
        let span = ((right - left) * element) as usize;
        out.resize(height as usize * span, 0);
        for (row, part) in (0..).zip(out.chunks_exact_mut(span)) {
            self.checkpoint.read_at(stored, (row * width + left) * element, part)?;
        }
        Ok(())
    }

    /// The same as f32 values.
    fn floats(&self, tensor: usize, shape: [u64; 2], columns: [u64; 2]) -> Result<Vec<f32>, Error> {
        let mut raw = Vec::new();
        self.read_columns(tensor, shape, columns, &mut raw)?;
        Ok(floats(self.checkpoint.tensors()[tensor].dtype, &raw))
    }

    /// The group of every column: as stored in the i32 tensor `index`, else `group` columns each. Stored ones must be
    /// less than `groups`.
    fn groups(&self, index: Option<usize>, group: u64, groups: u64) -> Result<Vec<u32>, Error> {
        let Some(index) = index else { return Ok((0..self.cols).map(|c| (c / group) as u32).collect()) };
        let mut raw = Vec::new();
        self.read_rows(index, 1, [0, self.cols], &mut raw)?;
        let all: Vec<u32> = raw.chunks_exact(4).map(word).collect();
        match all.iter().find(|g| u64::from(**g) >= groups) {
            None => Ok(all),
            Some(&group) => {
                let stored = &self.checkpoint.tensors()[index];
                let problem = Problem::GroupIndex { name: stored.name.clone(), group: group as i32, groups };
                Err(problem.of(self.checkpoint.file_of(stored)))
            }
        }
    }
}

/// Values of a type that scales and zero points have.
///
/// # Panics
/// For another type: those were refused when the tensors were located.
fn floats(dtype: Dtype, raw: &[u8]) -> Vec<f32> {
    if dtype == Dtype::I8 {
        return raw.iter().map(|&b| f32::from(b.cast_signed())).collect();
    }
    let codec = plain::codec(dtype);
    let mut out = vec![0.0; raw.len() / (dtype.bitsize() / 8)];
    codec.dequantize(raw, &mut out);
    out
}

/// A little-endian word of packed integers. The slice has four bytes.
fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
