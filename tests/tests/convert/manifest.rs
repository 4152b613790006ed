//! The manifest beside an output, against values computed otherwise.

use std::fs;

use half::bf16;
use qwren_quant::block::codec;
use qwren_quant::gguf::GgufFile;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::Sample;

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn manifest(sample: &Sample) -> Value {
    serde_json::from_slice(&fs::read(sample.out().with_extension("gguf.json")).unwrap()).unwrap()
}

#[test]
fn every_value_is_right() {
    let sample = Sample::sharded();
    sample.converts(&["--tensor-type", "blk.1.*=f16", "--tensor-type", "blk.0.attn_k*=q5_1"]);
    let manifest = manifest(&sample);
    assert_eq!(manifest["manifest"], 1);
    assert_eq!(manifest["tool"], concat!("qwren-convert ", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        manifest["recipe"],
        json!({
            "type": "q4_k_m", "tensor_types": ["blk.1.*=F16", "blk.0.attn_k*=Q5_1"], "tie_embeddings": false,
            "allow_nonfinite": false, "imatrix": null
        })
    );
    let sources: Vec<Value> = (1..=3)
        .map(|i| {
            let name = format!("model-{i:05}-of-00003.safetensors");
            let bytes = fs::read(sample.path(&name)).unwrap();
            json!({"name": name, "bytes": bytes.len(), "sha256": hex(&bytes)})
        })
        .collect();
    assert_eq!(manifest["sources"], json!(sources));

    let entry = &manifest["files"][0];
    let bytes = fs::read(sample.out()).unwrap();
    assert_eq!((&entry["name"], &entry["bytes"]), (&json!("x.gguf"), &json!(bytes.len())));
    assert_eq!(entry["sha256"], hex(&bytes));
    let file = GgufFile::open(&sample.out()).unwrap();
    let tensors = file.header().tensors();
    assert_eq!(entry["tensors"].as_array().unwrap().len(), tensors.len());
    let mut types = Vec::new();
    for (entry, t) in entry["tensors"].as_array().unwrap().iter().zip(tensors) {
        assert_eq!(entry["name"], t.name);
        assert_eq!(entry["type"], t.dtype.name());
        assert_eq!(entry["shape"], json!(t.shape));
        assert_eq!((&entry["offset"], &entry["bytes"]), (&json!(t.offset), &json!(t.bytes)));
        assert_eq!(entry["sha256"], hex(file.data(t)));
        let mut stored = vec![0.0; t.shape.iter().product::<u64>() as usize];
        codec(t.dtype).unwrap().dequantize(file.data(t), &mut stored);
        let source = source(&sample, &t.name);
        assert_eq!(source.len(), stored.len());
        let squares: f64 = source.iter().zip(&stored).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        let (expected, found) = ((squares / stored.len() as f64).sqrt(), entry["rmse"].as_f64().unwrap());
        assert!((found - expected).abs() <= 1e-6 * expected, "{}: {found} is not {expected}", t.name);
        // These weights are small BF16 numbers, which F32 and F16 hold.
        assert_eq!(found == 0.0, ["F32", "F16"].contains(&t.dtype.name()), "{}: {found}", t.name);
        types.push(t.dtype.name());
    }
    assert!(["F32", "F16", "Q5_1", "Q4_K", "Q6_K"].iter().all(|name| types.contains(name)), "{types:?}");
}

/// Values of the stored tensor that became `name`.
fn source(sample: &Sample, name: &str) -> Vec<f32> {
    let stored = name
        .replace("attn_output", "attn_o")
        .replace("token_embd", "model.embed_tokens")
        .replace("output_norm", "model.norm")
        .replace("output.", "lm_head.")
        .replace("blk.", "model.layers.")
        .replace("attn_norm", "input_layernorm")
        .replace("ffn_norm", "post_attention_layernorm")
        .replace("attn_q_norm", "self_attn.q_norm")
        .replace("attn_k_norm", "self_attn.k_norm");
    let stored = ["q", "k", "v", "o"]
        .iter()
        .fold(stored, |s, x| s.replace(&format!("attn_{x}."), &format!("self_attn.{x}_proj.")));
    let stored =
        ["gate", "up", "down"].iter().fold(stored, |s, x| s.replace(&format!("ffn_{x}."), &format!("mlp.{x}_proj.")));
    for i in 1..=3 {
        let raw = fs::read(sample.path(&format!("model-{i:05}-of-00003.safetensors"))).unwrap();
        if let Ok(tensor) = SafeTensors::deserialize(&raw).unwrap().tensor(&stored) {
            return tensor.data().chunks(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        }
    }
    panic!("no {stored}");
}

#[test]
fn what_is_not_finite_has_no_error() {
    let sample = Sample::dense();
    sample.edit_tensors("model.safetensors", |t| t.last_mut().unwrap().3[..2].copy_from_slice(&[0xff, 0x7f]));
    sample.converts(&["--allow-nonfinite"]);
    let manifest = manifest(&sample);
    assert_eq!(manifest["recipe"]["allow_nonfinite"], true);
    let tensors = manifest["files"][0]["tensors"].as_array().unwrap();
    assert_eq!(tensors.iter().filter(|t| t["rmse"].is_null()).count(), 1);
}

#[test]
fn experts_are_measured_together() {
    let sample = Sample::moe(json!({}));
    sample.converts(&["-t", "1", "--type", "q8_0"]);
    let one = fs::read(sample.out().with_extension("gguf.json")).unwrap();
    sample.converts(&["-t", "5", "--type", "q8_0", "--force"]);
    assert!(fs::read(sample.out().with_extension("gguf.json")).unwrap() == one);
    let manifest = manifest(&sample);
    let tensors = manifest["files"][0]["tensors"].as_array().unwrap();
    let experts: Vec<&Value> = tensors.iter().filter(|t| t["name"].as_str().unwrap().contains("_exps")).collect();
    assert_eq!(experts.len(), 6);
    assert!(experts.iter().all(|t| t["shape"][2] == 4 && (1e-7..1e-2).contains(&t["rmse"].as_f64().unwrap())));
}
