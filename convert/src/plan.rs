//! The whole file, known before its first byte is written.

use std::ops::Range;
use std::path::{Path, PathBuf};

use qwren_quant::gguf::{Layout, Plan as FilePlan, TensorInfo, Value, WriteError};

use crate::arch::{self, Target, qwen3};
use crate::card::Card;
use crate::checkpoint::config::{Config, Moe};
use crate::checkpoint::{Checkpoint, quantization};
use crate::error::{Error, Problem};
use crate::importance::Importances;
use crate::naming::{self, Origin};
use crate::recipe::{self, Choice, FileType, Override};
use crate::split::{self, Split, Weight};
use crate::{Keys, glob, sampling, tokenizer};

/// Alignment of tensor data, GGUF's default.
const ALIGNMENT: u32 = 32;
/// ggml's GGML_QNT_VERSION: the version of the block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// What to make of a checkpoint.
#[derive(Debug, Clone)]
pub struct Options {
    /// The recipe.
    pub file_type: FileType,
    /// Types for single tensors; the first pattern that fits wins.
    pub overrides: Vec<Override>,
    /// How much each column matters; all the same, usually.
    pub imatrix: Option<PathBuf>,
    /// Use the embedding as the output matrix, whatever the checkpoint has.
    pub tie_embeddings: bool,
    /// When to begin another file; never, usually.
    pub split: Option<Split>,
}

impl Options {
    /// A recipe and nothing special.
    pub fn new(file_type: FileType) -> Options {
        Options { file_type, overrides: Vec::new(), imatrix: None, tie_embeddings: false, split: None }
    }
}

/// A conversion of which everything is known but the values of the weights.
#[derive(Debug)]
pub struct Plan {
    /// The source.
    pub checkpoint: Checkpoint,
    /// What was asked for.
    pub options: Options,
    /// Tensors in the order of the files, each with its type.
    pub tensors: Vec<(Target, Choice)>,
    /// How much each column matters.
    pub importances: Option<Importances>,
    /// The model's keys in file order.
    pub metadata: Keys,
    /// The files: one, or the parts of a split output.
    pub files: Vec<PlannedFile>,
    /// Tokens that have a text.
    pub tokens: usize,
    /// Rows of the embedding beyond them.
    pub pads: usize,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

/// A file of the output.
#[derive(Debug)]
pub struct PlannedFile {
    /// Which of [`Plan::tensors`] it holds.
    pub tensors: Range<usize>,
    /// Keys that say which part it is; none if it is the only file.
    pub split_keys: Keys,
    /// Its header and offsets.
    pub layout: Layout,
}

impl Plan {
    /// Reads everything in the folder `dir` but the weights, checks it, and lays the file out.
    ///
    /// # Errors
    /// Anything missing, malformed or unsupported: see [`Problem`].
    pub fn new(dir: &Path, options: &Options) -> Result<Plan, Error> {
        Plan::of_folder(dir, options).map_err(|e| with_original(e, dir))
    }

    fn of_folder(dir: &Path, options: &Options) -> Result<Plan, Error> {
        if !dir.is_dir() {
            let problem = if dir.exists() { Problem::NotAFolder } else { Problem::Missing };
            return Err(problem.of(dir));
        }
        let config = Config::read(dir)?;
        let checkpoint = Checkpoint::open(dir)?;
        quantization::refuse_by_names(&checkpoint, &config.quantization)?;
        let mapped = arch::map(&checkpoint, &config, options.tie_embeddings)?;
        let tokenizer = tokenizer::read(dir, &config)?;
        let (sampling, sampling_notes) = sampling::keys(dir)?;

        let targets = mapped.targets;
        check_overrides(&targets, &options.overrides, dir)?;
        let experts = config.moe.map_or(0, |m| m.experts);
        let group = config.heads / config.kv_heads;
        let shape = recipe::Shape { layers: config.layers, experts, group, imatrix: options.imatrix.is_some() };
        let choices = recipe::choose(&targets, options.file_type, shape, &options.overrides);

        let mut metadata = vec![
            ("general.architecture".to_owned(), Value::String(config.arch.name().into())),
            ("general.type".to_owned(), Value::String("model".into())),
        ];
        metadata.extend(sampling);
        let (parameters, one_expert) = parameters(&targets, config.moe);
        let card = Card::read(dir);
        let name_or_path = config.name_or_path.as_deref();
        metadata.extend(naming::keys(&Origin { dir, card: &card, name_or_path, parameters, experts: one_expert }));
        metadata.extend(qwen3::keys(&config, mapped.head_dim));
        metadata.extend(tokenizer.keys);
        metadata.push(("general.quantization_version".to_owned(), Value::U32(QUANTIZATION_VERSION)));
        metadata.push(("general.file_type".to_owned(), Value::U32(options.file_type.number())));

        let tensors: Vec<(Target, Choice)> = targets.into_iter().zip(choices).collect();
        let lossy = config.quantization.name().map(|name| {
            let original = naming::base_models(&card).first().map(|id| format!(", {id},")).unwrap_or_default();
            format!("the weights are stored as {name} and decoded first; the original checkpoint{original} gives a better file")
        });
        let lossy = lossy.into_iter().collect();
        let mut notes = [checkpoint.notes().to_vec(), lossy, mapped.notes, tokenizer.notes, sampling_notes].concat();
        let importances = match &options.imatrix {
            Some(path) => Some(Importances::open(path, &tensors, &mut notes)?),
            None => None,
        };
        metadata.extend(importances.iter().flat_map(Importances::keys));
        let files = lay_out(&metadata, &tensors, options.split).map_err(|e| e.of(dir))?;
        let (tokens, pads) = (tokenizer.tokens, tokenizer.pads);
        let options = options.clone();
        let mut plan = Plan { checkpoint, options, tensors, importances, metadata, files, tokens, pads, notes };
        plan.note_large_parts();
        Ok(plan)
    }

