//! Every published shape: the plan at its real size (the weights are holes in a sparse file), and a real conversion of a
//! shrunk one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use qwren_convert::plan::{Options, Plan};
use qwren_convert::recipe::FileType;
use qwren_quant::gguf::{GgufFile, Value};
use qwren_tests::data;
use serde_json::{Value as Json, json};

use crate::support::{Sample, sparse_checkpoint};

/// Sizes of a published model, from its config.json, and what is known of it.
struct Shape {
    name: &'static str,
    layers: u64,
    hidden: u64,
    /// Query and KV heads, of 128.
    heads: [u64; 2],
    ff: u64,
    /// Experts, of which 8 are used, and their width.
    experts: Option<[u64; 2]>,
    tied: bool,
    /// The parameters that the hub counts, without a stored copy of tied embeddings.
    parameters: u64,
    /// Tensors that llama.cpp reports on loading its GGUF file.
    tensors: usize,
    /// Layers whose ffn_down and attn_v llama-quantize gives Q6_K in a Q4_K_M file.
    more_bits: &'static [u64],
}

const VOCAB: u64 = 151_936;
const MORE_28: &[u64] = &[0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27];
const MORE_36: &[u64] = &[0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 31, 32, 33, 34, 35];
const MORE_40: &[u64] = &[0, 1, 2, 3, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 35, 36, 37, 38, 39];
const MORE_48: &[u64] = &[0, 1, 2, 3, 4, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35, 38, 41, 42, 43, 44, 45, 46, 47];
const MORE_64: &[u64] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 46, 49, 52, 55, 56, 57, 58, 59, 60, 61, 62,
    63,
];
const MORE_94: &[u64] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 46, 49, 52, 55, 58, 61, 64, 67, 70,
    73, 76, 79, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93,
];

#[rustfmt::skip]
const PUBLISHED: [Shape; 8] = [
    Shape { name: "Qwen3-0.6B", layers: 28, hidden: 1024, heads: [16, 8], ff: 3072, experts: None, tied: true, parameters: 596_049_920, tensors: 310, more_bits: MORE_28 },
    Shape { name: "Qwen3-1.7B", layers: 28, hidden: 2048, heads: [16, 8], ff: 6144, experts: None, tied: true, parameters: 1_720_574_976, tensors: 310, more_bits: MORE_28 },
    Shape { name: "Qwen3-4B-Instruct-2507", layers: 36, hidden: 2560, heads: [32, 8], ff: 9728, experts: None, tied: true, parameters: 4_022_468_096, tensors: 398, more_bits: MORE_36 },
    Shape { name: "Qwen3-8B-Base", layers: 36, hidden: 4096, heads: [32, 8], ff: 12288, experts: None, tied: false, parameters: 8_190_735_360, tensors: 399, more_bits: MORE_36 },
    Shape { name: "Qwen3-14B", layers: 40, hidden: 5120, heads: [40, 8], ff: 17408, experts: None, tied: false, parameters: 14_768_307_200, tensors: 443, more_bits: MORE_40 },
    Shape { name: "Qwen3-32B", layers: 64, hidden: 5120, heads: [64, 8], ff: 25600, experts: None, tied: false, parameters: 32_762_123_264, tensors: 707, more_bits: MORE_64 },
    Shape { name: "Qwen3-30B-A3B-Thinking-2507", layers: 48, hidden: 2048, heads: [32, 4], ff: 6144, experts: Some([128, 768]), tied: false, parameters: 30_532_122_624, tensors: 579, more_bits: MORE_48 },
    Shape { name: "Qwen3-235B-A22B", layers: 94, hidden: 4096, heads: [64, 4], ff: 12288, experts: Some([128, 1536]), tied: false, parameters: 235_093_634_560, tensors: 1131, more_bits: MORE_94 },
];

impl Shape {
    /// config.json as published.
    fn config(&self) -> Json {
        let mut config = json!({
            "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
            "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
            "hidden_size": self.hidden, "initializer_range": 0.02, "intermediate_size": self.ff,
            "max_position_embeddings": 40960, "max_window_layers": self.layers, "model_type": "qwen3",
            "num_attention_heads": self.heads[0], "num_hidden_layers": self.layers, "num_key_value_heads": self.heads[1],
            "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
            "tie_word_embeddings": self.tied, "torch_dtype": "bfloat16", "transformers_version": "4.51.0",
            "use_cache": true, "use_sliding_window": false, "vocab_size": VOCAB
        });
        if let Some([experts, ff]) = self.experts {
            for (key, value) in [
                ("architectures", json!(["Qwen3MoeForCausalLM"])),
                ("model_type", json!("qwen3_moe")),
                ("decoder_sparse_step", json!(1)),
                ("mlp_only_layers", json!([])),
                ("moe_intermediate_size", json!(ff)),
                ("norm_topk_prob", json!(true)),
                ("num_experts", json!(experts)),
                ("num_experts_per_tok", json!(8)),
                ("output_router_logits", json!(false)),
                ("router_aux_loss_coef", json!(0.001)),
            ] {
                config[key] = value;
            }
        }
        config
    }

