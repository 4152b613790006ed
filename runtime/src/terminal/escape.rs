//! Text from a file or from a model must not drive the terminal that shows it.

use std::borrow::Cow;

/// Is `c` shown as it is? Newline and tab are; every other control character (C0, DEL, C1) could move the cursor, set the
/// title, write to the clipboard or make links, and the bidirectional embeddings, overrides and isolates could make a line
/// read as something else than it says. Marks for single characters of right-to-left text stay.
const fn is_harmless(c: char) -> bool {
    !matches!(c,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with what could drive a terminal written out: `\u{1b}` for ESC. Text without any of it is returned as it is.
///
/// Works on pieces of a text as well as on the whole: one character's treatment depends on no other.
pub fn escape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(|c| !is_harmless(c)) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if is_harmless(c) {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    Cow::Owned(out)
}

/// `text` as it goes out: escaped to a terminal, raw to anything else.
pub fn shown(text: &str, to_terminal: bool) -> Cow<'_, str> {
    if to_terminal { escape(text) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t11_no_control_character_gets_through() {
        assert_eq!(escape("a\x1b]0;title\x07b"), "a\\u{1b}]0;title\\u{7}b");
        assert_eq!(escape("\u{9b}31m\r\x08\x7f\0"), "\\u{9b}31m\\r\\u{8}\\u{7f}\\0");
        for c in (0..=char::MAX as u32).filter_map(char::from_u32) {
            let text = c.to_string();
            let out = escape(&text);
            let passes = !c.is_control() || matches!(c, '\n' | '\t');
            if !passes {
                assert!(out.starts_with('\\') && out.chars().all(|c| c.is_ascii_graphic()), "{c:?}: {out}");
            } else if !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                assert_eq!(out, text, "{c:?}");
            }
        }
    }

    #[test]
    fn lines_read_as_they_say() {
        assert_eq!(escape("safe\u{202e}exe.gpj"), "safe\\u{202e}exe.gpj");
        assert_eq!(escape("a\u{2067}b\u{2069}"), "a\\u{2067}b\\u{2069}");
    }

    #[test]
    fn text_stays_as_it_is() {
        for text in ["Zeile 1\n\tnaïve 日本語 👩‍🚀 e\u{301}", "שלום\u{200f}!", "", "\u{feff}\u{a0}"] {
            assert!(matches!(escape(text), Cow::Borrowed(t) if t == text));
        }
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let text = "é\x1b[1mx\u{202e}\n\u{85}日";
        let pieces: String = text.chars().map(|c| escape(&c.to_string()).into_owned()).collect();
        assert_eq!(pieces, escape(text));
    }

    #[test]
    fn pipes_get_the_raw_text() {
        assert_eq!(shown("\x1b[0m", false), "\x1b[0m");
        assert_eq!(shown("\x1b[0m", true), "\\u{1b}[0m");
    }
}
