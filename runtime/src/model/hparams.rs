//! The sizes of a model, from a GGUF file's keys. Every value is checked to lie where the rest of the program needs it.
use super::ModelFault;
use crate::kv::KvType;
use crate::rope::{Pairing, Rope, Scaling};
use qwren_quant::gguf::{Header, Quoted};

/// The architectures that run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// Dense Qwen3.
    Qwen3,
    /// Qwen3 with experts.
    Qwen3Moe,
    /// Dense Llama, also of other makers.
    Llama,
}

impl Arch {
    const ALL: [Arch; 3] = [Arch::Qwen3, Arch::Qwen3Moe, Arch::Llama];

    /// The architecture of that name.
    pub fn named(name: &str) -> Option<Arch> {
        Arch::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// Its name in a file, which also prefixes its keys.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::Qwen3 => "qwen3",
            Arch::Qwen3Moe => "qwen3moe",
            Arch::Llama => "llama",
        }
    }
}

/// The mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moe {
    /// Experts in a layer.
    pub experts: usize,
    /// Experts that a token uses.
    pub used: usize,
    /// Width of an expert.
    pub ff: usize,
    /// The weights of a token's experts are scaled to sum to 1.
    pub norm_weights: bool,
}

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hparams {
    /// Architecture.
    pub arch: Arch,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Width of the dense feed-forward part.
    pub ff: usize,
    /// Tokens.
    pub vocab: usize,
    /// Positions that the model was trained for, stretching included.
    pub ctx_train: usize,
    /// Added to the mean square in norms.
    pub rms_eps: f32,
    /// Position embedding.
    pub rope: Rope,
    /// The experts, in [`Arch::Qwen3Moe`].
    pub moe: Option<Moe>,
    /// The output head is the embedding.
    pub tied: bool,
}

/// Well above any model, well below what could overflow: sizes are multiplied four at a time.
const MOST: u32 = 1 << 20;
/// The vocabularies in use have 2^18 tokens at most.
const MOST_VOCAB: u64 = 1 << 24;
const MOST_LAYERS: u32 = 1024;
/// Scratch rows and rotation tables are sized by it.
const MOST_HEAD_DIM: usize = 512;
const MOST_EXPERTS: usize = 1024;

impl Hparams {
    /// Reads and checks the keys, and the vocabulary's size from the embedding's shape.
    ///
    /// # Errors
    /// Keys are missing, make no sense, or ask for what can't be computed here.
    pub fn read(header: &Header) -> Result<Hparams, ModelFault> {
        let name = header.str("general.architecture")?.ok_or(ModelFault::NoArchitecture)?;
        let arch = Arch::named(name).ok_or_else(|| ModelFault::Architecture(Quoted::new(name)))?;
        let keys = Keys { header, arch };
        let layers = keys.size("block_count", MOST_LAYERS)?;
        let hidden = keys.size("embedding_length", MOST)?;
        let heads = keys.size("attention.head_count", MOST)?;
        let kv_heads = keys.size_or("attention.head_count_kv", MOST, heads)?;
        keys.demand("attention.head_count_kv", kv_heads, heads % kv_heads == 0, "it must divide the number of heads")?;
        let head_dim = keys.size_or("attention.key_length", MOST, hidden / heads)?;
        let sound = head_dim >= 2 && head_dim % 2 == 0 && head_dim <= MOST_HEAD_DIM;
        keys.demand("attention.key_length", head_dim, sound, "a head has an even number of elements, 512 at most")?;
        let value_dim = keys.size_or("attention.value_length", MOST, head_dim)?;
        keys.supported("attention.value_length", value_dim, value_dim == head_dim)?;
        let turned = keys.size_or("rope.dimension_count", MOST, head_dim)?;
        keys.supported("rope.dimension_count", turned, turned == head_dim)?;
        keys.demand(
            "attention.head_count",
            heads,
            heads * head_dim <= MOST as usize,
            "heads are too many or too wide",
        )?;
        let causal = header.bool(&keys.name("attention.causal"))?.unwrap_or(true);
        keys.supported("attention.causal", causal, causal)?;
        let ctx_train = keys.size("context_length", 1 << 30)?;
        let rms_eps = keys.float("attention.layer_norm_rms_epsilon")?;
        let rms_eps = rms_eps.ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?;
        let sound = rms_eps > 0.0 && rms_eps < 1.0;
        keys.demand("attention.layer_norm_rms_epsilon", rms_eps, sound, "it must lie between 0 and 1")?;
        let moe = match arch {
            Arch::Qwen3 => None,
            Arch::Llama => {
                // Mixtral comes under this name too.
                let experts = header.u32(&keys.name("expert_count"))?.unwrap_or(0);
                keys.supported("expert_count", experts, experts == 0)?;
                None
            }
            Arch::Qwen3Moe => Some(keys.moe()?),
        };
        // The width of the dense part means nothing where all layers have experts.
        let ff = if moe.is_some() { 0 } else { keys.size("feed_forward_length", MOST)? };
        let vocab = match header.tensor("token_embd.weight").map(|t| t.shape.as_slice()) {
            Some(&[_, vocab]) if vocab <= MOST_VOCAB => vocab as usize,
            Some(_) => {
                return Err(keys.value("token_embd.weight", "a tensor", "it must be a matrix with a row a token"));
            }
            None => return Err(ModelFault::MissingTensor("token_embd.weight".into())),
        };
        let rope = keys.rope(ctx_train)?;
        let tied = false;
        Ok(Hparams { arch, layers, hidden, heads, kv_heads, head_dim, ff, vocab, ctx_train, rms_eps, rope, moe, tied })
    }

