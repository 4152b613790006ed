//! Where a completion goes: to stdout as it comes, or together as one line of JSON.

use std::io::{self, IsTerminal, Write};

use qwren::stream::FinishReason;
use qwren::terminal::shown;
use qwren::vocab::Vocab;
use serde::Serialize;

use crate::generate::Answer;
use crate::report;

/// Where the text goes.
pub struct Output {
    /// The text, if it is collected.
    pub text: String,
    collect: bool,
    terminal: bool,
    at_line_start: bool,
}

impl Output {
    /// Streams to stdout, or collects.
    pub fn new(collect: bool) -> Output {
        Output { text: String::new(), collect, terminal: io::stdout().is_terminal(), at_line_start: true }
    }

    /// A piece of it.
    pub fn put(&mut self, text: &str) -> io::Result<()> {
        if self.collect {
            self.text.push_str(text);
            return Ok(());
        }
        if text.is_empty() {
            return Ok(());
        }
        self.at_line_start = text.ends_with('\n');
        let mut out = io::stdout().lock();
        out.write_all(shown(text, self.terminal).as_bytes())?;
        out.flush()
    }

    /// Completes a terminal's line; a pipe's bytes are left as they are.
    pub fn end(&self) -> io::Result<()> {
        if self.terminal && !self.at_line_start { writeln!(io::stdout()) } else { Ok(()) }
    }
}

/// The result with --json.
#[derive(Debug, Serialize)]
pub struct Completion<'a> {
    text: &'a str,
    tokens: &'a [u32],
    prompt_tokens: usize,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<&'a str>,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Position>>,
    timings: report::Rates,
}

/// The log-probabilities where one token was chosen.
#[derive(Debug, Serialize)]
struct Position {
    #[serde(flatten)]
    chosen: Token,
    top: Vec<Token>,
}

/// A token and its log-probability; null where that is −∞.
#[derive(Debug, Serialize)]
struct Token {
    id: u32,
    text: String,
    /// Where a token is no whole characters, `text` can't say what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
    logprob: f32,
}

impl Token {
    fn new(vocab: &Vocab, id: u32, logprob: f32) -> Token {
        let piece = vocab.piece(id);
        let bytes = std::str::from_utf8(piece).is_err().then(|| piece.to_vec());
        Token { id, text: String::from_utf8_lossy(piece).into_owned(), bytes, logprob }
    }
}

impl<'a> Completion<'a> {
    /// What came of `answer`.
    pub fn of(
        output: &'a Output,
        answer: &'a Answer,
        vocab: &Vocab,
        prompt_tokens: usize,
        reason: FinishReason,
        seed: u64,
    ) -> Completion<'a> {
        let position = |(&id, entry): (&u32, &crate::generate::Logprobs)| Position {
            chosen: Token::new(vocab, id, entry.chosen),
            top: entry.top.iter().map(|&(id, logprob)| Token::new(vocab, id, logprob)).collect(),
        };
        let positions = || answer.tokens.iter().zip(&answer.recorder.entries).map(position).collect();
        Completion {
            text: &output.text,
            tokens: &answer.tokens,
            prompt_tokens,
            reason: reason.name(),
            stop: answer.stop(),
            seed,
            logprobs: answer.recorder.is_on().then(positions),
            timings: report::Rates::of(&answer.timings),
        }
    }

    /// Prints it on a line.
    pub fn print(&self) -> anyhow::Result<()> {
        let line = serde_json::to_string(self)?;
        Ok(writeln!(io::stdout(), "{line}")?)
    }
}
