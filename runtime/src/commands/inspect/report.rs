//! What `inspect` tells, as data.

use std::collections::BTreeMap;
use std::path::Path;

use qwren_quant::dtype::DType;
use qwren_quant::gguf::{GgufFile, TensorInfo};
use serde::{Serialize, Serializer};

use super::memory::Memory;
use super::value::Cut;

/// Everything about a file.
#[derive(Debug, Serialize)]
pub struct Report<'f> {
    /// The file.
    pub file: &'f Path,
    /// Version of the GGUF format.
    pub version: u32,
    /// Tensors start at multiples of it.
    pub alignment: u64,
    /// Where the first tensor starts.
    pub data_offset: u64,
    /// Bytes in the file, or in all parts of a split model.
    pub file_bytes: u64,
    /// The files: one, or all parts of a split model.
    pub parts: Vec<&'f Path>,
    /// Keys and values in the file's order.
    #[serde(serialize_with = "in_order")]
    pub metadata: Vec<(&'f str, Cut<'f>)>,
    /// The tensors in the file's order.
    pub tensors: Vec<Tensor<'f>>,
    /// Sums by type.
    pub types: Vec<Sum>,
    /// Sums of all tensors.
    pub weights: u64,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// The file's size on average; absent where there is no weight.
    pub bits_per_weight: Option<f64>,
    /// What a run needs.
    pub memory: Option<Memory>,
    /// Why there is no run.
    pub cannot_run: Option<String>,
}

/// A tensor.
#[derive(Debug, Serialize)]
pub struct Tensor<'f> {
    /// Its name.
    pub name: &'f str,
    /// Its type's name.
    #[serde(rename = "type")]
    pub dtype: &'static str,
    /// Columns first.
    pub shape: &'f [u64],
    /// First byte, from the start of the data.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Which of `parts` holds it.
    pub part: usize,
}

/// All tensors of a type.
#[derive(Debug, Serialize)]
pub struct Sum {
    /// The type's name.
    #[serde(rename = "type")]
    pub dtype: &'static str,
    /// Tensors.
    pub tensors: usize,
    /// Elements in them.
    pub weights: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl<'f> Report<'f> {
    /// Gathers everything about `file`; the memory for a context of `ctx` tokens.
    pub fn new(file: &'f GgufFile, ctx: Option<usize>) -> Report<'f> {
        let header = file.header();
        let types = sums(header.tensors());
        let weights = types.iter().map(|s| s.weights).sum();
        let weight_bytes = types.iter().map(|s| s.bytes).sum();
        let (memory, cannot_run) = match Memory::new(file, ctx) {
            Ok(memory) => (Some(memory), None),
            Err(why) => (None, Some(why)),
        };
        Report {
            file: file.path(),
            version: header.version,
            alignment: header.alignment,
            data_offset: header.data_offset,
            file_bytes: file.file_len(),
            parts: file.parts().iter().map(|part| part.path()).collect(),
            metadata: header.metadata().map(|(key, value)| (key, Cut(value))).collect(),
            tensors: header.tensors().iter().map(Tensor::new).collect(),
            types,
            weights,
            weight_bytes,
            bits_per_weight: (weights > 0).then(|| weight_bytes as f64 * 8.0 / weights as f64),
            memory,
            cannot_run,
        }
    }
}

impl<'f> Tensor<'f> {
    fn new(t: &'f TensorInfo) -> Tensor<'f> {
        Tensor { name: &t.name, dtype: t.dtype.name(), shape: &t.shape, offset: t.offset, bytes: t.bytes, part: t.part }
    }
}

/// Sums by type, the largest first. The reader has checked that they don't overflow: all bytes lie in the file.
fn sums(tensors: &[TensorInfo]) -> Vec<Sum> {
    let mut by_type = BTreeMap::<DType, Sum>::new();
    for t in tensors {
        let sum = by_type.entry(t.dtype).or_insert(Sum { dtype: t.dtype.name(), tensors: 0, weights: 0, bytes: 0 });
        sum.tensors += 1;
        sum.weights += t.shape.iter().product::<u64>();
        sum.bytes += t.bytes;
    }
    let mut sums: Vec<Sum> = by_type.into_values().collect();
    sums.sort_by_key(|s| std::cmp::Reverse(s.bytes));
    sums
}

/// A JSON object whose keys stay in the file's order.
fn in_order<S: Serializer>(metadata: &[(&str, Cut<'_>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(metadata.iter().map(|(key, value)| (key, value)))
}
