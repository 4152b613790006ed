//! What can go wrong in a conversion, as sentences, with the exit code of each.

use std::io;
use std::path::Path;

use qwren_quant::gguf::Quoted;
use qwren_quant::imatrix::ImatrixError;

use crate::checkpoint::config::ConfigError;
use crate::checkpoint::header::HeaderError;
use crate::tokenizer::TokenizerError;

/// A problem with one file, folder or option.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}{}", .subject.display(), kept_hint(.kept.as_deref()))]
pub struct Error {
    /// The file or folder that it is about.
    pub subject: Box<Path>,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
    /// What stays for another run, if anything does.
    pub kept: Option<Box<Kept>>,
}

/// Tensors that another run of the same command need not do again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// How many.
    pub done: usize,
    /// Of how many.
    pub of: usize,
}

/// What is wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The operating system refused to open or read it.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// The operating system refused to write it.
    #[error("cannot be written: {0}")]
    Write(io::Error),
    /// A source file is not what it was at the start.
    #[error("changed while it was being read; convert again when nothing writes to it")]
    SourceChanged,
    /// No such file; in a hub cache also a link whose blob is gone.
    #[error("does not exist; download the whole checkpoint folder")]
    Missing,
    /// A directory, pipe or device stands where a file should.
    #[error("is not a regular file")]
    NotAFile,
    /// Not an importance matrix, or a damaged one, or one of another shape.
    #[error(transparent)]
    Imatrix(Box<ImatrixError>),
    /// An importance matrix of another model.
    #[error("has an entry for {0}, which this model lacks: it was made from another model")]
    ImatrixAlien(Quoted),
    /// The source is not a folder.
    #[error("is not a folder; give the folder that holds config.json and *.safetensors")]
    NotAFolder,
    /// A git-LFS pointer stands in place of the file.
    #[error("is a Git LFS pointer; {bytes} bytes are promised: run `git lfs pull`")]
    LfsPointer {
        /// Size of the real file.
        bytes: u64,
    },
    /// Larger than any such file can sensibly be.
    #[error("has {bytes} bytes; at most {limit} are read of such a file")]
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
        /// What we read at most.
        limit: u64,
    },
    /// Malformed JSON, or JSON of another form than expected; names the entry.
    #[error("is not the JSON expected here: {0}")]
    Json(#[from] serde_path_to_error::Error<serde_json::Error>),
    /// Something follows the JSON.
    #[error("goes on after its JSON: {0}")]
    AfterJson(serde_json::Error),
    /// A safetensors file breaks its format.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// config.json lacks something, or asks for something that we don't convert.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer is not Qwen's kind, or is broken.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Shards that the index names are not there.
    #[error("{missing} of {total} shards are missing ({names}), which hold {tensors} tensors; download them")]
    MissingShards {
        /// How many files.
        missing: usize,
        /// How many files the index names.
        total: usize,
        /// Their names, the first few.
        names: String,
        /// How many tensors they hold by the index; "an unknown number of" without one.
        tensors: String,
    },
    /// The index places a tensor in a shard that does not have it.
    #[error(
        "tensor {tensor} should be in {shard} but is not ({count} such); the index is of another revision: download both again"
    )]
    StaleIndex {
        /// The first such tensor.
        tensor: String,
        /// The shard that the index names for it.
        shard: String,
        /// How many tensors are affected.
        count: usize,
    },
    /// A shard's name is no plain file name.
    #[error("shard name {0:?} is not a plain file name")]
    ShardName(String),
    /// No weights at all.
    #[error("holds no *.safetensors; download the weights of the checkpoint")]
    NoWeights,
    /// Weights in a pickle or another program's format.
    #[error("holds no *.safetensors, only {0}; use a safetensors checkpoint")]
    OtherWeights(String),
    /// Weights quantized by a method that is not read.
    #[error("is quantized with {method} ({seen}); use the original checkpoint{}", named(original))]
    QuantMethod {
        /// Name of the method.
        method: String,
        /// What gave it away.
        seen: String,
        /// Repository of the original, if the model card names one.
        original: Option<String>,
    },
    /// A quantized matrix whose columns belong to a group that it does not have.
    #[error("tensor {name} puts a column into group {group} of {groups}; it is damaged: download it again")]
    GroupIndex {
        /// The tensor.
        name: String,
        /// The group.
        group: i32,
        /// How many there are.
        groups: u64,
    },
    /// A tensor that the architecture needs is not there.
    #[error("tensor {name} is missing ({}); the checkpoint is incomplete", missing_in_all(*count))]
    MissingTensor {
        /// The first one missing.
        name: String,
        /// How many are missing; counted up to 1000.
        count: usize,
    },
    /// Untied embeddings without an output matrix.
    #[error("tie_word_embeddings is false but lm_head.weight is not there; download it, or use --tie-embeddings")]
    MissingHead,
    /// A tensor has another shape than config.json implies.
    #[error("tensor {name} has shape {found:?}, config.json implies {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its stored shape, outermost first.
        found: Vec<u64>,
        /// What the configuration implies.
        expected: Vec<u64>,
    },
    /// A tensor's type is not one that weights have.
    #[error("tensor {name} has type {dtype}, which is not read as a weight")]
    TensorType {
        /// The tensor.
        name: String,
        /// Its safetensors type.
        dtype: String,
    },
    /// Tensors that plain Qwen3 does not have.
    #[error(
        "tensor {name} is unknown to Qwen3 ({count} such); adapters and added heads must be merged or removed first"
    )]
    UnknownTensor {
        /// The first one.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// NaN or infinity among the weights.
    #[error(
        "tensor {tensor} has {count} values that are not finite, the first ({value}) at index {index}; use a sound checkpoint, or --allow-nonfinite"
    )]
    NonFinite {
        /// The tensor, by its name in the checkpoint.
        tensor: String,
        /// How many of its values.
        count: u64,
        /// The first one.
        value: f32,
        /// Flat index of the first one within the tensor.
        index: u64,
    },
    /// Finite weights whose magnitude the target type can't hold.
    #[error(
        "tensor {tensor} has {count} values beyond what {dtype} holds, the first ({value}) at index {index}; use --type bf16 or f32, or --allow-nonfinite"
    )]
    OutOfRange {
        /// The tensor, by its name in the checkpoint.
        tensor: String,
        /// The type that it should get.
        dtype: &'static str,
        /// How many of its values.
        count: u64,
        /// The first one.
        value: f32,
        /// Flat index of the first one within the tensor.
        index: u64,
    },
    /// `--tensor-type` with a pattern that fits nothing.
    #[error("--tensor-type {0}: no tensor that may be quantized has such a name; see --dry-run for the names")]
    OverrideUnused(String),
    /// The output's folder is not there.
    #[error("does not exist; make the output's folder first")]
    NoOutputFolder,
    /// The output exists.
    #[error("exists already; use --force to replace it")]
    Exists,
    /// The output would replace a file that is being read.
    #[error("is read by this conversion; choose another output")]
    OutputIsInput,
    /// Another process is writing the same output.
    #[error("is being written by another process")]
    Busy,
    /// Not enough room for the output.
    #[error("needs {needed} bytes, {free} are free; make room or choose a smaller --type")]
    NoSpace {
        /// Bytes that the whole file needs.
        needed: u64,
        /// Bytes that are free there.
        free: u64,
    },
    /// A file may not be as large as the output.
    #[error("needs {needed} bytes, but no file may be so large here{}; use --split-max-size", limit_hint(*.limit))]
    FileLimit {
        /// Bytes of the file.
        needed: u64,
        /// Bytes that this process may write to a file, if that is why.
        limit: Option<u64>,
    },
    /// More files than a split model can have.
    #[error("would need {parts} parts, and there can be {most}; use a larger --split-max-size")]
    TooManyParts {
        /// How many.
        parts: usize,
        /// How many are possible.
        most: usize,
    },
    /// Stopped by a signal.
    #[error("interrupted")]
    Interrupted,
    /// The finished file does not say what was planned: our own fault.
    #[error("the finished file does not read back as planned: {0}; please report this")]
    Verify(String),
    /// The plan can't be laid out or written: our own fault.
    #[error("the file cannot be laid out: {0}; please report this")]
    Layout(String),
    /// Threads could not be started.
    #[error("worker threads cannot be started: {0}; try a smaller -t")]
    Threads(String),
}

