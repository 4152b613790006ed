//! tokenizer_config.json: special tokens by name, tokens added later, flags and the chat template.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Added;
use crate::checkpoint::files;
use crate::error::Error;

const FILE: &str = "tokenizer_config.json";

#[derive(Deserialize, Default)]
pub(super) struct TokenizerConfig {
    pub tokenizer_class: Option<String>,
    pub bos_token: Option<Token>,
    pub eos_token: Option<Token>,
    pub unk_token: Option<Token>,
    pub sep_token: Option<Token>,
    pub pad_token: Option<Token>,
    pub cls_token: Option<Token>,
    pub mask_token: Option<Token>,
    pub add_bos_token: Option<bool>,
    pub add_eos_token: Option<bool>,
    #[serde(default)]
    pub chat_template: Value,
    /// By id, as a string.
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u64, Described>,
}

/// A special token's text, plain or with its properties.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Token {
    Text(String),
    Described(Described),
}

#[derive(Deserialize)]
pub(super) struct Described {
    content: String,
    #[serde(default)]
    special: bool,
}

impl Token {
    pub fn text(&self) -> &str {
        match self {
            Token::Text(text) => text,
            Token::Described(token) => &token.content,
        }
    }
}

impl TokenizerConfig {
    /// Reads `dir/tokenizer_config.json`; everything is unset when it does not exist.
    pub fn read(dir: &Path) -> Result<TokenizerConfig, Error> {
        Ok(files::read_json_opt(&dir.join(FILE), files::SMALL_LIMIT)?.unwrap_or_default())
    }

    /// Whether this file describes the added token `id`.
    pub fn describes(&self, id: u64) -> bool {
        self.added_tokens_decoder.contains_key(&id)
    }

    /// Adds the tokens that only this file lists, as transformers does when it loads a tokenizer.
    pub fn complete(&self, added: &mut Vec<Added>, notes: &mut Vec<String>) {
        let ids: HashSet<u64> = added.iter().map(|a| a.id).collect();
        let before = added.len();
        for (&id, token) in &self.added_tokens_decoder {
            if !ids.contains(&id) {
                added.push(Added { id, content: token.content.clone(), special: token.special });
            }
        }
        if before > 0 && added.len() > before {
            notes.push(format!("{} added tokens are listed in {FILE} alone", added.len() - before));
        }
    }
}
