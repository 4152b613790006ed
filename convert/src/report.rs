//! What a conversion tells: a summary for people, one JSON object for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use qwren_convert::arch::Target;
use qwren_convert::plan::Plan;
use qwren_convert::recipe::Choice;
use qwren_quant::gguf::Value;
use serde_json::{Value as Json, json};

/// Tensors and bytes of each type.
fn by_type(plan: &Plan) -> BTreeMap<&'static str, (usize, u64)> {
    let mut types = BTreeMap::new();
    for t in &plan.layout.tensors {
        let entry: &mut (usize, u64) = types.entry(t.dtype.name()).or_default();
        entry.0 += 1;
        entry.1 += t.bytes;
    }
    types
}

/// Tensors whose rows are no whole blocks of the type that the recipe wanted.
fn fallbacks(plan: &Plan) -> impl Iterator<Item = (&Target, &Choice)> {
    plan.tensors.iter().filter(|(_, c)| c.dtype != c.wanted).map(|(t, c)| (t, c))
}

fn string<'a>(plan: &'a Plan, key: &str) -> &'a str {
    match plan.metadata.iter().find(|(k, _)| k == key) {
        Some((_, Value::String(text))) => text,
        _ => "",
    }
}

/// A few lines about the file.
pub fn summary(plan: &Plan) -> String {
    let mut text = format!(
        "{} ({}): {} tensors, {} weights\n",
        string(plan, "general.name"),
        string(plan, "general.architecture"),
        plan.tensors.len(),
        plan.parameters()
    );
    let types: Vec<String> = by_type(plan).iter().map(|(name, (n, _))| format!("{name} {n}")).collect();
    // Writing to a String does not fail.
    let _ = writeln!(text, "  types: {}", types.join(", "));
    let mut changed: BTreeMap<String, usize> = BTreeMap::new();
    for (_, choice) in fallbacks(plan) {
        *changed.entry(format!("{} instead of {}", choice.dtype.name(), choice.wanted.name())).or_default() += 1;
    }
    if !changed.is_empty() {
        let all: Vec<String> = changed.iter().map(|(what, n)| format!("{what} {n}")).collect();
        let _ = writeln!(text, "  fallbacks for row lengths: {}", all.join(", "));
    }
    let _ = writeln!(text, "  vocabulary: {} tokens, {} unused rows", plan.tokens, plan.pads);
    let _ = write!(text, "  {:.2} bits per weight, {}", plan.bits_per_weight(), size(plan.layout.file_bytes));
    text
}

/// Every tensor, and what the disk must hold.
pub fn table(plan: &Plan, free: u64) -> String {
    let mut text = String::new();
    for t in &plan.layout.tensors {
        let shape: Vec<String> = t.shape.iter().map(u64::to_string).collect();
        let _ = writeln!(text, "{:<36} {:<5} {:>20} {:>13}", t.name, t.dtype.name(), shape.join(" × "), t.bytes);
    }
    let need = plan.layout.file_bytes;
    let _ = write!(text, "{}\n  disk: {need} bytes needed, {free} free", summary(plan));
    text
}

/// The same for programs. `written` adds what is known after the conversion.
pub fn object(plan: &Plan, written: Json) -> Json {
    let types: serde_json::Map<String, Json> = by_type(plan)
        .into_iter()
        .map(|(name, (tensors, bytes))| (name.to_owned(), json!({ "tensors": tensors, "bytes": bytes })))
        .collect();
    let fallbacks: Vec<Json> = fallbacks(plan)
        .map(|(t, c)| json!({ "tensor": t.name, "type": c.dtype.name(), "wanted": c.wanted.name() }))
        .collect();
    let mut object = json!({
        "name": string(plan, "general.name"),
        "architecture": string(plan, "general.architecture"),
        "type": plan.file_type.name(),
        "bytes": plan.layout.file_bytes,
        "tensors": plan.tensors.len(),
        "parameters": plan.parameters(),
        "bits_per_weight": plan.bits_per_weight(),
        "types": types,
        "fallbacks": fallbacks,
        "vocabulary": { "tokens": plan.tokens, "unused_rows": plan.pads },
    });
    if let (Json::Object(object), Json::Object(written)) = (&mut object, written) {
        object.extend(written);
    }
    object
}

/// The plan of a dry run as JSON.
pub fn plan_object(plan: &Plan, free: u64) -> Json {
    let tensors: Vec<Json> = (plan.layout.tensors.iter())
        .map(|t| json!({ "name": t.name, "type": t.dtype.name(), "shape": t.shape, "bytes": t.bytes, "offset": t.offset }))
        .collect();
    object(plan, json!({ "dry_run": true, "free_bytes": free, "notes": plan.notes, "plan": tensors }))
}

/// The result of a conversion as JSON.
pub fn result_object(plan: &Plan, path: &Path, sha256: &str, seconds: f64, notes: &[String]) -> Json {
    let notes = [&plan.notes, notes].concat();
    object(plan, json!({ "path": path.to_string_lossy(), "sha256": sha256, "seconds": seconds, "notes": notes }))
}

/// "396.7 MB"
fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.2} GB", b / 1e9),
    }
}

/// Text in which no control character is left: names from files must not drive a terminal. Line breaks stay if `lines`.
pub fn printable(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !(lines && c == '\n') { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(printable("a\x1b]0;x\x07\u{9b}b\nc", false), "a\\u{1b}]0;x\\u{7}\\u{9b}b\\nc");
        assert_eq!(printable("a\n\tb", true), "a\n\\tb");
    }

    #[test]
    fn sizes() {
        assert_eq!([size(1234), size(396_704_512), size(1_198_182_144)], ["1.2 kB", "396.7 MB", "1.20 GB"]);
    }
}
