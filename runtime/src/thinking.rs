//! Thoughts of the model, told apart from its answer while both stream, and brought to an end.

use crate::stream::{Utf8Stream, overlap};
use crate::vocab::{Specials, Vocab, VocabError};

/// Opens a thought.
pub const OPEN: &str = "<think>";
/// Ends it.
pub const CLOSE: &str = "</think>";

/// What ends a thought whose budget is used up, by Qwen's own recipe for thinking budgets.
pub const BUDGET_SENTENCE: &str =
    "Considering the limited time by the user, I have to give the solution based on the thinking directly now.";

/// The tokens that end a thought from outside: `sentence` (may be empty) and the closing tag. They are fed to the model
/// as if it had written them; the answer follows.
///
/// # Errors
/// Those of [`Vocab::encode`].
pub fn closing_ids(vocab: &Vocab, sentence: &str) -> Result<Vec<u32>, VocabError> {
    let before = match sentence {
        "" => "\n".to_owned(),
        sentence => format!("\n\n{sentence}\n"),
    };
    let mut ids = vocab.encode(&before, Specials::Plain)?;
    ids.extend(vocab.encode(&format!("{CLOSE}\n\n"), Specials::Parse)?);
    Ok(ids)
}

/// The tokens of the tags, opening and closing, where the vocabulary has them.
pub fn tags(vocab: &Vocab) -> Option<(u32, u32)> {
    let special = |text| vocab.token_id(text).filter(|&id| vocab.is_special(id));
    special(OPEN).zip(special(CLOSE))
}

/// The token that closes the thought in which `prompt` ends, if it ends in one.
pub fn unclosed(vocab: &Vocab, prompt: &[u32]) -> Option<u32> {
    let (open, close) = tags(vocab)?;
    let last = prompt.iter().rfind(|&&id| id == open || id == close)?;
    (*last == open).then_some(close)
}

/// A piece of the model's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of a thought, without the white space around it.
    Thought(String),
    /// Of the answer.
    Answer(String),
    /// A thought ended that never began: what was given as answer so far was one.
    WasThought,
}

/// Splits streamed tokens into thought and answer.
///
/// Where the tags are tokens of the vocabulary, as in Qwen3, only those tokens count, and the same words spelled out are
/// text. Where they are none, `<think>` counts at the beginning of the answer and `</think>` within a thought.
/// A thought of white space alone gives no [`Part`].
#[derive(Debug)]
pub struct Thoughts {
    /// Tokens of the tags, opening and closing.
    tags: Option<(u32, u32)>,
    inside: bool,
    /// Something of the present thought or answer was given out.
    started: bool,
    /// The answer follows a thought, so line breaks before it are the template's.
    follows_thought: bool,
    chars: Utf8Stream,
    /// Possible beginning of a tag that is spelled out.
    spelled: String,
    /// White space whose place is not known yet.
    space: String,
    tokens: usize,
}

impl Thoughts {
    /// `open`: the prompt ended inside a thought.
    pub fn new(vocab: &Vocab, open: bool) -> Thoughts {
        Thoughts {
            tags: tags(vocab),
            inside: open,
            started: false,
            follows_thought: false,
            chars: Utf8Stream::new(),
            spelled: String::new(),
            space: String::new(),
            tokens: 0,
        }
    }

    /// Whether the next token belongs to a thought.
    pub fn inside(&self) -> bool {
        self.inside
    }

    /// The tokens of the tags, opening and closing, where the vocabulary has them.
    pub fn tags(&self) -> Option<(u32, u32)> {
        self.tags
    }

    /// Tokens of thoughts so far, tags not counted.
    pub fn thought_tokens(&self) -> usize {
        self.tokens
    }

