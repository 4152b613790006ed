//! The reader. Nothing in the bytes is believed: every count is compared with what is left before memory is reserved,
//! every size is computed with checks, and a header that comes out of here has spans that lie in the file.

use super::cursor::{Cursor, What};
use super::error::{GgufError, Quoted};
use super::foreign;
use super::header::{Header, TensorInfo};
use super::index::NameIndex;
use super::known;
use super::spans;
use super::value::{Array, Value, ValueType};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, VERSION, alignment_is_sound};
use crate::dtype::{DType, DTypeError, MAX_DIMS};

/// Longest key; the format's own limit.
const KEY_CAP: usize = 65_535;
/// Longest text as a value. Chat templates have some kilobytes.
const TEXT_CAP: usize = 16 << 20;
/// Longest name of a tensor; no tool writes more than 127 bytes.
const NAME_CAP: usize = 255;
/// Arrays in arrays; no known key has any.
const NESTING_CAP: usize = 4;
/// Most elements for which room is made before they are read.
const RESERVE_CAP: usize = 1024;

/// The fewest bytes of a key and its value: length, one letter, type, one byte.
const LEAST_PAIR: usize = 8 + 1 + 4 + 1;
/// The fewest bytes of a table entry: length, one letter, dimensions, one of them, type, offset.
const LEAST_ENTRY: usize = 8 + 1 + 4 + 8 + 4 + 8;

impl Header {
    /// Reads and checks the header of a file of `file_len` bytes, of which `bytes` are the first (all, usually).
    ///
    /// # Errors
    /// Anything that is not as the format wants it; see [`GgufError`]. Never panics, and memory stays in proportion to
    /// the bytes that were read.
    pub fn parse(bytes: &[u8], file_len: u64) -> Result<Header, GgufError> {
        let mut cursor = Cursor::new(bytes);
        let version = preamble(bytes, &mut cursor)?;
        let tensor_count = cursor.u64(What::Preamble)?;
        let key_count = cursor.u64(What::Preamble)?;
        plausible("tensors", tensor_count, LEAST_ENTRY, &cursor)?;
        plausible("keys", key_count, LEAST_PAIR, &cursor)?;

        let metadata = read_metadata(&mut cursor, key_count)?;
        let keys = NameIndex::new(&metadata, |(key, _)| key)
            .map_err(|i| GgufError::DuplicateKey { key: Quoted::new(&metadata[i].0) })?;
        known::check(&metadata)?;
        let alignment = match keys.find(&metadata, |(key, _)| key, ALIGNMENT_KEY) {
            Some((_, value)) => read_alignment(value)?,
            None => DEFAULT_ALIGNMENT.into(),
        };

        let tensors = read_tensors(&mut cursor, tensor_count)?;
        let names = NameIndex::new(&tensors, |t| &t.name)
            .map_err(|i| GgufError::DuplicateTensor { name: Quoted::new(&tensors[i].name) })?;
        // The position is at most the header's cap, so the padding can't overflow.
        let data_offset = cursor.position().next_multiple_of(alignment);
        spans::check(&tensors, alignment, data_offset, file_len)?;
        Ok(Header::new(version, alignment, data_offset, (metadata, keys), (tensors, names)))
    }
}

/// Magic, byte order and version, in this order.
fn preamble(bytes: &[u8], cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    if bytes.is_empty() {
        return Err(GgufError::Empty);
    }
    if !bytes.starts_with(&MAGIC) && !MAGIC.starts_with(bytes) {
        return Err(foreign::recognise(bytes));
    }
    cursor.take(MAGIC.len() as u64, What::Preamble)?;
    match cursor.u32(What::Preamble)? {
        version @ 2..=VERSION => Ok(version),
        // The number of a big-endian file, read in the wrong order, has all its bits in the upper half.
        swapped if swapped != 0 && swapped & 0xffff == 0 => Err(GgufError::BigEndian),
        version => Err(GgufError::Version(version)),
    }
}

/// Can `count` records of at least `least` bytes be in what is left?
fn plausible(what: &'static str, count: u64, least: usize, cursor: &Cursor<'_>) -> Result<(), GgufError> {
    let (left, most) = (cursor.left() as u64, (cursor.left() / least) as u64);
    if count > most { Err(GgufError::Count { what, count, left, most }) } else { Ok(()) }
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<(String, Value)>, GgufError> {
    let mut metadata = Vec::new();
    for i in 0..count {
        let key = cursor.text(KEY_CAP, What::Key(i))?;
        if key.is_empty() {
            return Err(GgufError::NoName { what: What::Key(i).to_string() });
        }
        let kind = read_type(cursor, key)?;
        metadata.push((key.to_owned(), read_value(cursor, key, kind)?));
    }
    Ok(metadata)
}

fn read_type(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, GgufError> {
    let id = cursor.u32(What::Value(key))?;
    ValueType::from_id(id).ok_or_else(|| GgufError::ValueType { key: Quoted::new(key), id })
}

fn read_bool(byte: u8, key: &str) -> Result<bool, GgufError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(GgufError::NotBool { key: Quoted::new(key), byte }),
    }
}

