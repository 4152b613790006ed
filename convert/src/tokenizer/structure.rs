//! What makes a tokenizer Qwen's: byte-level BPE over NFC text that was split by one pattern. Added tokens, template and
//! post-processor don't matter.

use serde_json::Value;

use super::TokenizerError;
use super::json::Model;

/// Qwen2's and Qwen3's split pattern.
pub(super) const PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Compares the parts that decide which ids a text gets; the first difference is the error.
pub(super) fn check(model: &Model, normalizer: &Value, pre_tokenizer: &Value) -> Result<(), TokenizerError> {
    // Very old files have no type; merges without a type are BPE.
    let kind = model.r#type.as_deref().unwrap_or("BPE");
    same("model type", kind, "BPE")?;
    same("byte_fallback", &model.byte_fallback.to_string(), "false")?;
    same("ignore_merges", &model.ignore_merges.to_string(), "false")?;
    same("dropout", &model.dropout.unwrap_or(0.0).to_string(), "0")?;
    same("unk_token", model.unk_token.as_deref().unwrap_or(""), "")?;
    same("continuing_subword_prefix", model.continuing_subword_prefix.as_deref().unwrap_or(""), "")?;
    same("end_of_word_suffix", model.end_of_word_suffix.as_deref().unwrap_or(""), "")?;

    let steps = steps(normalizer, "normalizers");
    let kinds: Vec<&str> = steps.iter().map(|s| kind_of(s)).collect();
    same("normalizer", &kinds.join(" + "), "NFC")?;
    pre_tokenizers(pre_tokenizer)
}

/// A split by the pattern, then byte level without a pattern of its own.
fn pre_tokenizers(value: &Value) -> Result<(), TokenizerError> {
    let steps = steps(value, "pretokenizers");
    let kinds: Vec<&str> = steps.iter().map(|s| kind_of(s)).collect();
    same("pre-tokenizer", &kinds.join(" + "), "Split + ByteLevel")?;
    let (split, bytes) = (steps[0], steps[1]);
    let pattern = split["pattern"]["Regex"].as_str().map_or_else(|| split["pattern"].to_string(), str::to_owned);
    same("split pattern", &pattern, PATTERN)?;
    same("split behavior", split["behavior"].as_str().unwrap_or("unset"), "Isolated")?;
    same("split invert", &flag(split, "invert", false), "false")?;
    // The library's defaults for absent keys are true.
    same("add_prefix_space", &flag(bytes, "add_prefix_space", true), "false")?;
    same("use_regex", &flag(bytes, "use_regex", true), "false")
}

/// The steps of a `Sequence`, or the single step; none for null.
fn steps<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match value[list].as_array() {
        Some(steps) if value["type"] == "Sequence" => steps.iter().collect(),
        _ if value.is_null() => Vec::new(),
        _ => vec![value],
    }
}

fn kind_of(step: &Value) -> &str {
    step["type"].as_str().unwrap_or("unnamed")
}

fn flag(step: &Value, key: &str, default: bool) -> String {
    step[key].as_bool().unwrap_or(default).to_string()
}

fn same(part: &'static str, found: &str, expected: &str) -> Result<(), TokenizerError> {
    if found == expected {
        return Ok(());
    }
    let named = |s: &str| if s.is_empty() { "none".to_owned() } else { s.to_owned() };
    Err(TokenizerError::Different { part, found: named(found), expected: named(expected) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn qwen() -> Value {
        json!({
            "model": {"type": "BPE", "unk_token": null, "continuing_subword_prefix": "", "byte_fallback": false},
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}
            ]}
        })
    }

    fn check_with(pointer: &str, value: Value) -> String {
        let mut all = qwen();
        *all.pointer_mut(pointer).unwrap() = value;
        let model: Model = serde_json::from_value(all["model"].take()).unwrap();
        check(&model, &all["normalizer"], &all["pre_tokenizer"]).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn qwens_own_and_its_spellings_pass() {
        assert_eq!(check_with("/normalizer", json!({"type": "NFC"})), "");
        assert_eq!(check_with("/normalizer", json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]})), "");
        assert_eq!(check_with("/model/continuing_subword_prefix", Value::Null), "");
    }

    #[test]
    fn every_difference_is_named() {
        for (pointer, value, part) in [
            ("/model/type", json!("Unigram"), "model type is Unigram, Qwen's is BPE"),
            ("/model/unk_token", json!("<unk>"), "unk_token is <unk>, Qwen's is none"),
            ("/model/byte_fallback", json!(true), "byte_fallback is true"),
            ("/normalizer", Value::Null, "normalizer is none, Qwen's is NFC"),
            ("/normalizer/type", json!("NFKC"), "normalizer is NFKC"),
            (
                "/pre_tokenizer/pretokenizers/0/pattern/Regex",
                json!(r"\p{N}{1,3}"),
                r"split pattern is \p{N}{1,3}, Qwen's is (?i:",
            ),
            ("/pre_tokenizer/pretokenizers/0/behavior", json!("Removed"), "split behavior is Removed"),
            ("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true), "add_prefix_space is true"),
            ("/pre_tokenizer/pretokenizers/1/type", json!("Digits"), "pre-tokenizer is Split + Digits"),
            ("/pre_tokenizer", Value::Null, "pre-tokenizer is none"),
        ] {
            let text = check_with(pointer, value);
            assert!(text.starts_with("is not Qwen's tokenizer: its ") && text.contains(part), "{text}");
        }
    }
}
