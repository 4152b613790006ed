//! The writer: a file is planned whole, then its bytes stream through.

use std::io::{self, Write};

use byteorder::{LE, WriteBytesExt};

use super::error::Quoted;
use super::header::TensorInfo;
use super::index::NameIndex;
use super::value::{Array, Value};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, VERSION, alignment_is_sound};
use crate::dtype::{DType, DTypeError};

/// Longest tensor name that llama.cpp reads.
const NAME_CAP: usize = 63;

/// Why a file can't be planned or written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The destination refused bytes.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not a power of two from 8 to 65536.
    #[error("an alignment of {0} is not a power of two from 8 to 65536")]
    Alignment(u32),
    /// A key given twice.
    #[error("the key {0} is given twice")]
    DuplicateKey(Quoted),
    /// A tensor given twice.
    #[error("the tensor {0} is given twice")]
    DuplicateTensor(Quoted),
    /// A name that readers refuse.
    #[error("the name {name} of a tensor has {len} bytes; 1 to {NAME_CAP} are possible")]
    Name {
        /// The name.
        name: Quoted,
        /// Its length.
        len: usize,
    },
    /// A tensor with an impossible shape.
    #[error("the tensor {name} cannot be written: {why}")]
    Tensor {
        /// The tensor.
        name: Quoted,
        /// What is wrong.
        why: DTypeError,
    },
    /// The sizes don't fit in 63 bits.
    #[error("the tensors together are too large for a file")]
    TooLarge,
    /// More bytes than the tensor takes.
    #[error("the tensor {name} takes {bytes} bytes, and {extra} more came")]
    Long {
        /// The tensor.
        name: Quoted,
        /// Bytes planned.
        bytes: u64,
        /// Bytes too many.
        extra: u64,
    },
    /// Fewer bytes than the tensor takes.
    #[error("the tensor {name} takes {bytes} bytes, of which {missing} did not come")]
    Short {
        /// The tensor.
        name: Quoted,
        /// Bytes planned.
        bytes: u64,
        /// Bytes missing.
        missing: u64,
    },
    /// Bytes after the last tensor.
    #[error("bytes came after the last tensor")]
    AfterEnd,
}

/// What a file shall hold.
#[derive(Debug)]
pub struct Plan {
    alignment: u32,
    metadata: Vec<(String, Value)>,
    tensors: Vec<TensorInfo>,
    /// Where the next tensor goes, from the start of the data.
    end: u64,
}

impl Plan {
    /// A file with nothing in it yet, whose tensors start at multiples of `alignment` (32 everywhere but in odd files).
    pub fn new(alignment: u32) -> Plan {
        Plan { alignment, metadata: Vec::new(), tensors: Vec::new(), end: 0 }
    }

    /// Adds a key. Keys are written in the order given.
    pub fn push_kv(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.push((key.to_owned(), value.into()));
    }

