//! The line editor at the prompt, and what Ctrl-C and Ctrl-D mean there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustyline::config::{Behavior, Config};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, KeyEvent, RepeatCount};

/// What came from the prompt.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, or several that were pasted.
    Text(String),
    /// Ctrl-C; whether the line was empty.
    Interrupt {
        /// Nothing was typed when the key was pressed.
        empty: bool,
    },
    /// Ctrl-D on an empty line, or the terminal went away.
    End,
}

/// Reads lines from the terminal, with history and bracketed paste.
pub struct Prompt {
    editor: Editor<(), MemHistory>,
    interrupted_empty: Arc<AtomicBool>,
}

impl Prompt {
    /// Opens the terminal itself, so that stdout stays free for answers.
    pub fn new() -> anyhow::Result<Prompt> {
        let config = Config::builder().behavior(Behavior::PreferTerm).bracketed_paste(true).build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history)?;
        let interrupted_empty = Arc::new(AtomicBool::new(false));
        let watch = WatchInterrupt(Arc::clone(&interrupted_empty));
        editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(watch)));
        Ok(Prompt { editor, interrupted_empty })
    }

    /// Shows `prompt` and reads a line. What is not blank goes to the history.
    pub fn read(&mut self, prompt: &str) -> anyhow::Result<Line> {
        self.interrupted_empty.store(false, Ordering::Relaxed);
        match self.editor.readline(prompt) {
            Ok(text) => {
                if !text.trim().is_empty() {
                    self.editor.add_history_entry(text.as_str())?;
                }
                Ok(Line::Text(text))
            }
            Err(ReadlineError::Interrupted) => {
                Ok(Line::Interrupt { empty: self.interrupted_empty.load(Ordering::Relaxed) })
            }
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(err) => Err(anyhow::Error::from(err).context("cannot read from the terminal")),
        }
    }

    /// Asks a question that is answered with y or n; anything but y is a no.
    pub fn confirm(&mut self, question: &str) -> anyhow::Result<bool> {
        match self.editor.readline(&format!("{question} [y/N] ")) {
            Ok(text) => Ok(matches!(text.trim(), "y" | "Y" | "yes")),
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => Ok(false),
            Err(err) => Err(anyhow::Error::from(err).context("cannot read from the terminal")),
        }
    }
}

/// Notes whether the line is empty when Ctrl-C is pressed; the editor itself doesn't tell.
struct WatchInterrupt(Arc<AtomicBool>);

impl ConditionalEventHandler for WatchInterrupt {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(ctx.line().is_empty(), Ordering::Relaxed);
        Some(Cmd::Interrupt)
    }
}
