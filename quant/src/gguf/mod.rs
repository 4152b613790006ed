//! The GGUF container: metadata, a table of tensors, and their data in one file.
//!
//! - [`Header`] is what a file says about itself; [`Header::parse`] trusts nothing that it reads.
//! - [`GgufFile`] maps a file, or all parts of a split model, and hands out the bytes of tensors.
//! - [`Plan`] → [`Layout`] → [`Writer`] make a file whose every offset is known before its first byte is written.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
mod error;
mod file;
mod foreign;
mod header;
mod index;
mod known;
mod read;
mod spans;
mod split;
mod value;
mod write;

pub(crate) use cursor::HEADER_CAP;
pub use error::{GgufError, Quoted};
pub use file::{GgufFile, GgufPart, PIECE, PartReader};
pub(crate) use foreign::recognise;
pub use header::{Header, TensorInfo};
pub use value::{Array, Value, ValueType};
pub use write::{Layout, Plan, WriteError, Writer};

/// The first bytes of every GGUF file.
const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written, and the newest that is read.
const VERSION: u32 = 3;

/// The key that holds the alignment of tensor data.
const ALIGNMENT_KEY: &str = "general.alignment";

/// Alignment of tensor data where the file doesn't say.
const DEFAULT_ALIGNMENT: u32 = 32;

/// Alignments that are accepted: powers of two up to a page of the largest size in use, so that no padding can overflow.
const ALIGNMENTS: std::ops::RangeInclusive<u64> = 8..=64 * 1024;

/// Is `alignment` one that files may have?
fn alignment_is_sound(alignment: u64) -> bool {
    alignment.is_power_of_two() && ALIGNMENTS.contains(&alignment)
}
