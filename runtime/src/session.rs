//! A conversation's state on top of a model: which tokens the KV cache holds, and how more of them are evaluated.
mod cache;
mod offload;

use crate::arch::fused::FusedEngine;
use crate::arch::stock::StockEngine;
use crate::arch::{Engine, EngineError};
use crate::ggml::{Fault, GgmlError};
use crate::gpu::Remote;
use crate::kv::KvCache;
use crate::machine;
use crate::model::Model;
use crate::ops::fed::Fed;
use crate::ops::{Crew, State};
use crate::rope::Angles;
use qwren_quant::block::{Codec, codec};
use qwren_quant::kernel::{Level, vec_ops};
use std::sync::atomic::AtomicBool;

pub use crate::kv::KvType;

/// How many threads compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    /// With one token at a time.
    pub decode: usize,
    /// With many.
    pub prefill: usize,
}

impl Default for Threads {
    /// One for each physical performance core that this process may use.
    fn default() -> Threads {
        let n = machine::default_threads();
        Threads { decode: n, prefill: n }
    }
}

/// How a session computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Positions in the KV cache.
    pub ctx: usize,
    /// Tokens that are evaluated together at most.
    pub batch: usize,
    /// Threads.
    pub threads: Threads,
    /// How keys are kept.
    pub type_k: KvType,
    /// How values are kept.
    pub type_v: KvType,
    /// Compute with ggml's own operations, on one thread.
    pub stock_ops: bool,
}

/// Positions by default: enough for a conversation, and its cache stays small beside the model.
pub const DEFAULT_CTX: usize = 4096;
/// Tokens in a batch by default: weights are unpacked once a batch, and beyond some hundred tokens that is paid off.
pub const DEFAULT_BATCH: usize = 512;
/// Memory in bytes that a run takes at most beside the file and the cache: tokenizer and scratch.
pub const WORK_BYTES: u64 = 96 << 20;

/// The largest batch: its activations must find room in memory.
pub const MAX_BATCH: usize = 4096;
/// The largest batch for ggml's own operations: one product of theirs can't be stopped, and on one thread takes a while.
const STOCK_BATCH: usize = 64;

impl Options {
    /// The defaults for a model.
    pub fn for_model(model: &Model) -> Options {
        Options {
            ctx: DEFAULT_CTX.min(model.hparams().ctx_train),
            batch: DEFAULT_BATCH,
            threads: Threads::default(),
            type_k: KvType::F16,
            type_v: KvType::F16,
            stock_ops: false,
        }
    }
}

/// Why a session can't start.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A size of zero.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// More tokens in a batch than make sense.
    #[error(
        "a batch of {0} tokens is more than {MAX_BATCH}, beyond which nothing gets faster; choose a smaller one with -b"
    )]
    Batch(usize),
    /// More positions than any model has.
    #[error("a context of {0} positions is more than any model has")]
    Ctx(usize),
    /// Heads that are no whole blocks of the cache's type.
    #[error("heads of {0} elements are no whole blocks of 32, which a q8_0 cache stores; use -ctk f16 -ctv f16")]
    CacheBlocks(usize),
    /// The system refused the memory for the cache.
    #[error("no memory for a context of {ctx} positions, which takes {} MiB; choose a smaller one with -c", .bytes >> 20)]
    Memory {
        /// Positions asked for.
        ctx: usize,
        /// What they take.
        bytes: u64,
    },
    /// The system refused a thread.
    #[error("can't start {threads} threads ({source}); choose fewer with -t")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// Why.
        source: std::io::Error,
    },
    /// The sums of what matrices are fed are only made by our own operations.
    #[error("only qwren's own operations tell what matrices are fed; run without --stock-ops and -ngl")]
    Watch,
    /// QWREN_CPU names a level that this CPU lacks, or none.
    #[error("{0}")]
    Level(String),
    /// ggml could not be set up.
    #[error(transparent)]
    Ggml(#[from] GgmlError),
}

/// Why tokens weren't evaluated. The session stays usable: it holds the tokens that [`Session::tokens`] says.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// No tokens.
    #[error("there are no tokens to evaluate")]
    Empty,
    /// A token that the model doesn't have.
    #[error("token {token} is not among the model's {vocab} tokens")]
    Token {
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocab: usize,
    },
    /// The context is too small.
    #[error("the context is full: it holds {held} of {ctx} tokens, {more} more don't fit; enlarge it with -c")]
    Full {
        /// Tokens in the cache.
        held: usize,
        /// Tokens asked for.
        more: usize,
        /// Positions of the cache.
        ctx: usize,
    },
    /// The caller's flag was set.
    #[error("interrupted")]
    Interrupted,
    /// A fault of ours.
    #[error("{0}")]
    Failed(String),
    /// A graph could not be built.
    #[error(transparent)]
    Ggml(GgmlError),
}

impl From<EngineError> for EvalError {
    fn from(e: EngineError) -> EvalError {
        match e {
            EngineError::Ggml(e) => EvalError::Ggml(e),
            EngineError::Fault(Fault::Interrupted) => EvalError::Interrupted,
            EngineError::Fault(Fault::Failed(text)) => EvalError::Failed(text),
        }
    }
}

