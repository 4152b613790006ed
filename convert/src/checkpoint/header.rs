//! The header of a safetensors file: bounded first, then parsed, then every span checked.
//!
//! Layout: u64 little-endian length N, N bytes of JSON `{"name": {"dtype", "shape", "data_offsets": [begin, end]}, …}`,
//! then the data, which the spans must tile without a gap or an overlap.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Problem};

/// Longest header that is read, the limit of the reference implementation too.
const HEADER_LIMIT: u64 = 100_000_000;
/// Bytes of the length field in front of the header.
const PREFIX: u64 = 8;

/// What is wrong with a safetensors header.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Not even the length field is there.
    #[error("has {0} bytes, too few for a safetensors file; download it again")]
    Tiny(u64),
    /// The length field is beyond the limit: another format, or damage.
    #[error(
        "promises a header of {promised} bytes, more than {HEADER_LIMIT}; it is not a safetensors file, or damaged"
    )]
    HugeHeader {
        /// The length field.
        promised: u64,
    },
    /// The header ends behind the file.
    #[error("promises a header of {promised} bytes but has {found} bytes in all; it is truncated: download it again")]
    TruncatedHeader {
        /// Header length promised.
        promised: u64,
        /// Length of the file.
        found: u64,
    },
    /// The data ends behind the file.
    #[error("promises {promised} bytes but has {found}; it is truncated: download it again")]
    Truncated {
        /// File length by the header.
        promised: u64,
        /// Real file length.
        found: u64,
    },
    /// There is more data than the header tells of.
    #[error("has {found} bytes where its header accounts for {promised}; it is damaged: download it again")]
    Trailing {
        /// File length by the header.
        promised: u64,
        /// Real file length.
        found: u64,
    },
    /// The header is no JSON of the right form.
    #[error("header is malformed: {0}")]
    Json(serde_json::Error),
    /// One name twice.
    #[error("tensor {0} is listed twice in the header")]
    Duplicate(String),
    /// Begin after end.
    #[error("tensor {name} has a span that ends ({end}) before it begins ({begin})")]
    Backwards {
        /// The tensor.
        name: String,
        /// Offset of its first byte.
        begin: u64,
        /// Offset behind its last byte.
        end: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first} and {second} overlap")]
    Overlap {
        /// The tensor that begins first.
        first: String,
        /// The one that begins inside it.
        second: String,
    },
    /// Bytes that belong to no tensor.
    #[error("{bytes} bytes before tensor {name} belong to no tensor")]
    Gap {
        /// How many.
        bytes: u64,
        /// The tensor behind them.
        name: String,
    },
    /// Span and shape disagree.
    #[error("tensor {name} spans {span} bytes but its shape {shape:?} of type {dtype} needs {needed}")]
    Size {
        /// The tensor.
        name: String,
        /// Length of its span.
        span: u64,
        /// Its shape, outermost first.
        shape: Vec<usize>,
        /// Its type.
        dtype: Dtype,
        /// What shape and type need; "more than a file can hold" when the product overflows.
        needed: String,
    },
}

/// One tensor as its file describes it, all checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name in the checkpoint.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first, as PyTorch has them.
    pub shape: Vec<u64>,
    /// Offset of the first byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// The tensors of a safetensors file of `file_len` bytes, in the order of their data.
pub(crate) fn read(path: &Path, file: &File, file_len: u64) -> Result<Vec<Entry>, Error> {
    let fail = |e: HeaderError| Problem::Header(e).of(path);
    if file_len < PREFIX {
        return Err(fail(HeaderError::Tiny(file_len)));
    }
    let mut prefix = [0; PREFIX as usize];
    file.read_exact_at(&mut prefix, 0).map_err(|e| Problem::Read(e).of(path))?;
    let promised = u64::from_le_bytes(prefix);
    if promised > HEADER_LIMIT {
        return Err(fail(HeaderError::HugeHeader { promised }));
    }
    if promised > file_len - PREFIX {
        return Err(fail(HeaderError::TruncatedHeader { promised, found: file_len }));
    }
    let mut json = vec![0; promised as usize];
    file.read_exact_at(&mut json, PREFIX).map_err(|e| Problem::Read(e).of(path))?;
    parse(&json, file_len).map_err(fail)
}

