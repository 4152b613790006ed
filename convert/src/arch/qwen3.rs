//! Qwen3, dense and MoE: tensor names, the shapes that config.json implies, and the keys of the model.

use qwren_quant::gguf::Value;

use super::{Mapped, Part, Target};
use crate::checkpoint::config::{self, Config, Moe, Scaling};
use crate::checkpoint::{Checkpoint, Lookup, Quantization};
use crate::error::{Error, Problem};
use crate::{Keys, decode};

/// Tensors that hold nothing which isn't computed: written by some trainers, unused.
const IGNORED: [&str; 3] = [".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"];
/// What quantized checkpoints hold for activations and the KV cache: ours are not quantized.
const ACTIVATIONS: [&str; 6] =
    [".input_scale", "activation_scale", ".input_zero_point", ".k_scale", ".v_scale", ".q_scale"];

pub(super) fn map(checkpoint: &Checkpoint, config: &Config, tie: bool) -> Result<Mapped, Error> {
    let mut m = Mapper { lookup: Lookup::new(checkpoint), prefix: prefix(checkpoint), config, targets: Vec::new() };
    let (h, vocab) = (u64::from(config.hidden), u64::from(config.vocab));
    let head_dim = m.head_dim();
    let mut notes = Vec::new();

    m.one(None, "token_embd", &format!("{}embed_tokens", m.prefix), &[vocab, h])?;
    m.one(None, "output_norm", &format!("{}norm", m.prefix), &[h])?;
    // Under a name of its own when it is quantized.
    let head: Vec<&str> =
        checkpoint.tensors().iter().map(|t| t.name.as_str()).filter(|name| name.starts_with("lm_head.")).collect();
    match (head.is_empty(), config.tied) {
        (false, _) if tie => {
            for name in head {
                m.lookup.find_optional(name);
            }
            notes.push("lm_head.weight is left out, as --tie-embeddings asks".to_owned());
        }
        (false, tied) => {
            if tied == Some(true) {
                notes.push(
                    "config.json ties the embeddings, but lm_head.weight is stored: it becomes output.weight"
                        .to_owned(),
                );
            }
            m.one(None, "output", "lm_head", &[vocab, h])?;
        }
        (true, Some(false)) if !tie => return Err(Problem::MissingHead.of(checkpoint.dir().join(config::FILE))),
        (true, _) => {}
    }
    for layer in 0..config.layers {
        m.layer(layer, head_dim)?;
        if m.lookup.hopeless() {
            break;
        }
    }
    m.lookup.complete()?;
    m.refuse_unknown()?;

    let mut targets = m.targets;
    targets.sort_by(|a, b| (a.layer, &a.name).cmp(&(b.layer, &b.name)));
    if config.moe.is_some_and(|moe| !moe.norm_weights) {
        notes.push(
            "norm_topk_prob is false: written as qwen3moe.expert_weights_norm; llama.cpp ignores it and will compute otherwise"
                .to_owned(),
        );
    }
    Ok(Mapped { targets, head_dim: head_dim as u32, notes })
}

/// What names begin with: embedding models and some exports leave "model." out.
fn prefix(checkpoint: &Checkpoint) -> &'static str {
    let has = |name: &str| checkpoint.tensor(name).is_some();
    if has("embed_tokens.weight") && !has("model.embed_tokens.weight") { "" } else { "model." }
}

struct Mapper<'a> {
    lookup: Lookup<'a>,
    prefix: &'static str,
    config: &'a Config,
    targets: Vec<Target>,
}