/// Rows whose logits are computed together when many are wanted: 16 rows of Qwen3's vocabulary are 10 MB.
const HEAD_ROWS: usize = 16;

/// For what is too short to be worth stopping.
static NEVER: AtomicBool = AtomicBool::new(false);

/// What computes a session's layers, with an empty cache.
///
/// # Errors
/// As [`Session::new`].
pub fn engine<'m>(model: &'m Model, opts: &Options) -> Result<Box<dyn Engine + 'm>, SessionError> {
    let (hp, ctx) = (model.hparams(), opts.ctx);
    let counts = [
        (ctx, "the context"),
        (opts.batch, "the batch"),
        (opts.threads.decode.min(opts.threads.prefill), "the number of threads"),
    ];
    if let Some((_, name)) = counts.iter().find(|(n, _)| *n == 0) {
        return Err(SessionError::Zero(name));
    }
    // Positions are 32-bit integers in ggml, and no model comes near.
    if ctx > 1 << 30 {
        return Err(SessionError::Ctx(ctx));
    }
    if opts.batch > MAX_BATCH {
        return Err(SessionError::Batch(opts.batch));
    }
    if !opts.type_k.fits(hp.head_dim) || !opts.type_v.fits(hp.head_dim) {
        return Err(SessionError::CacheBlocks(hp.head_dim));
    }
    let bytes = hp.kv_bytes_per_position(opts.type_k, opts.type_v).saturating_mul(ctx as u64);
    let no_memory = || SessionError::Memory { ctx, bytes };
    if opts.stock_ops {
        let engine = StockEngine::new(model, ctx, opts.type_k, opts.type_v).map_err(|e| match e {
            GgmlError::Memory => no_memory(),
            other => other.into(),
        })?;
        return Ok(Box::new(engine));
    }

    let level = Level::detect().map_err(|e| SessionError::Level(e.to_string()))?;
    let threads = opts.threads.decode.max(opts.threads.prefill);
    let kv = KvCache::new(hp.layers, hp.kv_heads, ctx, hp.head_dim, opts.type_k, opts.type_v);
    let state = State {
        crew: Crew::new(threads).map_err(|source| SessionError::Threads { threads, source })?,
        level,
        vec: vec_ops(level),
        acts: Default::default(),
        kv: kv.map_err(|_| no_memory())?,
        angles: Angles::new(&hp.rope, hp.head_dim),
        start: 0,
        partial: Vec::new(),
        moe: Default::default(),
        fed: None,
    };
    Ok(Box::new(FusedEngine::new(model, state, opts.threads)?))
}

/// Tokens in a KV cache, and the means to add to them.
pub struct Session<'m> {
    model: &'m Model,
    engine: Box<dyn Engine + 'm>,
    /// The first layers, where they are computed elsewhere.
    remote: Option<Remote>,
    ctx: usize,
    batch: usize,
    tokens: Vec<u32>,
    kv_types: (KvType, KvType),
    /// A part of the cache was computed by a device that is gone.
    mixed: bool,
    /// What our operations compute with; none with stock ones.
    level: Option<Level>,
    codec: &'static Codec,
    /// Embeddings of a batch, `[n, hidden]`.
    x: Vec<f32>,
}