    /// Bytes that a position takes in the KV cache, all layers together.
    pub fn kv_bytes_per_position(&self, k: KvType, v: KvType) -> u64 {
        let elements = (self.layers * self.kv_heads * self.head_dim) as u64;
        k.bytes(elements).saturating_add(v.bytes(elements))
    }
}

/// Keys of one architecture.
struct Keys<'h> {
    header: &'h Header,
    arch: Arch,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.arch.name())
    }

    fn missing(&self, key: &str) -> ModelFault {
        ModelFault::MissingKey(self.name(key))
    }

    fn value(&self, key: &str, value: impl ToString, demand: &'static str) -> ModelFault {
        ModelFault::Value { key: self.name(key), value: value.to_string(), demand }
    }

    fn demand(&self, key: &str, value: impl ToString, met: bool, demand: &'static str) -> Result<(), ModelFault> {
        if met { Ok(()) } else { Err(self.value(key, value, demand)) }
    }

    fn supported(&self, key: &str, value: impl ToString, yes: bool) -> Result<(), ModelFault> {
        let fault = || ModelFault::Unsupported { key: self.name(key), value: value.to_string() };
        if yes { Ok(()) } else { Err(fault()) }
    }

    /// A size in 1..=most.
    fn size(&self, key: &str, most: u32) -> Result<usize, ModelFault> {
        let n = self.header.u32(&self.name(key))?.ok_or_else(|| self.missing(key))?;
        self.demand(key, n, n >= 1 && n <= most, "no model has such a size")?;
        Ok(n as usize)
    }

    fn size_or(&self, key: &str, most: u32, default: usize) -> Result<usize, ModelFault> {
        if self.header.get(&self.name(key)).is_none() { Ok(default) } else { self.size(key, most) }
    }

    fn float(&self, key: &str) -> Result<Option<f32>, ModelFault> {
        Ok(self.header.f32(&self.name(key))?)
    }

    /// A number above 0, as f64.
    fn positive(&self, key: &str) -> Result<Option<f64>, ModelFault> {
        let Some(x) = self.float(key)? else { return Ok(None) };
        self.demand(key, x, x.is_finite() && x > 0.0, "it must be above 0")?;
        Ok(Some(x as f64))
    }

    fn moe(&self) -> Result<Moe, ModelFault> {
        let experts = self.size("expert_count", MOST_EXPERTS as u32)?;
        let used = self.size("expert_used_count", MOST_EXPERTS as u32)?;
        self.demand("expert_used_count", used, used <= experts, "there are not so many experts")?;
        let ff = self.size("expert_feed_forward_length", MOST)?;
        // Files of other tools don't have the key; those tools always normalize.
        let norm_weights = self.header.bool(&self.name("expert_weights_norm"))?.unwrap_or(true);
        let scale = self.float("expert_weights_scale")?.unwrap_or(1.0);
        self.supported("expert_weights_scale", scale, scale == 1.0 || scale == 0.0)?;
        let shared = self.header.u32(&self.name("expert_shared_count"))?.unwrap_or(0);
        self.supported("expert_shared_count", shared, shared == 0)?;
        Ok(Moe { experts, used, ff, norm_weights })
    }

    fn rope(&self, ctx_train: usize) -> Result<Rope, ModelFault> {
        let theta = self.positive("rope.freq_base")?.unwrap_or(10_000.0);
        self.demand("rope.freq_base", theta, theta > 1.0, "it must be above 1")?;
        let factor = match self.float("rope.scaling.factor")? {
            Some(_) => self.positive("rope.scaling.factor")?,
            None => self.positive("rope.scale_linear")?,
        };
        let factor = factor.unwrap_or(1.0);
        let kind = self.header.str(&self.name("rope.scaling.type"))?.unwrap_or("linear");
        let scaling = match kind {
            "none" => Scaling::None,
            "linear" if factor == 1.0 => Scaling::None,
            "linear" => Scaling::Linear { factor },
            "yarn" => Scaling::Yarn {
                factor,
                original_ctx: self.size_or("rope.scaling.original_context_length", 1 << 30, ctx_train)?,
                beta_fast: self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                ext_factor: self.positive("rope.scaling.yarn_ext_factor")?.unwrap_or(1.0),
                attention_factor: match self.positive("rope.scaling.yarn_attn_factor")? {
                    Some(whole) => whole,
                    None => {
                        (0.1 * factor.ln().max(0.0) + 1.0) * self.positive("rope.scaling.attn_factor")?.unwrap_or(1.0)
                    }
                },
            },
            other => return Err(self.unsupported_scaling(other)),
        };
        let pairing = match self.arch {
            Arch::Qwen3 | Arch::Qwen3Moe => Pairing::Halves,
            Arch::Llama => Pairing::Neighbours,
        };
        Ok(Rope { theta, pairing, scaling })
    }

    fn unsupported_scaling(&self, kind: &str) -> ModelFault {
        ModelFault::Unsupported { key: self.name("rope.scaling.type"), value: Quoted::new(kind).to_string() }
    }
}