impl Problem {
    /// Can the same command, given again with the same checkpoint, go further?
    pub fn may_pass(&self) -> bool {
        use Problem::{FileLimit, Interrupted, NoSpace, Read, Write};
        matches!(self, Interrupted | Read(_) | Write(_) | NoSpace { .. } | FileLimit { .. })
    }

    /// Ties the problem to the file or folder it is about.
    pub fn of(self, subject: impl AsRef<Path>) -> Error {
        Error { subject: subject.as_ref().into(), problem: self, kept: None }
    }

    /// The error of reading weights, all of which were there at the start.
    pub fn read_weights(e: io::Error) -> Problem {
        if e.kind() == io::ErrorKind::UnexpectedEof { Problem::SourceChanged } else { Problem::Read(e) }
    }

    /// The error of reading a file: a missing one is told apart.
    pub fn read(e: io::Error) -> Problem {
        if e.kind() == io::ErrorKind::NotFound { Problem::Missing } else { Problem::Read(e) }
    }
}

impl Error {
    /// 1 our fault, 2 wrong file or usage, 3 sound but unsupported, 4 not enough room, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match &self.problem {
            Problem::Verify(_) | Problem::Layout(_) => 1,
            Problem::QuantMethod { .. }
            | Problem::OtherWeights(_)
            | Problem::UnknownTensor { .. }
            | Problem::TensorType { .. } => 3,
            Problem::Config(e) if e.unsupported() => 3,
            Problem::Tokenizer(e) if e.unsupported() => 3,
            Problem::NoSpace { .. } | Problem::FileLimit { .. } | Problem::Threads(_) => 4,
            Problem::Interrupted => 130,
            _ => 2,
        }
    }
}

/// ", Qwen/Qwen3-8B"
fn named(original: &Option<String>) -> String {
    original.as_ref().map(|name| format!(", {name}")).unwrap_or_default()
}

fn kept_hint(kept: Option<&Kept>) -> String {
    kept.map_or_else(String::new, |Kept { done, of }| {
        format!("; {done} of {of} tensors are done, and the same command continues")
    })
}

fn limit_hint(limit: Option<u64>) -> String {
    limit.map_or_else(String::new, |limit| format!(" (ulimit -f: {limit} bytes)"))
}

/// "3 in all", "1000 or more in all".
fn missing_in_all(count: usize) -> String {
    if count < 1000 { format!("{count} in all") } else { format!("{count} or more in all") }
}
