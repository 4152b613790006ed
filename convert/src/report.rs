//! What a conversion tells: a summary for people, one JSON object for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use qwren_convert::arch::Target;
use qwren_convert::plan::Plan;
use qwren_convert::recipe::Choice;
use qwren_convert::split;
use qwren_convert::write::Written;
use qwren_quant::gguf::Value;
use serde_json::{Value as Json, json};

/// Tensors and bytes of each type.
fn by_type(plan: &Plan) -> BTreeMap<&'static str, (usize, u64)> {
    let mut types = BTreeMap::new();
    for t in plan.infos() {
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
    let _ = write!(text, "  {:.2} bits per weight, {}", plan.bits_per_weight(), size(plan.total_bytes()));
    if plan.files.len() > 1 {
        let _ = write!(text, " in {} files", plan.files.len());
    }
    text
}

/// What disk and memory have and need, beside the plan.
pub struct Room {
    /// Free where the output shall be.
    pub free_bytes: u64,
    /// Taken there by an unfinished conversion, which the same command continues.
    pub taken_bytes: u64,
    /// Memory that converting takes at most.
    pub convert_bytes: u64,
}

/// Every tensor, the files if there are several, and what disk and memory must hold.
pub fn table(plan: &Plan, out: &Path, room: &Room) -> String {
    let mut text = String::new();
    for t in plan.infos() {
        let shape: Vec<String> = t.shape.iter().map(u64::to_string).collect();
        let bits = t.bytes as f64 * 8.0 / t.shape.iter().product::<u64>() as f64;
        let (name, dtype, shape) = (&t.name, t.dtype.name(), shape.join(" × "));
        let _ = writeln!(text, "{name:<36} {dtype:<5} {shape:>20} {:>13} {bits:>6.2}", t.bytes);
    }
    if plan.files.len() > 1 {
        for (path, file) in split::paths(out, plan.files.len()).iter().zip(&plan.files) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let (tensors, bytes) = (file.tensors.len(), file.layout.file_bytes);
            let _ = writeln!(text, "{name:<36} {:>26} {bytes:>13}", format!("{tensors} tensors"));
        }
    }
    let _ = write!(text, "{}\n  disk: {} bytes needed, {} free", summary(plan), plan.total_bytes(), room.free_bytes);
    if room.taken_bytes > 0 {
        let _ = write!(text, ", {} taken by an unfinished conversion", room.taken_bytes);
    }
    let _ = write!(text, "\n  memory to convert: at most {}", size(room.convert_bytes));
    if let Some(run) = Run::of(plan) {
        let _ = write!(
            text,
            "\n  memory to run: {} (file {}, cache of {} tokens {}, work {})",
            size(run.total()),
            size(run.file_bytes),
            run.context,
            size(run.cache_bytes),
            size(run.work_bytes)
        );
    }
    text
}

/// The memory that `qwren` needs to run the file, as `qwren inspect` tells it.
struct Run {
    context: u64,
    file_bytes: u64,
    cache_bytes: u64,
    work_bytes: u64,
}

impl Run {
    /// `qwren`'s context unless told otherwise.
    const CONTEXT: u64 = 4096;
    /// Tokenizer and scratch take no more.
    const WORK: u64 = 96 << 20;

    /// `None` if the keys don't tell the shape of the cache.
    fn of(plan: &Plan) -> Option<Run> {
        let arch = string(plan, "general.architecture");
        let number = |key: &str| {
            let key = format!("{arch}.{key}");
            let value = plan.metadata.iter().find(|(k, _)| *k == key).and_then(|(_, v)| v.integer());
            value.and_then(|n| u64::try_from(n).ok())
        };
        let context = Run::CONTEXT.min(number("context_length")?);
        let width = number("attention.key_length")?.checked_add(number("attention.value_length")?)?;
        // Keys and values of all layers, two bytes each.
        let position = number("block_count")?.checked_mul(number("attention.head_count_kv")?)?.checked_mul(width)?;
        let cache_bytes = position.checked_mul(2)?.checked_mul(context)?;
        Some(Run { context, file_bytes: plan.total_bytes(), cache_bytes, work_bytes: Run::WORK })
    }

    fn total(&self) -> u64 {
        self.file_bytes.saturating_add(self.cache_bytes).saturating_add(self.work_bytes)
    }
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
        "type": plan.options.file_type.name(),
        "bytes": plan.total_bytes(),
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
pub fn plan_object(plan: &Plan, out: &Path, room: &Room) -> Json {
    let tensors: Vec<Json> = (plan.infos())
        .map(|t| json!({ "name": t.name, "type": t.dtype.name(), "shape": t.shape, "bytes": t.bytes, "offset": t.offset }))
        .collect();
    let files: Vec<Json> = (split::paths(out, plan.files.len()).iter().zip(&plan.files))
        .map(|(path, f)| {
            json!({ "path": path.to_string_lossy(), "bytes": f.layout.file_bytes, "tensors": f.tensors.len() })
        })
        .collect();
    let run = Run::of(plan).map(|run| {
        json!({
            "bytes": run.total(),
            "file_bytes": run.file_bytes,
            "context": run.context,
            "cache_bytes": run.cache_bytes,
            "work_bytes": run.work_bytes,
        })
    });
    object(
        plan,
        json!({
            "dry_run": true,
            "free_bytes": room.free_bytes,
            "taken_bytes": room.taken_bytes,
            "memory": { "convert_bytes": room.convert_bytes, "run": run },
            "notes": plan.notes,
            "files": files,
            "plan": tensors,
        }),
    )
}

/// The result of a conversion as JSON. `path` and `sha256` are of the first file.
pub fn result_object(plan: &Plan, out: &Path, written: &Written, seconds: f64) -> Json {
    let notes = [&plan.notes[..], &written.notes].concat();
    let files: Vec<Json> = (split::paths(out, plan.files.len()).iter().zip(&written.manifest.files))
        .map(|(path, f)| json!({ "path": path.to_string_lossy(), "bytes": f.bytes, "sha256": f.sha256 }))
        .collect();
    let first = |key: &str| files.first().map(|f| f[key].clone());
    object(
        plan,
        json!({
            "path": first("path"),
            "sha256": first("sha256"),
            "files": files,
            "resumed_tensors": written.resumed,
            "seconds": seconds,
            "notes": notes,
        }),
    )
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
