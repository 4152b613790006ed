//! Text that comes in parts: characters split over tokens, stop strings split over parts, and why it ended.

use std::fmt;
use thiserror::Error;

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its answer.
    Eos,
    /// A stop string was reached.
    Stop,
    /// As many tokens as were asked for.
    Length,
    /// No room in the context.
    Context,
    /// The model repeated itself.
    Loop,
    /// Ctrl-C.
    Interrupt,
}

impl FinishReason {
    /// The reason as one word, stable for scripts.
    pub const fn name(self) -> &'static str {
        match self {
            FinishReason::Eos => "eos",
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Context => "context",
            FinishReason::Loop => "loop",
            FinishReason::Interrupt => "interrupt",
        }
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes in, whole characters out. What is held back is the beginning of one character, at most 3 bytes; bytes that
/// can't be UTF-8 become U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8Stream {
    /// The beginning of a character.
    held: Vec<u8>,
    out: String,
}

impl Utf8Stream {
    /// An empty stream.
    pub fn new() -> Utf8Stream {
        Utf8Stream::default()
    }

    /// The text that `bytes` complete.
    pub fn push(&mut self, bytes: &[u8]) -> &str {
        self.held.extend_from_slice(bytes);
        self.out.clear();
        let mut rest = self.held.as_slice();
        let kept = loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.out.push_str(text);
                    break 0;
                }
                Err(e) => {
                    let (valid, after) = rest.split_at(e.valid_up_to());
                    self.out.push_str(&String::from_utf8_lossy(valid));
                    match e.error_len() {
                        None => break after.len(),
                        Some(bad) => {
                            self.out.push('\u{fffd}');
                            rest = &after[bad..];
                        }
                    }
                }
            }
        };
        self.held.drain(..self.held.len() - kept);
        &self.out
    }

    /// The rest: U+FFFD if the beginning of a character was held back.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        if !self.held.is_empty() {
            self.out.push('\u{fffd}');
            self.held.clear();
        }
        &self.out
    }

    /// Bytes held back, 3 at most.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// An empty stop string would end every answer at once.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a stop string is empty; give at least one character")]
pub struct EmptyStop;

/// Looks for stop strings in text that comes in parts. Text is held back as long as it may be the beginning of one, and
/// no longer; the string that is found, and what follows it, never comes out.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    hit: Option<usize>,
}

impl StopStrings {
    /// # Errors
    /// An empty string among them.
    pub fn new(stops: Vec<String>) -> Result<StopStrings, EmptyStop> {
        match stops.iter().any(String::is_empty) {
            true => Err(EmptyStop),
            false => Ok(StopStrings { stops, held: String::new(), hit: None }),
        }
    }

