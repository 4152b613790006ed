//! How a checkpoint's weights are quantized, as config.json says; methods that are not read are named before any work.

mod compressed;
mod names;

use serde_json::Value;

use crate::error::Problem;
pub use compressed::{Strategy, WeightArgs};
pub(crate) use names::refuse_by_names;

/// The method of a checkpoint that is read. Its modules may still be stored plainly, where the method left them alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quantization {
    /// Ordinary weights.
    None,
    /// FP8.
    Fp8 {
        /// `[rows, cols]` that share a scale; `None`: one scale for a row or for the whole matrix.
        block: Option<[u64; 2]>,
    },
    /// GPTQ.
    Gptq(GptqConfig),
    /// AWQ.
    Awq(AwqConfig),
    /// compressed-tensors, with the schemes that its modules may have.
    CompressedTensors(Vec<WeightArgs>),
}

impl Quantization {
    /// Name of the method; `None` for ordinary weights.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Quantization::None => None,
            Quantization::Fp8 { .. } => Some("FP8"),
            Quantization::Gptq(_) => Some("GPTQ"),
            Quantization::Awq(_) => Some("AWQ"),
            Quantization::CompressedTensors(_) => Some("compressed-tensors"),
        }
    }
}

/// What a GPTQ checkpoint says of all of its matrices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptqConfig {
    /// Columns of a group; `None` for one group.
    pub group: Option<u64>,
    /// Whether zero points are stored less 1.
    pub less_one: bool,
}

/// What an AWQ checkpoint says of all of its matrices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwqConfig {
    /// Columns of a group; `None` for one group.
    pub group: Option<u64>,
}

/// A method, or a kind of it, that is not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    method: String,
    /// What gave it away.
    seen: String,
}

impl From<Refused> for Problem {
    fn from(Refused { method, seen }: Refused) -> Problem {
        Problem::QuantMethod { method, seen, original: None }
    }
}

/// The method that config.json names.
pub(crate) fn read(config: &Value) -> Result<Quantization, Refused> {
    // Older files of compressed-tensors call it compression_config.
    let found = ["quantization_config", "compression_config"].into_iter().find(|key| config[*key].is_object());
    let Some(key) = found else {
        // MLX writes its parameters under this name (and, newer, under quantization_config without a method).
        return match config["quantization"].is_object() {
            true => Err(refused("MLX", "quantization".to_owned())),
            false => Ok(Quantization::None),
        };
    };
    let q = &config[key];
    let Some(name) = q["quant_method"].as_str() else {
        let bits = ["load_in_4bit", "load_in_8bit"].into_iter().find(|key| q[*key] == true);
        return Err(match bits {
            Some(key) => refused("bitsandbytes", key.to_owned()),
            None => refused("an unnamed method", key.to_owned()),
        });
    };
    match name {
        "fp8" | "fbgemm_fp8" => fp8(q),
        "modelopt" if is(&q["quant_algo"], "FP8") => Ok(Quantization::Fp8 { block: None }),
        "gptq" => gptq(q),
        "awq" => awq(q),
        "auto-round" | "intel/auto-round" => auto_round(q),
        "compressed-tensors" => compressed::read(q),
        other => Err(refused(spelled(other), format!("quant_method {other:?}"))),
    }
}

fn refused(method: &str, seen: String) -> Refused {
    Refused { method: method.to_owned(), seen }
}

/// The key's value is not one that is read.
fn unread(method: &str, q: &Value, key: &str) -> Refused {
    refused(method, format!("{key} {}", q[key]))
}

/// The usual spelling of a method's name.
fn spelled(name: &str) -> &str {
    match name {
        "exl2" => "EXL2",
        "exl3" => "EXL3",
        "hqq" => "HQQ",
        "mlx" => "MLX",
        "modelopt" => "ModelOpt",
        other => other,
    }
}

/// Whether a value is that text, in any case.
fn is(value: &Value, text: &str) -> bool {
    value.as_str().is_some_and(|v| v.eq_ignore_ascii_case(text))
}

/// `[rows, cols]` of a block, each in the range of what is sensible: with a scale for every few weights the scales would
/// be the larger part.
fn block(value: &Value) -> Option<[u64; 2]> {
    let sides = value.as_array().filter(|sides| sides.len() == 2)?;
    let side = |i: usize| sides[i].as_u64().filter(|n| (16..=65536).contains(n));
    Some([side(0)?, side(1)?])
}