fn read_value(cursor: &mut Cursor<'_>, key: &str, kind: ValueType) -> Result<Value, GgufError> {
    let what = What::Value(key);
    Ok(match kind {
        ValueType::U8 => Value::U8(cursor.u8(what)?),
        ValueType::I8 => Value::I8(cursor.u8(what)? as i8),
        ValueType::U16 => Value::U16(number(cursor, what, u16::from_le_bytes)?),
        ValueType::I16 => Value::I16(number(cursor, what, i16::from_le_bytes)?),
        ValueType::U32 => Value::U32(number(cursor, what, u32::from_le_bytes)?),
        ValueType::I32 => Value::I32(number(cursor, what, i32::from_le_bytes)?),
        ValueType::F32 => Value::F32(number(cursor, what, f32::from_le_bytes)?),
        ValueType::U64 => Value::U64(number(cursor, what, u64::from_le_bytes)?),
        ValueType::I64 => Value::I64(number(cursor, what, i64::from_le_bytes)?),
        ValueType::F64 => Value::F64(number(cursor, what, f64::from_le_bytes)?),
        ValueType::Bool => Value::Bool(read_bool(cursor.u8(what)?, key)?),
        ValueType::String => Value::String(cursor.text(TEXT_CAP, what)?.to_owned()),
        ValueType::Array => Value::Array(read_array(cursor, key, 1)?),
    })
}

fn number<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    what: What<'_>,
    from_le: fn([u8; N]) -> T,
) -> Result<T, GgufError> {
    let (chunks, _) = cursor.take(N as u64, what)?.as_chunks::<N>();
    Ok(from_le(chunks[0]))
}

fn numbers<const N: usize, T>(bytes: &[u8], from_le: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| from_le(chunk)).collect()
}

/// The array under `key`, itself at `depth` (1: not in another array).
fn read_array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Array, GgufError> {
    if depth > NESTING_CAP {
        return Err(GgufError::Nesting { key: Quoted::new(key), limit: NESTING_CAP });
    }
    let what = What::Value(key);
    let kind = read_type(cursor, key)?;
    let count = cursor.u64(what)?;
    let (left, most) = (cursor.left() as u64, (cursor.left() / kind.least_bytes()) as u64);
    if count > most {
        return Err(GgufError::ArrayTooLong { key: Quoted::new(key), count, left, most });
    }
    // At most `left`: neither conversion nor product can overflow.
    let n = count as usize;
    let mut flat = || cursor.take((n * kind.least_bytes()) as u64, what);
    Ok(match kind {
        ValueType::U8 => Array::U8(flat()?.to_vec()),
        ValueType::I8 => Array::I8(numbers(flat()?, i8::from_le_bytes)),
        ValueType::U16 => Array::U16(numbers(flat()?, u16::from_le_bytes)),
        ValueType::I16 => Array::I16(numbers(flat()?, i16::from_le_bytes)),
        ValueType::U32 => Array::U32(numbers(flat()?, u32::from_le_bytes)),
        ValueType::I32 => Array::I32(numbers(flat()?, i32::from_le_bytes)),
        ValueType::F32 => Array::F32(numbers(flat()?, f32::from_le_bytes)),
        ValueType::U64 => Array::U64(numbers(flat()?, u64::from_le_bytes)),
        ValueType::I64 => Array::I64(numbers(flat()?, i64::from_le_bytes)),
        ValueType::F64 => Array::F64(numbers(flat()?, f64::from_le_bytes)),
        ValueType::Bool => Array::Bool(flat()?.iter().map(|&byte| read_bool(byte, key)).collect::<Result<_, _>>()?),
        ValueType::String => {
            let mut texts = Vec::with_capacity(n.min(RESERVE_CAP));
            for i in 0..count {
                texts.push(cursor.text(TEXT_CAP, What::Element(key, i))?.to_owned());
            }
            Array::String(texts)
        }
        ValueType::Array => {
            let mut arrays = Vec::with_capacity(n.min(RESERVE_CAP));
            for _ in 0..count {
                arrays.push(read_array(cursor, key, depth + 1)?);
            }
            Array::Nested(arrays)
        }
    })
}

fn read_alignment(value: &Value) -> Result<u64, GgufError> {
    match *value {
        Value::U32(n) if alignment_is_sound(n.into()) => Ok(n.into()),
        Value::U32(n) => Err(GgufError::Alignment(n.into())),
        _ => Err(GgufError::KeyType {
            key: Quoted::new(ALIGNMENT_KEY),
            expected: ValueType::U32.name(),
            found: value.type_name(),
        }),
    }
}

fn read_tensors(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<TensorInfo>, GgufError> {
    let mut tensors = Vec::new();
    for i in 0..count {
        let name = cursor.text(NAME_CAP, What::TensorName(i))?;
        if name.is_empty() {
            return Err(GgufError::NoName { what: What::TensorName(i).to_string() });
        }
        tensors.push(read_tensor(cursor, name)?);
    }
    Ok(tensors)
}

fn read_tensor(cursor: &mut Cursor<'_>, name: &str) -> Result<TensorInfo, GgufError> {
    let what = What::Tensor(name);
    let cannot_be = |why| GgufError::Tensor { name: Quoted::new(name), why };
    let dims = cursor.u32(what)?;
    if dims == 0 || dims as usize > MAX_DIMS {
        return Err(cannot_be(DTypeError::Dims(dims.into())));
    }
    let shape = numbers(cursor.take(u64::from(dims) * 8, what)?, u64::from_le_bytes);
    let dtype = DType::from_ggml_id(cursor.u32(what)?).map_err(cannot_be)?;
    let bytes = dtype.tensor_bytes(&shape).map_err(cannot_be)?;
    let offset = cursor.u64(what)?;
    Ok(TensorInfo { name: name.to_owned(), shape, dtype, offset, bytes, part: 0 })
}
