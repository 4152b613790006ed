//! The model card: the YAML front matter of README.md, as far as cards use it. That is a list of keys with texts or lists of
//! texts; nested structures, block texts and everything else are passed over, since a card is advice and never an error.

use std::io::Read;
use std::path::Path;

use crate::checkpoint::files;

const FILE: &str = "README.md";
/// Bytes of the file that are looked at: front matter has a few hundred, and some hold long lists of results.
const LIMIT: u64 = 256 << 10;

/// A card's keys, each with one text or several.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Card(Vec<(String, Vec<String>)>);

impl Card {
    /// The card in `dir`; an empty one if there is none, or it can't be read.
    pub fn read(dir: &Path) -> Card {
        let mut bytes = Vec::new();
        match files::open(&dir.join(FILE)).map(|(file, _)| file.take(LIMIT).read_to_end(&mut bytes)) {
            Ok(Ok(_)) => Card::parse(&String::from_utf8_lossy(&bytes)),
            _ => Card::default(),
        }
    }

    /// The first text of the first of `keys` that has any.
    pub fn text(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.list(key).first()).map(String::as_str)
    }

    /// All texts of a key.
    pub fn list(&self, key: &str) -> &[String] {
        self.0.iter().find(|(k, _)| k == key).map_or(&[], |(_, texts)| texts)
    }

    /// Reads front matter, which lies between two lines of "---" at the top.
    fn parse(text: &str) -> Card {
        let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim_end);
        if lines.next() != Some("---") {
            return Card::default();
        }
        let mut card: Vec<(String, Vec<String>)> = Vec::new();
        // Whether lines that begin with "-" or a blank belong to the last key.
        let mut open = false;
        for line in lines {
            if line == "---" {
                return Card(card);
            }
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            if let Some(item) = list_item(trimmed) {
                if let (true, Some((_, texts))) = (open, card.last_mut()) {
                    texts.extend(scalar(item));
                }
            } else if trimmed.len() < line.len() {
                // Inside of a nested structure or a block text: of no use to us.
                open = false;
            } else if let Some((key, value)) = key_value(line) {
                let texts = values(value);
                open = texts.is_empty() && value.is_empty();
                // The first of two equal keys counts; the second one's items must not join the first one's.
                if card.iter().any(|(k, _)| k == key) {
                    open = false;
                } else {
                    card.push((key.to_owned(), texts));
                }
            } else {
                open = false;
            }
        }
        // No second "---": not front matter, or too long a one.
        Card::default()
    }
}

/// What follows "- ".
fn list_item(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('-')?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then(|| rest.trim_start())
}

/// `key: value` at the top level.
fn key_value(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let sound = !key.is_empty() && key.chars().all(plain) && (value.is_empty() || value.starts_with([' ', '\t']));
    let value = value.trim_start();
    sound.then_some((key, if value.starts_with('#') { "" } else { value }))
}

/// A text, or `[a, b]`.
fn values(value: &str) -> Vec<String> {
    let Some(inner) = without_comment(value).strip_prefix('[').and_then(|v| v.strip_suffix(']')) else {
        return scalar(value).into_iter().collect();
    };
    let mut texts = Vec::new();
    let (mut start, mut quote) = (0, None);
    for (i, c) in inner.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            (None, ',') => {
                texts.extend(scalar(inner[start..i].trim()));
                start = i + 1;
            }
            _ => {}
        }
    }
    texts.extend(scalar(inner[start..].trim()));
    texts
}

/// A scalar's text; `None` for null, and for what is no scalar of one line.
fn scalar(text: &str) -> Option<String> {
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            // Escapes are rare enough in cards that a text with one is not worth having wrong.
            return rest.find(quote).map(|end| rest[..end].to_owned()).filter(|s| !s.is_empty() && !s.contains('\\'));
        }
    }
    let text = without_comment(text);
    let structure = text.starts_with(['|', '>', '&', '*', '!', '{', '[', '%', '@', '`'])
        || text.contains(": ")
        || text.ends_with(':');
    let null = matches!(text, "" | "~" | "null" | "Null" | "NULL");
    (!structure && !null).then(|| text.to_owned())
}

fn without_comment(text: &str) -> &str {
    text.find(" #").map_or(text, |at| &text[..at]).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of Qwen's own cards and of those that fine-tunes have.
    const CARD: &str = "---
library_name: transformers
license: apache-2.0 # as the base
license_link: https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/LICENSE
pipeline_tag: text-generation
base_model:
- Qwen/Qwen3-0.6B-Base
- \"Me/Other\"
tags: [chat, 'a, b', \"c\"]
language:
  - en
  - no
  # and
  - zh
empty:
null_too: ~
model-index:
  - name: x
    results:
    - task:
        type: text-generation
summary: >
  Two lines
  of text
model_name: 'It''s'
url: \"a\\tb\"
---
license: mit
";

    #[test]
    fn texts_and_lists_are_read_and_the_rest_is_passed_over() {
        let card = Card::parse(CARD);
        assert_eq!(card.text(&["license"]), Some("apache-2.0"));
        assert_eq!(card.text(&["license_link"]), Some("https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/LICENSE"));
        assert_eq!(card.text(&["nothing", "pipeline_tag"]), Some("text-generation"));
        assert_eq!(card.list("base_model"), ["Qwen/Qwen3-0.6B-Base", "Me/Other"]);
        assert_eq!(card.list("tags"), ["chat", "a, b", "c"]);
        assert_eq!(card.list("language"), ["en", "no", "zh"]);
        for absent in ["empty", "null_too", "model-index", "summary", "url", "results"] {
            assert_eq!(card.text(&[absent]), None, "{absent}");
        }
    }

    #[test]
    fn what_is_no_front_matter_is_no_card() {
        for text in ["", "# Model\n---\nlicense: mit\n---\n", "---\nlicense: mit\n", "----\nlicense: mit\n---\n"] {
            assert_eq!(Card::parse(text), Card::default(), "{text:?}");
        }
        assert_eq!(Card::parse("---\r\nlicense: mit\r\n---\r\n").text(&["license"]), Some("mit"));
        assert_eq!(Card::parse("\u{feff}---\nlicense: mit\n---").text(&["license"]), Some("mit"));
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        let bytes: Vec<char> = CARD.chars().collect();
        for at in 0..bytes.len() {
            for c in ['"', '\'', '[', ']', ':', '-', '\n', 'é'] {
                let mut damaged = bytes.clone();
                damaged[at] = c;
                Card::parse(&damaged.iter().collect::<String>());
            }
        }
    }

    #[test]
    fn no_file_and_no_regular_file_are_no_card() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Card::read(dir.path()), Card::default());
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        assert_eq!(Card::read(dir.path()), Card::default());
        let long = tempfile::tempdir().unwrap();
        std::fs::write(long.path().join(FILE), format!("---\nlicense: mit\n{}---\n", "a: b\n".repeat(100_000)))
            .unwrap();
        assert_eq!(Card::read(long.path()), Card::default());
    }
}
