//! Why a file is no model that can run here, in sentences.
use qwren_quant::dtype::DType;
use qwren_quant::gguf::{GgufError, Quoted};
use std::path::PathBuf;

/// Why a model can't be opened. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// It is no sound GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// It is a sound GGUF file, but no model that runs here.
    #[error("{}: {source}", .path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<ModelFault>,
    },
}

impl ModelError {
    /// Is the file sound as far as one can tell, but of a kind that can't run here (exit code 3, not 2)?
    pub fn unsupported(&self) -> bool {
        match self {
            ModelError::Gguf(e) => e.unsupported(),
            ModelError::InFile { source, .. } => source.unsupported(),
        }
    }
}

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFault {
    /// A value has another type than its key demands.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// No architecture is named.
    #[error("has no key general.architecture; it is no language model")]
    NoArchitecture,
    /// An architecture that isn't built in.
    #[error("is a model of architecture {0}; only qwen3, qwen3moe and llama run here")]
    Architecture(Quoted),
    /// A key is missing.
    #[error("lacks the key {0}; convert the model again")]
    MissingKey(String),
    /// A value makes no sense.
    #[error("says {key} = {value}, but {demand}; the file is damaged")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        demand: &'static str,
    },
    /// A value that asks for something that isn't built in.
    #[error("says {key} = {value}, which this version can't compute")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// A tensor is missing.
    #[error("lacks the tensor {0}; the file is incomplete, convert the model again")]
    MissingTensor(String),
    /// A tensor has another shape than the keys say.
    #[error("has tensor {name} of shape {found:?} where its keys ask for {wanted:?}; the file is damaged")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape, columns first.
        found: Vec<u64>,
        /// The shape that follows from the keys.
        wanted: Vec<u64>,
    },
    /// A tensor's type can't be computed with.
    #[error("has tensor {name} of type {}, which can't run here; convert the model to another type", .dtype.name())]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// A tensor that would change the results and isn't computed here.
    #[error("has a tensor {0}, which this version can't compute")]
    ExtraTensor(Quoted),
}

impl ModelFault {
    /// Is the file sound as far as one can tell, but of a kind that can't run here?
    pub fn unsupported(&self) -> bool {
        use ModelFault::*;
        match self {
            Gguf(e) => e.unsupported(),
            Architecture(_) | Unsupported { .. } | Type { .. } | ExtraTensor(_) => true,
            NoArchitecture | MissingKey(_) | Value { .. } | MissingTensor(_) | Shape { .. } => false,
        }
    }
}
