//! Checkpoints that are quantized already: what they decode to, by values that scripts/make_quantized.py computed, and
//! what is said of damaged ones.

use std::fs;

use qwren_convert::plan::{Options, Plan};
use qwren_convert::recipe::FileType;
use qwren_quant::gguf::GgufFile;
use qwren_tests::data;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::support::{Sample, Tensor, text, type_name};

const WEIGHTS: &str = "model.safetensors";
const MODULES: [(&str, &str); 2] =
    [("model.layers.0.self_attn.q_proj", "attn_q"), ("model.layers.0.self_attn.o_proj", "attn_output")];

/// A form in which two matrices of a checkpoint are stored.
struct Case {
    name: String,
    head_dim: Value,
    config: Value,
    /// What stands in place of the two weights.
    tensors: Vec<Tensor>,
    /// The values of each module, as little-endian f32.
    values: [Vec<u8>; 2],
}

fn cases() -> Vec<Case> {
    let list: Vec<Value> = serde_json::from_slice(&fs::read(data("quantized/cases.json")).unwrap()).unwrap();
    let raw = fs::read(data("quantized/cases.safetensors")).unwrap();
    let all = SafeTensors::deserialize(&raw).unwrap();
    let case = |c: &Value| {
        let name = c["name"].as_str().unwrap().to_owned();
        let own = |n: &str| Some(n.strip_prefix(&name)?.strip_prefix('/')?.to_owned());
        let stored = all.tensors().into_iter().filter_map(|(n, t)| Some((own(&n)?, t)));
        let stored = stored.filter(|(n, _)| MODULES.iter().all(|m| n != m.0));
        Case {
            tensors: stored.map(|(n, t)| (n, type_name(t.dtype()), t.shape().to_vec(), t.data().to_vec())).collect(),
            values: MODULES.map(|m| all.tensor(&format!("{name}/{}", m.0)).unwrap().data().to_vec()),
            head_dim: c["head_dim"].clone(),
            config: c["config"].clone(),
            name,
        }
    };
    list.iter().map(case).collect()
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|c| c.name == name).unwrap()
}

impl Case {
    /// A checkpoint of one layer with these two matrices; everything else is BF16.
    fn sample(&self) -> Sample {
        let sample = Sample::new(
            json!({"hidden_size": 48, "head_dim": self.head_dim, "num_attention_heads": 3, "num_key_value_heads": 1,
                "num_hidden_layers": 1, "intermediate_size": 32, "quantization_config": self.config}),
            1,
        );
        sample.edit_tensors(WEIGHTS, |all| {
            all.retain(|t| MODULES.iter().all(|m| t.0 != format!("{}.weight", m.0)));
            all.extend(self.tensors.clone());
        });
        sample
    }
}

#[test]
fn c5_c23_every_form_decodes_to_its_values() {
    for case in cases() {
        let sample = case.sample();
        sample.converts(&["--type", "f32", "--quiet"]);
        let file = GgufFile::open(&sample.out()).unwrap();
        for (values, (_, name)) in case.values.iter().zip(MODULES) {
            let tensor = file.header().tensor(&format!("blk.0.{name}.weight")).unwrap();
            assert!(file.data(tensor) == values, "{} {name}", case.name);
        }
    }
}

#[test]
fn a_quantized_head_is_a_head() {
    let case = case("gptq4");
    let sample = case.sample();
    sample.edit_tensors(WEIGHTS, |all| {
        all.retain(|t| t.0 != "lm_head.weight");
        // [768, 48] in groups of 16.
        for (suffix, dtype, shape, bytes) in [
            ("qweight", "I32", vec![6, 768], 4 * 6 * 768),
            ("qzeros", "I32", vec![3, 96], 4 * 3 * 96),
            ("scales", "F16", vec![3, 768], 2 * 3 * 768),
        ] {
            all.push((format!("lm_head.{suffix}"), dtype, shape, vec![0x3c; bytes]));
        }
    });
    sample.converts(&["--type", "f32", "--quiet"]);
    let file = GgufFile::open(&sample.out()).unwrap();
    // Zero points 0x3c + 0x11 = 0x4d, nibbles 13 and 4; integers 12 and 3; scale 0x3c3c in f16.
    let scale = half::f16::from_bits(0x3c3c).to_f32();
    let expected: Vec<f32> = (0..768 * 48)
        .map(|i| if i % 48 % 2 == 0 { 12.0 } else { 3.0 } - if i / 48 % 2 == 0 { 13.0 } else { 4.0 })
        .collect();
    let data = file.data(file.header().tensor("output.weight").unwrap());
    let values = data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    assert!(values.eq(expected.into_iter().map(|v: f32| v * scale)));

    sample.converts(&["--type", "f32", "--quiet", "--force", "--tie-embeddings"]);
    assert!(GgufFile::open(&sample.out()).unwrap().header().tensor("output.weight").is_none());
}

#[test]
fn activation_and_cache_scales_are_not_weights() {
    let case = case("float-tensor");
    let sample = case.sample();
    sample.edit_tensors(WEIGHTS, |all| {
        for name in
            ["q_proj.input_scale", "k_proj.activation_scale", "k_proj.k_scale", "v_proj.v_scale", "attn.q_scale"]
        {
            all.push((format!("model.layers.0.self_attn.{name}"), "F32", vec![1], vec![0; 4]));
        }
    });
    sample.converts(&["--type", "f32", "--quiet"]);
}

