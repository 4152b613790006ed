//! `general.sampling.*`: the sampling that generation_config.json recommends, under llama.cpp's keys.

use std::path::Path;

use qwren_quant::gguf::Value;
use serde_json::{Map, Value as Json};

use crate::Keys;
use crate::checkpoint::files;
use crate::error::{Error, Problem};

const FILE: &str = "generation_config.json";

#[derive(Clone, Copy)]
enum Kind {
    Int,
    Float,
    Text,
}

/// Key after `general.sampling.`, its names in generation_config.json (the first one present counts), its type.
const KEYS: [(&str, &[&str], Kind); 12] = [
    ("sequence", &["sequence"], Kind::Text),
    ("top_k", &["top_k"], Kind::Int),
    ("top_p", &["top_p"], Kind::Float),
    ("min_p", &["min_p"], Kind::Float),
    ("xtc_probability", &["xtc_probability"], Kind::Float),
    ("xtc_threshold", &["xtc_threshold"], Kind::Float),
    ("temp", &["temperature"], Kind::Float),
    ("penalty_last_n", &["penalty_last_n"], Kind::Int),
    ("penalty_repeat", &["penalty_repeat", "repetition_penalty"], Kind::Float),
    ("mirostat", &["mirostat"], Kind::Int),
    ("mirostat_tau", &["mirostat_tau"], Kind::Float),
    ("mirostat_eta", &["mirostat_eta"], Kind::Float),
];

/// The keys for the checkpoint in `dir`, and remarks on what was left out. The file is advice: when it is absent or
/// malformed there are no keys.
///
/// # Errors
/// An LFS pointer in its place, or a file that can't be read.
pub(crate) fn keys(dir: &Path) -> Result<(Keys, Vec<String>), Error> {
    let path = dir.join(FILE);
    let config = match files::read_json_opt::<Map<String, Json>>(&path, files::SMALL_LIMIT) {
        Ok(config) => config.unwrap_or_default(),
        Err(Error { problem: problem @ (Problem::Json(_) | Problem::AfterJson(_)), .. }) => {
            return Ok((Vec::new(), vec![format!("{FILE} is ignored: it {problem}")]));
        }
        Err(e) => return Err(e),
    };
    let mut keys = Vec::new();
    let mut notes = Vec::new();
    for (key, names, kind) in KEYS {
        let Some((name, json)) = names.iter().find_map(|n| Some((n, config.get(*n).filter(|v| !v.is_null())?))) else {
            continue;
        };
        match value(json, kind) {
            Some(value) => keys.push((format!("general.sampling.{key}"), value)),
            None => notes.push(format!("{FILE}: {name} is left out, since {json} is not its kind of value")),
        }
    }
    Ok((keys, notes))
}

fn value(json: &Json, kind: Kind) -> Option<Value> {
    match kind {
        Kind::Text => json.as_str().map(|s| Value::String(s.to_owned())),
        Kind::Float => json.as_f64().map(|x| x as f32).filter(|x| x.is_finite()).map(Value::F32),
        Kind::Int => {
            let whole = json.as_f64().filter(|x| x.fract() == 0.0 && (-2147483648.0..=2147483647.0).contains(x))?;
            Some(Value::I32(whole as i32))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Keys, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        keys(dir.path()).unwrap()
    }

    #[test]
    fn the_published_settings_get_their_types() {
        let (keys, notes) =
            read(r#"{"do_sample": true, "eos_token_id": [1, 2], "temperature": 0.6, "top_k": 20, "top_p": 0.95}"#);
        let expected = [("top_k", Value::I32(20)), ("top_p", Value::F32(0.95)), ("temp", Value::F32(0.6))];
        assert_eq!(keys, expected.map(|(k, v)| (format!("general.sampling.{k}"), v)));
        assert!(notes.is_empty());
    }

    #[test]
    fn odd_values_are_left_out_and_said() {
        let (keys, notes) = read(r#"{"top_k": 20.5, "top_p": "high", "min_p": null, "repetition_penalty": 1}"#);
        assert_eq!(keys, [("general.sampling.penalty_repeat".to_owned(), Value::F32(1.0))]);
        assert_eq!(notes.len(), 2);
        assert!(read("{").1[0].starts_with("generation_config.json is ignored"));
    }
}
