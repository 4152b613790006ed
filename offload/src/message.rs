//! Requests and replies.
use serde::{Deserialize, Serialize};

/// What qwren asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Which devices there are: [`Reply::Devices`].
    Devices,
    /// Take a device and get ready for layers of this shape: [`Reply::Opened`]. Once, before what follows.
    Open(Open),
    /// Read the weights of the next layer: [`Reply::Done`].
    Load(Box<Layer>),
    /// Read the output matrix, `[vocab, hidden]`, after all of the model's layers; the final norm lies in the shared memory:
    /// [`Reply::Done`]. One that can't be taken changes nothing.
    Output(Matrix),
    /// All layers are there. Claim the memory for the largest batch and compute it once, so that nothing is left to be set up
    /// later: [`Reply::Done`].
    Prepare,
    /// Run layers `first..end` on the shared memory's first `n` rows, which belong to positions from `start` on:
    /// [`Reply::Done`].
    Eval {
        /// The first layer.
        first: usize,
        /// Behind the last.
        end: usize,
        /// Position of the first token.
        start: usize,
        /// Tokens.
        n: usize,
    },
    /// The final norm and the logits of the shared memory's first `n` rows, as the last layer gives them: [`Reply::Done`]. The
    /// logits, `[n, vocab]`, replace them.
    Logits {
        /// Rows.
        n: usize,
    },
    /// Which experts its tokens went to, after an Eval of one layer: [`Reply::Experts`].
    Experts,
    /// Copy rows of the KV cache to the shared memory: [`Reply::Done`].
    Fetch(Rows),
    /// Copy rows of the KV cache from the shared memory: [`Reply::Done`].
    Store(Rows),
}

/// Keys, then values, of some positions in a layer, `[n, kv_heads * head_dim]` each, as ggml lays out the cache's types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The layer.
    pub layer: usize,
    /// The first position.
    pub start: usize,
    /// Positions.
    pub n: usize,
    /// Bytes of all that.
    pub bytes: usize,
}

/// What the worker answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The worker runs. It says so without being asked, once.
    Hello {
        /// [`crate::VERSION`] of its build.
        version: u32,
    },
    /// All devices.
    Devices(Vec<Device>),
    /// The device that was taken.
    Opened(Device),
    /// Numbers of experts, `[n, used]`, each token's in any order.
    Experts(Vec<u32>),
    /// It is done.
    Done,
    /// It can't be done. The worker is of no more use for this model.
    Refused(Refusal),
}

/// Why something can't be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Fewer layers may fit.
    pub memory: bool,
    /// One line.
    pub text: String,
}

impl Refusal {
    /// Something that fewer layers don't cure.
    pub fn new(text: impl Into<String>) -> Refusal {
        Refusal { memory: false, text: text.into() }
    }

    /// Too little memory on the device.
    pub fn memory(text: impl Into<String>) -> Refusal {
        Refusal { memory: true, text: text.into() }
    }
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A graphics card with memory of its own.
    Discrete,
    /// A graphics unit that shares the processor's memory.
    Integrated,
    /// Another processor, or one of a virtual machine.
    Other,
    /// A driver that computes on the processor; taken only when it is named.
    Cpu,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// `Vulkan0` and so on, in the driver's order.
    pub name: String,
    /// The maker's name for it.
    pub description: String,
    /// Differs between drivers that may round otherwise.
    pub driver: String,
    /// What it is.
    pub kind: Kind,
    /// Memory, where it is known.
    pub total_bytes: u64,
    /// What of it is free, as far as the driver says; where it doesn't, all of it.
    pub free_bytes: u64,
}

/// The model and the session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// A device's name, its number, or a part of its description; the best one that isn't a CPU where none is said.
    pub device: Option<String>,
    /// Positions of the KV cache.
    pub ctx: usize,
    /// Tokens in a batch at most.
    pub batch: usize,
    /// Rows whose logits are asked for at once at most.
    pub rows: usize,
    /// ggml's number for the type of cached keys.
    pub type_k: u32,
    /// ggml's number for the type of cached values.
    pub type_v: u32,
    /// Sizes.
    pub shape: Shape,
}

/// The sizes of a model of Qwen3 or Llama, dense or with experts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// The heads of queries and keys have norms.
    pub qk_norm: bool,
    /// Added to the mean square in norms.
    pub rms_eps: f32,
    /// Position embedding.
    pub rope: Rope,
    /// Experts that a token uses; 0 in dense models.
    pub experts_used: usize,
    /// The weights of a token's experts are scaled to sum to 1.
    pub norm_weights: bool,
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Neighbours turn together; else halves of a head.
    pub neighbours: bool,
    /// Base of the frequencies.
    pub theta: f32,
    /// What positions are multiplied by.
    pub scale: f32,
    /// YaRN's share of unscaled frequencies; 0 without YaRN.
    pub ext_factor: f32,
    /// What queries and keys are multiplied by.
    pub magnitude: f32,
    /// Context before YaRN.
    pub original_ctx: u32,
    /// YaRN's bounds.
    pub beta_fast: f32,
    /// YaRN's bounds.
    pub beta_slow: f32,
}

/// Where the tensors of a layer lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The norms in f32, `[hidden]`, `[head_dim]`, `[head_dim]`, `[hidden]`: before attention, of q, of k (where there are such),
    /// before the feed-forward part. They lie in the shared memory one after the other.
    pub norms: usize,
    /// `[heads * head_dim, hidden]`
    pub q: Matrix,
    /// `[kv_heads * head_dim, hidden]`
    pub k: Matrix,
    /// `[kv_heads * head_dim, hidden]`
    pub v: Matrix,
    /// `[hidden, heads * head_dim]`
    pub o: Matrix,
    /// `[experts, hidden]` where there are experts
    pub router: Option<Matrix>,
    /// `[ff, hidden]` for each expert
    pub gate: Matrix,
    /// `[ff, hidden]` for each expert
    pub up: Matrix,
    /// `[hidden, ff]` for each expert
    pub down: Matrix,
}

/// A matrix in one of the model's files, or one for each expert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// ggml's number for its type.
    pub dtype: u32,
    /// Matrices: 1 but for experts.
    pub count: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Which of the files.
    pub file: usize,
    /// Where it begins in it.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Layer {
    /// Its matrices.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let attention = [&self.q, &self.k, &self.v, &self.o];
        attention.into_iter().chain(&self.router).chain([&self.gate, &self.up, &self.down])
    }
}
