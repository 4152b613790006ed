//! Importance matrices: for each matrix of a model the mean squares of its inputs while the model read a text, one number a
//! column. Where a quantizer has a choice, errors in a column that is fed large values should count for more.
//!
//! llama.cpp has two forms of file, and both are read and written: a GGUF file with the tensors `NAME.in_sum2` (sums of squares)
//! and `NAME.counts` (rows that were summed), the sums of a mixture of experts kept apart for each expert; and before that
//! `.dat`, a list of named rows of floats. Files are read as the GGUF reader reads: nothing in them is believed, and only the
//! table is held in memory. Sums are fetched when they are asked for.

mod dat;
mod error;
mod gguf;
mod source;
mod write;

use std::fs::{self, File};
use std::io;
use std::path::Path;

pub use error::ImatrixError;
pub use source::ReadAt;
pub use write::{Origin, Sums, write_dat, write_gguf};

use crate::gguf::{GgufError, Quoted};

/// Most entries; the largest models have some thousand matrices.
const ENTRIES_CAP: usize = 1 << 16;

/// An importance matrix of which the table was read and checked.
#[derive(Debug)]
pub struct Imatrix<S = File> {
    source: S,
    /// Sorted by name.
    entries: Vec<Entry>,
    datasets: Vec<String>,
    chunks: u32,
}

/// Where the numbers for one matrix lie.
#[derive(Debug)]
struct Entry {
    name: String,
    /// `[experts, cols]`
    sums: Floats,
    counts: Counts,
}

/// A run of little-endian f32 in the file.
#[derive(Clone, Copy, Debug)]
struct Floats {
    at: u64,
    len: u64,
}

/// How many rows the sums are of.
#[derive(Debug)]
enum Counts {
    /// One number, or one for each expert.
    Stored(Floats),
    /// The same for all.
    All(f32),
}

/// The importance of a matrix's columns.
#[derive(Clone, PartialEq, Debug)]
pub struct Importance {
    /// `[experts, cols]`: the mean square of what the column is fed. 1 throughout for an expert that was fed nothing.
    pub weights: Vec<f32>,
    /// Experts that were fed nothing.
    pub unseen: usize,
}

impl Imatrix {
    /// Opens the file at `path` and checks its table.
    ///
    /// # Errors
    /// The file can't be read, or is no importance matrix; the text names it.
    pub fn read(path: &Path) -> Result<Imatrix, ImatrixError> {
        let open = || {
            // Asked before opening: opening a pipe would wait for a writer.
            if !fs::metadata(path)?.is_file() {
                return Err(ImatrixError::NotAFile);
            }
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Imatrix::of(file, len)
        };
        open().map_err(|e| e.in_file(path))
    }
}

impl<S: ReadAt> Imatrix<S> {
    /// The importance matrix in the `len` bytes of `source`.
    ///
    /// # Errors
    /// As [`Imatrix::read`], without a name. Never panics; memory stays in proportion to the table.
    pub fn of(source: S, len: u64) -> Result<Imatrix<S>, ImatrixError> {
        let mut start = [0; 4];
        let magic = len >= 4 && {
            source.read_exact_at(&mut start, 0)?;
            &start == b"GGUF"
        };
        let mut matrix = if magic { gguf::read(source, len)? } else { dat::read(source, len)? };
        matrix.entries.sort_by(|a, b| a.name.cmp(&b.name));
        match matrix.entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(ImatrixError::Twice { name: Quoted::new(&pair[0].name) }),
            None => Ok(matrix),
        }
    }

    /// The matrices that it knows, by the names of their tensors in a GGUF model, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|e| e.name.as_str())
    }

    /// The texts that it was made from, as its maker named them.
    pub fn datasets(&self) -> &[String] {
        &self.datasets
    }

    /// How many pieces of text were read; 0 where the file doesn't say.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The importance of the columns of the tensor `name` `[experts, rows, cols]`; 1 expert is a plain matrix. `None` when it
    /// has no entry.
    ///
    /// # Errors
    /// The entry is for another shape, or has numbers that no sum of squares can be.
    pub fn importance(&self, name: &str, cols: usize, experts: usize) -> Result<Option<Importance>, ImatrixError> {
        let Ok(at) = self.entries.binary_search_by(|e| e.name.as_str().cmp(name)) else { return Ok(None) };
        let entry = &self.entries[at];
        let shape = || ImatrixError::Shape { name: Quoted::new(name), found: entry.sums.len, cols, experts };
        let wanted = cols.checked_mul(experts).filter(|&n| n > 0 && n as u64 == entry.sums.len);
        if wanted.is_none() {
            return Err(shape());
        }
        let counts = match entry.counts {
            Counts::All(n) => vec![n],
            Counts::Stored(floats) if floats.len == 1 || floats.len == experts as u64 => self.floats(entry, floats)?,
            Counts::Stored(_) => return Err(shape()),
        };
        let mut weights = self.floats(entry, entry.sums)?;
        let mut unseen = 0;
        for (expert, weights) in weights.chunks_exact_mut(cols).enumerate() {
            // Older files count for all experts together.
            let count = if counts.len() == 1 { counts[0] } else { counts[expert] };
            if count > 0.0 {
                weights.iter_mut().for_each(|w| *w /= count);
            } else {
                weights.fill(1.0);
                unseen += 1;
            }
        }
        Ok(Some(Importance { weights, unseen }))
    }

    /// The numbers at `floats`, finite and not negative.
    fn floats(&self, entry: &Entry, floats: Floats) -> Result<Vec<f32>, ImatrixError> {
        // The span lies in the file, so this is no promise.
        let mut bytes = vec![0; floats.len as usize * 4];
        self.source.read_exact_at(&mut bytes, floats.at)?;
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        match values.iter().position(|x| !x.is_finite() || *x < 0.0) {
            Some(index) => Err(ImatrixError::Value { name: Quoted::new(&entry.name), index, value: values[index] }),
            None => Ok(values),
        }
    }
}

/// A file that ends where it should not.
fn cut_off(what: impl Into<String>) -> ImatrixError {
    ImatrixError::Truncated { what: what.into() }
}

impl From<io::Error> for ImatrixError {
    fn from(e: io::Error) -> ImatrixError {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => cut_off("its values"),
            _ => ImatrixError::Io(e),
        }
    }
}

impl From<GgufError> for ImatrixError {
    fn from(e: GgufError) -> ImatrixError {
        ImatrixError::Gguf(e)
    }
}
