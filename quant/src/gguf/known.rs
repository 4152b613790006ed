//! Keys whose types are known: a file in which they have another one is refused before anybody looks at the values.

use super::error::{GgufError, Quoted};
use super::value::{Array, Value};

/// What a key must be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    /// One number for all layers or one a layer.
    Integers,
    Float,
    Flag,
    Texts,
    Int32s,
    Float32s,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Text => "a string",
            Kind::Integer => "an integer",
            Kind::Integers => "an integer or an array of them",
            Kind::Float => "a float",
            Kind::Flag => "a bool",
            Kind::Texts => "an array<string>",
            Kind::Int32s => "an array<int32>",
            Kind::Float32s => "an array<float32>",
        }
    }

    fn admits(self, value: &Value) -> bool {
        match self {
            Kind::Text => matches!(value, Value::String(_)),
            Kind::Integer => value.integer().is_some(),
            Kind::Integers => value.integer().is_some() || matches!(value, Value::Array(Array::U32(_) | Array::I32(_))),
            Kind::Float => matches!(value, Value::F32(_) | Value::F64(_)),
            Kind::Flag => matches!(value, Value::Bool(_)),
            Kind::Texts => matches!(value, Value::Array(Array::String(_))),
            Kind::Int32s => matches!(value, Value::Array(Array::I32(_))),
            Kind::Float32s => matches!(value, Value::Array(Array::F32(_))),
        }
    }
}

/// Keys that every model may have.
fn general(key: &str) -> Option<Kind> {
    Some(match key {
        "general.architecture"
        | "general.type"
        | "general.name"
        | "tokenizer.ggml.model"
        | "tokenizer.ggml.pre"
        | "tokenizer.chat_template"
        | "general.sampling.sequence" => Kind::Text,
        "general.alignment"
        | "general.file_type"
        | "general.quantization_version"
        | "general.sampling.top_k"
        | "general.sampling.penalty_last_n"
        | "general.sampling.mirostat"
        | "tokenizer.ggml.bos_token_id"
        | "tokenizer.ggml.eos_token_id"
        | "tokenizer.ggml.eot_token_id"
        | "tokenizer.ggml.eom_token_id"
        | "tokenizer.ggml.unknown_token_id"
        | "tokenizer.ggml.separator_token_id"
        | "tokenizer.ggml.padding_token_id"
        | "split.no"
        | "split.count"
        | "split.tensors.count" => Kind::Integer,
        "general.sampling.top_p"
        | "general.sampling.min_p"
        | "general.sampling.temp"
        | "general.sampling.penalty_repeat" => Kind::Float,
        "tokenizer.ggml.add_bos_token" | "tokenizer.ggml.add_eos_token" | "tokenizer.ggml.add_space_prefix" => {
            Kind::Flag
        }
        "tokenizer.ggml.tokens" | "tokenizer.ggml.merges" => Kind::Texts,
        "tokenizer.ggml.token_type" => Kind::Int32s,
        "tokenizer.ggml.scores" => Kind::Float32s,
        _ => return None,
    })
}

/// Keys below the architecture's name: `qwen3.block_count` without `qwen3.`.
fn architecture(key: &str) -> Option<Kind> {
    Some(match key {
        "block_count"
        | "context_length"
        | "embedding_length"
        | "vocab_size"
        | "expert_count"
        | "expert_used_count"
        | "expert_feed_forward_length"
        | "attention.key_length"
        | "attention.value_length"
        | "rope.dimension_count"
        | "rope.scaling.original_context_length" => Kind::Integer,
        "feed_forward_length" | "attention.head_count" | "attention.head_count_kv" => Kind::Integers,
        "attention.layer_norm_rms_epsilon"
        | "rope.freq_base"
        | "rope.scaling.factor"
        | "rope.scaling.attn_factor"
        | "rope.scaling.yarn_ext_factor"
        | "rope.scaling.yarn_attn_factor"
        | "rope.scaling.yarn_beta_fast"
        | "rope.scaling.yarn_beta_slow" => Kind::Float,
        "expert_weights_norm" | "attention.causal" => Kind::Flag,
        "rope.scaling.type" => Kind::Text,
        _ => return None,
    })
}

/// Checks that each known key in `metadata` has the type that it must have.
pub(super) fn check(metadata: &[(String, Value)]) -> Result<(), GgufError> {
    let arch = metadata.iter().find_map(|(key, value)| match value {
        Value::String(name) if key == "general.architecture" => Some(name.as_str()),
        _ => None,
    });
    for (key, value) in metadata {
        let below = arch.and_then(|name| key.strip_prefix(name)?.strip_prefix('.'));
        let Some(kind) = general(key).or_else(|| architecture(below?)) else { continue };
        if !kind.admits(value) {
            return Err(GgufError::KeyType { key: Quoted::new(key), expected: kind.name(), found: value.type_name() });
        }
    }
    Ok(())
}
