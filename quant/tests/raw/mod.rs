//! GGUF files spelled out field by field, right or wrong, for tests of the reader.
#![allow(dead_code)]

use qwren_quant::gguf::{GgufError, Header};

/// What a field is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    Version,
    TensorCount,
    KeyCount,
    KeyLength,
    ValueType,
    TextLength,
    ElementType,
    ArrayCount,
    NameLength,
    Dims,
    Dim,
    TensorType,
    Offset,
}

impl Field {
    /// Bytes that the field takes.
    pub fn width(self) -> usize {
        match self {
            Field::Version | Field::ValueType | Field::ElementType | Field::Dims | Field::TensorType => 4,
            _ => 8,
        }
    }
}

/// The bytes of a file, and where its fields are.
#[derive(Clone, Default)]
pub struct Raw {
    pub bytes: Vec<u8>,
    pub fields: Vec<(Field, usize)>,
}

impl Raw {
    /// Magic, version 3 and the counts.
    pub fn new(tensors: u64, keys: u64) -> Raw {
        let mut raw = Raw::default();
        raw.raw(b"GGUF");
        raw.field(Field::Version, 3);
        raw.field(Field::TensorCount, tensors);
        raw.field(Field::KeyCount, keys);
        raw
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Raw {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub fn field(&mut self, field: Field, value: u64) -> &mut Raw {
        self.fields.push((field, self.bytes.len()));
        self.raw(&value.to_le_bytes()[..field.width()])
    }

    /// A key and the number of its type; the value follows.
    pub fn key(&mut self, key: &str, value_type: u64) -> &mut Raw {
        self.field(Field::KeyLength, key.len() as u64).raw(key.as_bytes()).field(Field::ValueType, value_type)
    }

    pub fn text(&mut self, text: &str) -> &mut Raw {
        self.field(Field::TextLength, text.len() as u64).raw(text.as_bytes())
    }

    /// The start of an array; its elements follow.
    pub fn array(&mut self, element_type: u64, count: u64) -> &mut Raw {
        self.field(Field::ElementType, element_type).field(Field::ArrayCount, count)
    }

    pub fn tensor(&mut self, name: &str, shape: &[u64], dtype: u64, offset: u64) -> &mut Raw {
        self.field(Field::NameLength, name.len() as u64).raw(name.as_bytes());
        self.field(Field::Dims, shape.len() as u64);
        for &n in shape {
            self.field(Field::Dim, n);
        }
        self.field(Field::TensorType, dtype).field(Field::Offset, offset)
    }

    /// Pads to `alignment`, then adds `bytes` bytes of data.
    pub fn data(&mut self, alignment: usize, bytes: usize) -> &mut Raw {
        let len = self.bytes.len().next_multiple_of(alignment) + bytes;
        self.bytes.resize(len, 0);
        self
    }

    /// The same bytes with one field overwritten.
    pub fn with(&self, (field, at): (Field, usize), value: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[at..at + field.width()].copy_from_slice(&value.to_le_bytes()[..field.width()]);
        bytes
    }

    pub fn parse(&self) -> Result<Header, GgufError> {
        parse(&self.bytes)
    }
}

pub fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::parse(bytes, bytes.len() as u64)
}

/// A sound file with every kind of field in it.
pub fn sample() -> Raw {
    let mut raw = Raw::new(3, 9);
    raw.key("general.architecture", 8).text("sample");
    raw.key("general.alignment", 4).raw(&32u32.to_le_bytes());
    raw.key("sample.block_count", 4).raw(&1u32.to_le_bytes());
    raw.key("sample.rope.freq_base", 6).raw(&1e6f32.to_le_bytes());
    raw.key("tokenizer.ggml.tokens", 9).array(8, 3).text("a").text("").text("ü");
    raw.key("tokenizer.ggml.token_type", 9).array(5, 3).raw(&[1, 0, 0, 0].repeat(3));
    raw.key("tokenizer.ggml.add_bos_token", 7).raw(&[0]);
    raw.key("nested", 9).array(9, 2).array(0, 2).raw(&[1, 2]).array(11, 0);
    raw.key("big", 10).raw(&u64::MAX.to_le_bytes());
    raw.tensor("token_embd.weight", &[256, 3], 12, 0);
    raw.tensor("output_norm.weight", &[8], 0, 448);
    raw.tensor("blk.0.ffn_down_exps.weight", &[32, 2, 2, 1], 8, 480);
    raw.data(32, 480 + 4 * 34);
    raw
}

/// Parses `bytes`. An error must be one line of text; a header must describe spans that lie in the file, apart.
pub fn outcome(bytes: &[u8]) -> Result<Header, GgufError> {
    let parsed = parse(bytes);
    match &parsed {
        Err(e) => {
            let text = e.to_string();
            assert!(!text.is_empty() && text.len() < 600, "{text}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
        Ok(h) => {
            let mut spans = Vec::new();
            for t in h.tensors() {
                assert_eq!(t.dtype.tensor_bytes(&t.shape), Ok(t.bytes));
                assert_eq!(t.offset % h.alignment, 0);
                spans.push((t.offset, t.offset.checked_add(t.bytes).unwrap()));
                assert_eq!(h.tensor(&t.name), Some(t));
            }
            spans.sort_unstable();
            assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:?}");
            assert!(spans.iter().all(|&(_, end)| h.data_offset + end <= bytes.len() as u64), "{spans:?}");
            for (key, value) in h.metadata() {
                assert_eq!(h.get(key).map(|v| v.type_name()), Some(value.type_name()));
            }
        }
    }
    parsed
}
