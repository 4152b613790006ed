//! Every key and every tensor of a planned file against dumps of files that llama.cpp's tools made from checkpoints of
//! the same shapes (the weights don't matter to a plan, so they are holes in a sparse file).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use qwren_convert::plan::{Options, Plan};
use qwren_convert::recipe::FileType;
use qwren_quant::gguf::{Array, Value};
use qwren_tests::{data, qwen3_tokenizer};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::sparse_checkpoint;

#[test]
fn dense_q4_k_m() {
    compare("qwen3-0.6b-q4_k_m", FileType::Q4_K_M);
}

#[test]
fn dense_q8_0() {
    compare("qwen3-0.6b-q8_0", FileType::Q8_0);
}

#[test]
fn dense_f16() {
    compare("qwen3-0.6b-f16", FileType::F16);
}

#[test]
fn dense_bf16() {
    compare("qwen3-0.6b-bf16", FileType::BF16);
}

#[test]
fn moe_q4_k_m() {
    compare("qwen3moe-tiny-q4_k_m", FileType::Q4_K_M);
}

#[test]
fn moe_bf16() {
    compare("qwen3moe-tiny-bf16", FileType::BF16);
}

fn compare(name: &str, file_type: FileType) {
    let dump = Dump::read(&data("gguf-dumps").join(format!("{name}.txt")));
    let root = tempfile::tempdir().expect("a temporary folder");
    let dir = checkpoint(root.path(), name.contains("moe"));
    let options = Options::new(file_type);
    let plan = Plan::new(&dir, &options).expect("a sound checkpoint");

    let ours: BTreeMap<String, String> = plan.metadata.iter().map(|(k, v)| (k.clone(), shown(v))).collect();
    assert_eq!(ours.len(), plan.metadata.len(), "a key stands twice");
    assert_eq!(ours.keys().collect::<Vec<_>>(), dump.keys.keys().collect::<Vec<_>>());
    for (key, value) in &ours {
        assert_eq!(value, &dump.keys[key], "{key}");
    }

    let line = |name: &str, dtype: &str, shape: &[u64]| format!("{name} {dtype} {shape:?}");
    let ours = plan.infos().map(|t| (t.name.clone(), (line(&t.name, t.dtype.name(), &t.shape), t.offset)));
    let ours: BTreeMap<String, (String, u64)> = ours.collect();
    for (name, (described, offset)) in &dump.tensors {
        assert_eq!(&ours[name].0, described);
        // The converter of llama.cpp has another order; its quantizer's is ours.
        if dump.quantized {
            assert_eq!(ours[name].1, *offset, "{name}");
        }
    }
    assert_eq!(ours.len(), dump.tensors.len());
    assert_eq!((plan.files[0].layout.data_offset, plan.total_bytes()), (dump.data_offset, dump.file_bytes));
}

/// The checkpoint that the dumped files were made of, without its weights.
fn checkpoint(root: &Path, moe: bool) -> PathBuf {
    let mut config = json!({
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "bos_token_id": 151643, "eos_token_id": 151645,
        "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072,
        "max_position_embeddings": 40960, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1000000,
        "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false,
        "vocab_size": 151936
    });
    if moe {
        for (key, value) in [
            ("architectures", json!(["Qwen3MoeForCausalLM"])),
            ("model_type", json!("qwen3_moe")),
            ("hidden_size", json!(512)),
            ("intermediate_size", json!(1536)),
            ("num_attention_heads", json!(8)),
            ("num_key_value_heads", json!(4)),
            ("num_hidden_layers", json!(4)),
            ("num_experts", json!(32)),
            ("num_experts_per_tok", json!(8)),
            ("moe_intermediate_size", json!(256)),
            ("norm_topk_prob", json!(true)),
            ("decoder_sparse_step", json!(1)),
            ("mlp_only_layers", json!([])),
            ("tie_word_embeddings", json!(false)),
        ] {
            config[key] = value;
        }
    }
    let dir = root.join(if moe { "Qwen3-MoE-Tiny" } else { "Qwen3-0.6B" });
    fs::create_dir(&dir).expect("a new folder");
    sparse_checkpoint(&dir, &config);
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        // Links, as in a hub cache.
        std::os::unix::fs::symlink(qwen3_tokenizer().join(name), dir.join(name)).expect("a link");
    }
    dir
}

/// A dump: type and value of each key, description and offset of each tensor.
struct Dump {
    quantized: bool,
    data_offset: u64,
    file_bytes: u64,
    keys: BTreeMap<String, String>,
    tensors: BTreeMap<String, (String, u64)>,
}

impl Dump {
    fn read(path: &Path) -> Dump {
        let text = fs::read_to_string(path).expect("the dump");
        let mut dump = Dump {
            quantized: text.contains("then llama-quantize"),
            data_offset: 0,
            file_bytes: 0,
            keys: BTreeMap::new(),
            tensors: BTreeMap::new(),
        };
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("kv ") {
                let (key, value) = rest.split_once(' ').expect("key and value");
                dump.keys.insert(key.to_owned(), essence(value));
            } else if let Some(rest) = line.strip_prefix("tensor ") {
                let (described, offset) = rest.rsplit_once(' ').expect("an offset");
                let name = described.split(' ').next().expect("a name");
                dump.tensors.insert(name.to_owned(), (described.to_owned(), offset.parse().expect("a number")));
            } else if let Some((_, rest)) = line.split_once("data at ") {
                let numbers: Vec<u64> =
                    rest.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
                [dump.data_offset, dump.file_bytes] = numbers[..].try_into().expect("two numbers");
            }
        }
        dump
    }
}

/// A dumped value without the excerpt of its content: `array<int32>[3] sha256=…`, `string [7 bytes] sha256=…`.
fn essence(value: &str) -> String {
    match value.split_once(" sha256=") {
        Some((front, hash)) => {
            let kind = front.split_once(']').expect("a length").0;
            format!("{kind}] sha256={hash}")
        }
        None => value.to_owned(),
    }
}

/// One of our values in the form that the dumps have.
fn shown(value: &Value) -> String {
    match value {
        Value::String(s) if s.len() > 1000 => format!("string [{} bytes] sha256={}", s.len(), sha256(s.as_bytes())),
        Value::String(s) => format!("string {s:?}"),
        Value::Bool(b) => format!("bool {b}"),
        Value::U32(n) => format!("uint32 {n}"),
        Value::I32(n) => format!("int32 {n}"),
        // As Python's %g.
        Value::F32(x) if *x == 1e6 => "float32 1e+06".to_owned(),
        Value::F32(x) if *x == 1e-6 => "float32 1e-06".to_owned(),
        Value::F32(x) => format!("float32 {x}"),
        Value::Array(Array::I32(v)) => {
            let bytes: Vec<u8> = v.iter().flat_map(|n| n.to_le_bytes()).collect();
            format!("array<int32>[{}] sha256={}", v.len(), sha256(&bytes))
        }
        Value::Array(Array::String(v)) => {
            let bytes: Vec<u8> =
                v.iter().flat_map(|s| [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()).collect();
            format!("array<string>[{}] sha256={}", v.len(), sha256(&bytes))
        }
        other => panic!("no key has such a value: {other:?}"),
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
