//! The line editor at the prompt, and what Ctrl-C and Ctrl-D mean there.

mod complete;
mod past;

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustyline::completion::{Completer, Pair};
use rustyline::config::{Behavior, ColorMode, CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint, Hinter};
use rustyline::history::MemHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, ConditionalEventHandler, Context, Editor, Event, EventContext, EventHandler, Helper, KeyCode, KeyEvent,
    Modifiers, RepeatCount,
};

use self::past::Past;
use super::commands::is_open_block;

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

/// Reads lines from the terminal, with history, completion and bracketed paste.
pub struct Prompt {
    editor: Editor<Aid, MemHistory>,
    interrupted_empty: Arc<AtomicBool>,
    continuations: Continuations,
    past: Past,
    /// The line as far as it is typed.
    typed: Arc<Mutex<String>>,
}

impl Prompt {
    /// Opens the terminal itself, so that stdout stays free for answers. What is typed is kept in `history`, if given.
    pub fn new(history: Option<&Path>) -> anyhow::Result<Prompt> {
        let config = Config::builder()
            .behavior(Behavior::PreferTerm)
            .bracketed_paste(true)
            // Not for colours, of which there are none: so that [`Aid`] sees every line before the terminal does.
            .color_mode(ColorMode::Forced)
            .completion_type(CompletionType::List)
            .build();
        let lines = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, lines)?;
        let past = Past::open(history);
        for line in past.lines() {
            editor.add_history_entry(line)?;
        }
        let typed = Arc::default();
        editor.set_helper(Some(Aid { typed: Arc::clone(&typed) }));
        let continuations = Continuations::default();
        let interrupted_empty = Arc::new(AtomicBool::new(false));
        let watch = WatchInterrupt(Arc::clone(&interrupted_empty));
        editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(watch)));
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), EventHandler::Simple(Cmd::Newline));
        editor.bind_sequence(KeyEvent::from('\r'), EventHandler::Conditional(Box::new(continuations.clone())));
        Ok(Prompt { editor, interrupted_empty, continuations, past, typed })
    }

    /// Shows `prompt`, with `initial` typed already, and reads a line. What is not blank goes to the history.
    pub fn read(&mut self, prompt: &str, initial: &str) -> anyhow::Result<Line> {
        self.interrupted_empty.store(false, Ordering::Relaxed);
        self.continuations.list().clear();
        let mut line = self.editor.readline_with_initial(prompt, (initial, ""));
        // A byte that is no UTF-8 becomes what stands for such a one, and the line goes on.
        while matches!(&line, Err(ReadlineError::Io(err)) if err.kind() == io::ErrorKind::InvalidData) {
            let typed = std::mem::take(&mut *self.typed.lock().unwrap_or_else(PoisonError::into_inner));
            line = self.editor.readline_with_initial(prompt, (&format!("{typed}\u{fffd}"), ""));
        }
        match line {
            Ok(text) => {
                let text = self.continuations.remove_from(text);
                if !text.trim().is_empty() && self.editor.add_history_entry(text.as_str())? {
                    self.past.add(&text);
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

/// What stood before each backslash that was typed before Enter, which then begins another line. In pasted lines a
/// backslash at the end is text.
#[derive(Clone, Default)]
struct Continuations(Arc<Mutex<Vec<String>>>);

impl Continuations {
    fn list(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `text` without these backslashes.
    fn remove_from(&self, mut text: String) -> String {
        // From the last to the first, so that what stood before one is still as it was.
        for before in self.list().drain(..).rev() {
            if text.starts_with(&before) && text[before.len()..].starts_with("\\\n") {
                text.remove(before.len());
            }
        }
        text
    }
}

impl ConditionalEventHandler for Continuations {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext<'_>) -> Option<Cmd> {
        let before = ctx.line().strip_suffix('\\').filter(|_| ctx.pos() == ctx.line().len())?;
        self.list().push(before.to_owned());
        Some(Cmd::Newline)
    }
}

/// What helps while a line is typed.
struct Aid {
    /// See [`Prompt::typed`].
    typed: Arc<Mutex<String>>,
}

impl Aid {
    /// Lines longer than this are pasted, and not kept against a broken byte: that would cost their square.
    const MOST: usize = 8192;
}

/// How an open block is left, shown behind the cursor.
struct LeaveBlock;

impl Hint for LeaveBlock {
    fn display(&self) -> &str {
        "   (\"\"\" and Enter sends, Ctrl-C drops)"
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Aid {
    type Hint = LeaveBlock;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<LeaveBlock> {
        let mut typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        typed.clear();
        if line.len() <= Aid::MOST {
            typed.push_str(line);
        }
        (pos == line.len() && is_open_block(line)).then_some(LeaveBlock)
    }
}

impl Validator for Aid {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_open_block(ctx.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Aid {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(complete::candidates(&line[..pos]))
    }
}

impl Highlighter for Aid {
    /// Control characters that were pasted, or come back from a file, are shown as their pictures and not obeyed. (After an
    /// escape character the editor may put the cursor some columns off.)
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        pictures(line)
    }

    fn highlight_char(&self, line: &str, _: usize, _: CmdKind) -> bool {
        line.chars().any(is_control)
    }
}

/// Whether a terminal would obey `c`; line ends the editor knows.
fn is_control(c: char) -> bool {
    c.is_control() && c != '\n'
}

/// The text with a picture for each control character: U+2400 and up for those of ASCII.
fn pictures(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_control) {
        return text.into();
    }
    let picture = |c: char| match u32::from(c) {
        _ if !is_control(c) => c,
        n @ 0..0x20 => char::from_u32(0x2400 + n).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    };
    text.chars().map(picture).collect::<String>().into()
}

impl Helper for Aid {}

#[cfg(test)]
mod tests {
    use super::pictures;

    #[test]
    fn t11_control_characters_are_shown_as_pictures() {
        assert_eq!(pictures("a\x1b]0;x\x07\x7f\u{9b}\tb\nc"), "a␛]0;x␇␡\u{fffd}␉b\nc");
        assert!(matches!(pictures("é 👩\n"), std::borrow::Cow::Borrowed(_)));
    }
}