    /// Adds a tensor of `shape`, columns first, after those that are there.
    ///
    /// # Errors
    /// A name or a shape that readers refuse, or data that no file can hold.
    pub fn push_tensor(&mut self, name: &str, shape: &[u64], dtype: DType) -> Result<(), WriteError> {
        if name.is_empty() || name.len() > NAME_CAP {
            return Err(WriteError::Name { name: Quoted::new(name), len: name.len() });
        }
        if !alignment_is_sound(self.alignment.into()) {
            return Err(WriteError::Alignment(self.alignment));
        }
        let bytes = dtype.tensor_bytes(shape).map_err(|why| WriteError::Tensor { name: Quoted::new(name), why })?;
        let offset = self.end;
        // The last tensor is padded too: llama.cpp reads the data as a sum of padded sizes.
        let end = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(self.alignment.into()));
        self.end = end.filter(|&end| end <= i64::MAX as u64).ok_or(WriteError::TooLarge)?;
        self.tensors.push(TensorInfo { name: name.to_owned(), shape: shape.to_vec(), dtype, offset, bytes, part: 0 });
        Ok(())
    }

    /// Fixes every offset and encodes the header.
    ///
    /// # Errors
    /// A key or a tensor given twice, or an impossible alignment.
    pub fn layout(mut self) -> Result<Layout, WriteError> {
        if !alignment_is_sound(self.alignment.into()) {
            return Err(WriteError::Alignment(self.alignment));
        }
        if self.alignment != DEFAULT_ALIGNMENT {
            self.push_kv(ALIGNMENT_KEY, self.alignment);
        }
        NameIndex::new(&self.metadata, |(key, _)| key)
            .map_err(|i| WriteError::DuplicateKey(Quoted::new(&self.metadata[i].0)))?;
        NameIndex::new(&self.tensors, |t| &t.name)
            .map_err(|i| WriteError::DuplicateTensor(Quoted::new(&self.tensors[i].name)))?;

        let mut header = encode_header(&self)?;
        header.resize(header.len().next_multiple_of(self.alignment as usize), 0);
        let data_offset = header.len() as u64;
        let file_bytes = data_offset.checked_add(self.end).ok_or(WriteError::TooLarge)?;
        Ok(Layout { header, tensors: self.tensors, data_offset, file_bytes })
    }
}

/// A file of which everything but the tensors' content is fixed.
#[derive(Clone, Debug)]
pub struct Layout {
    /// From the magic up to the first tensor, padding included.
    pub header: Vec<u8>,
    /// The tensors in the order in which they are written.
    pub tensors: Vec<TensorInfo>,
    /// Where the first tensor starts; the length of `header`.
    pub data_offset: u64,
    /// Bytes of the whole file.
    pub file_bytes: u64,
}

fn encode_header(plan: &Plan) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    out.write_all(&MAGIC)?;
    out.write_u32::<LE>(VERSION)?;
    out.write_u64::<LE>(plan.tensors.len() as u64)?;
    out.write_u64::<LE>(plan.metadata.len() as u64)?;
    for (key, value) in &plan.metadata {
        encode_text(&mut out, key)?;
        out.write_u32::<LE>(value.value_type().id())?;
        encode_value(&mut out, value)?;
    }
    for t in &plan.tensors {
        encode_text(&mut out, &t.name)?;
        out.write_u32::<LE>(t.shape.len() as u32)?;
        for &n in &t.shape {
            out.write_u64::<LE>(n)?;
        }
        out.write_u32::<LE>(t.dtype.ggml_id())?;
        out.write_u64::<LE>(t.offset)?;
    }
    Ok(out)
}

fn encode_text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    out.write_u64::<LE>(text.len() as u64)?;
    out.write_all(text.as_bytes())
}

fn encode_value(out: &mut Vec<u8>, value: &Value) -> io::Result<()> {
    match value {
        Value::U8(n) => out.write_u8(*n),
        Value::I8(n) => out.write_i8(*n),
        Value::U16(n) => out.write_u16::<LE>(*n),
        Value::I16(n) => out.write_i16::<LE>(*n),
        Value::U32(n) => out.write_u32::<LE>(*n),
        Value::I32(n) => out.write_i32::<LE>(*n),
        Value::F32(x) => out.write_f32::<LE>(*x),
        Value::Bool(flag) => out.write_u8((*flag).into()),
        Value::String(text) => encode_text(out, text),
        Value::U64(n) => out.write_u64::<LE>(*n),
        Value::I64(n) => out.write_i64::<LE>(*n),
        Value::F64(x) => out.write_f64::<LE>(*x),
        Value::Array(array) => encode_array(out, array),
    }
}