    /// Bytes of the tensors of a Q4_K_M file: 144 and 210 bytes for 256 weights of Q4_K and Q6_K, norms and routers in F32.
    fn q4_k_m_bytes(&self) -> u64 {
        let [q, kv] = self.heads.map(|n| n * 128);
        let (experts, ff) = self.experts.map_or((1, self.ff), |[n, ff]| (n, ff));
        let (q4, q6) = (|n: u64| n / 256 * 144, |n: u64| n / 256 * 210);
        let down = experts * ff * self.hidden;
        let layer = |l: u64| {
            let mixed = kv * self.hidden + down; // attn_v and ffn_down
            let rest = (2 * q + kv) * self.hidden + 2 * down;
            let router = self.experts.map_or(0, |[n, _]| 4 * n * self.hidden);
            let norms = 4 * (2 * self.hidden + 2 * 128);
            q4(rest) + if self.more_bits.contains(&l) { q6(mixed) } else { q4(mixed) } + router + norms
        };
        let embedding = VOCAB * self.hidden;
        let outside = if self.tied { q6(embedding) } else { q4(embedding) + q6(embedding) };
        (0..self.layers).map(layer).sum::<u64>() + outside + 4 * self.hidden
    }
}

fn plan(dir: &Path, file_type: FileType) -> Plan {
    let options = Options::new(file_type);
    Plan::new(dir, &options).unwrap_or_else(|e| panic!("{e}"))
}

/// A folder of that name with a sparse checkpoint.
fn folder(root: &Path, name: &str, config: &Json) -> std::path::PathBuf {
    let dir = root.join(name);
    fs::create_dir(&dir).unwrap();
    sparse_checkpoint(&dir, config);
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        symlink(data("checkpoints/dense-odd").join(file), dir.join(file)).unwrap();
    }
    dir
}

fn key<'a>(plan: &'a Plan, key: &str) -> Option<&'a Value> {
    plan.metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value)
}

#[test]
fn every_published_shape_is_planned_at_its_size() {
    for shape in &PUBLISHED {
        let root = tempfile::tempdir().unwrap();
        let dir = folder(root.path(), shape.name, &shape.config());
        let plan = plan(&dir, FileType::Q4_K_M);
        let label = shape.name;
        assert_eq!((plan.parameters(), plan.tensors.len()), (shape.parameters, shape.tensors), "{label}");
        let bytes: u64 = plan.infos().map(|t| t.bytes).sum();
        assert_eq!(bytes, shape.q4_k_m_bytes(), "{label}");

        let arch = if shape.experts.is_some() { "qwen3moe" } else { "qwen3" };
        for (name, value) in [
            ("block_count", shape.layers),
            ("embedding_length", shape.hidden),
            ("attention.head_count", shape.heads[0]),
            ("attention.head_count_kv", shape.heads[1]),
            ("attention.key_length", 128),
            ("feed_forward_length", shape.ff),
            ("context_length", 40960),
        ] {
            assert_eq!(key(&plan, &format!("{arch}.{name}")), Some(&Value::U32(value as u32)), "{label} {name}");
        }
        let size = shape.name.split('-').filter(|p| p.ends_with('B')).collect::<Vec<_>>().join("-");
        assert_eq!(key(&plan, "general.size_label"), Some(&Value::String(size)), "{label}");

        let last = format!("blk.{}.", shape.layers - 1);
        let shape_of = |name: &str| plan.infos().find(|t| t.name == name).map(|t| t.shape.clone());
        let q = shape_of(&format!("{last}attn_q.weight"));
        assert_eq!(q, Some(vec![shape.hidden, shape.heads[0] * 128]), "{label}");
        match shape.experts {
            None => assert_eq!(shape_of(&format!("{last}ffn_down.weight")), Some(vec![shape.ff, shape.hidden])),
            Some([n, ff]) => {
                assert_eq!(shape_of(&format!("{last}ffn_down_exps.weight")), Some(vec![ff, shape.hidden, n]));
                assert_eq!(shape_of(&format!("{last}ffn_gate_inp.weight")), Some(vec![shape.hidden, n]));
            }
        }
        assert_eq!(shape_of("output.weight").is_some(), !shape.tied, "{label}");
    }
}

