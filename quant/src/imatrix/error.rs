//! What can be wrong with an importance matrix, in sentences.

use std::io;
use std::path::{Path, PathBuf};

use crate::gguf::{GgufError, Quoted};

/// Why an importance matrix is not read or does not fit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImatrixError {
    /// An error, and the file where it is.
    #[error("{}: {cause}", .path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<ImatrixError>,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(io::Error),
    /// A folder, device or pipe.
    #[error("is not a regular file; give a file made by 'qwren imatrix' or llama-imatrix")]
    NotAFile,
    /// A GGUF file, but not a sound one.
    #[error(transparent)]
    Gguf(GgufError),
    /// Another kind of file.
    #[error("is no importance matrix ({found}); give a file made by 'qwren imatrix' or llama-imatrix")]
    NotImatrix {
        /// What it is instead.
        found: &'static str,
    },
    /// The file ends early.
    #[error("is cut off in {what}; make or download it again")]
    Truncated {
        /// What was being read.
        what: String,
    },
    /// A count that can't be.
    #[error("has {value} as {what}, which cannot be; the file is damaged")]
    Count {
        /// Of what.
        what: String,
        /// The number found.
        value: i64,
    },
    /// A name that is no text.
    #[error("has bytes that are not UTF-8 as the name of entry {0}; the file is damaged")]
    Name(usize),
    /// Bytes after the end.
    #[error("has {0} bytes after its end; the file is damaged")]
    Rest(u64),
    /// A matrix that is there twice.
    #[error("has two entries for {name}; the file is damaged")]
    Twice {
        /// The matrix.
        name: Quoted,
    },
    /// Sums without counts, or the reverse, or of other types or sizes than they must be.
    #[error(
        "has an entry for {name} that is not whole: it needs in_sum2 and counts, both float32, a whole row for each count"
    )]
    Unpaired {
        /// The matrix.
        name: Quoted,
    },
    /// An entry for a matrix of another shape.
    #[error(
        "has {found} values for {name}, where the model has {experts} × {cols} columns; it was made from another model"
    )]
    Shape {
        /// The matrix.
        name: Quoted,
        /// Values of the entry.
        found: u64,
        /// Columns of the model's matrix.
        cols: usize,
        /// Matrices under that name.
        experts: usize,
    },
    /// A sum of squares or a count that is negative or not finite.
    #[error("has {value} at index {index} of {name}, which no sum of squares can be; make it again")]
    Value {
        /// The matrix.
        name: Quoted,
        /// Where.
        index: usize,
        /// The number.
        value: f32,
    },
}

impl ImatrixError {
    /// The error without the file's name.
    pub fn cause(&self) -> &ImatrixError {
        match self {
            ImatrixError::InFile { cause, .. } => cause.cause(),
            other => other,
        }
    }

    /// The error itself, for callers that name the file in their own way.
    pub fn into_cause(self) -> ImatrixError {
        match self {
            ImatrixError::InFile { cause, .. } => cause.into_cause(),
            other => other,
        }
    }

    /// The same error with the name of the file where it is.
    pub fn in_file(self, path: &Path) -> ImatrixError {
        ImatrixError::InFile { path: path.to_owned(), cause: Box::new(self) }
    }
}
