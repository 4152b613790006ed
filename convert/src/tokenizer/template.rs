//! The chat template: a file of its own, or in tokenizer_config.json, alone or as one of several named ones.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::config::TokenizerConfig;
use crate::checkpoint::files;
use crate::error::Error;

const FILE: &str = "chat_template.jinja";

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Deserialize)]
struct OlderFile {
    #[serde(default)]
    chat_template: Value,
}

/// The default template. `chat_template.jinja` wins over the others, as in transformers.
pub(super) fn find(dir: &Path, settings: &TokenizerConfig, notes: &mut Vec<String>) -> Result<Option<String>, Error> {
    let file = files::read_text_opt(&dir.join(FILE), files::SMALL_LIMIT)?;
    let configured = chosen(&settings.chat_template, notes);
    if let Some(text) = file {
        if configured.is_some_and(|other| other != text) {
            notes.push(format!("{FILE} and tokenizer_config.json hold different chat templates; {FILE} is taken"));
        }
        return Ok(Some(text));
    }
    if configured.is_some() {
        return Ok(configured);
    }
    let older = files::read_json_opt::<OlderFile>(&dir.join("chat_template.json"), files::SMALL_LIMIT)?;
    Ok(older.and_then(|o| chosen(&o.chat_template, notes)))
}

/// A template that stands alone, or the one named "default".
fn chosen(value: &Value, notes: &mut Vec<String>) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let named: Vec<Named> = match Vec::deserialize(value) {
        Ok(named) => named,
        Err(_) if value.is_null() => return None,
        Err(e) => {
            notes.push(format!("the chat template is ignored: {e}"));
            return None;
        }
    };
    let others: Vec<&str> = named.iter().map(|n| n.name.as_str()).filter(|n| *n != "default").collect();
    if !others.is_empty() {
        notes.push(format!("chat templates that are not carried over: {}", others.join(", ")));
    }
    named.into_iter().find(|n| n.name == "default").map(|n| n.template)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn find_in(dir: &Path, config: Value) -> (Option<String>, Vec<String>) {
        let settings = serde_json::from_value(json!({ "chat_template": config })).unwrap();
        let mut notes = Vec::new();
        (find(dir, &settings, &mut notes).unwrap(), notes)
    }

    #[test]
    fn every_place_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find_in(dir.path(), Value::Null), (None, vec![]));
        assert_eq!(find_in(dir.path(), json!("one")), (Some("one".into()), vec![]));
        let several = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
        let (text, notes) = find_in(dir.path(), several);
        assert_eq!((text.as_deref(), notes.len()), (Some("d"), 1));
        assert_eq!(find_in(dir.path(), json!([{"name": "rag", "template": "t"}])).0, None);
        let (text, notes) = find_in(dir.path(), json!(7));
        assert!(text.is_none() && notes[0].starts_with("the chat template is ignored"));

        std::fs::write(dir.path().join("chat_template.json"), r#"{"chat_template": "older"}"#).unwrap();
        assert_eq!(find_in(dir.path(), Value::Null).0.as_deref(), Some("older"));
        std::fs::write(dir.path().join(FILE), "file").unwrap();
        assert_eq!(find_in(dir.path(), json!("file")), (Some("file".into()), vec![]));
        let (text, notes) = find_in(dir.path(), json!("other"));
        assert_eq!((text.as_deref(), notes.len()), (Some("file"), 1));
    }
}