#[test]
fn every_tensor_of_a_form_is_needed_and_of_one_shape() {
    let optional = [".g_idx", ".weight_g_idx", ".weight_shape", "_zero_point"];
    for case in cases() {
        let sample = case.sample();
        for (name, ..) in &case.tensors {
            let label = format!("{} without {name}", case.name);
            let broken = case.sample();
            broken.edit_tensors(WEIGHTS, |all| all.retain(|t| t.0 != *name));
            let may = optional.iter().any(|s| name.ends_with(s))
                && (case.name.starts_with("gptq") || name.contains("weight"));
            match plan(&broken) {
                Ok(_) => assert!(may, "{label}"),
                // Without what gives it away the rest is unknown; a matrix without any tensor is missing.
                Err((code, told)) => {
                    assert!(matches!(code, 2 | 3) && told.contains("tensor "), "{label}: {code} {told}")
                }
            }
            broken.edit_tensors(WEIGHTS, |all| all.push((name.clone(), "F32", vec![3, 5], vec![0; 60])));
            let (code, told) = plan(&broken).err().unwrap_or_else(|| panic!("{label}: another shape passes"));
            assert!(matches!(code, 2 | 3) && told.contains(name.as_str()), "{label}: {code} {told}");
        }
        assert!(plan(&sample).is_ok());
    }
}

/// The exit code and the text of a failed plan.
fn plan(sample: &Sample) -> Result<Plan, (u8, String)> {
    let options = Options::new(FileType::F32);
    Plan::new(&sample.dir(), &options).map_err(|e| (e.exit_code(), e.to_string()))
}

#[test]
fn a_group_that_is_not_there_is_told() {
    for (name, suffix) in [("gptq4-act-order", "g_idx"), ("pack4-act-order", "weight_g_idx")] {
        let case = case(name);
        for group in [-1, 3, i32::MAX] {
            let sample = case.sample();
            let index = format!("{}.{suffix}", MODULES[0].0);
            sample.edit_tensors(WEIGHTS, |all| {
                let tensor = all.iter_mut().find(|t| t.0 == index).unwrap();
                tensor.3[8..12].copy_from_slice(&i32::to_le_bytes(group));
            });
            sample.fails(&[], 2, &[WEIGHTS, &format!("tensor {index} puts a column into group {group} of 3")]);
        }
    }
}

#[test]
fn bits_of_a_single_module_are_told_by_its_shape() {
    // Matrices of 8 bits in a checkpoint of 4: GPTQ tools can choose by module.
    let mut mixed = case("gptq8");
    mixed.config["bits"] = json!(4);
    mixed.sample().converts(&["--type", "f32", "--quiet"]);

    let case = case("gptq4");
    let sample = case.sample();
    sample.edit_tensors(WEIGHTS, |all| {
        let packed = all.iter_mut().find(|t| t.0.ends_with("q_proj.qweight")).unwrap();
        (packed.2, packed.3) = (vec![3, 24], vec![0; 3 * 24 * 4]);
    });
    sample.fails(&[], 3, &["GPTQ with 2 bits (tensor model.layers.0.self_attn.q_proj.qweight)"]);
}

#[test]
fn any_quantization_config_is_read_or_refused() {
    let names = ["gptq4-act-order", "awq", "pack4-group-asymmetric", "float-block", "fp8-block", "modelopt-fp8"];
    for case in names.map(case) {
        let sample = case.sample();
        let config = fs::read_to_string(sample.path("config.json")).unwrap();
        let mut paths = Vec::new();
        leaves(&case.config, &mut String::from("/quantization_config"), &mut paths);
        for path in paths {
            for value in [json!(null), json!(-1), json!(3), json!(1u64 << 60), json!("x"), json!({})] {
                let mut changed: Value = serde_json::from_str(&config).unwrap();
                *changed.pointer_mut(&path).unwrap() = value.clone();
                fs::write(sample.path("config.json"), changed.to_string()).unwrap();
                if let Err((code, told)) = plan(&sample) {
                    assert!(matches!(code, 2 | 3), "{}: {path} = {value}: {code} {told}", case.name);
                }
            }
        }
    }
}

/// JSON pointers to everything inside of `value`.
fn leaves(value: &Value, path: &mut String, out: &mut Vec<String>) {
    out.push(path.clone());
    let keys: Vec<String> = match value {
        Value::Object(map) => map.keys().cloned().collect(),
        Value::Array(items) => (0..items.len()).map(|i| i.to_string()).collect(),
        _ => Vec::new(),
    };
    for key in keys {
        let len = path.len();
        *path += &format!("/{key}");
        leaves(value.pointer(&format!("/{key}")).unwrap(), path, out);
        path.truncate(len);
    }
}

#[test]
fn quantized_experts_are_stacked() {
    // Every expert of an FP8 mixture has its own scales.
    let sample = Sample::moe(json!({"quantization_config": {"quant_method": "fp8"}}));
    sample.edit_tensors(WEIGHTS, |all| {
        let mut scales: Vec<Tensor> = Vec::new();
        for (name, dtype, shape, bytes) in all.iter_mut().filter(|t| t.0.contains(".experts.")) {
            let expert: f32 = name.split('.').nth(5).unwrap().parse().unwrap();
            // 0x38 is 1.0.
            (*dtype, *bytes) = ("F8_E4M3", vec![0x38; shape.iter().product()]);
            scales.push((format!("{name}_scale"), "F32", vec![], (expert + 1.0).to_le_bytes().to_vec()));
        }
        all.extend(scales);
    });
    let output = sample.converts(&["--type", "f32"]);
    assert!(!text(&output.stderr).contains("error"));
    let file = GgufFile::open(&sample.out()).unwrap();
    let tensor = file.header().tensor("blk.1.ffn_down_exps.weight").unwrap();
    let values: Vec<f32> =
        file.data(tensor).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let one = values.len() / 4;
    assert!((0..4).all(|e| values[e * one..][..one].iter().all(|v| *v == e as f32 + 1.0)));
}
