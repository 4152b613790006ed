//! The text's way to the merges: a normal form, then pieces by the pre-tokenizer's pattern. No merge crosses a piece.

use regex::Regex;
use std::borrow::Cow;
use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// How a text is cut, by the names of `tokenizer.ggml.pre`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PreTokenizer {
    /// Qwen2 and Qwen3.
    Qwen2,
    /// SmolLM: GPT-2's pattern between single digits.
    Smollm,
}

impl PreTokenizer {
    pub(super) fn named(name: &str) -> Option<PreTokenizer> {
        match name {
            "qwen2" => Some(PreTokenizer::Qwen2),
            "smollm" => Some(PreTokenizer::Smollm),
            _ => None,
        }
    }
}

/// Qwen2's pattern without its `\s+(?!\S)`, which [`Splitter::pieces`] does by hand: so no backtracking is needed and
/// the time is linear in the text, where a backtracking engine gives up on long runs of spaces.
/// Each character is matched by one of the alternatives, so the pieces cover the text.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";

/// SmolLM's, also without `\s+(?!\S)`. Digits are cut out first, which ends the text for what stands before them.
const SMOLLM: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+";

/// Canonical composition, with the tables that the `tokenizers` library uses.
fn nfc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || matches!(is_nfc_quick(text.chars()), IsNormalized::Yes) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().map(|(c, _)| c).collect())
}

/// Cuts text into pieces.
pub(super) struct Splitter {
    pre: PreTokenizer,
    pattern: Regex,
}

impl Splitter {
    pub(super) fn new(pre: PreTokenizer) -> Splitter {
        let pattern = match pre {
            PreTokenizer::Qwen2 => QWEN2,
            PreTokenizer::Smollm => SMOLLM,
        };
        Splitter { pre, pattern: Regex::new(pattern).expect("the pattern is a constant") }
    }

    /// The form in which the model saw texts: composed for Qwen2, as it is for SmolLM.
    pub(super) fn normalize<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.pre {
            PreTokenizer::Qwen2 => nfc(text),
            PreTokenizer::Smollm => Cow::Borrowed(text),
        }
    }

    /// The pieces of `text`, in order; together they are `text`.
    pub(super) fn pieces<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let found = self.pattern.find_at(text, at)?;
            let mut piece = found.as_str();
            // `\s+(?!\S)`: a run of spaces before a word leaves its last space to the word.
            if let Some(last) = piece.chars().next_back()
                && last.is_whitespace()
                && self.leaves_last(last, &text[found.end()..])
                && last.len_utf8() < piece.len()
            {
                piece = &piece[..piece.len() - last.len_utf8()];
            }
            at += piece.len();
            Some(piece)
        })
    }

    /// Whether a run that ends in `last` leaves it to the text that follows.
    fn leaves_last(&self, last: char, after: &str) -> bool {
        match self.pre {
            // Only the alternative `\s+` ends in white space that is no line break.
            PreTokenizer::Qwen2 => !matches!(last, '\r' | '\n') && !after.is_empty(),
            // A digit is a piece of its own, cut out before.
            PreTokenizer::Smollm => after.chars().next().is_some_and(|c| !c.is_numeric()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces_by(pre: PreTokenizer, text: &str) -> Vec<String> {
        Splitter::new(pre).pieces(text).map(str::to_owned).collect()
    }

    fn pieces(text: &str) -> Vec<String> {
        pieces_by(PreTokenizer::Qwen2, text)
    }

    #[test]
    fn spaces_before_a_word_leave_one_to_it() {
        assert_eq!(pieces("a   b"), ["a", "  ", " b"]);
        assert_eq!(pieces("a   "), ["a", "   "]);
        assert_eq!(pieces("   1"), ["  ", " ", "1"]);
        assert_eq!(pieces("a \n  b"), ["a", " \n", " ", " b"]);
        assert_eq!(pieces("\u{3000}\u{3000}x"), ["\u{3000}", "\u{3000}x"]);
        assert_eq!(pieces("\t\tx\ty"), ["\t", "\tx", "\ty"]);
        assert_eq!(pieces("x = 12;\r\n\r\n"), ["x", " =", " ", "1", "2", ";\r\n\r\n"]);
        assert_eq!(pieces("we'LL DON'T"), ["we", "'LL", " DON", "'T"]);
    }

    #[test]
    fn smollm_cuts_digits_out_first() {
        let pieces = |text| pieces_by(PreTokenizer::Smollm, text);
        assert_eq!(pieces("a   b"), ["a", "  ", " b"]);
        assert_eq!(pieces("a   12"), ["a", "   ", "1", "2"]);
        assert_eq!(pieces("a 1b"), ["a", " ", "1", "b"]);
        assert_eq!(pieces("a\n\nb\n\n"), ["a", "\n", "\n", "b", "\n\n"]);
        assert_eq!(pieces("x = ½;\r\n y"), ["x", " =", " ", "½", ";", "\r\n", " y"]);
        assert_eq!(pieces("we'll WE'LL"), ["we", "'ll", " WE", "'", "LL"]);
        let splitter = Splitter::new(PreTokenizer::Smollm);
        assert_eq!(splitter.normalize("e\u{301}"), "e\u{301}");
    }

    #[test]
    fn composition_leaves_composed_text_alone() {
        assert!(matches!(nfc("plain"), Cow::Borrowed(_)));
        assert!(matches!(nfc("日本"), Cow::Borrowed(_)));
        assert_eq!(nfc("e\u{301}"), "é");
        assert_eq!(nfc("\u{1112}\u{1161}\u{11ab}"), "한");
    }
}
