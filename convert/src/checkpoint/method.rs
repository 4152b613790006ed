//! Quantization methods of checkpoints that are not read, recognised before any work.

use serde_json::Value;

use super::Checkpoint;
use crate::error::{Error, Problem};

/// The method that config.json names, and what named it; `None` for ordinary weights and block-scaled FP8.
pub(super) fn in_config(config: &Value) -> Option<(String, String)> {
    let quantization = &config["quantization_config"];
    if let Some(name) = quantization["quant_method"].as_str() {
        let e4m3 = quantization["fmt"].as_str().is_none_or(|fmt| fmt == "e4m3");
        return if name == "fp8" && e4m3 { None } else { Some((spelled(name), format!("quant_method {name:?}"))) };
    }
    if ["load_in_4bit", "load_in_8bit"].iter().any(|key| quantization[*key] == true) {
        return Some(("bitsandbytes".into(), "load_in_4bit or load_in_8bit".into()));
    }
    if quantization.is_object() {
        return Some(("an unnamed method".into(), "quantization_config".into()));
    }
    // MLX writes its parameters under this name (and, newer, under quantization_config without a method).
    config["quantization"].is_object().then(|| ("MLX".into(), "quantization".into()))
}

/// The usual spelling of a method's name.
fn spelled(name: &str) -> String {
    match name {
        "gptq" => "GPTQ",
        "awq" => "AWQ",
        "exl2" => "EXL2",
        "exl3" => "EXL3",
        "hqq" => "HQQ",
        "bitsandbytes" | "compressed-tensors" => name,
        other => other,
    }
    .to_owned()
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

/// Refuses a checkpoint whose tensor names show a quantization method.
pub(crate) fn refuse_by_names(checkpoint: &Checkpoint) -> Result<(), Error> {
    for (suffix, method) in SUFFIXES {
        if let Some(tensor) = checkpoint.tensors().iter().find(|t| t.name.ends_with(suffix)) {
            let problem = Problem::QuantMethod { method: method.into(), seen: format!("tensor {}", tensor.name) };
            return Err(problem.of(checkpoint.file_of(tensor)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn methods_are_recognised_in_the_configuration() {
        let method = |config: Value| in_config(&config).map(|m| m.0);
        for (name, spelling) in
            [("gptq", "GPTQ"), ("awq", "AWQ"), ("compressed-tensors", "compressed-tensors"), ("quark", "quark")]
        {
            assert_eq!(method(json!({"quantization_config": {"quant_method": name}})).as_deref(), Some(spelling));
        }
        assert_eq!(method(json!({"quantization_config": {"load_in_4bit": true}})).as_deref(), Some("bitsandbytes"));
        assert_eq!(method(json!({"quantization": {"bits": 4, "group_size": 64}})).as_deref(), Some("MLX"));
        assert_eq!(method(json!({"quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}})), None);
        assert_eq!(
            method(json!({"quantization_config": {"quant_method": "fp8", "fmt": "e5m2"}})).as_deref(),
            Some("fp8")
        );
        assert_eq!(method(json!({"quantization_config": null})), None);
        assert_eq!(method(json!({})), None);
    }
}