/// Columns of a group: `Some(None)` for -1, one group.
fn group(value: &Value) -> Option<Option<u64>> {
    match value.as_i64()? {
        -1 => Some(None),
        n @ 8..=1_048_576 => Some(Some(n as u64)),
        _ => None,
    }
}

fn fp8(q: &Value) -> Result<Quantization, Refused> {
    if !q["fmt"].is_null() && !is(&q["fmt"], "e4m3") {
        return Err(unread("FP8", q, "fmt"));
    }
    match &q["weight_block_size"] {
        Value::Null => Ok(Quantization::Fp8 { block: None }),
        size => match block(size) {
            Some(block) => Ok(Quantization::Fp8 { block: Some(block) }),
            None => Err(unread("FP8", q, "weight_block_size")),
        },
    }
}

fn gptq(q: &Value) -> Result<Quantization, Refused> {
    let unread = |key: &str| Err(unread("GPTQ", q, key));
    match q["bits"].as_u64() {
        Some(4 | 8) => {}
        Some(bits) => return Err(refused(&format!("GPTQ with {bits} bits"), format!("bits {bits}"))),
        None => return unread("bits"),
    }
    if q["is_marlin_format"] == true {
        return unread("is_marlin_format");
    }
    // Rotated weights need rotated activations.
    if !q["rotation"].is_null() || !q["meta"]["rotation"].is_null() {
        return Err(refused("GPTQ", "rotation".to_owned()));
    }
    if !q["pack_dtype"].is_null() && !is(&q["pack_dtype"], "int32") {
        return unread("pack_dtype");
    }
    let key = if q["checkpoint_format"].is_null() { "format" } else { "checkpoint_format" };
    let less_one = match &q[key] {
        Value::Null => true,
        format if is(format, "gptq") => true,
        format if is(format, "gptq_v2") => false,
        _ => return unread(key),
    };
    gptq_groups(q, less_one)
}

fn gptq_groups(q: &Value, less_one: bool) -> Result<Quantization, Refused> {
    match group(&q["group_size"]) {
        Some(group) => Ok(Quantization::Gptq(GptqConfig { group, less_one })),
        None => Err(unread("GPTQ", q, "group_size")),
    }
}

/// AutoRound chooses integers in its own way, and stores them as GPTQ or AWQ does.
fn auto_round(q: &Value) -> Result<Quantization, Refused> {
    const METHOD: &str = "AutoRound";
    if !q["data_type"].is_null() && !is(&q["data_type"], "int") {
        return Err(unread(METHOD, q, "data_type"));
    }
    if !q["rotation_config"].is_null() {
        return Err(refused(METHOD, "rotation_config".to_owned()));
    }
    match q["packing_format"].as_str() {
        Some("auto_round:auto_gptq") => gptq_groups(q, true),
        Some("auto_round" | "auto_round:gptqmodel") => gptq_groups(q, false),
        Some("auto_round:auto_awq") => awq(q),
        _ => Err(unread(METHOD, q, "packing_format")),
    }
}

