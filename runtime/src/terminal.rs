//! What may reach a terminal: text from a file or from a model must not drive it.

use std::borrow::Cow;

/// `text` with every control character but newline and tab written out, `\u{1b}` for ESC, so that it can't move the
/// cursor, set the title, write to the clipboard or make links. Text without any is returned as it is.
///
/// Works on pieces of a text as well as on the whole: one character's treatment depends on no other.
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmless(c) {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t11_no_control_character_gets_through() {
        assert_eq!(escape("a\x1b]0;title\x07b"), "a\\u{1b}]0;title\\u{7}b");
        assert_eq!(escape("\u{9b}31m\r\x08\x7f\0"), "\\u{9b}31m\\r\\u{8}\\u{7f}\\0");
        for c in (0..=0x9f).filter_map(char::from_u32).filter(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            let shown = escape(&c.to_string()).into_owned();
            assert!(shown.chars().all(|c| !c.is_control()), "{c:?}");
        }
    }

    #[test]
    fn text_stays_as_it_is() {
        let text = "Zeile 1\n\tnaïve 日本語 👩‍🚀 e\u{301}";
        assert!(matches!(escape(text), Cow::Borrowed(t) if t == text));
    }
}
