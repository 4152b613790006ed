//! How a checkpoint's weights are quantized, as config.json says; methods that are not read are named before any work.

use serde_json::Value;

use super::Checkpoint;
use crate::error::{Error, Problem};

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

/// The weights of one scheme of compressed-tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightArgs {
    /// Bits of an element: 4 or 8, for floats 8.
    pub bits: u32,
    /// Whether elements are floats (E4M3).
    pub float: bool,
    /// Whether there are no zero points.
    pub symmetric: bool,
    /// What shares a scale.
    pub strategy: Strategy,
}

/// What shares a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// A matrix.
    Tensor,
    /// A row.
    Channel,
    /// So many columns of a row.
    Group(u64),
    /// A block of `[rows, cols]`.
    Block([u64; 2]),
}

impl WeightArgs {
    /// `[rows, cols]` that share a scale in a matrix of this shape.
    pub fn block(&self, [rows, cols]: [u64; 2]) -> [u64; 2] {
        match self.strategy {
            Strategy::Tensor => [rows, cols],
            Strategy::Channel => [1, cols],
            Strategy::Group(group) => [1, group],
            Strategy::Block(block) => block,
        }
    }
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
        "compressed-tensors" => compressed_tensors(q),
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
        "auto-round" | "intel/auto-round" => "AutoRound",
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
    match group(&q["group_size"]) {
        Some(group) => Ok(Quantization::Gptq(GptqConfig { group, less_one })),
        None => unread("group_size"),
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
    if !q["version"].is_null() && !is(&q["version"], "gemm") {
        return Err(refused(&format!("AWQ in {} layout", q["version"]), "version".to_owned()));
    }
    if !q["backend"].is_null() && !is(&q["backend"], "autoawq") {
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

fn compressed_tensors(q: &Value) -> Result<Quantization, Refused> {
    const METHOD: &str = "compressed-tensors";
    let sparse = &q["sparsity_config"]["format"];
    if !sparse.is_null() && !is(sparse, "dense") {
        return Err(refused(METHOD, format!("sparsity format {sparse}")));
    }
    let Some(groups) = q["config_groups"].as_object() else { return Err(unread(METHOD, q, "config_groups")) };
    let mut all = Vec::new();
    for (name, group) in groups {
        if group["weights"].is_null() {
            continue; // activations or the KV cache alone
        }
        let format = if group["format"].is_null() { &q["format"] } else { &group["format"] };
        let args = weight_args(&group["weights"]).filter(|args| fits(args, format));
        let Some(args) = args else {
            let text = group["weights"].as_object().map(scheme).unwrap_or_default();
            return Err(refused(METHOD, format!("format {format}, {name}: {text}")));
        };
        all.push(args);
    }
    Ok(Quantization::CompressedTensors(all))
}

/// Whether weights of that kind can be in that format.
fn fits(args: &WeightArgs, format: &Value) -> bool {
    let rows = matches!(args.strategy, Strategy::Channel | Strategy::Group(_));
    match format.as_str() {
        Some("pack-quantized") => !args.float && rows,
        Some("float-quantized") => args.float,
        Some("int-quantized") => !args.float && args.bits == 8,
        Some("naive-quantized") => args.bits == 8,
        _ => false,
    }
}

/// Bits and strategy, for an error.
fn scheme(weights: &serde_json::Map<String, Value>) -> String {
    let told = ["num_bits", "type", "strategy"].into_iter().filter_map(|key| Some((key, weights.get(key)?)));
    told.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}

/// The arguments of a scheme; `None` for one that is not read.
fn weight_args(weights: &Value) -> Option<WeightArgs> {
    let float = match weights["type"].as_str() {
        None | Some("int") => false,
        Some("float") => true,
        Some(_) => return None,
    };
    let bits = match (weights["num_bits"].as_u64()?, float) {
        (4, false) => 4,
        (8, _) => 8,
        _ => return None,
    };
    let group = match &weights["group_size"] {
        Value::Null => None,
        size => Some(group(size)?),
    };
    let strategy = match (weights["strategy"].as_str(), group) {
        (Some("group"), Some(Some(n))) | (None, Some(Some(n))) => Strategy::Group(n),
        (Some("channel"), _) | (None | Some("group"), Some(None)) => Strategy::Channel,
        (Some("tensor"), _) | (None, None) => Strategy::Tensor,
        (Some("block"), _) => Strategy::Block(block(&weights["block_structure"])?),
        _ => return None,
    };
    Some(WeightArgs { bits, float, symmetric: weights["symmetric"].as_bool().unwrap_or(true), strategy })
}

/// Last parts of tensor names that only quantized weights have. The more telling ones come first.
const SUFFIXES: [(&str, &str); 11] = [
    (".g_idx", "GPTQ"),
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".weight_packed", "compressed-tensors"),
    (".weight.absmax", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".q_weight", "EXL2"),
    (".trellis", "EXL3"),
    (".W_q", "HQQ"),
    (".biases", "MLX"),
    (".scales", "an unnamed method"),
];

/// Refuses a checkpoint whose tensor names show a quantization method, although its config.json names none.
pub(crate) fn refuse_by_names(checkpoint: &Checkpoint, quantization: &Quantization) -> Result<(), Error> {
    if *quantization != Quantization::None {
        return Ok(());
    }
    for (suffix, method) in SUFFIXES {
        if let Some(tensor) = checkpoint.tensors().iter().find(|t| t.name.ends_with(suffix)) {
            let seen = format!("tensor {}, no quantization_config", tensor.name);
            let problem = Problem::QuantMethod { method: method.into(), seen, original: None };
            return Err(problem.of(checkpoint.file_of(tensor)));
        }
    }
    Ok(())
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

        let awq = json!({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": true});
        assert_eq!(method(awq), Ok(Quantization::Awq(AwqConfig { group: Some(128) })));
    }

    #[test]
    fn schemes_of_compressed_tensors() {
        let scheme = |format: &str, weights: Value| {
            method(json!({"quant_method": "compressed-tensors", "format": format,
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}))
        };
        let args = |bits, float, symmetric, strategy| {
            Ok(Quantization::CompressedTensors(vec![WeightArgs { bits, float, symmetric, strategy }]))
        };
        for (format, weights, expected) in [
            (
                "pack-quantized",
                json!({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": false}),
                args(4, false, false, Strategy::Group(128)),
            ),
            (
                "pack-quantized",
                json!({"num_bits": 8, "type": "int", "strategy": "channel", "group_size": null, "symmetric": true}),
                args(8, false, true, Strategy::Channel),
            ),
            (
                "float-quantized",
                json!({"num_bits": 8, "type": "float", "strategy": "tensor"}),
                args(8, true, true, Strategy::Tensor),
            ),
            (
                "float-quantized",
                json!({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}),
                args(8, true, true, Strategy::Block([128, 128])),
            ),
            ("int-quantized", json!({"num_bits": 8, "strategy": "channel"}), args(8, false, true, Strategy::Channel)),
            (
                "naive-quantized",
                json!({"num_bits": 8, "type": "int", "group_size": -1}),
                args(8, false, true, Strategy::Channel),
            ),
        ] {
            assert_eq!(scheme(format, weights), expected, "{format}");
        }
        for (format, weights, words) in [
            ("nvfp4-pack-quantized", json!({"num_bits": 4, "type": "float"}), "format \"nvfp4-pack-quantized\""),
            ("pack-quantized", json!({"num_bits": 3, "strategy": "channel"}), "num_bits 3"),
            ("pack-quantized", json!({"num_bits": 4, "strategy": "tensor"}), "strategy \"tensor\""),
            ("int-quantized", json!({"num_bits": 4, "strategy": "channel"}), "num_bits 4"),
            ("float-quantized", json!({"num_bits": 8, "type": "float", "strategy": "block"}), "strategy \"block\""),
        ] {
            let error = scheme(format, weights).unwrap_err();
            assert!(error.starts_with("compressed-tensors (format ") && error.contains(words), "{error}");
        }
        let sparse = json!({"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}});
        assert_eq!(method(sparse).unwrap_err(), "compressed-tensors (sparsity format \"sparse-24-bitmask\")");
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
            (json!({"quant_method": "auto-round"}), "AutoRound (quant_method \"auto-round\")"),
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