fn awq(q: &Value) -> Result<Quantization, Refused> {
    let unread = |key: &str| Err(unread("AWQ", q, key));
    // Two spellings, of AutoAWQ in config.json and in its own file.
    let either = |a: &'static str, b: &'static str| if q[a].is_null() { b } else { a };
    let bits = either("bits", "w_bit");
    if q[bits] != 4 {
        return unread(bits);
    }
    // AutoAWQ, transformers 5 and GPTQModel each have their own word for the layout.
    let layouts = ["version", "format", "checkpoint_format"];
    if let Some(key) = layouts.into_iter().find(|key| !q[*key].is_null() && !is(&q[*key], "gemm")) {
        return Err(refused(&format!("AWQ in {} layout", q[key]), key.to_owned()));
    }
    if is(&q["backend"], "llm-awq") {
        return unread("backend");
    }
    if q["zero_point"] == false {
        return unread("zero_point");
    }
    let size = either("group_size", "q_group_size");
    match group(&q[size]) {
        Some(group) => Ok(Quantization::Awq(AwqConfig { group })),
        None => unread(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn method(q: Value) -> Result<Quantization, String> {
        read(&json!({ "quantization_config": q })).map_err(|e| format!("{} ({})", e.method, e.seen))
    }

    #[test]
    fn methods_that_are_read() {
        assert_eq!(method(Value::Null), Ok(Quantization::None));
        let fp8 = |block| Ok(Quantization::Fp8 { block });
        let size = json!([128, 128]);
        assert_eq!(method(json!({"quant_method": "fp8", "weight_block_size": size})), fp8(Some([128, 128])));
        assert_eq!(method(json!({"quant_method": "fp8", "fmt": "e4m3"})), fp8(None));
        assert_eq!(method(json!({"quant_method": "fbgemm_fp8"})), fp8(None));
        assert_eq!(method(json!({"quant_method": "modelopt", "quant_algo": "FP8"})), fp8(None));

        let gptq = |group, less_one| Ok(Quantization::Gptq(GptqConfig { group, less_one }));
        let base = json!({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false, "sym": true});
        let with = |key: &str, value: Value| {
            let mut q = base.clone();
            q[key] = value;
            method(q)
        };
        assert_eq!(with("bits", json!(8)), gptq(Some(128), true));
        assert_eq!(with("group_size", json!(-1)), gptq(None, true));
        assert_eq!(with("checkpoint_format", json!("gptq")), gptq(Some(128), true));
        assert_eq!(with("checkpoint_format", json!("gptq_v2")), gptq(Some(128), false));
        assert_eq!(with("format", json!("gptq_v2")), gptq(Some(128), false));

        for (format, expected) in [
            ("auto_round", gptq(Some(128), false)),
            ("auto_round:auto_gptq", gptq(Some(128), true)),
            ("auto_round:auto_awq", Ok(Quantization::Awq(AwqConfig { group: Some(128) }))),
        ] {
            let q = json!({"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": format});
            assert_eq!(method(q), expected, "{format}");
        }

        for (bits, size, layout) in [("bits", "group_size", "version"), ("w_bit", "q_group_size", "format")] {
            let awq = json!({"quant_method": "awq", bits: 4, size: 128, layout: "GEMM", "zero_point": true});
            assert_eq!(method(awq), Ok(Quantization::Awq(AwqConfig { group: Some(128) })));
        }
    }

    #[test]
    fn methods_that_are_not_read_are_named() {
        for (q, named) in [
            (json!({"load_in_4bit": true}), "bitsandbytes (load_in_4bit)"),
            (json!({"quant_method": "bitsandbytes"}), "bitsandbytes (quant_method \"bitsandbytes\")"),
            (json!({"quant_method": "exl2"}), "EXL2 (quant_method \"exl2\")"),
            (json!({"quant_method": "hqq"}), "HQQ (quant_method \"hqq\")"),
            (json!({"quant_method": "quark"}), "quark (quant_method \"quark\")"),
            (json!({"quant_method": "torchao"}), "torchao (quant_method \"torchao\")"),
            (json!({"quant_method": "auto-round"}), "AutoRound (packing_format null)"),
            (json!({"quant_method": "auto-round", "data_type": "mx_fp"}), "AutoRound (data_type \"mx_fp\")"),
            (json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}), "ModelOpt (quant_method \"modelopt\")"),
            (json!({"group_size": 64, "bits": 4}), "an unnamed method (quantization_config)"),
            (json!({"quant_method": "gptq", "bits": 3, "group_size": 128}), "GPTQ with 3 bits (bits 3)"),
            (json!({"quant_method": "gptq", "bits": 4}), "GPTQ (group_size null)"),
            (
                json!({"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "marlin"}),
                "GPTQ (checkpoint_format \"marlin\")",
            ),
            (
                json!({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}),
                "AWQ in \"gemv\" layout (version)",
            ),
            (json!({"quant_method": "awq", "bits": 8, "group_size": 128}), "AWQ (bits 8)"),
            (json!({"quant_method": "awq", "bits": 4, "backend": "llm-awq"}), "AWQ (backend \"llm-awq\")"),
            (json!({"quant_method": "gptq", "bits": 4, "meta": {"rotation": "hadamard"}}), "GPTQ (rotation)"),
            (
                json!({"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"R1": {}}}}),
                "compressed-tensors (transform_config)",
            ),
            (json!({"quant_method": "fp8", "fmt": "e5m2"}), "FP8 (fmt \"e5m2\")"),
            (json!({"quant_method": "fp8", "weight_block_size": [1, 128]}), "FP8 (weight_block_size [1,128])"),
        ] {
            assert_eq!(method(q).unwrap_err(), named);
        }
        let mlx = read(&json!({"quantization": {"group_size": 64, "bits": 4}})).unwrap_err();
        assert_eq!(mlx, Refused { method: "MLX".into(), seen: "quantization".into() });
        assert_eq!(read(&json!({})), Ok(Quantization::None));
    }
}
