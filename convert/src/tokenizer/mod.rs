//! The tokenizer: Qwen's is recognised by its structure (not by a hash of its output), so that fine-tunes with added
//! tokens are read as well; and what of it goes into the file.

mod config;
mod json;
mod legacy;
mod probe;
mod structure;
mod template;

use std::collections::HashMap;
use std::path::Path;

use qwren_quant::gguf::{Array, Value};

use crate::Keys;
use crate::checkpoint::config::{Config, TokenIds};
use crate::checkpoint::files;
use crate::error::{Error, Problem};
use config::TokenizerConfig;

/// File name of the tokenizer.
pub const FILE: &str = "tokenizer.json";

/// What is wrong with the tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// It tokenizes otherwise than Qwen's, which is the only kind that the file's readers would apply.
    #[error("is not Qwen's tokenizer: its {part} is {found}, Qwen's is {expected}")]
    Different {
        /// Which part differs.
        part: &'static str,
        /// What it is.
        found: String,
        /// What it is in Qwen3.
        expected: String,
    },
    /// One id for two tokens.
    #[error("gives id {id} to both {first:?} and {second:?}")]
    SameId {
        /// The id.
        id: u64,
        /// One token.
        first: String,
        /// The other.
        second: String,
    },
    /// More tokens than rows of the embedding.
    #[error("has a token with id {id}, but vocab_size is {vocab}; tokenizer and weights are of different models")]
    Beyond {
        /// The largest id.
        id: u64,
        /// vocab_size of config.json.
        vocab: u32,
    },
    /// No tokens.
    #[error("has an empty vocabulary")]
    Empty,
    /// A merge that is not two pieces.
    #[error("merge {number} ({text:?}) is not two pieces")]
    Merge {
        /// Counted from 1.
        number: usize,
        /// As written.
        text: String,
    },
    /// A merge of pieces that are no tokens.
    #[error("merge {number} needs the token {piece:?}, which the vocabulary lacks")]
    MergePiece {
        /// Counted from 1.
        number: usize,
        /// The piece that is not there.
        piece: String,
    },
    /// It has a rule that a GGUF file can't carry, and a text shows it.
    #[error("splits text otherwise than a GGUF file can say, for example {text:?}; only Qwen's own kind is supported")]
    Probe {
        /// A text that gets other ids.
        text: String,
    },
    /// The tokenizers library, which made such files, can't read it.
    #[error("is refused by the tokenizers library: {0}")]
    Library(String),
    /// Neither form of a tokenizer is there.
    #[error("does not exist, nor do vocab.json and merges.txt; download the tokenizer too")]
    Absent,
}

impl TokenizerError {
    /// True when the tokenizer is sound but of another kind.
    pub fn unsupported(&self) -> bool {
        matches!(self, TokenizerError::Different { .. } | TokenizerError::Probe { .. })
    }
}

/// llama.cpp's token types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Kind {
    Normal = 1,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
}

/// A tokenizer read from any of its forms.
struct Parts {
    /// Token → id, without added tokens.
    vocab: HashMap<String, u64>,
    /// `"left right"`.
    merges: Vec<String>,
    added: Vec<Added>,
    /// Whether a beginning or end token is put around a text, where the tokenizer itself says.
    add_bos: Option<bool>,
    add_eos: Option<bool>,
}

/// A token outside of the BPE vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct Added {
    id: u64,
    content: String,
    #[serde(default)]
    special: bool,
}

