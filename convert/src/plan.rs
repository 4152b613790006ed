//! The whole file, known before its first byte is written.

use std::path::{Path, PathBuf};

use qwren_quant::gguf::{Layout, Plan as FilePlan, Value};

use crate::arch::{self, Target, qwen3};
use crate::card::Card;
use crate::checkpoint::config::{Config, Moe};
use crate::checkpoint::{Checkpoint, quantization};
use crate::error::{Error, Problem};
use crate::importance::Importances;
use crate::naming::{self, Origin};
use crate::recipe::{self, Choice, FileType, Override};
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
}

/// A conversion of which everything is known but the values of the weights.
#[derive(Debug)]
pub struct Plan {
    /// The source.
    pub checkpoint: Checkpoint,
    /// The recipe.
    pub file_type: FileType,
    /// Tensors in file order, each with its type.
    pub tensors: Vec<(Target, Choice)>,
    /// How much each column matters.
    pub importances: Option<Importances>,
    /// All keys in file order.
    pub metadata: Keys,
    /// Header and offsets of the file.
    pub layout: Layout,
    /// Tokens that have a text.
    pub tokens: usize,
    /// Rows of the embedding beyond them.
    pub pads: usize,
    /// Remarks for the user.
    pub notes: Vec<String>,
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
        let choices = recipe::choose(&targets, options.file_type, config.layers, experts, &options.overrides);

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
        let layout = lay_out(&metadata, &tensors).map_err(|e| e.of(dir))?;
        let (tokens, pads) = (tokenizer.tokens, tokenizer.pads);
        let file_type = options.file_type;
        Ok(Plan { checkpoint, file_type, tensors, importances, metadata, layout, tokens, pads, notes })
    }

    /// Elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|(t, _)| t.elements()).sum()
    }

    /// Average bits that a weight takes, block scales included.
    pub fn bits_per_weight(&self) -> f64 {
        let bytes: u64 = self.layout.tensors.iter().map(|t| t.bytes).sum();
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

fn lay_out(metadata: &[(String, Value)], tensors: &[(Target, Choice)]) -> Result<Layout, Problem> {
    let fail = |e: qwren_quant::gguf::WriteError| Problem::Layout(e.to_string());
    let mut plan = FilePlan::new(ALIGNMENT);
    for (key, value) in metadata {
        plan.push_kv(key, value.clone());
    }
    for (target, choice) in tensors {
        plan.push_tensor(&target.name, &target.shape, choice.dtype).map_err(fail)?;
    }
    plan.layout().map_err(fail)
}
