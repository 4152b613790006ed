//! Random GGUF models of any shape, for tests of what the fixtures don't have: odd sizes, wrong keys, broken weights.
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use qwren_quant::block::codec;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::{Layout, Plan, TensorInfo, Value, Writer};

/// A model to be written. Change what a test is about.
pub struct Tiny {
    /// Keys in the order of the file.
    pub keys: Vec<(String, Value)>,
    /// Name, shape (columns first) and type of each tensor.
    pub tensors: Vec<(String, Vec<u64>, DType)>,
}

/// Sizes of a model.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Layers.
    pub layers: u64,
    /// Width.
    pub hidden: u64,
    /// Query heads.
    pub heads: u64,
    /// KV heads.
    pub kv_heads: u64,
    /// Elements of a head.
    pub head_dim: u64,
    /// Width of the feed-forward part or of an expert.
    pub ff: u64,
    /// Tokens.
    pub vocab: u64,
    /// Experts, and how many a token uses.
    pub experts: Option<(u64, u64)>,
}

/// Small and unremarkable.
pub const PLAIN: Sizes =
    Sizes { layers: 2, hidden: 64, heads: 4, kv_heads: 2, head_dim: 32, ff: 96, vocab: 100, experts: None };

impl Tiny {
    /// A sound Qwen3 model with matrices of type `dtype`.
    pub fn new(s: &Sizes, dtype: DType) -> Tiny {
        Tiny::of(if s.experts.is_some() { "qwen3moe" } else { "qwen3" }, s, dtype)
    }

    /// A sound Llama model with matrices of type `dtype`.
    pub fn llama(s: &Sizes, dtype: DType) -> Tiny {
        let mut tiny = Tiny::of("llama", s, dtype);
        tiny.tensors.retain(|(name, ..)| !name.contains("attn_q_norm") && !name.contains("attn_k_norm"));
        tiny
    }

    fn of(arch: &str, s: &Sizes, dtype: DType) -> Tiny {
        let mut tiny = Tiny { keys: vec![("general.architecture".into(), arch.into())], tensors: Vec::new() };
        let mut key = |name: &str, n: u64| tiny.keys.push((format!("{arch}.{name}"), Value::U32(n as u32)));
        key("block_count", s.layers);
        key("context_length", 4096);
        key("embedding_length", s.hidden);
        key("feed_forward_length", s.ff);
        key("attention.head_count", s.heads);
        key("attention.head_count_kv", s.kv_heads);
        key("attention.key_length", s.head_dim);
        key("attention.value_length", s.head_dim);
        if let Some((experts, used)) = s.experts {
            key("expert_count", experts);
            key("expert_used_count", used);
            key("expert_feed_forward_length", s.ff);
        }
        tiny.set("rope.freq_base", 1e4f32);
        tiny.set("attention.layer_norm_rms_epsilon", 1e-6f32);
        let (q, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
        let mut tensor = |name: String, shape: &[u64]| {
            let dtype = if shape.len() == 1 { DType::F32 } else { dtype };
            tiny.tensors.push((format!("{name}.weight"), shape.to_vec(), dtype));
        };
        tensor("token_embd".into(), &[s.hidden, s.vocab]);
        tensor("output_norm".into(), &[s.hidden]);
        tensor("output".into(), &[s.hidden, s.vocab]);
        for i in 0..s.layers {
            let mut tensor = |name: &str, shape: &[u64]| tensor(format!("blk.{i}.{name}"), shape);
            tensor("attn_norm", &[s.hidden]);
            tensor("attn_q", &[s.hidden, q]);
            tensor("attn_k", &[s.hidden, kv]);
            tensor("attn_v", &[s.hidden, kv]);
            tensor("attn_q_norm", &[s.head_dim]);
            tensor("attn_k_norm", &[s.head_dim]);
            tensor("attn_output", &[q, s.hidden]);
            tensor("ffn_norm", &[s.hidden]);
            match s.experts {
                None => {
                    tensor("ffn_gate", &[s.hidden, s.ff]);
                    tensor("ffn_up", &[s.hidden, s.ff]);
                    tensor("ffn_down", &[s.ff, s.hidden]);
                }
                Some((experts, _)) => {
                    tensor("ffn_gate_inp", &[s.hidden, experts]);
                    tensor("ffn_gate_exps", &[s.hidden, s.ff, experts]);
                    tensor("ffn_up_exps", &[s.hidden, s.ff, experts]);
                    tensor("ffn_down_exps", &[s.ff, s.hidden, experts]);
                }
            }
        }
        tiny
    }

    /// Sets a key; the architecture's prefix is added unless it is a general or a split key.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let name = self.name(key);
        self.keys.retain(|(k, _)| *k != name);
        self.keys.push((name, value.into()));
    }