/// The keys `tokenizer.*`, and figures for the summary.
pub struct Tokenizer {
    /// Keys in the order of llama.cpp's converter.
    pub keys: Keys,
    /// Tokens that have a text.
    pub tokens: usize,
    /// Rows of the embedding beyond them.
    pub pads: usize,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

/// Reads the tokenizer of the checkpoint in `dir`.
///
/// # Errors
/// Absent or malformed (2), or of another kind than Qwen's (3).
pub fn read(dir: &Path, config: &Config) -> Result<Tokenizer, Error> {
    let mut notes = Vec::new();
    let settings = TokenizerConfig::read(dir)?;
    let path = dir.join(FILE);
    let mut parts = match json::read(&path)? {
        Some(parts) => parts,
        None => legacy::read(dir, &settings)?,
    };
    settings.complete(&mut parts.added, &mut notes);

    let fail = |e: TokenizerError| Problem::Tokenizer(e).of(&path);
    let vocabulary = vocabulary(&parts, config.vocab).map_err(fail)?;
    check_merges(&parts).map_err(fail)?;
    if let Some(own) = files::read_text_opt(&path, files::TOKENIZER_LIMIT)? {
        let own = own.trim_start_matches('\u{feff}').as_bytes();
        notes.extend(probe::check(own, &vocabulary.texts, &vocabulary.kinds, &parts.merges).map_err(fail)?);
    }
    let pads = vocabulary.kinds.iter().filter(|k| **k == Kind::Unused).count();
    let tokens = vocabulary.kinds.len() - pads;

    let mut keys = vec![
        ("tokenizer.ggml.model".to_owned(), Value::String("gpt2".into())),
        ("tokenizer.ggml.pre".to_owned(), Value::String("qwen2".into())),
        ("tokenizer.ggml.tokens".to_owned(), Value::Array(Array::String(vocabulary.texts))),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::Array(Array::I32(vocabulary.kinds.iter().map(|&k| k as i32).collect())),
        ),
    ];
    let specials = specials(&settings, &parts.added, &config.token_ids, config.vocab, &mut notes);
    keys.push(("tokenizer.ggml.merges".to_owned(), Value::Array(Array::String(parts.merges))));
    keys.extend(specials);
    for (key, value) in [
        ("add_bos_token", parts.add_bos.or(settings.add_bos_token)),
        ("add_eos_token", parts.add_eos.or(settings.add_eos_token)),
    ] {
        keys.extend(value.map(|v| (format!("tokenizer.ggml.{key}"), Value::Bool(v))));
    }
    match template::find(dir, &settings, &mut notes)? {
        Some(text) => keys.push(("tokenizer.chat_template".to_owned(), Value::String(text))),
        None => notes.push("no chat template was found: the file is good for completion only".to_owned()),
    }
    Ok(Tokenizer { keys, tokens, pads, notes })
}

struct Vocabulary {
    texts: Vec<String>,
    kinds: Vec<Kind>,
}

/// One text and kind for each row of the embedding; rows without a token become `[PAD<id>]`.
fn vocabulary(parts: &Parts, rows: u32) -> Result<Vocabulary, TokenizerError> {
    if parts.vocab.is_empty() {
        return Err(TokenizerError::Empty);
    }
    let largest = parts.vocab.values().chain(parts.added.iter().map(|a| &a.id)).max().copied().unwrap_or(0);
    if largest >= u64::from(rows) {
        return Err(TokenizerError::Beyond { id: largest, vocab: rows });
    }
    let mut slots: Vec<Option<(&str, Kind)>> = vec![None; rows as usize];
    for (text, &id) in &parts.vocab {
        let slot = &mut slots[id as usize];
        if let Some((first, _)) = slot {
            return Err(TokenizerError::SameId { id, first: (*first).to_owned(), second: text.clone() });
        }
        *slot = Some((text, Kind::Normal));
    }
    for added in &parts.added {
        let kind = if added.special || looks_special(&added.content) { Kind::Control } else { Kind::UserDefined };
        let slot = &mut slots[added.id as usize];
        match slot {
            Some((first, _)) if *first != added.content => {
                let (first, second) = ((*first).to_owned(), added.content.clone());
                return Err(TokenizerError::SameId { id: added.id, first, second });
            }
            _ => *slot = Some((&added.content, kind)),
        }
    }
    let text = |(id, slot): (usize, &Option<(&str, Kind)>)| match slot {
        // SentencePiece's blank stands for a space in added tokens.
        Some((text, Kind::UserDefined)) => text.replace('\u{2581}', " "),
        Some((text, _)) => (*text).to_owned(),
        None => format!("[PAD{id}]"),
    };
    Ok(Vocabulary {
        texts: slots.iter().enumerate().map(text).collect(),
        kinds: slots.iter().map(|slot| slot.map_or(Kind::Unused, |(_, kind)| kind)).collect(),
    })
}

/// Added tokens that act as control tokens although they are not marked special, such as `<|fim_middle|>`.
fn looks_special(text: &str) -> bool {
    let between = |open: &str, close: &str| text.starts_with(open) && text.ends_with(close);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<\u{ff5c}", "\u{ff5c}>")
        || between("<unused", ">")
}

