//! Reading fields from bytes that nobody vouches for.

use std::fmt;

use byteorder::{ByteOrder, LittleEndian};

use super::error::{GgufError, Quoted};

/// Metadata and tensor table may take this much. Qwen3's take 6 MB, the largest vocabularies in use 20 MB; what comes
/// from the header is held in memory several times its size, so a file must not choose it freely.
pub(crate) const HEADER_CAP: usize = 64 << 20;

/// What is being read, for messages; rendered only when one is made.
#[derive(Clone, Copy)]
pub(super) enum What<'a> {
    Preamble,
    Key(u64),
    Value(&'a str),
    Element(&'a str, u64),
    TensorName(u64),
    Tensor(&'a str),
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            What::Preamble => f.write_str("the header"),
            What::Key(i) => write!(f, "key number {i}"),
            What::Value(key) => write!(f, "the value of {}", Quoted::new(key)),
            What::Element(key, i) => write!(f, "element {i} of {}", Quoted::new(key)),
            What::TensorName(i) => write!(f, "the name of tensor number {i}"),
            What::Tensor(name) => write!(f, "the entry of tensor {}", Quoted::new(name)),
        }
    }
}

/// A position in the bytes of a header.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Are there more bytes than a header may take?
    capped: bool,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes: &bytes[..bytes.len().min(HEADER_CAP)], at: 0, capped: bytes.len() > HEADER_CAP }
    }

    pub fn position(&self) -> u64 {
        self.at as u64
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn take(&mut self, n: u64, what: What<'_>) -> Result<&'a [u8], GgufError> {
        let left = self.left();
        match usize::try_from(n) {
            Ok(n) if n <= left => {
                let taken = &self.bytes[self.at..self.at + n];
                self.at += n;
                Ok(taken)
            }
            _ => Err(self.ends_in(what, n)),
        }
    }

    fn ends_in(&self, what: What<'_>, need: u64) -> GgufError {
        match self.capped {
            true => GgufError::HeaderTooLarge { what: what.to_string(), cap: HEADER_CAP },
            false => {
                GgufError::Truncated { what: what.to_string(), at: self.position(), need, have: self.left() as u64 }
            }
        }
    }

    pub fn u8(&mut self, what: What<'_>) -> Result<u8, GgufError> {
        Ok(self.take(1, what)?[0])
    }

    pub fn u32(&mut self, what: What<'_>) -> Result<u32, GgufError> {
        Ok(LittleEndian::read_u32(self.take(4, what)?))
    }

    pub fn u64(&mut self, what: What<'_>) -> Result<u64, GgufError> {
        Ok(LittleEndian::read_u64(self.take(8, what)?))
    }

    /// A text of at most `cap` bytes.
    pub fn text(&mut self, cap: usize, what: What<'_>) -> Result<&'a str, GgufError> {
        let len = self.u64(what)?;
        if len > cap as u64 {
            return Err(GgufError::TextTooLong { what: what.to_string(), len, cap });
        }
        let at = self.position();
        std::str::from_utf8(self.take(len, what)?)
            .map_err(|e| GgufError::NotUtf8 { what: what.to_string(), at: at + e.valid_up_to() as u64 })
    }
}
