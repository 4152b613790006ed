//! compressed-tensors: schemes of weights, each for some of a checkpoint's modules.

use serde_json::Value;

use super::{Quantization, Refused, block, group, is, refused, unread};

const METHOD: &str = "compressed-tensors";

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

/// The schemes of a `quantization_config`.
pub(super) fn read(q: &Value) -> Result<Quantization, Refused> {
    let sparse = &q["sparsity_config"]["format"];
    if !sparse.is_null() && !is(sparse, "dense") {
        return Err(refused(METHOD, format!("sparsity format {sparse}")));
    }
    // Rotated weights need rotated activations.
    if q["transform_config"]["config_groups"].as_object().is_some_and(|groups| !groups.is_empty()) {
        return Err(refused(METHOD, "transform_config".to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn method(q: Value) -> Result<Quantization, String> {
        read(&q).map_err(|e| format!("{} ({})", e.method, e.seen))
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
}
