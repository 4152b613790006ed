//! The text's way to the merges: NFC, then pieces by Qwen2's pattern. No merge crosses a piece.

use regex::Regex;
use std::borrow::Cow;
use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Qwen2's pattern without its `\s+(?!\S)`, which [`Splitter::pieces`] does by hand: so no backtracking is needed and
/// the time is linear in the text, where a backtracking engine gives up on long runs of spaces.
/// Each character is matched by one of the alternatives, so the pieces cover the text.
const PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";

/// Canonical composition, with the tables that the `tokenizers` library uses.
pub(super) fn nfc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || matches!(is_nfc_quick(text.chars()), IsNormalized::Yes) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().map(|(c, _)| c).collect())
}

/// Cuts text into pieces.
pub(super) struct Splitter(Regex);

impl Splitter {
    pub(super) fn new() -> Splitter {
        Splitter(Regex::new(PATTERN).expect("the pattern is a constant"))
    }

    /// The pieces of `text`, in order; together they are `text`.
    pub(super) fn pieces<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let found = self.0.find_at(text, at)?;
            let mut piece = found.as_str();
            // `\s+(?!\S)`: a run of spaces before a word leaves its last space to the word. Only the alternative
            // `\s+` ends in white space that is no line break.
            if let Some(last) = piece.chars().next_back()
                && last.is_whitespace()
                && !matches!(last, '\r' | '\n')
                && found.end() < text.len()
                && last.len_utf8() < piece.len()
            {
                piece = &piece[..piece.len() - last.len_utf8()];
            }
            at += piece.len();
            Some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        // The splitter outlives the pieces only by the text: collect slices of the text itself.
        let splitter = Splitter::new();
        let mut at = 0;
        let lens: Vec<usize> = splitter.pieces(text).map(str::len).collect();
        lens.into_iter()
            .map(|n| {
                at += n;
                &text[at - n..at]
            })
            .collect()
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
    fn composition_leaves_composed_text_alone() {
        assert!(matches!(nfc("plain"), Cow::Borrowed(_)));
        assert!(matches!(nfc("日本"), Cow::Borrowed(_)));
        assert_eq!(nfc("e\u{301}"), "é");
        assert_eq!(nfc("\u{1112}\u{1161}\u{11ab}"), "한");
    }
}
