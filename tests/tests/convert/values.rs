//! Every reference checkpoint in every type: what stands in the file against what stands in the checkpoint.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use qwren_quant::block;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::GgufFile;
use qwren_tests::{converted, reference_checkpoints};
use safetensors::{Dtype, SafeTensors};

const TYPES: [&str; 8] = ["f32", "bf16", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s"];

#[test]
fn every_checkpoint_in_every_type() {
    for reference in reference_checkpoints() {
        let stored = read_checkpoint(&reference.checkpoint);
        for dtype in TYPES {
            let label = format!("{} {dtype}", reference.name);
            let file = GgufFile::open(&converted(&reference.name, &reference.checkpoint, dtype)).expect(&label);
            let tensors = file.header().tensors();
            assert_eq!(tensors.len(), stored.len(), "{label}");
            for tensor in tensors {
                let (shape, values) = &stored[&tensor.name];
                assert_eq!(&tensor.shape, shape, "{label} {}", tensor.name);
                let mut read = vec![0.0; values.len()];
                block::codec(tensor.dtype).expect("a type that we write").dequantize(file.data(tensor), &mut read);
                check(&format!("{label} {}", tensor.name), tensor.dtype, values, &read);
            }
        }
    }
}

/// Floats must be rounded to nearest; blocks may be off by a share of the values' root mean square.
fn check(label: &str, dtype: DType, stored: &[f32], read: &[f32]) {
    let exact: Option<fn(f32) -> f32> = match dtype {
        DType::F32 => Some(|x| x),
        DType::F16 => Some(|x| f16::from_f32(x).to_f32()),
        DType::BF16 => Some(|x| bf16::from_f32(x).to_f32()),
        _ => None,
    };
    if let Some(rounded) = exact {
        let same = stored.iter().zip(read).all(|(&s, r)| rounded(s).to_bits() == r.to_bits());
        assert!(same, "{label}: not the rounded values");
        return;
    }
    let square = |x: f64| x * x;
    let sum: f64 = stored.iter().map(|&x| square(x.into())).sum();
    let off: f64 = stored.iter().zip(read).map(|(&s, &r)| square(f64::from(s) - f64::from(r))).sum();
    let share = (off / sum).sqrt();
    let limit = match dtype {
        DType::Q8_0 => 0.007,
        DType::Q6K => 0.022,
        DType::Q5K => 0.045,
        DType::Q5_0 | DType::Q5_1 => 0.055,
        DType::Q4K => 0.085,
        other => panic!("{label}: unexpected type {other:?}"),
    };
    assert!(share > 0.0 && share <= limit, "{label}: relative error {share:.4} of {}", dtype.name());
}

/// Shape (columns first) and values of each tensor, under its GGUF name.
fn read_checkpoint(dir: &Path) -> HashMap<String, (Vec<u64>, Vec<f32>)> {
    let mut plain: HashMap<String, (Vec<u64>, Vec<f32>)> = HashMap::new();
    for entry in fs::read_dir(dir).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let raw = fs::read(&path).expect("the file");
            for (name, t) in SafeTensors::deserialize(&raw).expect("a sound file").tensors() {
                let shape = t.shape().iter().map(|&n| n as u64).collect();
                plain.insert(name, (shape, decoded(t.dtype(), t.data())));
            }
        }
    }
    let scaled: Vec<String> = plain.keys().filter_map(|n| n.strip_suffix("_scale_inv")).map(str::to_owned).collect();
    for name in scaled {
        let (_, scales) = plain.remove(&format!("{name}_scale_inv")).expect("listed");
        let (shape, values) = plain.get_mut(&name).expect("a scaled tensor");
        let cols = shape[1] as usize;
        for (i, value) in values.iter_mut().enumerate() {
            *value *= scales[i / cols / 128 * cols.div_ceil(128) + i % cols / 128];
        }
    }
    // Experts are stacked in their order; 2-D shapes turn around.
    let mut names: Vec<(u64, String)> = plain.keys().map(|n| (expert(n).unwrap_or(0), n.clone())).collect();
    names.sort();
    let mut all: HashMap<String, (Vec<u64>, Vec<f32>)> = HashMap::new();
    for (e, name) in names {
        let (mut shape, values) = plain.remove(&name).expect("listed");
        shape.reverse();
        if expert(&name).is_some() {
            shape.push(e + 1);
        }
        let slot = all.entry(gguf_name(&name)).or_default();
        slot.0 = shape;
        slot.1.extend(values);
    }
    all
}

fn expert(name: &str) -> Option<u64> {
    name.split_once(".experts.")?.1.split('.').next()?.parse().ok()
}

fn gguf_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("model.layers.") else {
        return match name {
            "model.embed_tokens.weight" => "token_embd.weight",
            "model.norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            other => panic!("{other}"),
        }
        .to_owned();
    };
    let (layer, rest) = rest.split_once('.').expect("a layer");
    let kind = match rest.trim_end_matches(".weight") {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate" => "ffn_gate_inp",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other if other.ends_with(".gate_proj") => "ffn_gate_exps",
        other if other.ends_with(".up_proj") => "ffn_up_exps",
        other if other.ends_with(".down_proj") => "ffn_down_exps",
        other => panic!("{other}"),
    };
    format!("blk.{layer}.{kind}.weight")
}

fn decoded(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        // FP8's exponent bias is 8 less than f16's: 4 + 3 bits at the right place of an f16, times 2^8.
        Dtype::F8_E4M3 => {
            let wide = |b: u8| u16::from(b & 0x80) << 8 | u16::from(b & 0x7f) << 7;
            bytes.iter().map(|&b| f16::from_bits(wide(b)).to_f32() * 256.0).collect()
        }
        other => panic!("{other:?}"),
    }
}