    /// Removes a key.
    pub fn unset(&mut self, key: &str) {
        let name = self.name(key);
        self.keys.retain(|(k, _)| *k != name);
    }

    fn name(&self, key: &str) -> String {
        match &self.keys[0].1 {
            _ if key.starts_with("general.") || key.starts_with("split.") => key.to_owned(),
            Value::String(arch) => format!("{arch}.{key}"),
            _ => panic!("the first key is the architecture"),
        }
    }

    /// The tensor of that name.
    ///
    /// # Panics
    /// When there is none.
    pub fn tensor(&mut self, name: &str) -> &mut (String, Vec<u64>, DType) {
        self.tensors.iter_mut().find(|(n, ..)| n == name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Writes the file, with weights that follow from `seed`; `edit` may change the values of a tensor of that name.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write(&self, path: &Path, seed: u64, mut edit: impl FnMut(&str, &mut [f32])) {
        let layout = self.layout();
        let mut out = Writer::new(File::create(path).expect("a new file"), &layout).expect("a writable file");
        let mut state = seed | 1;
        while let Some(t) = out.current() {
            let mut values = values(t, t.shape.iter().product(), &mut state);
            edit(&t.name, &mut values);
            // A type without a codec is filled with zeros: no test computes with it.
            let mut bytes = vec![0; t.bytes as usize];
            if let Some(codec) = codec(t.dtype) {
                codec.quantize(&values, &mut bytes, None);
            }
            out.write(&bytes).expect("a writable file");
            out.end_tensor().expect("a writable file");
        }
        out.finish().expect("a writable file");
    }

    /// Writes the file in a time that goes by its bytes alone: the first 256 blocks of a tensor come again and again.
    ///
    /// # Panics
    /// When it can't be written, or has a type without a codec.
    pub fn write_repeating(&self, path: &Path, seed: u64) {
        let layout = self.layout();
        let file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a new file"));
        let mut out = Writer::new(file, &layout).expect("a writable file");
        let mut state = seed | 1;
        while let Some(t) = out.current() {
            let elements: u64 = t.shape.iter().product();
            let values = values(t, elements.min(256 * t.dtype.block_len() as u64), &mut state);
            let mut bytes = vec![0; values.len() / t.dtype.block_len() * t.dtype.block_bytes()];
            codec(t.dtype).expect("a type that can be written").quantize(&values, &mut bytes, None);
            let mut left = t.bytes as usize;
            while left > 0 {
                let n = left.min(bytes.len());
                out.write(&bytes[..n]).expect("a writable file");
                left -= n;
            }
            out.end_tensor().expect("a writable file");
        }
        out.finish().expect("a writable file").into_inner().expect("a writable file");
    }

    fn layout(&self) -> Layout {
        let mut plan = Plan::new(32);
        self.keys.iter().for_each(|(k, v)| plan.push_kv(k, v.clone()));
        for (name, shape, dtype) in &self.tensors {
            plan.push_tensor(name, shape, *dtype).expect("a sound shape");
        }
        plan.layout().expect("a sound plan")
    }
}

/// The first `n` values of a tensor, such that what runs through the layers keeps its size.
fn values(t: &TensorInfo, n: u64, state: &mut u64) -> Vec<f32> {
    let norm = t.shape.len() == 1;
    let scale = if norm { 0.2 } else { 2.0 / (t.shape[0] as f32).sqrt() };
    let value = |_| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let x = (*state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        if norm { 1.0 + x * scale } else { x * scale }
    };
    (0..n).map(value).collect()
}