    /// A tensor is never divided.
    fn note_large_parts(&mut self) {
        let Some(Split::Bytes(most)) = self.options.split else { return };
        let large = self.files.iter().filter(|f| f.layout.file_bytes > most).filter_map(|f| f.layout.tensors.first());
        let notes: Vec<String> = large
            .map(|t| format!("the part that holds {} is larger than {most} bytes: tensors are not divided", t.name))
            .collect();
        self.notes.extend(notes);
    }

    /// The keys of file `file` in file order.
    pub fn keys_of(&self, file: usize) -> impl Iterator<Item = (&str, &Value)> {
        let model = if file == 0 { self.metadata.as_slice() } else { &[] };
        model.iter().chain(&self.files[file].split_keys).map(|(key, value)| (key.as_str(), value))
    }

    /// Where each tensor lies in its file, in the order of [`tensors`](Self::tensors).
    pub fn infos(&self) -> impl Iterator<Item = &TensorInfo> {
        self.files.iter().flat_map(|file| &file.layout.tensors)
    }

    /// The file that holds tensor `tensor`, and where it lies in there.
    pub fn place(&self, tensor: usize) -> (usize, &TensorInfo) {
        let file = self.files.partition_point(|file| file.tensors.end <= tensor);
        (file, &self.files[file].layout.tensors[tensor - self.files[file].tensors.start])
    }

    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.layout.file_bytes).sum()
    }

    /// Elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|(t, _)| t.elements()).sum()
    }

    /// Average bits that a weight takes, block scales included.
    pub fn bits_per_weight(&self) -> f64 {
        let bytes: u64 = self.infos().map(|t| t.bytes).sum();
        bytes as f64 * 8.0 / self.parameters() as f64
    }
}

/// Where a method can't be read, the model card may know which checkpoint can.
fn with_original(mut e: Error, dir: &Path) -> Error {
    if let Problem::QuantMethod { original, .. } = &mut e.problem {
        *original = naming::base_models(&Card::read(dir)).first().cloned();
    }
    e
}

/// A pattern that fits nothing is a slip of the pen.
fn check_overrides(targets: &[Target], overrides: &[Override], dir: &Path) -> Result<(), Error> {
    let fits = |o: &Override| targets.iter().any(|t| recipe::quantizable(t) && glob::matches(&o.glob, &t.name));
    match overrides.iter().find(|o| !fits(o)) {
        Some(o) => Err(Problem::OverrideUnused(o.glob.clone()).of(dir)),
        None => Ok(()),
    }
}

/// Elements of all tensors; and for MoE models the experts and the elements with one expert a layer.
fn parameters(targets: &[Target], moe: Option<Moe>) -> (u64, Option<(u64, u64)>) {
    let all = targets.iter().map(Target::elements).sum();
    let one = |experts: u64| {
        let elements = |t: &Target| if t.shape.len() == 3 { t.elements() / experts } else { t.elements() };
        (experts, targets.iter().map(elements).sum())
    };
    (all, moe.map(|m| one(u64::from(m.experts))))
}

fn lay_out(
    metadata: &[(String, Value)],
    tensors: &[(Target, Choice)],
    split: Option<Split>,
) -> Result<Vec<PlannedFile>, Problem> {
    let all = 0..tensors.len();
    let parts = match split {
        None => vec![all],
        Some(split) => {
            let whole = lay_out_file(metadata, tensors, Vec::new(), all)?.layout;
            let weights: Vec<Weight> = whole.tensors.iter().map(weight).collect();
            let bare = |metadata| lay_out_file(metadata, tensors, split::keys(0, 2, 0), 0..0);
            let (first, other) = (bare(metadata)?, bare(&[])?);
            split::deal(&weights, split, first.layout.data_offset, other.layout.data_offset)?
        }
    };
    let count = parts.len();
    let file = |(i, range)| {
        let metadata = if i == 0 { metadata } else { &[] };
        lay_out_file(metadata, tensors, split::keys(i, count, tensors.len()), range)
    };
    parts.into_iter().enumerate().map(file).collect()
}

fn lay_out_file(
    metadata: &[(String, Value)],
    tensors: &[(Target, Choice)],
    split_keys: Keys,
    range: Range<usize>,
) -> Result<PlannedFile, Problem> {
    let fail = |e: WriteError| Problem::Layout(e.to_string());
    let mut plan = FilePlan::new(ALIGNMENT);
    for (key, value) in metadata.iter().chain(&split_keys) {
        plan.push_kv(key, value.clone());
    }
    for (target, choice) in &tensors[range.clone()] {
        plan.push_tensor(&target.name, &target.shape, choice.dtype).map_err(fail)?;
    }
    Ok(PlannedFile { tensors: range, split_keys, layout: plan.layout().map_err(fail)? })
}

/// The entry has the name with its length, the dimensions with their number, type and offset.
fn weight(t: &TensorInfo) -> Weight {
    Weight {
        entry: 8 + t.name.len() as u64 + 4 + 8 * t.shape.len() as u64 + 4 + 8,
        data: t.bytes.next_multiple_of(ALIGNMENT.into()),
    }
}
