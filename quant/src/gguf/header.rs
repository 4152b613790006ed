//! What a GGUF file says about itself.

use super::error::{GgufError, Quoted};
use super::index::NameIndex;
use super::value::{Array, Value};
use crate::dtype::DType;

/// A tensor in the table of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorInfo {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Elements along each dimension in ggml's order: columns first. 1 to 4, none zero.
    pub shape: Vec<u64>,
    /// The type of its elements.
    pub dtype: DType,
    /// First byte, from the start of its file's data.
    pub offset: u64,
    /// Bytes that it takes; follows from shape and type.
    pub bytes: u64,
    /// The part of a split model that holds it; 0 in a model of one file.
    pub part: usize,
}

/// Metadata and tensor table of a GGUF file or of all parts of a split one, checked.
#[derive(Clone, Debug)]
pub struct Header {
    /// Version of the format: 2 or 3; the first part's.
    pub version: u32,
    /// Tensors start at multiples of it; a power of two. The first part's.
    pub alignment: u64,
    /// Where the tensors' data start in the (first) file.
    pub data_offset: u64,
    metadata: Vec<(String, Value)>,
    keys: NameIndex,
    tensors: Vec<TensorInfo>,
    names: NameIndex,
}

impl Header {
    pub(super) fn new(
        version: u32,
        alignment: u64,
        data_offset: u64,
        (metadata, keys): (Vec<(String, Value)>, NameIndex),
        (tensors, names): (Vec<TensorInfo>, NameIndex),
    ) -> Header {
        Header { version, alignment, data_offset, metadata, keys, tensors, names }
    }

    /// This header with the tables of the parts that follow its own file, whose keys are left out.
    ///
    /// # Errors
    /// A tensor that two parts have.
    pub(super) fn join(mut self, others: impl IntoIterator<Item = Header>) -> Result<Header, GgufError> {
        for (i, other) in others.into_iter().enumerate() {
            self.tensors.extend(other.tensors.into_iter().map(|t| TensorInfo { part: i + 1, ..t }));
        }
        self.names = NameIndex::new(&self.tensors, |t| &t.name)
            .map_err(|i| GgufError::PartsShare { name: Quoted::new(&self.tensors[i].name) })?;
        Ok(self)
    }

    /// Keys and values in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.find(&self.metadata, |(key, _)| key, key).map(|(_, value)| value)
    }

    /// The tensors in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.names.find(&self.tensors, |t| &t.name, name)
    }

    fn typed<'h, T>(
        &'h self,
        key: &str,
        expected: &'static str,
        view: impl FnOnce(&'h Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match view(value) {
            Some(typed) => Ok(Some(typed)),
            None => Err(GgufError::KeyType { key: Quoted::new(key), expected, found: value.type_name() }),
        }
    }

    fn unsigned(&self, key: &str, most: u64) -> Result<Option<u64>, GgufError> {
        let Some(value) = self.typed(key, "an integer", Value::integer)? else { return Ok(None) };
        match u64::try_from(value) {
            Ok(n) if n <= most => Ok(Some(n)),
            _ => Err(GgufError::KeyRange { key: Quoted::new(key), value, most }),
        }
    }

    /// The text under `key`; `None` if there is none.
    ///
    /// # Errors
    /// The value is no text.
    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a string", |v| match v {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The number under `key`, stored as an integer of any type; `None` if there is none.
    ///
    /// # Errors
    /// The value is no integer, or not in 0 to 2³²-1.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        Ok(self.unsigned(key, u32::MAX.into())?.map(|n| n as u32))
    }

    /// The number under `key`, stored as an integer of any type; `None` if there is none.
    ///
    /// # Errors
    /// The value is no integer, or negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.unsigned(key, u64::MAX)
    }

    /// The number under `key`, stored as float32 or float64; `None` if there is none.
    ///
    /// # Errors
    /// The value is of another type.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.typed(key, "a float", |v| match *v {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        })
    }

    /// The flag under `key`; `None` if there is none.
    ///
    /// # Errors
    /// The value is no boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a bool", |v| match *v {
            Value::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    /// The texts under `key`; `None` if there are none.
    ///
    /// # Errors
    /// The value is no array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.typed(key, "an array<string>", |v| match v {
            Value::Array(Array::String(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// The integers under `key`; `None` if there are none.
    ///
    /// # Errors
    /// The value is no array of int32.
    pub fn i32s(&self, key: &str) -> Result<Option<&[i32]>, GgufError> {
        self.typed(key, "an array<int32>", |v| match v {
            Value::Array(Array::I32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// The numbers under `key`; `None` if there are none.
    ///
    /// # Errors
    /// The value is no array of float32.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.typed(key, "an array<float32>", |v| match v {
            Value::Array(Array::F32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }
}