#[test]
fn every_published_shape_converts_when_shrunk() {
    for shape in &PUBLISHED {
        let mut config = shape.config();
        // The same proportions of heads, an eighth of the elements of each.
        for (name, value) in [
            ("num_hidden_layers", 2),
            ("head_dim", 16),
            ("hidden_size", (shape.hidden / 16).next_multiple_of(256)),
            ("intermediate_size", 256),
            ("vocab_size", 768),
        ] {
            config[name] = json!(value);
        }
        if shape.experts.is_some() {
            (config["num_experts"], config["moe_intermediate_size"]) = (json!(16), json!(256));
        }
        let sample = Sample::new(config, 2);
        sample.converts(&["--quiet"]);
        let file = GgufFile::open(&sample.out()).unwrap();
        let per_layer = if shape.experts.is_some() { 12 } else { 11 };
        assert_eq!(file.header().tensors().len(), 2 * per_layer + if shape.tied { 2 } else { 3 }, "{}", shape.name);
    }
}

#[test]
fn c11_yarn_is_written_as_keys_in_both_styles() {
    let mut config = PUBLISHED[0].config();
    config["rope_scaling"] = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768});
    let mut newer = PUBLISHED[0].config();
    for gone in ["rope_theta", "rope_scaling", "torch_dtype"] {
        newer.as_object_mut().unwrap().remove(gone);
    }
    newer["dtype"] = json!("bfloat16");
    newer["rope_parameters"] =
        json!({"rope_type": "yarn", "rope_theta": 1000000, "factor": 4.0, "original_max_position_embeddings": 32768});
    let root = tempfile::tempdir().unwrap();
    let old = plan(&folder(root.path(), "Qwen3-0.6B", &config), FileType::Q8_0);
    for (name, value) in [
        ("rope.scaling.type", Value::String("yarn".into())),
        ("rope.scaling.factor", Value::F32(4.0)),
        ("rope.scaling.original_context_length", Value::U32(32768)),
        ("rope.freq_base", Value::F32(1e6)),
    ] {
        assert_eq!(key(&old, &format!("qwen3.{name}")), Some(&value), "{name}");
    }
    let other = tempfile::tempdir().unwrap();
    let new = plan(&folder(other.path(), "Qwen3-0.6B", &newer), FileType::Q8_0);
    assert_eq!(new.metadata, old.metadata);
}

#[test]
fn names_without_the_model_prefix() {
    let sample = Sample::dense();
    sample.converts(&["--type", "q8_0", "--quiet"]);
    let with = fs::read(sample.out()).unwrap();
    sample.edit_tensors("model.safetensors", |tensors| {
        for tensor in tensors {
            tensor.0 = tensor.0.strip_prefix("model.").unwrap_or(&tensor.0).to_owned();
        }
    });
    sample.edit("config.json", |c| _ = c.as_object_mut().unwrap().remove("head_dim"));
    sample.converts(&["--type", "q8_0", "--quiet", "--force"]);
    assert!(fs::read(sample.out()).unwrap() == with);
}

#[test]
fn c21_weights_of_several_types_in_one_checkpoint() {
    let sample = Sample::dense();
    let name = "model.layers.0.mlp.up_proj.weight";
    let mut values = Vec::new();
    sample.edit_tensors("model.safetensors", |tensors| {
        let up = tensors.iter_mut().find(|t| t.0 == name).unwrap();
        values = up.3.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect::<Vec<f32>>();
        (up.1, up.3) = ("F32", values.iter().flat_map(|v| v.to_le_bytes()).collect());
        let norm = tensors.iter_mut().find(|t| t.0 == "model.norm.weight").unwrap();
        (norm.1, norm.3) = ("F16", [0x00, 0x3c].repeat(256));
    });
    sample.converts(&["--type", "bf16", "--quiet"]);
    let file = GgufFile::open(&sample.out()).unwrap();
    let data = |name: &str| file.data(file.header().tensor(name).unwrap());
    let up: Vec<u8> = values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    assert!(data("blk.0.ffn_up.weight") == up);
    assert!(data("output_norm.weight") == 1f32.to_le_bytes().repeat(256));
}