fn encode_array(out: &mut Vec<u8>, array: &Array) -> io::Result<()> {
    out.write_u32::<LE>(array.element_type().id())?;
    out.write_u64::<LE>(array.len() as u64)?;
    match array {
        Array::U8(v) => out.write_all(v),
        Array::I8(v) => v.iter().try_for_each(|&n| out.write_i8(n)),
        Array::U16(v) => v.iter().try_for_each(|&n| out.write_u16::<LE>(n)),
        Array::I16(v) => v.iter().try_for_each(|&n| out.write_i16::<LE>(n)),
        Array::U32(v) => v.iter().try_for_each(|&n| out.write_u32::<LE>(n)),
        Array::I32(v) => v.iter().try_for_each(|&n| out.write_i32::<LE>(n)),
        Array::F32(v) => v.iter().try_for_each(|&x| out.write_f32::<LE>(x)),
        Array::Bool(v) => v.iter().try_for_each(|&flag| out.write_u8(flag.into())),
        Array::String(v) => v.iter().try_for_each(|text| encode_text(out, text)),
        Array::U64(v) => v.iter().try_for_each(|&n| out.write_u64::<LE>(n)),
        Array::I64(v) => v.iter().try_for_each(|&n| out.write_i64::<LE>(n)),
        Array::F64(v) => v.iter().try_for_each(|&x| out.write_f64::<LE>(x)),
        Array::Nested(v) => v.iter().try_for_each(|inner| encode_array(out, inner)),
    }
}

/// Writes a file as its [`Layout`] says: the header at once, then each tensor's bytes, in any pieces.
#[derive(Debug)]
pub struct Writer<'l, W: Write> {
    out: W,
    /// The tensors that are not complete; the first one is being written.
    tensors: &'l [TensorInfo],
    data_offset: u64,
    file_bytes: u64,
    /// Bytes written so far, header included.
    written: u64,
}

impl<'l, W: Write> Writer<'l, W> {
    /// Writes the header to `out`.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn new(mut out: W, layout: &'l Layout) -> Result<Writer<'l, W>, WriteError> {
        out.write_all(&layout.header)?;
        let Layout { data_offset, file_bytes, .. } = *layout;
        Ok(Writer { out, tensors: &layout.tensors, data_offset, file_bytes, written: data_offset })
    }

    /// The tensor whose bytes are due; `None` after the last one.
    pub fn current(&self) -> Option<&'l TensorInfo> {
        self.tensors.first()
    }

    /// Bytes of the file written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that the current tensor still takes.
    fn due(&self, t: &TensorInfo) -> u64 {
        self.data_offset + t.offset + t.bytes - self.written
    }

    /// Writes the next bytes of the current tensor.
    ///
    /// # Errors
    /// More bytes than it takes, or what the destination returns.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), WriteError> {
        let t = self.current().ok_or(WriteError::AfterEnd)?;
        let (len, due) = (chunk.len() as u64, self.due(t));
        if len > due {
            return Err(WriteError::Long { name: Quoted::new(&t.name), bytes: t.bytes, extra: len - due });
        }
        self.out.write_all(chunk)?;
        self.written += len;
        Ok(())
    }

    /// Ends the current tensor and pads up to the next one.
    ///
    /// # Errors
    /// Bytes of it are missing, or what the destination returns.
    pub fn end_tensor(&mut self) -> Result<(), WriteError> {
        let (t, rest) = self.tensors.split_first().ok_or(WriteError::AfterEnd)?;
        let missing = self.due(t);
        if missing > 0 {
            return Err(WriteError::Short { name: Quoted::new(&t.name), bytes: t.bytes, missing });
        }
        let next = rest.first().map_or(self.file_bytes, |next| self.data_offset + next.offset);
        io::copy(&mut io::Read::take(io::repeat(0), next - self.written), &mut self.out)?;
        self.written = next;
        self.tensors = rest;
        Ok(())
    }

    /// Flushes and returns the destination.
    ///
    /// # Errors
    /// Tensors are missing, or what the destination returns.
    pub fn finish(mut self) -> Result<W, WriteError> {
        if let Some(t) = self.current() {
            let missing = self.due(t);
            return Err(WriteError::Short { name: Quoted::new(&t.name), bytes: t.bytes, missing });
        }
        self.out.flush()?;
        Ok(self.out)
    }
}
