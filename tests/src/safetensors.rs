//! A small safetensors reader and writer for test data.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::json;

/// One array of a reference file.
pub enum Array {
    /// Float32 values, row-major.
    F32(Vec<f32>),
    /// Int32 values.
    I32(Vec<i32>),
}

/// Arrays by name, with their shapes.
pub struct Arrays(BTreeMap<String, (Vec<usize>, Array)>);

impl Arrays {
    /// Reads F32 and I32 arrays; panics on anything else, as tests should.
    pub fn read(path: &Path) -> Arrays {
        let raw = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&raw).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let words = |bytes: &[u8]| bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect::<Vec<_>>();
        let read = |(name, t): (String, safetensors::tensor::TensorView<'_>)| {
            let words = words(t.data());
            let array = match t.dtype() {
                safetensors::Dtype::F32 => Array::F32(words.into_iter().map(f32::from_le_bytes).collect()),
                safetensors::Dtype::I32 => Array::I32(words.into_iter().map(i32::from_le_bytes).collect()),
                other => panic!("{}: {name} is {other:?}", path.display()),
            };
            (name, (t.shape().to_vec(), array))
        };
        Arrays(file.tensors().into_iter().map(read).collect())
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A float32 array.
    pub fn f32(&self, name: &str) -> &[f32] {
        match self.0.get(name) {
            Some((_, Array::F32(v))) => v,
            _ => panic!("no float32 array {name}"),
        }
    }

    /// An int32 array of ids.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        match self.0.get(name) {
            Some((_, Array::I32(v))) => v.iter().map(|i| u32::try_from(*i).expect("an id")).collect(),
            _ => panic!("no int32 array {name}"),
        }
    }

    /// An array's shape.
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].0
    }
}

/// Writes a safetensors file from (name, dtype, shape, little-endian bytes).
pub fn write(path: &Path, arrays: &[(String, &str, Vec<usize>, Vec<u8>)]) {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, dtype, shape, bytes) in arrays {
        let end = at + bytes.len();
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut text = serde_json::Value::Object(header).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    arrays.iter().for_each(|(_, _, _, bytes)| out.extend_from_slice(bytes));
    fs::write(path, out).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
