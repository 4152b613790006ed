//! What can be wrong with a GGUF file, in sentences.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::dtype::DTypeError;

/// Text from a file as it may stand in a message: quoted, on one line, control bytes escaped, cut when long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quoted(String);

impl Quoted {
    /// Characters that are shown; enough for any real key, too few to hide the rest of the message.
    const SHOWN: usize = 80;

    /// `text` made fit to print.
    pub fn new(text: &str) -> Quoted {
        let mut shown: String = text.chars().take(Self::SHOWN).flat_map(char::escape_debug).collect();
        if text.chars().nth(Self::SHOWN).is_some() {
            shown.push('…');
        }
        Quoted(shown)
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0)
    }
}

/// Why a file is not read.
///
/// [`GgufFile::open`](super::GgufFile::open) returns every error wrapped in [`InFile`](GgufError::InFile), so that the text names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// An error, and the file where it is.
    #[error("{}: {cause}", .path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<GgufError>,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Maps it as a whole, for which there is no room.
    #[error(
        "takes {bytes} bytes of address space, more than is left; raise the limit (ulimit -v) or take a smaller file"
    )]
    NoAddressSpace {
        /// Its length.
        bytes: u64,
    },
    /// A folder stands where a file should.
    #[error("is a folder; give a GGUF file")]
    Folder,
    /// A device, pipe or socket.
    #[error("is not a regular file; a model is read from a file on disk")]
    NotAFile,
    /// No byte in the file.
    #[error("is empty; download or convert it again")]
    Empty,
    /// A git-LFS pointer in place of the content.
    #[error("is a git-LFS pointer to {bytes} bytes, not the model itself; run 'git lfs pull'")]
    LfsPointer {
        /// Bytes of the file that it stands for.
        bytes: u64,
    },
    /// Another kind of file, or none that is known.
    #[error("is {found}, not a GGUF file{}", convert_hint(*.convert))]
    NotGguf {
        /// What it looks like.
        found: String,
        /// Would converting help?
        convert: bool,
    },
    /// A file for big-endian machines.
    #[error("is a big-endian GGUF file; only little-endian ones can be read")]
    BigEndian,
    /// A version that is not read.
    #[error("is a GGUF file of version {0}; versions 2 and 3 can be read, so convert the model again")]
    Version(u32),
    /// The file ends early.
    #[error("is cut off: {what} needs {need} bytes at byte {at}, but {have} are left; download it again")]
    Truncated {
        /// What was being read.
        what: String,
        /// Where.
        at: u64,
        /// Bytes that it takes.
        need: u64,
        /// Bytes that are there.
        have: u64,
    },
    /// Metadata and tensor table are larger than any real file's.
    #[error("has a header of more than {cap} bytes, which no real model needs; the file is damaged (at {what})")]
    HeaderTooLarge {
        /// What was being read.
        what: String,
        /// The limit.
        cap: usize,
    },
    /// More keys or tensors than the rest of the file can hold.
    #[error("promises {count} {what}, but the {left} bytes that are left can hold at most {most}; the file is damaged")]
    Count {
        /// `keys` or `tensors`.
        what: &'static str,
        /// How many the header promises.
        count: u64,
        /// Bytes after the count.
        left: u64,
        /// How many could be.
        most: u64,
    },
    /// A text longer than any real one.
    #[error("has a text of {len} bytes as {what}; at most {cap} are allowed, so the file is damaged")]
    TextTooLong {
        /// What was being read.
        what: String,
        /// Its length.
        len: u64,
        /// The limit.
        cap: usize,
    },
    /// A text that is no UTF-8.
    #[error("has bytes that are not UTF-8 in {what} (byte {at} of the file); the file is damaged")]
    NotUtf8 {
        /// What was being read.
        what: String,
        /// Where.
        at: u64,
    },
    /// A key or a tensor without a name.
    #[error("has no name for {what}; the file is damaged")]
    NoName {
        /// Which.
        what: String,
    },
    /// A value type that does not exist.
    #[error("has value type {id} for {key}, which does not exist; the file is damaged")]
    ValueType {
        /// The key.
        key: Quoted,
        /// The number found.
        id: u32,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("has {byte} as a boolean in {key}, which must be 0 or 1; the file is damaged")]
    NotBool {
        /// The key.
        key: Quoted,
        /// The byte found.
        byte: u8,
    },
    /// An array of more elements than the rest of the file can hold.
    #[error(
        "promises {count} elements in {key}, but the {left} bytes that are left can hold at most {most}; the file is damaged"
    )]
    ArrayTooLong {
        /// The key.
        key: Quoted,
        /// How many the array promises.
        count: u64,
        /// Bytes after the count.
        left: u64,
        /// How many could be.
        most: u64,
    },
    /// Arrays in arrays, too deep.
    #[error("has arrays nested more than {limit} deep in {key}; the file is damaged")]
    Nesting {
        /// The key.
        key: Quoted,
        /// The limit.
        limit: usize,
    },
    /// A key that stands there twice.
    #[error("has the key {key} twice; the file is damaged")]
    DuplicateKey {
        /// The key.
        key: Quoted,
    },
    /// A tensor that stands there twice.
    #[error("has the tensor {name} twice; the file is damaged")]
    DuplicateTensor {
        /// The tensor.
        name: Quoted,
    },
    /// A known key of another type than it must have.
    #[error("has {found} as {key}, where {expected} is expected; the file is damaged or of another kind")]
    KeyType {
        /// The key.
        key: Quoted,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// An integer outside what it is used as.
    #[error("has {value} as {key}, which is out of range (0 to {most})")]
    KeyRange {
        /// The key.
        key: Quoted,
        /// What it is.
        value: i128,
        /// The largest that it may be.
        most: u64,
    },
    /// An alignment that no file should have.
    #[error("has an alignment of {0}; a power of two from 8 to 65536 is expected, so the file is damaged")]
    Alignment(u64),
    /// A tensor with an impossible shape or type.
    #[error("has a tensor {name} that cannot be: {why}")]
    Tensor {
        /// The tensor.
        name: Quoted,
        /// What is wrong.
        why: DTypeError,
    },
    /// A tensor that starts between two multiples of the alignment.
    #[error("has tensor {name} at offset {offset}, not a multiple of the alignment {alignment}; the file is damaged")]
    Misaligned {
        /// The tensor.
        name: Quoted,
        /// Its offset in the data.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Offset and size, or the sizes together, don't fit in 64 bits.
    #[error("has sizes that overflow at tensor {name}; the file is damaged")]
    SizeOverflow {
        /// The tensor where it happens.
        name: Quoted,
    },
    /// A tensor that ends after the file does.
    #[error("is cut off: tensor {name} ends at byte {end}, but the file has {file_len} bytes; download it again")]
    PastEnd {
        /// The tensor that ends last.
        name: Quoted,
        /// Where it ends.
        end: u64,
        /// Bytes in the file.
        file_len: u64,
    },
    /// Two tensors that share bytes.
    #[error("has tensors {first} and {second} in the same place; the file is damaged")]
    Overlap {
        /// The tensor that starts first.
        first: Quoted,
        /// The tensor that starts inside it.
        second: Quoted,
    },
    /// A part of a split model that doesn't say which one.
    #[error("is one of {count} parts of a split model, but lacks the key {key}; split or download the model again")]
    PartKey {
        /// Parts that there should be.
        count: usize,
        /// The key.
        key: &'static str,
    },
    /// A part whose name doesn't say which one it is, so that the others can't be found.
    #[error("is part {no} of {count} of a split model, but its name does not end in {ending}; give it its name back")]
    PartName {
        /// Which part it is, from 1.
        no: usize,
        /// Parts that there should be.
        count: usize,
        /// How its name should end.
        ending: String,
    },
    /// A part that isn't there.
    #[error("is missing{}: the model is split into {count} files, and all of them are needed", others(*.more))]
    PartMissing {
        /// Parts that there should be.
        count: usize,
        /// Missing parts beside this one.
        more: usize,
    },
    /// A part that belongs elsewhere.
    #[error("is a part of another model or split: it says {key} = {found}, and the part beside it {expected}")]
    PartAlien {
        /// The key that shows it.
        key: Quoted,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// A tensor that is in two parts.
    #[error("has the tensor {name}, which another part has too: the parts are of different models or splits")]
    PartsShare {
        /// The tensor.
        name: Quoted,
    },
    /// Parts that together hold fewer or more tensors than they say.
    #[error("says that the parts hold {promised} tensors, but {found} are there; split or download the model again")]
    PartsCount {
        /// How many there should be.
        promised: u64,
        /// How many there are.
        found: u64,
    },
}

fn others(more: usize) -> String {
    if more > 0 { format!(", and {more} more") } else { String::new() }
}

fn convert_hint(convert: bool) -> &'static str {
    if convert { "; convert the checkpoint's folder with qwren-convert" } else { "" }
}

impl GgufError {
    /// Is the file sound as far as one can tell, but of a kind that can't be read here (exit code 3, not 2)?
    pub fn unsupported(&self) -> bool {
        match self {
            GgufError::InFile { cause, .. } => cause.unsupported(),
            GgufError::BigEndian | GgufError::Version(_) => true,
            GgufError::Tensor { why, .. } => matches!(why, DTypeError::Unknown(_) | DTypeError::Removed { .. }),
            _ => false,
        }
    }

    /// The error without the file's name.
    pub fn cause(&self) -> &GgufError {
        match self {
            GgufError::InFile { cause, .. } => cause.cause(),
            other => other,
        }
    }

    pub(super) fn in_file(self, path: &Path) -> GgufError {
        GgufError::InFile { path: path.to_owned(), cause: Box::new(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_files_is_escaped_and_cut() {
        assert_eq!(Quoted::new("a\n\u{1b}[2J\u{202e}é").to_string(), r"'a\n\u{1b}[2J\u{202e}é'");
        let long = Quoted::new(&"x".repeat(1000)).to_string();
        assert_eq!(long.chars().count(), 83);
        assert!(long.ends_with("x…'"), "{long}");
    }

    #[test]
    fn an_error_names_its_file() {
        let e = GgufError::Version(1).in_file(Path::new("m.gguf"));
        assert_eq!(
            e.to_string(),
            "m.gguf: is a GGUF file of version 1; versions 2 and 3 can be read, so convert the model again"
        );
        assert!(e.unsupported());
        assert!(matches!(e.cause(), GgufError::Version(1)));
    }
}