impl<'m> Session<'m> {
    /// An empty session.
    ///
    /// # Errors
    /// When memory or threads are refused, or a size is 0.
    ///
    /// # Panics
    /// Never for a model from [`Model::open`], which has checked that the embedding's type can be read.
    pub fn new(model: &'m Model, opts: &Options) -> Result<Session<'m>, SessionError> {
        let engine = engine(model, opts)?;
        let level = (!opts.stock_ops).then(Level::detect).transpose();
        let level = level.map_err(|e| SessionError::Level(e.to_string()))?;
        let codec = codec(model.embedding().info.dtype).expect("the embedding's type can be read");
        let kv_types = (opts.type_k, opts.type_v);
        let ctx = opts.ctx;
        let batch = if opts.stock_ops { opts.batch.min(STOCK_BATCH) } else { opts.batch }.min(ctx);
        Ok(Session {
            model,
            engine,
            remote: None,
            ctx,
            batch,
            tokens: Vec::new(),
            kv_types,
            mixed: false,
            level,
            codec,
            x: Vec::new(),
        })
    }

    /// From now on sums what the model's matrices are fed; see [`Session::fed`].
    ///
    /// # Errors
    /// The session computes with ggml's own operations, or elsewhere.
    pub fn watch(&mut self, fed: Fed) -> Result<(), SessionError> {
        if self.remote.is_some() {
            return Err(SessionError::Watch);
        }
        self.engine.watch(fed).map_err(|_| SessionError::Watch)
    }

    /// What was summed since [`Session::watch`].
    pub fn fed(&self) -> Option<&Fed> {
        self.engine.fed()
    }

    /// Evaluates `tokens` after what the cache holds and gives the logits of the last one, `[vocab]`. `interrupt` is looked
    /// at within layers; `progress` hears after each batch how many of the tokens are done.
    ///
    /// # Errors
    /// As [`EvalError`] says. After an interrupt the cache holds the batches that were complete.
    pub fn eval(
        &mut self,
        tokens: &[u32],
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<&[f32], EvalError> {
        self.check(tokens)?;
        let mut last = Vec::new();
        let mut done = 0;
        for chunk in tokens.chunks(self.batch) {
            let x = self.layers(chunk, interrupt)?;
            done += chunk.len();
            if done == tokens.len() {
                last = x[x.len() - x.len() / chunk.len()..].to_vec();
            }
            self.tokens.extend(chunk);
            progress(done, tokens.len());
        }
        self.logits(&last, &NEVER, interrupt)
    }

    /// Evaluates `tokens` after what the cache holds and gives `sink` the logits of each of the `last` ones (all if there are
    /// fewer), in order, with its index in `tokens`. Memory stays bounded however many they are.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn eval_each(
        &mut self,
        tokens: &[u32],
        last: usize,
        interrupt: &AtomicBool,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), EvalError> {
        self.check(tokens)?;
        let (hidden, vocab) = (self.model.hparams().hidden, self.model.hparams().vocab);
        let first = tokens.len().saturating_sub(last);
        let mut done = 0;
        for chunk in tokens.chunks(self.batch) {
            let x = self.layers(chunk, interrupt)?;
            let skip = first.saturating_sub(done).min(chunk.len());
            let wanted = x[skip * hidden..].to_vec();
            self.tokens.extend(chunk);
            let mut index = done + skip;
            for rows in wanted.chunks(HEAD_ROWS * hidden) {
                for logits in self.logits(rows, interrupt, interrupt)?.chunks_exact(vocab) {
                    sink(index, logits);
                    index += 1;
                }
            }
            done += chunk.len();
        }
        Ok(())
    }

    /// Evaluates `tokens` after what the cache holds and gives the logits of the `last` ones (all if there are fewer),
    /// `[min(last, n), vocab]`.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn eval_all(&mut self, tokens: &[u32], last: usize) -> Result<Vec<f32>, EvalError> {
        let mut all = Vec::new();
        self.eval_each(tokens, last, &NEVER, &mut |_, logits| all.extend_from_slice(logits))?;
        Ok(all)
    }

    /// Evaluates `tokens`, one batch at most, after what the cache holds and gives the residual stream: the embeddings, then
    /// after each layer, the last one after the final norm; `[n, hidden]` each.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn hidden_states(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, EvalError> {
        self.check(tokens)?;
        if tokens.len() > self.batch {
            return Err(EvalError::Full { held: 0, more: tokens.len(), ctx: self.batch });
        }
        self.embed(tokens);
        let embeddings = self.x.clone();
        let mut states = Vec::new();
        let (first, end) = (self.remote_every_layer(tokens, &mut states)?, self.model.layers().len());
        if first < end {
            states.extend(self.engine.every_layer(first..end, self.tokens.len(), &self.x, &NEVER)?);
        }
        if let Some(last) = states.last_mut() {
            *last = self.engine.head(last, &NEVER)?.normed.to_vec();
        }
        self.tokens.extend(tokens);
        states.insert(0, embeddings);
        Ok(states)
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the cache holds none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Positions of the cache.
    pub fn ctx(&self) -> usize {
        self.ctx
    }

    /// Forgets all tokens but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.mixed &= !self.tokens.is_empty();
    }

    /// The tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The instructions that our operations compute with, which decide how they round; none with stock operations.
    pub fn level(&self) -> Option<Level> {
        self.level
    }

    /// The model.
    pub fn model(&self) -> &'m Model {
        self.model
    }

    fn check(&self, tokens: &[u32]) -> Result<(), EvalError> {
        let (vocab, held, ctx) = (self.model.hparams().vocab, self.tokens.len(), self.ctx);
        if tokens.is_empty() {
            return Err(EvalError::Empty);
        }
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(EvalError::Token { token, vocab });
        }
        if tokens.len() > ctx - held {
            return Err(EvalError::Full { held, more: tokens.len(), ctx });
        }
        Ok(())
    }

    /// The residual stream after the last layer for `tokens`, which were checked and are at most one batch.
    fn layers(&mut self, tokens: &[u32], interrupt: &AtomicBool) -> Result<&[f32], EvalError> {
        self.embed(tokens);
        let (first, end) = (self.remote_layers(tokens, interrupt)?, self.model.layers().len());
        if first == end {
            return Ok(&self.x);
        }
        Ok(self.engine.layers(first..end, self.tokens.len(), &self.x, interrupt)?)
    }

    /// Reads the rows of checked tokens from the embedding.
    fn embed(&mut self, tokens: &[u32]) {
        let hidden = self.model.hparams().hidden;
        let table = self.model.bytes(self.model.embedding());
        let row_bytes = table.len() / self.model.hparams().vocab;
        self.x.resize(tokens.len() * hidden, 0.0);
        for (&token, x) in tokens.iter().zip(self.x.chunks_exact_mut(hidden)) {
            self.codec.dequantize(&table[token as usize * row_bytes..][..row_bytes], x);
        }
    }
}