/// Parses a header's JSON and checks every span against a file of `file_len` bytes.
fn parse(json: &[u8], file_len: u64) -> Result<Vec<Entry>, HeaderError> {
    let data_start = PREFIX + json.len() as u64;
    let Listing(mut listing) = serde_json::from_slice(json).map_err(HeaderError::Json)?;
    listing.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));

    let mut entries: Vec<Entry> = Vec::with_capacity(listing.len());
    let mut at = 0; // offset within the data where the next tensor must begin
    for (name, info) in listing {
        let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let Some(span) = end.checked_sub(begin) else {
            return Err(HeaderError::Backwards { name, begin, end });
        };
        if begin < at {
            let first = entries.last().map(|e| e.name.clone()).unwrap_or_default();
            return Err(HeaderError::Overlap { first, second: name });
        }
        if begin > at {
            return Err(HeaderError::Gap { bytes: begin - at, name });
        }
        let needed = bytes_of(info.dtype, &info.shape);
        if needed != Some(span) {
            let needed = needed.map_or_else(|| "more than a file can hold".to_owned(), |n| format!("{n} bytes"));
            return Err(HeaderError::Size { name, span, shape: info.shape, dtype: info.dtype, needed });
        }
        let Some(offset) = data_start.checked_add(begin) else {
            return Err(HeaderError::Truncated { promised: u64::MAX, found: file_len });
        };
        let shape = info.shape.iter().map(|&d| d as u64).collect();
        entries.push(Entry { name, dtype: info.dtype, shape, offset, bytes: span });
        at = end;
    }
    let promised = data_start.saturating_add(at);
    if promised > file_len {
        return Err(HeaderError::Truncated { promised, found: file_len });
    }
    if promised < file_len {
        return Err(HeaderError::Trailing { promised, found: file_len });
    }
    let mut names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|w| w[0] == w[1]) {
        Some(w) => Err(HeaderError::Duplicate(w[0].to_owned())),
        None => Ok(entries),
    }
}

/// Bytes of a tensor; `None` when the product overflows or is no whole number of bytes.
fn bytes_of(dtype: Dtype, shape: &[usize]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64))?;
    let bits = elements.checked_mul(dtype.bitsize() as u64)?;
    (bits % 8 == 0).then_some(bits / 8)
}

/// The header as written: a map would hide a name that stands twice.
struct Listing(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Listing;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listing, A::Error> {
                let mut all = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        all.push((name, map.next_value()?));
                    }
                }
                Ok(Listing(all))
            }
        }
        d.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, data: u64) -> Result<Vec<Entry>, HeaderError> {
        parse(json.as_bytes(), PREFIX + json.len() as u64 + data)
    }

    fn text(json: &str, data: u64) -> String {
        check(json, data).unwrap_err().to_string()
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;

    #[test]
    fn tensors_come_in_the_order_of_their_data() {
        let got = check(TWO, 16).unwrap();
        let start = PREFIX + TWO.len() as u64;
        assert_eq!(
            got,
            [
                Entry { name: "a".into(), dtype: Dtype::F32, shape: vec![], offset: start, bytes: 4 },
                Entry { name: "b".into(), dtype: Dtype::BF16, shape: vec![2, 3], offset: start + 4, bytes: 12 },
            ]
        );
    }

    #[test]
    fn every_wrong_length_names_both_numbers() {
        let whole = PREFIX + TWO.len() as u64 + 16;
        assert_eq!(
            text(TWO, 15),
            format!("promises {whole} bytes but has {}; it is truncated: download it again", whole - 1)
        );
        assert!(matches!(check(TWO, 17), Err(HeaderError::Trailing { promised, found }) if found == promised + 1));
    }

    #[test]
    fn spans_must_tile_the_data() {
        let two = |a: &str, b: &str| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{b}}}}}"#
            )
        };
        assert_eq!(text(&two("[0,4]", "[2,6]"), 6), "tensors a and b overlap");
        assert_eq!(text(&two("[0,4]", "[0,4]"), 4), "tensors a and b overlap");
        assert_eq!(text(&two("[0,4]", "[6,10]"), 10), "2 bytes before tensor b belong to no tensor");
        assert_eq!(text(&two("[0,4]", "[8,4]"), 8), "tensor b has a span that ends (4) before it begins (8)");
        let span = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#;
        assert_eq!(text(span, 8), "tensor a spans 8 bytes but its shape [3] of type F32 needs 12 bytes");
        let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}}"#;
        assert!(text(huge, 8).ends_with("needs more than a file can hold"));
    }

    #[test]
    fn names_and_types_are_checked() {
        let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert_eq!(text(twice, 8), "tensor a is listed twice in the header");
        assert!(
            text(r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, 4).starts_with("header is malformed")
        );
        assert!(
            text(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4).starts_with("header is malformed")
        );
        assert!(text("[]", 0).starts_with("header is malformed"));
    }

    #[test]
    fn the_length_field_is_bounded_before_anything_is_reserved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let read_bytes = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let file = File::open(&path).unwrap();
            read(&path, &file, bytes.len() as u64).unwrap_err().problem.to_string()
        };
        assert!(read_bytes(b"abc").contains("has 3 bytes, too few"));
        assert!(read_bytes(&u64::MAX.to_le_bytes()).contains("promises a header of 18446744073709551615 bytes"));
        assert!(read_bytes(&1000u64.to_le_bytes()).contains("promises a header of 1000 bytes but has 8 bytes in all"));
    }
}