    /// The text that can no longer be part of a stop string. The one that is complete first wins; of several that are
    /// complete with this part, the one that starts first.
    pub fn push(&mut self, text: &str) -> String {
        if self.hit.is_some() {
            return String::new();
        }
        self.held.push_str(text);
        let starts = self.stops.iter().enumerate().filter_map(|(i, stop)| Some((self.held.find(stop.as_str())?, i)));
        if let Some((start, i)) = starts.min() {
            self.hit = Some(i);
            self.held.truncate(start);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// What is still held back: the answer ended within what might have become a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The stop string that was found.
    pub fn hit(&self) -> Option<&str> {
        self.hit.map(|i| self.stops[i].as_str())
    }
}

/// Bytes of the longest end of `text` with which `stop` begins.
pub fn overlap(text: &str, stop: &str) -> usize {
    (1..stop.len().min(text.len() + 1)).rev().find(|&n| text.as_bytes().ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn q11_characters_come_whole_and_at_once() {
        let mut s = Utf8Stream::new();
        let emoji = "🙂".as_bytes();
        for &b in &emoji[..3] {
            assert_eq!(s.push(&[b]), "");
        }
        assert_eq!(s.held(), 3);
        // It comes with its last byte, not with the next token.
        assert_eq!(s.push(&emoji[3..]), "🙂");
        assert_eq!(s.held(), 0);
        assert_eq!(s.push(b"a\xe4\xb8"), "a");
        assert_eq!(s.push(b"\xadb"), "中b");
        assert_eq!(s.finish(), "");
    }

    #[test]
    fn bytes_that_are_no_text_become_replacements() {
        let mut s = Utf8Stream::new();
        assert_eq!(s.push(b"\xff"), "\u{fffd}");
        assert_eq!(s.push(b"\xe4"), "");
        assert_eq!(s.push(b"x"), "\u{fffd}x");
        assert_eq!(s.push(b"\xf0\x9f"), "");
        assert_eq!(s.finish(), "\u{fffd}");
        assert_eq!(s.push(b"ok"), "ok");
    }

    fn stop(stops: &[&str]) -> StopStrings {
        StopStrings::new(stops.iter().map(|s| s.to_string()).collect()).unwrap()
    }

    #[test]
    fn x4_stop_strings_cross_parts_and_are_not_printed() {
        let mut s = stop(&["\nUser:", "END"]);
        assert_eq!(s.push("hello"), "hello");
        assert_eq!(s.push(" E"), " ");
        assert_eq!(s.push("N"), "");
        assert_eq!(s.push("x\nUs"), "ENx");
        assert_eq!(s.push("er: hi"), "");
        assert_eq!(s.hit(), Some("\nUser:"));
        assert_eq!(s.push("more"), "");
        assert_eq!(s.finish(), "");
    }

    #[test]
    fn what_never_became_a_stop_string_comes_at_the_end() {
        let mut s = stop(&["aab"]);
        assert_eq!(s.push("aaaa"), "aa");
        assert_eq!(s.push("a"), "a");
        assert_eq!(s.finish(), "aa");
        assert_eq!(s.hit(), None);
        let mut s = stop(&["中文"]);
        assert_eq!(s.push("x中"), "x");
        assert_eq!(s.push("国"), "中国");
        assert_eq!(StopStrings::new(vec![String::new()]).unwrap_err(), EmptyStop);
        assert_eq!(StopStrings::default().push("all"), "all");
    }

    #[test]
    fn the_first_complete_stop_string_wins() {
        let mut s = stop(&["bcd", "abcde", "b"]);
        assert_eq!(s.push("xabcdef"), "x");
        assert_eq!(s.hit(), Some("abcde"));
        let mut s = stop(&["abc", "b"]);
        assert_eq!(s.push("ab"), "a");
        assert_eq!(s.hit(), Some("b"));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_text(bytes in prop::collection::vec(any::<u8>(), 0..60), cuts in prop::collection::vec(1..5usize, 60)) {
            let mut s = Utf8Stream::new();
            let (mut out, mut at) = (String::new(), 0);
            for cut in cuts {
                let end = (at + cut).min(bytes.len());
                out.push_str(s.push(&bytes[at..end]));
                prop_assert!(s.held() <= 3);
                at = end;
            }
            out.push_str(s.finish());
            prop_assert_eq!(out, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn stops_are_found_however_the_text_is_cut(text in "[ab]{0,30}", cuts in prop::collection::vec(1..4usize, 30)) {
            let mut s = stop(&["abba", "bbb"]);
            let (mut out, mut at) = (String::new(), 0);
            for cut in cuts {
                let end = (at + cut).min(text.len());
                out.push_str(&s.push(&text[at..end]));
                at = end;
                if s.hit().is_some() {
                    break;
                }
            }
            out.push_str(&s.finish());
            prop_assert!(!out.contains("abba") && !out.contains("bbb"));
            prop_assert!(text.starts_with(&out));
            prop_assert_eq!(s.hit().is_some(), text.contains("abba") || text.contains("bbb"));
            prop_assert!(s.hit().is_some() || out == text);
        }
    }
}