/// Both pieces of a merge and what they make must be tokens.
fn check_merges(parts: &Parts) -> Result<(), TokenizerError> {
    for (i, merge) in parts.merges.iter().enumerate() {
        let number = i + 1;
        let two = merge.split_once(' ').filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(' '));
        let Some((left, right)) = two else {
            return Err(TokenizerError::Merge { number, text: merge.clone() });
        };
        let whole = format!("{left}{right}");
        for piece in [left, right, &whole] {
            if !parts.vocab.contains_key(piece) {
                return Err(TokenizerError::MergePiece { number, piece: piece.to_owned() });
            }
        }
    }
    Ok(())
}

/// The ids of special tokens: by the text that tokenizer_config.json gives, else by the id of config.json.
fn specials(settings: &TokenizerConfig, added: &[Added], ids: &TokenIds, vocab: u32, notes: &mut Vec<String>) -> Keys {
    // Key (llama.cpp spells it "seperator"), text by tokenizer_config.json, id by config.json.
    let all = [
        ("bos", &settings.bos_token, ids.bos),
        ("eos", &settings.eos_token, ids.eos),
        ("unknown", &settings.unk_token, ids.unk),
        ("seperator", &settings.sep_token, ids.sep),
        ("padding", &settings.pad_token, ids.pad),
        ("cls", &settings.cls_token, ids.cls),
        ("mask", &settings.mask_token, ids.mask),
    ];
    let mut keys = Vec::new();
    for (key, text, id) in all {
        let by_text = text.as_ref().and_then(|t| added.iter().find(|a| a.content == t.text())).map(|a| a.id);
        match by_text.or(id) {
            Some(id) if id < u64::from(vocab) => {
                keys.push((format!("tokenizer.ggml.{key}_token_id"), Value::U32(id as u32)));
            }
            Some(id) => notes.push(format!("{key} token id {id} is beyond the vocabulary of {vocab}: left out")),
            None => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(vocab: &[(&str, u64)], added: &[(u64, &str, bool)], merges: &[&str]) -> Parts {
        let added = added.iter().map(|&(id, content, special)| Added { id, content: content.into(), special });
        Parts {
            vocab: vocab.iter().map(|&(t, id)| (t.to_owned(), id)).collect(),
            merges: merges.iter().map(|m| m.to_string()).collect(),
            added: added.collect(),
            add_bos: None,
            add_eos: None,
        }
    }

    #[test]
    fn rows_get_text_and_kind() {
        let added =
            [(3, "<|im_end|>", true), (4, "<|fim_pad|>", false), (5, "<think>", false), (7, "a\u{2581}b", false)];
        let v = vocabulary(&parts(&[("a", 0), ("b", 1), ("ab", 2)], &added, &[]), 9).unwrap();
        assert_eq!(v.texts, ["a", "b", "ab", "<|im_end|>", "<|fim_pad|>", "<think>", "[PAD6]", "a b", "[PAD8]"]);
        use Kind::*;
        assert_eq!(v.kinds, [Normal, Normal, Normal, Control, Control, UserDefined, Unused, UserDefined, Unused]);
    }

    #[test]
    fn ids_are_single_and_inside() {
        let text = |p: &Parts, rows| vocabulary(p, rows).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text(&parts(&[("a", 0), ("b", 0)], &[], &[]), 4).starts_with("gives id 0 to both"));
        assert!(text(&parts(&[("a", 0)], &[(0, "<x>", true)], &[]), 4).starts_with("gives id 0 to both"));
        assert!(text(&parts(&[("a", 0)], &[(9, "<x>", true)], &[]), 9).contains("id 9, but vocab_size is 9"));
        assert_eq!(text(&parts(&[], &[], &[]), 4), "has an empty vocabulary");
        // An added token may also stand in the vocabulary.
        assert_eq!(vocabulary(&parts(&[("<x>", 0)], &[(0, "<x>", true)], &[]), 1).unwrap().kinds, [Kind::Control]);
    }

    #[test]
    fn merges_are_of_tokens() {
        let vocab = [("a", 0), ("b", 1), ("ab", 2)];
        assert!(check_merges(&parts(&vocab, &[], &["a b"])).is_ok());
        for (merge, text) in [
            ("ab", "merge 1 (\"ab\") is not two pieces"),
            ("a b c", "merge 1 (\"a b c\") is not two pieces"),
            ("a ", "merge 1 (\"a \") is not two pieces"),
            ("b a", "merge 1 needs the token \"ba\", which the vocabulary lacks"),
            ("a c", "merge 1 needs the token \"c\", which the vocabulary lacks"),
        ] {
            assert_eq!(check_merges(&parts(&vocab, &[], &[merge])).unwrap_err().to_string(), text);
        }
    }
}
