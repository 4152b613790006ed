//! Checkpoints whose weights follow from a seed instead of lying in the repository: the same bits as `weights()` of
//! scripts/make_reference.py, which computed their reference outputs.
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde_json::{Value, json};

use crate::fixtures::{data, once};
use crate::safetensors::write;

/// The folder of the checkpoint that tests/data/generated/`name`.json describes.
pub fn checkpoint(name: &str) -> PathBuf {
    once(name, |dir| {
        let text = fs::read_to_string(data("generated").join(format!("{name}.json"))).expect("a spec");
        let spec: Value = serde_json::from_str(&text).expect("JSON");
        write_checkpoint(&spec, dir);
    })
}

/// Writes a checkpoint folder from a spec {config, dtype, seed, shards}, with the small tokenizer of the test data.
pub fn write_checkpoint(spec: &Value, dir: &Path) {
    let (config, seed) = (&spec["config"], spec["seed"].as_u64().expect("a seed"));
    let dtype = spec["dtype"].as_str().expect("a dtype");
    let shards = spec["shards"].as_u64().expect("a number of shards") as usize;
    let tensors = tensor_shapes(config);
    let (mut weight_map, mut total) = (serde_json::Map::new(), 0);
    for (i, part) in tensors.chunks(tensors.len().div_ceil(shards)).enumerate() {
        let file = match shards {
            1 => "model.safetensors".to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        let mut arrays = Vec::new();
        for (name, shape) in part {
            let bytes = stored(&weights(name, shape, seed), dtype);
            total += bytes.len();
            weight_map.insert(name.clone(), json!(file));
            arrays.push((name.clone(), safetensors_name(dtype), shape.clone(), bytes));
        }
        write(&dir.join(&file), &arrays);
    }
    if shards > 1 {
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        fs::write(dir.join("model.safetensors.index.json"), index.to_string()).expect("the index");
    }
    fs::write(dir.join("config.json"), config.to_string()).expect("config.json");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(data("checkpoints/dense-odd").join(name), dir.join(name)).expect("a copy");
    }
}

/// Name and shape of every tensor of a checkpoint with this config.json, in checkpoint order.
pub fn tensor_shapes(config: &Value) -> Vec<(String, Vec<usize>)> {
    let n = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("config has no {key}")) as usize;
    let (h, d, q, kv) = (n("hidden_size"), n("head_dim"), n("num_attention_heads"), n("num_key_value_heads"));
    let experts = config["num_experts"].as_u64();
    let mut out = vec![("model.embed_tokens.weight".to_owned(), vec![n("vocab_size"), h])];
    for l in 0..n("num_hidden_layers") {
        let mut push =
            |name: &str, shape: &[usize]| out.push((format!("model.layers.{l}.{name}.weight"), shape.to_vec()));
        push("input_layernorm", &[h]);
        push("self_attn.q_proj", &[q * d, h]);
        push("self_attn.k_proj", &[kv * d, h]);
        push("self_attn.v_proj", &[kv * d, h]);
        push("self_attn.o_proj", &[h, q * d]);
        push("self_attn.q_norm", &[d]);
        push("self_attn.k_norm", &[d]);
        push("post_attention_layernorm", &[h]);
        let (mlps, ff) = match experts {
            Some(e) => {
                push("mlp.gate", &[e as usize, h]);
                ((0..e).map(|e| format!("mlp.experts.{e}.")).collect(), n("moe_intermediate_size"))
            }
            None => (vec!["mlp.".to_owned()], n("intermediate_size")),
        };
        for m in mlps {
            push(&format!("{m}gate_proj"), &[ff, h]);
            push(&format!("{m}up_proj"), &[ff, h]);
            push(&format!("{m}down_proj"), &[h, ff]);
        }
    }
    out.push(("model.norm.weight".to_owned(), vec![h]));
    if config["tie_word_embeddings"] == json!(false) {
        out.push(("lm_head.weight".to_owned(), vec![n("vocab_size"), h]));
    }
    out
}

/// Nearly normal numbers: the four 16-bit lanes of a hash of name, seed and index, summed and centred.
fn weights(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let (std, offset) = match shape {
        [_] => (0.15, 1.0),
        _ if name.contains("embed") => (0.5, 0.0),
        _ if name.contains("lm_head") => (0.12, 0.0),
        _ => (1.3 / (shape[shape.len() - 1] as f64).sqrt(), 0.0),
    };
    let scale = (std / 37837.2) as f32; // sqrt(4 * (65536^2 - 1) / 12): the sum's own deviation
    let key = fnv1a(name) ^ seed;
    (0..shape.iter().product::<usize>() as u64)
        .map(|i| {
            let bits = splitmix64(key.wrapping_add(i));
            let lanes: i64 = (0..4).map(|lane| (bits >> (16 * lane) & 0xffff) as i64).sum();
            (lanes - 131_070) as f32 * scale + offset
        })
        .collect()
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

fn safetensors_name(dtype: &str) -> &'static str {
    match dtype {
        "float32" => "F32",
        "float16" => "F16",
        "bfloat16" => "BF16",
        other => panic!("no such dtype: {other}"),
    }
}

fn stored(values: &[f32], dtype: &str) -> Vec<u8> {
    match dtype {
        "float32" => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        "float16" => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    }
}
