//! tokenizer.json, the form that the tokenizers library writes.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Value;

use super::{Added, Parts, structure};
use crate::checkpoint::files;
use crate::error::{Error, Problem};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Model,
}

/// The model part. Its vocabulary and merges are the bulk of the file, so they are read without a detour.
#[derive(Deserialize)]
pub(super) struct Model {
    pub r#type: Option<String>,
    pub dropout: Option<f64>,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
    /// Unigram models have a list here, which must not be reported as bad JSON: their type is the point.
    #[serde(default)]
    vocab: Vocab,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// Reads and recognises `path`; `None` when it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Parts>, Error> {
    let Some(file) = files::read_json_opt::<File>(path, files::TOKENIZER_LIMIT)? else { return Ok(None) };
    structure::check(&file.model, &file.normalizer, &file.pre_tokenizer).map_err(|e| Problem::Tokenizer(e).of(path))?;
    let (add_bos, add_eos) = added_around(&file.post_processor);
    Ok(Some(Parts {
        vocab: file.model.vocab.0,
        merges: file.model.merges.into_iter().map(|m| m.0).collect(),
        added: file.added_tokens,
        add_bos,
        add_eos,
    }))
}

/// Whether the post-processor puts a token in front of and behind a text: ByteLevel puts none, a template those that it
/// begins and ends with. `None`: it does not say.
fn added_around(processor: &Value) -> (Option<bool>, Option<bool>) {
    let (mut bos, mut eos) = (None, None);
    let steps = processor["processors"].as_array();
    for step in steps.map_or(std::slice::from_ref(processor), Vec::as_slice) {
        match step["type"].as_str() {
            Some("ByteLevel") => {
                bos.get_or_insert(false);
                eos.get_or_insert(false);
            }
            Some("TemplateProcessing") => {
                let single = step["single"].as_array().map_or(&[][..], Vec::as_slice);
                let special = |piece: Option<&Value>| piece.is_some_and(|p| p["SpecialToken"].is_object());
                if single.len() > 1 {
                    bos = Some(special(single.first()));
                    eos = Some(special(single.last()));
                }
            }
            _ => {}
        }
    }
    (bos, eos)
}

/// Token → id.
#[derive(Default)]
struct Vocab(HashMap<String, u64>);

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tokens and ids")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut vocab = HashMap::new();
                while let Some((token, id)) = map.next_entry()? {
                    vocab.insert(token, id);
                }
                Ok(Vocab(vocab))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocab, A::Error> {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Vocab::default())
            }
        }
        d.deserialize_any(Tokens)
    }
}

/// A merge, `"a b"` or `["a", "b"]`, kept as `"a b"`. Spaces inside pieces become U+0120, as llama.cpp has them.
struct Merge(String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Pieces;
        impl<'de> Visitor<'de> for Pieces {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a merge: \"a b\" or [\"a\", \"b\"]")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
                Ok(Merge(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
                let mut piece = || seq.next_element::<String>();
                match (piece()?, piece()?, piece()?) {
                    (Some(a), Some(b), None) => Ok(Merge(format!("{} {}", unspaced(a), unspaced(b)))),
                    _ => Err(A::Error::custom("a merge is not of two pieces")),
                }
            }
        }
        d.deserialize_any(Pieces)
    }
}

fn unspaced(piece: String) -> String {
    if piece.contains(' ') { piece.replace(' ', "\u{120}") } else { piece }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merges_in_both_forms() {
        let merges: Vec<Merge> = serde_json::from_value(json!(["a b", ["c", "d"], [" ", "x y"]])).unwrap();
        assert_eq!(merges.iter().map(|m| m.0.as_str()).collect::<Vec<_>>(), ["a b", "c d", "\u{120} x\u{120}y"]);
        for bad in [json!([["a"]]), json!([["a", "b", "c"]]), json!([7])] {
            assert!(serde_json::from_value::<Vec<Merge>>(bad).is_err());
        }
    }

    #[test]
    fn what_is_put_around_a_text() {
        let byte_level = json!({"type": "ByteLevel"});
        assert_eq!(added_around(&byte_level), (Some(false), Some(false)));
        let template =
            json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "x"}}]});
        assert_eq!(
            added_around(&json!({"type": "Sequence", "processors": [byte_level, template]})),
            (Some(false), Some(true))
        );
        assert_eq!(added_around(&Value::Null), (None, None));
    }
}