    /// Takes the token `id` with the bytes that it stands for.
    pub fn push(&mut self, id: u32, piece: &[u8]) -> Vec<Part> {
        let mut parts = Vec::new();
        match self.tags {
            Some((open, _)) if id == open => {
                let cut = self.chars.finish().to_owned();
                self.give(&cut, &mut parts);
                self.enter(true);
            }
            Some((_, close)) if id == close => {
                let cut = self.chars.finish().to_owned();
                self.give(&cut, &mut parts);
                if !self.inside && !self.follows_thought {
                    parts.push(Part::WasThought);
                }
                self.enter(false);
            }
            tags => {
                self.tokens += usize::from(self.inside);
                let text = self.chars.push(piece).to_owned();
                match tags {
                    Some(_) => self.give(&text, &mut parts),
                    None => self.spell(&text, &mut parts),
                }
            }
        }
        parts
    }

    /// The rest, when no token comes any more.
    pub fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let rest = std::mem::take(&mut self.spelled) + self.chars.finish();
        self.give(&rest, &mut parts);
        parts
    }

    fn enter(&mut self, inside: bool) {
        self.follows_thought = !inside;
        self.inside = inside;
        self.started = false;
        self.space.clear();
    }

    /// Looks for tags that are spelled out.
    fn spell(&mut self, text: &str, parts: &mut Vec<Part>) {
        self.spelled.push_str(text);
        loop {
            let pending = std::mem::take(&mut self.spelled);
            if self.inside {
                match pending.split_once(CLOSE) {
                    Some((thought, rest)) => {
                        self.give(thought, parts);
                        self.enter(false);
                        self.spelled = rest.to_owned();
                    }
                    None => {
                        let (thought, maybe) = pending.split_at(pending.len() - overlap(&pending, CLOSE));
                        self.give(thought, parts);
                        self.spelled = maybe.to_owned();
                        return;
                    }
                }
            } else if self.started {
                return self.give(&pending, parts);
            } else if let Some(rest) = pending.trim_start().strip_prefix(OPEN) {
                self.enter(true);
                self.spelled = rest.to_owned();
            } else if OPEN.starts_with(pending.trim_start()) {
                self.spelled = pending;
                return;
            } else {
                return self.give(&pending, parts);
            }
        }
    }

    /// Gives out text of the present thought or answer but for white space that may turn out to be around it.
    fn give(&mut self, text: &str, parts: &mut Vec<Part>) {
        if self.started && !self.inside {
            if !text.is_empty() {
                parts.push(Part::Answer(text.to_owned()));
            }
            return;
        }
        self.space.push_str(text);
        let words = self.space.trim_end().len();
        if words == 0 {
            return;
        }
        let mut out = std::mem::take(&mut self.space);
        if self.inside {
            self.space = out.split_off(words);
            parts.push(Part::Thought(if self.started { out } else { out.trim_start().to_owned() }));
        } else {
            let breaks = if self.follows_thought { out.len() - out.trim_start_matches(['\n', '\r']).len() } else { 0 };
            parts.push(Part::Answer(out.split_off(breaks)));
        }
        self.started = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwren_quant::gguf::{Array, Header, Plan, Value};

    /// A vocabulary of the ASCII letters and others, with or without tokens for the tags.
    fn vocab(with_tags: bool) -> Vocab {
        let mut tokens: Vec<String> = (b'!'..=b'~').map(|b| char::from(b).to_string()).collect();
        tokens.extend(["Ġ".to_owned(), "Ċ".to_owned()]);
        let mut types = vec![1; tokens.len()];
        if with_tags {
            tokens.extend([OPEN.to_owned(), CLOSE.to_owned()]);
            types.extend([4, 4]);
        }
        let mut plan = Plan::new(32);
        plan.push_kv("general.architecture", Value::String("qwen3".into()));
        plan.push_kv("tokenizer.ggml.model", Value::String("gpt2".into()));
        plan.push_kv("tokenizer.ggml.pre", Value::String("qwen2".into()));
        plan.push_kv("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
        plan.push_kv("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
        plan.push_kv("tokenizer.ggml.merges", Value::Array(Array::String(Vec::new())));
        let layout = plan.layout().unwrap();
        Vocab::from_gguf(&Header::parse(&layout.header, layout.file_bytes).unwrap()).unwrap()
    }

    /// Thought and answer of `text`, token by token; a stray end joins the answer so far to the thought.
    fn split(with_tags: bool, open: bool, text: &str) -> (String, String) {
        let vocab = vocab(with_tags);
        let mut thoughts = Thoughts::new(&vocab, open);
        let mut parts = Vec::new();
        for id in vocab.encode(text, Specials::Parse).unwrap() {
            parts.extend(thoughts.push(id, vocab.piece(id)));
        }
        parts.extend(thoughts.finish());
        let (mut thought, mut answer) = (String::new(), String::new());
        for part in parts {
            match part {
                Part::Thought(t) => thought.push_str(&t),
                Part::Answer(a) => answer.push_str(&a),
                Part::WasThought => thought.push_str(&std::mem::take(&mut answer)),
            }
        }
        (thought, answer)
    }

    #[test]
    fn thought_and_answer_come_apart() {
        for with_tags in [true, false] {
            for (open, text, thought, answer) in [
                (false, "yes", "", "yes"),
                (false, "  yes \n no\n", "", "  yes \n no\n"),
                (false, "<think>\nhm, so\n\nyes\n</think>\n\nyes.\n", "hm, so\n\nyes", "yes.\n"),
                (false, "\n<think>a</think>b", "a", "b"),
                // Q3: the prompt opened it.
                (true, "hm\n</think>\n\nyes", "hm", "yes"),
                (true, "never ends", "never ends", ""),
                // Q4: an empty thought is none.
                (false, "<think>\n\n</think>\n\nok", "", "ok"),
                (false, "<think>\n\n</think>\n\n  ok", "", "  ok"),
                (false, "<think></think>", "", ""),
                (true, "</think>a", "", "a"),
                (true, " \n", "", ""),
            ] {
                let expected = (thought.to_owned(), answer.to_owned());
                assert_eq!(split(with_tags, open, text), expected, "{with_tags} {open} {text:?}");
            }
        }
    }

    #[test]
    fn q3_a_stray_end_makes_what_was_said_a_thought() {
        assert_eq!(split(true, false, "hm\n</think>\n\nyes"), ("hm\n".into(), "yes".into()));
    }

    #[test]
    fn tags_spelled_out_count_only_where_they_are_no_tokens() {
        assert_eq!(split(false, false, "a <think>b</think>"), ("".into(), "a <think>b</think>".into()));
        assert_eq!(split(false, true, "a </thin </think> b"), ("a </thin".into(), " b".into()));
        assert_eq!(split(false, false, "<thing>"), ("".into(), "<thing>".into()));
        assert_eq!(split(false, false, "<thin"), ("".into(), "<thin".into()));
        // Spelled out letter by letter although the vocabulary has the token.
        let vocab = vocab(true);
        let mut thoughts = Thoughts::new(&vocab, false);
        let ids = vocab.encode("<think>", Specials::Plain).unwrap();
        let parts: Vec<Part> = ids.into_iter().flat_map(|id| thoughts.push(id, vocab.piece(id))).collect();
        assert_eq!(parts.len(), 7);
        assert!(!thoughts.inside());
    }

    #[test]
    fn thoughts_are_counted_without_tags() {
        let vocab = vocab(true);
        let mut thoughts = Thoughts::new(&vocab, false);
        for id in vocab.encode("<think>abc</think>d", Specials::Parse).unwrap() {
            thoughts.push(id, vocab.piece(id));
        }
        assert_eq!((thoughts.thought_tokens(), thoughts.inside()), (3, false));
    }

    #[test]
    fn q6_a_thought_can_be_ended_from_outside() {
        let vocab = vocab(true);
        let close = vocab.token_id(CLOSE).unwrap();
        for sentence in ["", "so.", BUDGET_SENTENCE, CLOSE] {
            let ids = closing_ids(&vocab, sentence).unwrap();
            assert_eq!(ids.iter().filter(|&&id| id == close).count(), 1);
            let mut thoughts = Thoughts::new(&vocab, true);
            let parts: Vec<Part> = ids.iter().flat_map(|&id| thoughts.push(id, vocab.piece(id))).collect();
            assert!(!thoughts.inside());
            let text: String = parts
                .iter()
                .map(|p| match p {
                    Part::Thought(t) => t.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(text, sentence);
        }
    }
}
