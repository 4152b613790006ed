//! Functions that the model may call: their definitions, and the calls in its answers.
//!
//! Qwen3 calls a function by `<tool_call>`, a line of JSON with name and arguments, `</tool_call>`.

use std::path::Path;

use qwren::stream::overlap;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::text::read_file;
use crate::exit::Failure;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Reads definitions: a JSON array of objects, as chat templates take it.
///
/// # Errors
/// A file that holds something else.
pub fn read(path: &Path) -> anyhow::Result<Value> {
    let name = path.display();
    let wrong = |what: String| {
        Failure::usage(format!("{name}: {what}; write an array of {{\"type\": \"function\", \"function\": …}}"))
    };
    let tools: Value = serde_json::from_str(&read_file(path)?).map_err(|err| wrong(format!("is not JSON ({err})")))?;
    match tools.as_array() {
        Some(all) if !all.is_empty() && all.iter().all(is_function) => Ok(tools),
        _ => Err(wrong("is no array of function definitions".to_owned()).into()),
    }
}

/// Whether a definition has what a call refers to: a name.
fn is_function(tool: &Value) -> bool {
    tool["type"] == "function" && tool["function"]["name"].as_str().is_some_and(|name| !name.is_empty())
}

/// A call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call {
    /// The function.
    pub name: String,
    /// What it is given.
    pub arguments: Value,
}

impl Call {
    /// A call from what stands between the tags; None if that is none.
    fn parse(text: &str) -> Option<Call> {
        let mut fields: Map<String, Value> = serde_json::from_str(text.trim()).ok()?;
        let name = fields.get("name")?.as_str()?.to_owned();
        let arguments = fields.remove("arguments").unwrap_or_else(|| Value::Object(Map::new()));
        Some(Call { name, arguments })
    }

    /// The call as one line of JSON.
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A piece of an answer.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Words.
    Text(String),
    /// A call.
    Call(Call),
}

/// Finds calls in an answer that comes in parts.
#[derive(Debug, Default)]
pub struct Calls {
    held: String,
    inside: bool,
}

impl Calls {
    /// What `text` completes. What looks like a call but is none comes as text, tags and all.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some((before, after)) = self.held.split_once(tag) else { break };
            let (before, after) = (before.to_owned(), after.to_owned());
            match (self.inside, Call::parse(&before)) {
                (false, _) => text_piece(before, &mut pieces),
                (true, Some(call)) => pieces.push(Piece::Call(call)),
                (true, None) => text_piece(format!("{OPEN}{before}{CLOSE}"), &mut pieces),
            }
            self.inside = !self.inside;
            self.held = after;
        }
        if !self.inside {
            let rest = self.held.split_off(self.held.len() - overlap(&self.held, OPEN));
            text_piece(std::mem::replace(&mut self.held, rest), &mut pieces);
        }
        pieces
    }

    /// The rest, when nothing comes any more: a call that was cut off is text.
    pub fn finish(&mut self) -> Vec<Piece> {
        let rest = std::mem::take(&mut self.held);
        let mut pieces = Vec::new();
        text_piece(if std::mem::take(&mut self.inside) { format!("{OPEN}{rest}") } else { rest }, &mut pieces);
        pieces
    }
}

fn text_piece(text: String, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

/// The words of a whole answer, and the calls in it.
pub fn split(answer: &str) -> (String, Vec<Call>) {
    let mut finder = Calls::default();
    let (mut words, mut calls) = (String::new(), Vec::new());
    let mut pieces = finder.push(answer);
    pieces.extend(finder.finish());
    for piece in pieces {
        match piece {
            Piece::Text(text) => words.push_str(&text),
            Piece::Call(call) => calls.push(call),
        }
    }
    (words.trim().to_owned(), calls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn calls_are_found_however_the_text_is_cut() {
        let answer = "Let me see.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>{\"name\": \"now\"}</tool_call>";
        let (words, calls) = split(answer);
        assert_eq!(words, "Let me see.");
        let call = |name: &str, arguments| Call { name: name.into(), arguments };
        assert_eq!(calls, [call("add", json!({"a": 1})), call("now", json!({}))]);
        assert_eq!(calls[0].line(), r#"{"name":"add","arguments":{"a":1}}"#);
        for size in 1..20 {
            let mut finder = Calls::default();
            let mut pieces = Vec::new();
            for part in answer.as_bytes().chunks(size) {
                pieces.extend(finder.push(std::str::from_utf8(part).unwrap()));
            }
            pieces.extend(finder.finish());
            let found: Vec<Call> = pieces
                .into_iter()
                .filter_map(|piece| match piece {
                    Piece::Call(call) => Some(call),
                    Piece::Text(_) => None,
                })
                .collect();
            assert_eq!(found, calls);
        }
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in [
            "a <tool_calls>",
            "<tool_call>{\"name\": 3}</tool_call>",
            "<tool_call>\n{\"name\": \"cut",
            "x </tool_call>",
        ] {
            assert_eq!(split(text), (text.trim().to_owned(), Vec::new()));
        }
        let mut finder = Calls::default();
        assert_eq!(finder.push("1 <"), [Piece::Text("1 ".into())]);
        assert_eq!(finder.push(" 2"), [Piece::Text("< 2".into())], "what can be no tag any more is not held back");
    }

    #[test]
    fn definitions_must_be_an_array_of_objects() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tools.json");
        for (text, right) in [
            ("[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]", true),
            ("[{\"type\":\"function\"}]", false),
            ("[{\"type\":\"function\",\"function\":{\"name\":\"\"}}]", false),
            ("[{\"type\":\"x\",\"function\":{\"name\":\"f\"}}]", false),
            ("{}", false),
            ("[]", false),
            ("[3]", false),
            ("x", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).is_ok(), right, "{text}");
        }
    }
}
