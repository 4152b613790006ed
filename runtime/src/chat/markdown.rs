//! Markdown on a terminal, as it streams: headings, emphasis, code, lists.
//!
//! A line's beginning is held back until it is clear what the line is, and a mark until its next character shows what it
//! means; no more. Emphasis ends with its line, so that a stray mark spoils no more than that.

use anstyle::{AnsiColor, Effects, Style};

const CODE: Style = AnsiColor::Cyan.on_default();
const FENCE: &str = "```";

/// A piece of text in one style.
pub type Styled = (Style, String);

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Its beginning is held back.
    Unknown,
    Text,
    Heading,
    Fence,
    Code,
}

/// The state between parts.
#[derive(Debug)]
pub struct Markdown {
    line: Line,
    /// Within a block of code.
    block: bool,
    held: String,
    bold: bool,
    italic: bool,
    code: bool,
    /// The character before, to tell `a*b` from `*b`.
    before: char,
    out: Vec<Styled>,
}

impl Markdown {
    /// The beginning of a text.
    pub fn new() -> Markdown {
        Markdown {
            line: Line::Unknown,
            block: false,
            held: String::new(),
            bold: false,
            italic: false,
            code: false,
            before: '\n',
            out: Vec::new(),
        }
    }

    /// What `text` makes certain.
    pub fn push(&mut self, text: &str) -> Vec<Styled> {
        text.chars().for_each(|c| self.take(c));
        std::mem::take(&mut self.out)
    }

    /// The rest, when nothing comes any more.
    pub fn finish(&mut self) -> Vec<Styled> {
        self.settle(' ');
        std::mem::take(&mut self.out)
    }

    fn take(&mut self, c: char) {
        if c == '\n' {
            self.settle(c);
            self.end_line();
            return;
        }
        if self.line == Line::Unknown {
            self.held.push(c);
            self.begin_line(false);
        } else {
            self.within(c);
        }
    }

    /// Decides what the line is, once its beginning says so; `whole`: no more of it comes.
    fn begin_line(&mut self, whole: bool) {
        let trimmed = self.held.trim_start_matches(' ');
        if trimmed.starts_with(FENCE) {
            self.block = !self.block;
            self.line = Line::Fence;
            let fence = std::mem::take(&mut self.held);
            self.give(fence);
            return;
        }
        let may_fence = FENCE.starts_with(trimmed);
        if self.block {
            if !may_fence || whole {
                self.line = Line::Code;
                let code = std::mem::take(&mut self.held);
                self.give(code);
            }
            return;
        }
        let level = trimmed.chars().take_while(|&c| c == '#').count();
        let rest = &trimmed[level..];
        let undecided =
            may_fence || (rest.is_empty() && (1..=6).contains(&level)) || matches!(trimmed, "-" | "*" | "+");
        if undecided && !whole {
            return;
        }
        let held = std::mem::take(&mut self.held);
        let indent = held.len() - held.trim_start_matches(' ').len();
        let trimmed = &held[indent..];
        self.line = Line::Text;
        if (1..=6).contains(&level) && trimmed[level..].starts_with(' ') {
            self.line = Line::Heading;
            let title = &trimmed[level + 1..];
            title.chars().for_each(|c| self.within(c));
        } else if let Some(item) = ["- ", "* ", "+ "].iter().find_map(|mark| trimmed.strip_prefix(mark)) {
            self.give(format!("{}• ", &held[..indent]));
            item.chars().for_each(|c| self.within(c));
        } else {
            held.chars().for_each(|c| self.within(c));
        }
    }

    /// A character in a line whose kind is known.
    fn within(&mut self, c: char) {
        if matches!(self.line, Line::Fence | Line::Code) {
            return self.give(c.to_string());
        }
        let mark = self.held.chars().next();
        match (mark, c) {
            // A second mark of the same kind: bold.
            (Some(m), c) if m == c && m != '`' && !self.code => {
                self.held.clear();
                self.bold = !self.bold;
                self.before = c;
            }
            (None, '*' | '_') if !self.code => self.held.push(c),
            (None, '`') => {
                self.code = !self.code;
                self.before = c;
            }
            (None, _) => {
                self.before = c;
                self.give(c.to_string());
            }
            (Some(_), _) => {
                self.flush_mark(c);
                self.within(c);
            }
        }
    }

