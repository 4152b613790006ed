//! The header of a GGUF file that has a tokenizer and nothing else, made from a Hugging Face folder.
//!
//! It shares no code with qwren-convert, so that the two check each other.
use qwren_quant::gguf::{Array, Header, Plan, Value};
use serde_json::Value as Json;
use std::path::Path;

/// The tokenizer of the folder `dir` for a model with `rows` rows of embedding.
pub fn header(dir: &Path, rows: usize) -> Header {
    parse(plan(dir, rows))
}

/// As [`header`], not yet laid out: a test may add keys.
pub fn plan(dir: &Path, rows: usize) -> Plan {
    let read = |name: &str| -> Json {
        let text = std::fs::read(dir.join(name)).expect("a file of the tokenizer");
        serde_json::from_slice(&text).expect("JSON")
    };
    let (tokenizer, config) = (read("tokenizer.json"), read("tokenizer_config.json"));
    let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![5; rows];
    for (text, id) in tokenizer["model"]["vocab"].as_object().expect("a vocabulary") {
        let id = id.as_u64().expect("an id") as usize;
        (tokens[id], types[id]) = (text.clone(), 1);
    }
    let mut id_of = std::collections::HashMap::new();
    for added in tokenizer["added_tokens"].as_array().expect("added tokens") {
        let id = added["id"].as_u64().expect("an id") as usize;
        let text = added["content"].as_str().expect("a text");
        let control = added["special"] == true || (text.starts_with("<|") && text.ends_with("|>"));
        (tokens[id], types[id]) = (text.to_owned(), if control { 3 } else { 4 });
        id_of.insert(text.to_owned(), id as u32);
    }
    let merges = tokenizer["model"]["merges"].as_array().expect("merges");
    let merges = merges.iter().map(|m| match m.as_array() {
        Some(pair) => format!("{} {}", pair[0].as_str().expect("a half"), pair[1].as_str().expect("a half")),
        None => m.as_str().expect("a merge").to_owned(),
    });
    let mut plan = Plan::new(32);
    plan.push_kv("general.architecture", Value::String("qwen3".into()));
    plan.push_kv("tokenizer.ggml.model", Value::String("gpt2".into()));
    plan.push_kv("tokenizer.ggml.pre", Value::String("qwen2".into()));
    plan.push_kv("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    plan.push_kv("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    plan.push_kv("tokenizer.ggml.merges", Value::Array(Array::String(merges.collect())));
    for (key, name) in [("eos", "eos_token"), ("padding", "pad_token")] {
        let id = id_of[config[name].as_str().expect("a token")];
        plan.push_kv(&format!("tokenizer.ggml.{key}_token_id"), Value::U32(id));
    }
    plan.push_kv("tokenizer.ggml.add_bos_token", Value::Bool(false));
    if let Some(template) = config["chat_template"].as_str() {
        plan.push_kv("tokenizer.chat_template", Value::String(template.to_owned()));
    }
    plan
}

/// Lays a plan out and reads it back.
pub fn parse(plan: Plan) -> Header {
    let layout = plan.layout().expect("a sound plan");
    Header::parse(&layout.header, layout.file_bytes).expect("a sound header")
}

/// Rows of the published models' embedding: 267 more than there are tokens.
pub const QWEN3_ROWS: usize = 151_936;

/// The lines of a file under tests/data/golden.
pub fn golden(name: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(crate::data("golden").join(name)).expect("a golden file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// An array of ids.
pub fn ids(json: &Json) -> Vec<u32> {
    json.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}
