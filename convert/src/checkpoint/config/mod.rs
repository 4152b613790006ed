//! config.json in both styles: as Qwen3 was published (torch_dtype, rope_theta, rope_scaling, num_experts) and as
//! transformers 5 writes it (dtype, rope_parameters, num_local_experts).

mod error;
mod rope;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Quantization, files, quantization};
use crate::error::{Error, Problem};
pub use error::ConfigError;
pub use rope::Scaling;
use rope::{Rope, scaling};

/// File name of the configuration.
pub const FILE: &str = "config.json";

/// Dense or mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// Qwen3ForCausalLM.
    Qwen3,
    /// Qwen3MoeForCausalLM.
    Qwen3Moe,
}

impl Arch {
    /// llama.cpp's name, which is the prefix of the file's keys too.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Qwen3 => "qwen3",
            Arch::Qwen3Moe => "qwen3moe",
        }
    }
}

/// What the conversion needs of config.json, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The architecture.
    pub arch: Arch,
    /// Number of layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of a head, when config.json has it.
    pub head_dim: Option<u32>,
    /// Width of the dense feed-forward network (in the keys of MoE models too).
    pub ff: u32,
    /// Rows of the embedding.
    pub vocab: u32,
    /// Trained context in tokens.
    pub context: u32,
    /// Epsilon of the RMS norms.
    pub rms_eps: f32,
    /// RoPE's base.
    pub rope_theta: f32,
    /// How RoPE is stretched beyond the trained context.
    pub rope_scaling: Option<Scaling>,
    /// Whether the embedding is the output matrix too; `None` when unsaid.
    pub tied: Option<bool>,
    /// The experts of a MoE model.
    pub moe: Option<Moe>,
    /// How weights are quantized.
    pub quantization: Quantization,
    /// `X_token_id` entries.
    pub token_ids: TokenIds,
    /// What the model was saved or loaded as: an id of the hub, or a path on somebody's disk.
    pub name_or_path: Option<String>,
}

/// Experts of a MoE model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moe {
    /// Experts in a layer.
    pub experts: u32,
    /// Experts that a token uses.
    pub used: u32,
    /// Width of an expert.
    pub ff: u32,
    /// Whether the chosen experts' weights are made to sum to 1.
    pub norm_weights: bool,
}

/// Special token ids that config.json names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct TokenIds {
    pub bos: Option<u64>,
    pub eos: Option<u64>,
    pub unk: Option<u64>,
    pub sep: Option<u64>,
    pub pad: Option<u64>,
    pub cls: Option<u64>,
    pub mask: Option<u64>,
}

/// config.json, the keys that we look at. Unknown keys are ignored, wrong types are errors that name the key.
#[derive(Deserialize)]
struct Raw {
    hidden_size: Option<u64>,
    num_hidden_layers: Option<u64>,
    num_attention_heads: Option<u64>,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    intermediate_size: Option<u64>,
    vocab_size: Option<u64>,
    max_position_embeddings: Option<u64>,
    original_max_position_embeddings: Option<u64>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<Rope>,
    rope_scaling: Option<Rope>,
    tie_word_embeddings: Option<bool>,
    num_experts: Option<u64>,
    num_local_experts: Option<u64>,
    num_experts_per_tok: Option<u64>,
    moe_intermediate_size: Option<u64>,
    norm_topk_prob: Option<bool>,
    decoder_sparse_step: Option<u64>,
    mlp_only_layers: Option<Vec<u64>>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
    is_causal: Option<bool>,
    _name_or_path: Option<Value>,
    bos_token_id: Option<Value>,
    eos_token_id: Option<Value>,
    unk_token_id: Option<Value>,
    sep_token_id: Option<Value>,
    pad_token_id: Option<Value>,
    cls_token_id: Option<Value>,
    mask_token_id: Option<Value>,
}

impl Config {
    /// Reads and checks `dir/config.json`.
    ///
    /// # Errors
    /// Absent or malformed (2), of another architecture, variant or quantization method (3).
    pub fn read(dir: &Path) -> Result<Config, Error> {
        let path = dir.join(FILE);
        let value: Value = files::read_json(&path, files::SMALL_LIMIT)?;
        let arch = arch(&value).map_err(|e| Problem::Config(e).of(&path))?;
        let quantization = quantization::read(&value).map_err(|e| Problem::from(e).of(&path))?;
        let raw: Raw = serde_path_to_error::deserialize(value).map_err(|e| Problem::Json(e).of(&path))?;
        Config::check(arch, quantization, raw).map_err(|e| Problem::Config(e).of(path))
    }

