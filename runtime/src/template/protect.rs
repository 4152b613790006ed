//! Special tokens that stand in the contents of messages are text there, not structure.
//!
//! While a conversation is rendered, a mark (a private-use character that occurs nowhere in it) stands behind the first
//! character of every special token's text in a content, so that no special token is found there; it leaves the text's
//! ends alone, so that a template's `strip` and the like see what they would see. Afterwards special tokens are cut out
//! of the rendered text, the mark is removed from what lies between them, and that is encoded as ordinary text.
//!
//! An assistant's words are the model's own: `<think>` and `<tool_call>` keep their meaning there, since templates look
//! for them, and only control tokens such as `<|im_end|>` become text.

use crate::vocab::Vocab;
use aho_corasick::AhoCorasick;

/// Whose text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    /// Users, systems, tools.
    Person,
    /// The model.
    Assistant,
}

/// The tags of thoughts. They count as special in contents even where they are no tokens, as templates look for them.
pub(super) const OPEN: &str = "<think>";
/// See [`OPEN`].
pub(super) const CLOSE: &str = "</think>";

/// Finds special tokens in contents.
pub(super) struct Guard {
    /// What is special in a person's words, and in an assistant's.
    person: AhoCorasick,
    assistant: AhoCorasick,
    mark: char,
}

impl Guard {
    /// A guard for texts among which are `texts`: its mark occurs in none of them. None if every candidate does.
    pub(super) fn new<'t>(vocab: &'t Vocab, texts: impl Iterator<Item = &'t str>) -> Option<Guard> {
        // Plane 15 is for private use, but for its last two code points.
        const FIRST: u32 = 0xf0000;
        const COUNT: usize = 0xfffe;
        let mut used = vec![false; COUNT];
        let specials: Vec<(u32, &str)> = vocab.specials().collect();
        for c in texts.chain(specials.iter().map(|&(_, text)| text)).flat_map(str::chars) {
            if let Some(slot) = (c as u32).checked_sub(FIRST).and_then(|i| used.get_mut(i as usize)) {
                *slot = true;
            }
        }
        let free = used.iter().position(|&u| !u)?;
        let control = specials.iter().filter(|(id, _)| vocab.is_control(*id));
        Some(Guard {
            person: AhoCorasick::new(specials.iter().map(|&(_, text)| text).chain([OPEN, CLOSE])).ok()?,
            assistant: AhoCorasick::new(control.map(|&(_, text)| text)).ok()?,
            mark: char::from_u32(FIRST + free as u32)?,
        })
    }

    pub(super) fn mark(&self) -> char {
        self.mark
    }

    /// `text` with a mark behind the first character of every special token, of overlapping ones too. What a match in
    /// the result would be, free of marks, was one in `text` and so has a mark. (A special token of a single character
    /// can't be broken; Qwen3 has none.)
    pub(super) fn protect(&self, text: &str, author: Author) -> String {
        let find = match author {
            Author::Person => &self.person,
            Author::Assistant => &self.assistant,
        };
        let mut starts: Vec<usize> = find.find_overlapping_iter(text).map(|m| m.start()).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut out = String::with_capacity(text.len() + starts.len() * self.mark.len_utf8());
        let mut done = 0;
        for start in starts {
            let head = start + text[start..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&text[done..head]);
            out.push(self.mark);
            done = head;
        }
        out.push_str(&text[done..]);
        out
    }
}
