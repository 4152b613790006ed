//! An output in several files, as llama.cpp's gguf-split makes them: `NAME-00001-of-00003.gguf` and so on. Each file is a
//! whole GGUF file; the first one has all keys of the model, each says which part it is.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use qwren_quant::gguf::Value;

use crate::Keys;
use crate::error::Problem;

/// Most parts: `split.count` is a 16-bit number.
const MOST: usize = u16::MAX as usize;

/// When a file is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// With so many bytes, header included.
    Bytes(u64),
    /// With so many tensors.
    Tensors(u64),
}

/// Bytes as people type them: `4G`, `500M`, `64K` or plain; powers of 1000, as gguf-split has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" => 1,
            "K" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            other => return Err(format!("{other:?} is not one of K, M, G")),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        bytes.filter(|&n| n > 0).map(Size).ok_or_else(|| "it is not a size such as 2G".to_owned())
    }
}

/// What a tensor takes in a file: bytes of its entry in the table, and bytes of its data with padding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    pub entry: u64,
    pub data: u64,
}

/// Deals tensors, in order, to files of which the first has a header of `first` bytes without them and each other one of
/// `other`. A tensor that is larger than a file may be has a file of its own.
pub(crate) fn deal(tensors: &[Weight], split: Split, first: u64, other: u64) -> Result<Vec<Range<usize>>, Problem> {
    let none = 0..0;
    let mut files = vec![none];
    let (mut header, mut data) = (first, 0);
    for (i, t) in tensors.iter().enumerate() {
        let Some(file) = files.last_mut() else { break };
        let full = match split {
            Split::Tensors(most) => file.len() as u64 >= most,
            // Data are padded to 32 bytes, and so is the header.
            Split::Bytes(most) => (header + t.entry).next_multiple_of(32) + data + t.data > most,
        };
        if full && file.start < file.end {
            files.push(i..i + 1);
            (header, data) = (other + t.entry, t.data);
        } else {
            file.end = i + 1;
            (header, data) = (header + t.entry, data + t.data);
        }
    }
    if files.len() > MOST { Err(Problem::TooManyParts { parts: files.len(), most: MOST }) } else { Ok(files) }
}

/// The keys that say which part of `count` a file is; none for an output of one file.
pub(crate) fn keys(part: usize, count: usize, tensors: usize) -> Keys {
    if count == 1 {
        return Vec::new();
    }
    vec![
        ("split.no".to_owned(), Value::U16(part as u16)),
        ("split.count".to_owned(), Value::U16(count as u16)),
        ("split.tensors.count".to_owned(), Value::I32(tensors as i32)),
    ]
}

/// The files of an output called `out`: itself, or its parts.
pub fn paths(out: &Path, count: usize) -> Vec<PathBuf> {
    if count == 1 {
        return vec![out.to_path_buf()];
    }
    let name = out.file_name().unwrap_or_default().as_bytes();
    let stem = name.strip_suffix(b".gguf").unwrap_or(name);
    let part = |no| [stem, format!("-{no:05}-of-{count:05}.gguf").as_bytes()].concat();
    (1..=count).map(|no| out.with_file_name(OsStr::from_bytes(&part(no)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let size = |text: &str| text.parse::<Size>().map(|s| s.0);
        assert_eq!(
            [size("2G"), size("500m"), size("64K"), size("7")],
            [Ok(2_000_000_000), Ok(500_000_000), Ok(64_000), Ok(7)]
        );
        for text in ["", "G", "0", "0G", "-1G", "1.5G", "2T", "2 G", "99999999999G", "2GG", "\u{1b}"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_are_filled_in_order() {
        let weights: Vec<Weight> =
            [100, 100, 100, 900, 100].iter().map(|&data| Weight { entry: 10, data: data * 64 }).collect();
        let deal = |split| deal(&weights, split, 1280, 640).unwrap();
        assert_eq!(deal(Split::Tensors(2)), [0..2, 2..4, 4..5]);
        let all = 0..5;
        assert_eq!(deal(Split::Tensors(5)), std::slice::from_ref(&all));
        // 1280 + 3 · 10, padded, and the data of the first three fill the first file to the byte.
        assert_eq!(deal(Split::Bytes(1312 + 300 * 64)), [0..3, 3..4, 4..5]);
        assert_eq!(deal(Split::Bytes(1312 + 300 * 64 - 1)), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(deal(Split::Bytes(1)), [0..1, 1..2, 2..3, 3..4, 4..5]);
        assert_eq!(deal(Split::Bytes(u64::MAX)), std::slice::from_ref(&all));
        let many = vec![Weight { entry: 1, data: 64 }; MOST + 1];
        assert!(matches!(
            super::deal(&many, Split::Tensors(1), 64, 64),
            Err(Problem::TooManyParts { parts: 65_536, most: 65_535 })
        ));
    }

    #[test]
    fn parts_are_named_as_gguf_split_names_them() {
        let names =
            |out: &str, count| paths(Path::new(out), count).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(names("d/x.gguf", 1), ["d/x.gguf"]);
        assert_eq!(names("d/x.gguf", 2), ["d/x-00001-of-00002.gguf", "d/x-00002-of-00002.gguf"]);
        assert_eq!(names("x", 2)[1], "x-00002-of-00002.gguf");
    }
}
