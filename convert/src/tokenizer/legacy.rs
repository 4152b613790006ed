//! vocab.json and merges.txt: the tokenizer's older form. It says nothing about normalizer and split pattern, so the
//! tokenizer's class must.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::config::TokenizerConfig;
use super::{Added, FILE, Parts, TokenizerError};
use crate::checkpoint::files;
use crate::error::{Error, Problem};

/// Reads `dir/vocab.json`, `dir/merges.txt` and, if there, `dir/added_tokens.json`.
pub(super) fn read(dir: &Path, settings: &TokenizerConfig) -> Result<Parts, Error> {
    let vocab: Option<HashMap<String, u64>> = files::read_json_opt(&dir.join("vocab.json"), files::TOKENIZER_LIMIT)?;
    let merges = files::read_text_opt(&dir.join("merges.txt"), files::TOKENIZER_LIMIT)?;
    let (Some(vocab), Some(merges)) = (vocab, merges) else {
        return Err(Problem::Tokenizer(TokenizerError::Absent).of(dir.join(FILE)));
    };
    let class = settings.tokenizer_class.as_deref().unwrap_or("");
    if !matches!(class, "Qwen2Tokenizer" | "Qwen2TokenizerFast") {
        let found = if class.is_empty() { "none" } else { class }.to_owned();
        let problem = TokenizerError::Different { part: "tokenizer_class", found, expected: "Qwen2Tokenizer".into() };
        return Err(Problem::Tokenizer(problem).of(dir.join("tokenizer_config.json")));
    }
    let added: Option<BTreeMap<String, u64>> =
        files::read_json_opt(&dir.join("added_tokens.json"), files::SMALL_LIMIT)?;
    // tokenizer_config.json knows which of them are special: those that it lists are taken from there.
    let known = |id: u64| settings.describes(id);
    let added = added.unwrap_or_default().into_iter().filter(|(_, id)| !known(*id));
    Ok(Parts {
        vocab,
        merges: lines(&merges),
        added: added.map(|(content, id)| Added { id, content, special: false }).collect(),
        // transformers gives Qwen2Tokenizer the byte-level post-processor, which adds nothing.
        add_bos: Some(false),
        add_eos: Some(false),
    })
}

/// The merges of a merges.txt, whose first line may be a version.
fn lines(text: &str) -> Vec<String> {
    let skip = usize::from(text.starts_with("#version"));
    text.lines().skip(skip).filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_txt_with_and_without_a_version() {
        assert_eq!(lines("#version: 0.2\na b\n\u{120} c\r\n\n"), ["a b", "\u{120} c"]);
        assert_eq!(lines("# #\na b"), ["# #", "a b"]);
    }
}