impl Mapper<'_> {
    /// config.json's head_dim; without one the length of a q_norm settles it (0.6B: 128, not hidden / heads = 64).
    /// Every other shape is then checked against it.
    fn head_dim(&self) -> u64 {
        let norm = format!("{}layers.0.self_attn.q_norm.weight", self.prefix);
        let stored = || self.lookup.checkpoint().tensor(&norm)?.shape.first().copied();
        let derived = || u64::from(self.config.hidden / self.config.heads).max(1);
        let known = self.config.head_dim.map(u64::from).or_else(stored);
        known.filter(|d| (1..=1 << 12).contains(d)).unwrap_or_else(derived)
    }

    /// All tensors of layer `l`. Shapes are PyTorch's, `[rows, cols]` = `[out, in]`.
    fn layer(&mut self, l: u32, head_dim: u64) -> Result<(), Error> {
        let c = self.config;
        let (h, ff) = (u64::from(c.hidden), u64::from(c.ff));
        let (q, kv) = (u64::from(c.heads) * head_dim, u64::from(c.kv_heads) * head_dim);
        let hf = format!("{}layers.{l}", self.prefix);
        let mut one = |gguf: &str, name: &str, shape: &[u64]| self.one(Some(l), gguf, &format!("{hf}.{name}"), shape);

        one("attn_norm", "input_layernorm", &[h])?;
        one("attn_q", "self_attn.q_proj", &[q, h])?;
        one("attn_k", "self_attn.k_proj", &[kv, h])?;
        one("attn_v", "self_attn.v_proj", &[kv, h])?;
        one("attn_q_norm", "self_attn.q_norm", &[head_dim])?;
        one("attn_k_norm", "self_attn.k_norm", &[head_dim])?;
        one("attn_output", "self_attn.o_proj", &[h, q])?;
        one("ffn_norm", "post_attention_layernorm", &[h])?;
        let Some(moe) = c.moe else {
            one("ffn_gate", "mlp.gate_proj", &[ff, h])?;
            one("ffn_up", "mlp.up_proj", &[ff, h])?;
            return one("ffn_down", "mlp.down_proj", &[h, ff]);
        };
        one("ffn_gate_inp", "mlp.gate", &[u64::from(moe.experts), h])?;
        if self.lookup.checkpoint().index_of(&format!("{hf}.mlp.experts.gate_up_proj")).is_some() {
            self.fused_experts(l, &hf, moe)
        } else {
            let ff = u64::from(moe.ff);
            self.experts(l, &hf, "gate", moe, [ff, h])?;
            self.experts(l, &hf, "up", moe, [ff, h])?;
            self.experts(l, &hf, "down", moe, [h, ff])
        }
    }

    /// A tensor that is stored as one, both names without `.weight`.
    fn one(&mut self, layer: Option<u32>, gguf: &str, hf: &str, shape: &[u64]) -> Result<(), Error> {
        let Some(part) = self.part(&format!("{hf}.weight"), shape)? else { return Ok(()) };
        let ggml = shape.iter().rev().copied().collect();
        self.push(layer, gguf, ggml, vec![part]);
        Ok(())
    }

    /// The experts' matrices `[rows, cols]` of one kind, stacked to `[experts, rows, cols]`.
    fn experts(&mut self, l: u32, hf: &str, kind: &str, moe: Moe, [rows, cols]: [u64; 2]) -> Result<(), Error> {
        let mut parts = Vec::new();
        for e in 0..moe.experts {
            parts.extend(self.part(&format!("{hf}.mlp.experts.{e}.{kind}_proj.weight"), &[rows, cols])?);
            if self.lookup.hopeless() {
                return Ok(());
            }
        }
        self.push(Some(l), &format!("ffn_{kind}_exps"), vec![cols, rows, u64::from(moe.experts)], parts);
        Ok(())
    }

    /// Experts that are stored stacked: `gate_up_proj [experts, 2·ff, hidden]`, each expert's gate before its up, and
    /// `down_proj [experts, hidden, ff]`.
    fn fused_experts(&mut self, l: u32, hf: &str, moe: Moe) -> Result<(), Error> {
        let (n, ff, h) = (u64::from(moe.experts), u64::from(moe.ff), u64::from(self.config.hidden));
        let gate_up = self.part(&format!("{hf}.mlp.experts.gate_up_proj"), &[n, 2 * ff, h])?;
        let down = self.part(&format!("{hf}.mlp.experts.down_proj"), &[n, h, ff])?;
        let (Some(gate_up), Some(down)) = (gate_up, down) else { return Ok(()) };
        let half = |second: u64| {
            let part = |e| Part { first_row: (2 * e + second) * ff, rows: ff, ..gate_up.clone() };
            (0..n).map(part).collect()
        };
        self.push(Some(l), "ffn_gate_exps", vec![h, ff, n], half(0));
        self.push(Some(l), "ffn_up_exps", vec![h, ff, n], half(1));
        self.push(Some(l), "ffn_down_exps", vec![ff, h, n], vec![down]);
        Ok(())
    }

    /// The whole of the matrix or vector `name`, whose shape must be `shape`. `None`: it is missing, which is counted.
    fn part(&mut self, name: &str, shape: &[u64]) -> Result<Option<Part>, Error> {
        let source = decode::locate(&mut self.lookup, &self.config.quantization, name, shape)?;
        let rows = shape[..shape.len() - 1].iter().product();
        Ok(source.map(|s| Part { tensor: s.tensor, first_row: 0, rows, encoding: s.encoding }))
    }

    fn push(&mut self, layer: Option<u32>, gguf: &str, shape: Vec<u64>, parts: Vec<Part>) {
        let name = layer.map_or_else(|| format!("{gguf}.weight"), |l| format!("blk.{l}.{gguf}.weight"));
        self.targets.push(Target { name, layer, shape, parts });
    }

    /// A tensor that nobody asked for belongs to another model, an adapter or a head: leaving it out would be wrong.
    fn refuse_unknown(&self) -> Result<(), Error> {
        let quantized = self.config.quantization != Quantization::None;
        let ignored = |name: &str| {
            let any = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
            any(&IGNORED) || (quantized && any(&ACTIVATIONS))
        };
        let mut unknown = self.lookup.unused().filter(|t| !ignored(&t.name));
        match unknown.next() {
            None => Ok(()),
            Some(t) => {
                let problem = Problem::UnknownTensor { name: t.name.clone(), count: 1 + unknown.count() };
                Err(problem.of(self.lookup.checkpoint().file_of(t)))
            }
        }
    }
}

