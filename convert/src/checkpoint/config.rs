//! config.json in both styles: as Qwen3 was published (torch_dtype, rope_theta, rope_scaling, num_experts) and as
//! transformers 5 writes it (dtype, rope_parameters, num_local_experts).

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::files;
use crate::error::{Error, Problem};

/// File name of the configuration.
pub const FILE: &str = "config.json";

/// What config.json lacks, or asks for that is not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The model is of another family.
    #[error("architecture {0} is not supported; Qwen3ForCausalLM and Qwen3MoeForCausalLM are")]
    Architecture(String),
    /// Nothing says what the model is.
    #[error("names no architecture; is this a model's folder?")]
    NoArchitecture,
    /// A needed value is absent.
    #[error("{0} is missing; use the config.json that was published with the weights")]
    Missing(&'static str),
    /// A value is out of range.
    #[error("{name} is {value}, outside of {min} to {max}")]
    Range {
        /// Key in config.json.
        name: &'static str,
        /// Its value.
        value: f64,
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// Two values can't both hold.
    #[error("{0}")]
    Inconsistent(String),
    /// A variant of the architecture that Qwen3's published models don't use.
    #[error("{0} is not supported; the published Qwen3 models don't use it")]
    Variant(String),
}

impl ConfigError {
    /// True when the model is sound but of a kind that is not converted.
    pub fn unsupported(&self) -> bool {
        matches!(self, ConfigError::Architecture(_) | ConfigError::Variant(_))
    }
}

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
    /// `[rows, cols]` that share one scale in FP8 weights; `None` for ordinary weights.
    pub fp8_block: Option<[u64; 2]>,
    /// `X_token_id` entries that are integers.
    pub token_ids: TokenIds,
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

/// RoPE scaling.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Positions are divided by the factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// YaRN, by parts of the spectrum.
    Yarn {
        /// Context is stretched by this.
        factor: f32,
        /// Context before stretching.
        original_context: u32,
        /// extrapolation_factor.
        ext_factor: Option<f32>,
        /// attention_factor.
        attn_factor: Option<f32>,
        /// beta_fast.
        beta_fast: Option<f32>,
        /// beta_slow.
        beta_slow: Option<f32>,
    },
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

/// config.json, the keys that we look at. Unknown keys are ignored, wrong types are errors with line and column.
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
    quantization_config: Option<Value>,
    bos_token_id: Option<Value>,
    eos_token_id: Option<Value>,
    unk_token_id: Option<Value>,
    sep_token_id: Option<Value>,
    pad_token_id: Option<Value>,
    cls_token_id: Option<Value>,
    mask_token_id: Option<Value>,
}