    fn check(arch: Arch, quantization: Quantization, raw: Raw) -> Result<Config, ConfigError> {
        variants(&raw)?;
        // Ranges are far above any model, and low enough that no size computed from them is absurd.
        let hidden = int("hidden_size", raw.hidden_size, 1 << 20)?;
        let heads = int("num_attention_heads", raw.num_attention_heads, 1 << 12)?;
        let kv_heads = int("num_key_value_heads", raw.num_key_value_heads, 1 << 12)?;
        if heads % kv_heads != 0 {
            let text = format!("num_attention_heads ({heads}) is no multiple of num_key_value_heads ({kv_heads})");
            return Err(ConfigError::Inconsistent(text));
        }
        let head_dim = raw.head_dim.map(|d| int("head_dim", Some(d), 1 << 12)).transpose()?;
        let moe = match arch {
            Arch::Qwen3 => None,
            Arch::Qwen3Moe => Some(moe(&raw)?),
        };
        let rope = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
        let theta = rope.and_then(|r| r.rope_theta).or(raw.rope_theta);
        Ok(Config {
            arch,
            layers: int("num_hidden_layers", raw.num_hidden_layers, 1 << 12)?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            ff: int("intermediate_size", raw.intermediate_size, 1 << 20)?,
            vocab: int("vocab_size", raw.vocab_size, 1 << 21)?,
            context: int("max_position_embeddings", raw.max_position_embeddings, 1 << 30)?,
            rms_eps: float("rms_norm_eps", raw.rms_norm_eps, 1e-12, 1.0)?,
            // No default: transformers' is 10,000, and no published Qwen3 has that.
            rope_theta: float("rope_theta", theta, 1.0, 1e12)?,
            rope_scaling: rope.map(|r| scaling(r, &raw)).transpose()?.flatten(),
            tied: raw.tie_word_embeddings,
            moe,
            quantization,
            token_ids: TokenIds {
                bos: id(&raw.bos_token_id),
                // Of several end tokens the first one; where the tokenizer names one by its text, that one wins.
                eos: raw.eos_token_id.as_ref().and_then(|v| v.get(0).unwrap_or(v).as_u64()),
                unk: id(&raw.unk_token_id),
                sep: id(&raw.sep_token_id),
                pad: id(&raw.pad_token_id),
                cls: id(&raw.cls_token_id),
                mask: id(&raw.mask_token_id),
            },
            name_or_path: raw._name_or_path.as_ref().and_then(Value::as_str).map(str::to_owned),
        })
    }
}

/// The architecture by `architectures`, else by `model_type`.
fn arch(config: &Value) -> Result<Arch, ConfigError> {
    let class = config["architectures"].get(0).and_then(Value::as_str);
    match class.or(config["model_type"].as_str()) {
        Some("Qwen3ForCausalLM" | "qwen3") => Ok(Arch::Qwen3),
        Some("Qwen3MoeForCausalLM" | "qwen3_moe") => Ok(Arch::Qwen3Moe),
        Some(other) => Err(ConfigError::Architecture(other.to_owned())),
        None => Err(ConfigError::NoArchitecture),
    }
}

/// Refuses what would be computed wrongly.
fn variants(raw: &Raw) -> Result<(), ConfigError> {
    let refuse = |what: &str| Err(ConfigError::Variant(what.to_owned()));
    if raw.hidden_act.as_deref().is_some_and(|act| act != "silu") {
        return refuse(&format!("hidden_act {:?}", raw.hidden_act.as_deref().unwrap_or_default()));
    }
    if raw.attention_bias == Some(true) {
        return refuse("attention_bias true");
    }
    let sliding = raw.layer_types.iter().flatten().find(|t| *t != "full_attention");
    if let Some(kind) = sliding {
        return refuse(&format!("layer type {kind:?}"));
    }
    // transformers 5 says it by layer_types; before that the flag decides.
    if raw.use_sliding_window == Some(true) && raw.layer_types.is_none() {
        return refuse("use_sliding_window true");
    }
    if raw.is_causal == Some(false) {
        return refuse("is_causal false");
    }
    if raw.decoder_sparse_step.is_some_and(|step| step != 1) {
        return refuse("decoder_sparse_step other than 1");
    }
    if raw.mlp_only_layers.as_ref().is_some_and(|layers| !layers.is_empty()) {
        return refuse("mlp_only_layers");
    }
    Ok(())
}

fn moe(raw: &Raw) -> Result<Moe, ConfigError> {
    let experts = int("num_experts", raw.num_local_experts.or(raw.num_experts), 1 << 12)?;
    let used = int("num_experts_per_tok", raw.num_experts_per_tok, 1 << 12)?;
    if used > experts {
        let text = format!("num_experts_per_tok ({used}) is greater than num_experts ({experts})");
        return Err(ConfigError::Inconsistent(text));
    }
    Ok(Moe {
        experts,
        used,
        ff: int("moe_intermediate_size", raw.moe_intermediate_size, 1 << 20)?,
        // transformers' default when the key is absent.
        norm_weights: raw.norm_topk_prob.unwrap_or(false),
    })
}

fn int(name: &'static str, value: Option<u64>, max: u64) -> Result<u32, ConfigError> {
    let value = value.ok_or(ConfigError::Missing(name))?;
    if (1..=max).contains(&value) {
        return Ok(value as u32);
    }
    Err(ConfigError::Range { name, value: value as f64, min: 1.0, max: max as f64 })
}

fn float(name: &'static str, value: Option<f64>, min: f64, max: f64) -> Result<f32, ConfigError> {
    let value = value.ok_or(ConfigError::Missing(name))?;
    if (min..=max).contains(&value) { Ok(value as f32) } else { Err(ConfigError::Range { name, value, min, max }) }
}

/// A token id.
fn id(value: &Option<Value>) -> Option<u64> {
    value.as_ref().and_then(Value::as_u64)
}