/// The keys `qwen3.*` or `qwen3moe.*`.
pub fn keys(config: &Config, head_dim: u32) -> Keys {
    let arch = config.arch.name();
    let mut all = Vec::new();
    let mut put = |key: &str, value: Value| all.push((format!("{arch}.{key}"), value));
    put("block_count", Value::U32(config.layers));
    put("context_length", Value::U32(config.context));
    put("embedding_length", Value::U32(config.hidden));
    put("feed_forward_length", Value::U32(config.ff));
    put("attention.head_count", Value::U32(config.heads));
    put("attention.head_count_kv", Value::U32(config.kv_heads));
    match &config.rope_scaling {
        None => {}
        Some(Scaling::Linear { factor }) => {
            put("rope.scaling.type", Value::String("linear".into()));
            put("rope.scaling.factor", Value::F32(*factor));
        }
        Some(Scaling::Yarn { factor, original_context, ext_factor, attn_factor, beta_fast, beta_slow }) => {
            put("rope.scaling.type", Value::String("yarn".into()));
            put("rope.scaling.factor", Value::F32(*factor));
            put("rope.scaling.original_context_length", Value::U32(*original_context));
            for (key, value) in [
                ("rope.scaling.yarn_ext_factor", ext_factor),
                ("rope.scaling.yarn_attn_factor", attn_factor),
                ("rope.scaling.yarn_beta_fast", beta_fast),
                ("rope.scaling.yarn_beta_slow", beta_slow),
            ] {
                if let Some(value) = value {
                    put(key, Value::F32(*value));
                }
            }
        }
    }
    put("rope.freq_base", Value::F32(config.rope_theta));
    put("attention.layer_norm_rms_epsilon", Value::F32(config.rms_eps));
    if let Some(moe) = config.moe {
        put("expert_count", Value::U32(moe.experts));
        put("expert_used_count", Value::U32(moe.used));
        put("expert_feed_forward_length", Value::U32(moe.ff));
        if !moe.norm_weights {
            put("expert_weights_norm", Value::Bool(false));
        }
    }
    put("attention.key_length", Value::U32(head_dim));
    put("attention.value_length", Value::U32(head_dim));
    all
}