    /// Decides about a single mark that is held back, before `next`.
    fn flush_mark(&mut self, next: char) {
        let Some(mark) = self.held.pop() else { return };
        let opens = !self.italic && !next.is_whitespace() && !self.before.is_alphanumeric();
        let closes = self.italic && !self.before.is_whitespace() && (mark == '*' || !next.is_alphanumeric());
        if opens || closes {
            self.italic = !self.italic;
        } else {
            self.give(mark.to_string());
        }
        self.before = mark;
    }

    /// Decides about everything that is held back: the line ends with `next`.
    fn settle(&mut self, next: char) {
        if self.line == Line::Unknown {
            self.begin_line(true);
        }
        self.flush_mark(next);
    }

    fn end_line(&mut self) {
        (self.bold, self.italic, self.code) = (false, false, false);
        self.before = '\n';
        self.line = Line::Text;
        self.give("\n".to_owned());
        self.line = Line::Unknown;
    }

    fn give(&mut self, text: String) {
        let style = match self.line {
            Line::Code => CODE,
            Line::Fence => Style::new().effects(Effects::DIMMED),
            Line::Heading => Style::new().effects(Effects::BOLD.insert(Effects::UNDERLINE)),
            Line::Unknown | Line::Text if self.code => CODE,
            Line::Unknown | Line::Text => {
                let mut effects = Effects::new();
                effects = effects.set(Effects::BOLD, self.bold).set(Effects::ITALIC, self.italic);
                Style::new().effects(effects)
            }
        };
        match self.out.last_mut() {
            Some((last, pieces)) if *last == style => pieces.push_str(&text),
            _ => self.out.push((style, text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with its styles as tags: b, i, c(ode), d(im), h(eading).
    fn shown(parts: &[&str]) -> String {
        let mut markdown = Markdown::new();
        let mut pieces: Vec<Styled> = parts.iter().flat_map(|part| markdown.push(part)).collect();
        pieces.extend(markdown.finish());
        let mut out = String::new();
        for (style, text) in pieces {
            let effects = style.get_effects();
            let tag = if style.get_fg_color().is_some() {
                "c"
            } else if effects.contains(Effects::UNDERLINE) {
                "h"
            } else if effects.contains(Effects::DIMMED) {
                "d"
            } else if effects.contains(Effects::BOLD) {
                "b"
            } else if effects.contains(Effects::ITALIC) {
                "i"
            } else {
                ""
            };
            match tag {
                "" => out.push_str(&text),
                tag => out.push_str(&format!("<{tag}>{text}</{tag}>")),
            }
        }
        // Pieces of one style may come apart.
        ["b", "i", "c", "d", "h"].iter().fold(out, |out, tag| out.replace(&format!("</{tag}><{tag}>"), ""))
    }

    #[test]
    fn t15_markdown_is_shown_as_such() {
        for (text, expected) in [
            ("plain", "plain"),
            ("# Title\ntext", "<h>Title</h>\ntext"),
            ("#hash", "#hash"),
            ("a **bold** word", "a <b>bold</b> word"),
            ("an *odd* and _even_ word", "an <i>odd</i> and <i>even</i> word"),
            ("2 * 3 * 4", "2 * 3 * 4"),
            ("snake_case_name", "snake_case_name"),
            ("use `a*b*c` here", "use <c>a*b*c</c> here"),
            ("- one\n* two\n-3", "• one\n• two\n-3"),
            ("  - in", "  • in"),
            ("```sh\nls *\n  # no\n```\n**b**", "<d>```sh</d>\n<c>ls *</c>\n<c>  # no</c>\n<d>```</d>\n<b>b</b>"),
            ("a **stray\nmark", "a <b>stray</b>\nmark"),
            ("*", "*"),
            ("-", "-"),
            ("", ""),
            ("# ", ""),
            ("a *", "a *"),
            ("**日本** 語", "<b>日本</b> 語"),
        ] {
            assert_eq!(shown(&[text]), expected, "{text:?}");
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(shown(&letters), expected, "{text:?}, letter by letter");
        }
    }

    fn text(pieces: Vec<Styled>) -> String {
        pieces.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn words_are_not_held_back() {
        let mut markdown = Markdown::new();
        assert_eq!(markdown.push("He").len(), 1);
        assert_eq!(text(markdown.push("llo")), "llo");
        assert_eq!(text(markdown.push(" *")), " ");
    }
}