#[derive(Deserialize)]
struct Rope {
    rope_type: Option<String>,
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    extrapolation_factor: Option<f64>,
    attention_factor: Option<f64>,
    attn_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
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
        if let Some((method, seen)) = super::method::in_config(&value) {
            return Err(Problem::QuantMethod { method, seen }.of(&path));
        }
        let raw: Raw = serde_json::from_value(value).map_err(|e| Problem::Json(e).of(&path))?;
        Config::check(arch, raw).map_err(|e| Problem::Config(e).of(path))
    }

    fn check(arch: Arch, raw: Raw) -> Result<Config, ConfigError> {
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
            fp8_block: raw.quantization_config.as_ref().map(fp8_block).transpose()?,
            token_ids: TokenIds {
                bos: id(&raw.bos_token_id),
                eos: id(&raw.eos_token_id),
                unk: id(&raw.unk_token_id),
                sep: id(&raw.sep_token_id),
                pad: id(&raw.pad_token_id),
                cls: id(&raw.cls_token_id),
                mask: id(&raw.mask_token_id),
            },
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

fn scaling(rope: &Rope, raw: &Raw) -> Result<Option<Scaling>, ConfigError> {
    let opt = |name, value: Option<f64>| value.map(|v| float(name, Some(v), 0.0, 1e6)).transpose();
    match rope.rope_type.as_deref().or(rope.r#type.as_deref()) {
        None | Some("default") => Ok(None),
        Some("linear") => Ok(Some(Scaling::Linear { factor: float("rope factor", rope.factor, 1.0, 1e6)? })),
        Some("yarn") => {
            // A float in some files ("32768.0").
            let original = rope.original_max_position_embeddings.map(|v| v as u64);
            Ok(Some(Scaling::Yarn {
                factor: float("rope factor", rope.factor, 1.0, 1e6)?,
                original_context: int(
                    "original_max_position_embeddings",
                    original.or(raw.original_max_position_embeddings),
                    1 << 30,
                )?,
                ext_factor: opt("extrapolation_factor", rope.extrapolation_factor)?,
                attn_factor: opt("attention_factor", rope.attention_factor.or(rope.attn_factor))?,
                beta_fast: opt("beta_fast", rope.beta_fast)?,
                beta_slow: opt("beta_slow", rope.beta_slow)?,
            }))
        }
        Some(other) => Err(ConfigError::Variant(format!("rope type {other:?}"))),
    }
}

/// The block of FP8 scales. Other methods were refused before, see [`super::method`].
fn fp8_block(quantization: &Value) -> Result<[u64; 2], ConfigError> {
    let block = &quantization["weight_block_size"];
    match (block[0].as_u64(), block[1].as_u64(), block.as_array().map(Vec::len)) {
        // A lower bound: with a scale for every few weights the scales would be the larger part.
        (Some(rows @ 16..=65536), Some(cols @ 16..=65536), Some(2)) => Ok([rows, cols]),
        _ => Err(ConfigError::Variant(format!("fp8 with weight_block_size {block}"))),
    }
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

/// A token id; lists (of several end tokens) are no single id.
fn id(value: &Option<Value>) -> Option<u64> {
    value.as_ref().and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Qwen3-0.6B as published.
    fn published() -> Value {
        json!({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false, "head_dim": 128,
            "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960,
            "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
            "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
            "torch_dtype": "bfloat16", "use_sliding_window": false, "vocab_size": 151936,
            "bos_token_id": 151643, "eos_token_id": [151645, 151643]
        })
    }

    fn read(config: &Value) -> Result<Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), config.to_string()).unwrap();
        Config::read(dir.path())
    }

    fn with(changes: Value) -> Result<Config, Error> {
        let mut config = published();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        read(&config)
    }

    fn without(key: &str) -> Result<Config, Error> {
        let mut config = published();
        config.as_object_mut().unwrap().remove(key);
        read(&config)
    }

    #[test]
    fn both_styles_say_the_same() {
        let old = read(&published()).unwrap();
        assert_eq!((old.rope_theta, old.context, old.tied), (1e6, 40960, Some(true)));
        assert_eq!((old.token_ids.bos, old.token_ids.eos), (Some(151643), None));
        let mut new = published();
        let map = new.as_object_mut().unwrap();
        map.remove("rope_theta");
        map.remove("rope_scaling");
        map.insert("rope_parameters".into(), json!({"rope_theta": 1000000.0, "rope_type": "default"}));
        assert_eq!(read(&new).unwrap(), old);
    }

    #[test]
    fn an_absent_rope_theta_is_never_a_default() {
        let e = without("rope_theta").unwrap_err();
        assert!(
            e.to_string().ends_with(
                "config.json: rope_theta is missing; use the config.json that was published with the weights"
            )
        );
        assert_eq!(e.exit_code(), 2);
    }

    #[test]
    fn yarn_is_read_in_both_styles() {
        let yarn = Scaling::Yarn {
            factor: 4.0,
            original_context: 32768,
            ext_factor: None,
            attn_factor: None,
            beta_fast: None,
            beta_slow: None,
        };
        let old = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}});
        assert_eq!(with(old).unwrap().rope_scaling, Some(yarn.clone()));
        let new = json!({"rope_theta": null, "rope_parameters":
            {"rope_type": "yarn", "rope_theta": 5e6, "factor": 4, "original_max_position_embeddings": 32768.0}});
        let new = with(new).unwrap();
        assert_eq!((new.rope_scaling, new.rope_theta), (Some(yarn), 5e6));
        let e = with(json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})).unwrap_err();
        assert!(e.to_string().contains("original_max_position_embeddings is missing"));
        assert_eq!(with(json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})).unwrap_err().exit_code(), 3);
    }

    #[test]
    fn experts_are_read_under_both_names() {
        let moe = |key: &str| {
            with(json!({"architectures": ["Qwen3MoeForCausalLM"], key: 128, "num_experts_per_tok": 8,
                "moe_intermediate_size": 768, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": []}))
        };
        let expected = Moe { experts: 128, used: 8, ff: 768, norm_weights: true };
        assert_eq!(moe("num_experts").unwrap().moe, Some(expected));
        assert_eq!(moe("num_local_experts").unwrap().moe, Some(expected));
        assert!(moe("experts").unwrap_err().to_string().contains("num_experts is missing"));
    }

    #[test]
    fn other_architectures_are_named() {
        for class in ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3NextForCausalLM", "Qwen3VLForConditionalGeneration"]
        {
            let e = with(json!({"architectures": [class]})).unwrap_err();
            assert!(e.to_string().contains(&format!("architecture {class} is not supported")));
            assert_eq!(e.exit_code(), 3);
        }
        let e = with(json!({"architectures": null, "model_type": null})).unwrap_err();
        assert_eq!(e.exit_code(), 2);
    }

    #[test]
    fn variants_that_would_compute_otherwise_are_refused() {
        for (changes, word) in [
            (json!({"hidden_act": "gelu"}), "hidden_act"),
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"use_sliding_window": true}), "use_sliding_window"),
            (json!({"layer_types": ["full_attention", "sliding_attention"]}), "sliding_attention"),
            (json!({"decoder_sparse_step": 2}), "decoder_sparse_step"),
            (json!({"mlp_only_layers": [0]}), "mlp_only_layers"),
            (json!({"is_causal": false}), "is_causal"),
            (json!({"quantization_config": {"quant_method": "fp8"}}), "weight_block_size"),
        ] {
            let e = with(changes).unwrap_err();
            assert!(e.to_string().contains(word), "{e}");
            assert_eq!(e.exit_code(), 3, "{e}");
        }
    }

    #[test]
    fn nonsense_is_a_wrong_file() {
        for changes in [
            json!({"hidden_size": 0}),
            json!({"hidden_size": -5}),
            json!({"hidden_size": "wide"}),
            json!({"num_hidden_layers": 1u64 << 40}),
            json!({"num_key_value_heads": 7}),
            json!({"rope_theta": -1.0}),
            json!({"rms_norm_eps": 1e300}),
            json!({"head_dim": 0}),
        ] {
            let e = with(changes.clone()).unwrap_err();
            assert_eq!(e.exit_code(), 2, "{changes} gave {e}");
        }
    }
}
