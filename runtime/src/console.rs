//! What is said beside the answer: stderr, quiet or not.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anstyle::{Effects, Style};
use qwren::terminal::{escape, shown};

/// Dim text.
pub const DIM: Style = Style::new().effects(Effects::DIMMED);

/// Says whether the terminal knows sequences. On one that doesn't, chat's editor reads plain lines.
pub fn moves_cursor() -> bool {
    !std::env::var("TERM").is_ok_and(|term| ["dumb", "cons25", "emacs"].contains(&term.as_str()))
}

/// How much is said on stderr, and to whom. A closed stderr is nobody's fault.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    quiet: bool,
    verbose: bool,
    terminal: bool,
    /// What stands on the terminal can be replaced.
    replaces: bool,
}

impl Console {
    /// Asks once whether stderr is a terminal.
    pub fn new(quiet: bool, verbose: bool) -> Console {
        Console { quiet, verbose, terminal: std::io::stderr().is_terminal(), replaces: moves_cursor() }
    }

    /// Whether more is said.
    pub fn is_verbose(self) -> bool {
        self.verbose
    }

    /// One line, unless quiet.
    pub fn note(self, text: impl Display) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// One line in any case, whatever it quotes.
    pub fn line(self, text: impl Display) {
        let text = text.to_string();
        let lines = text.lines().map(str::trim_end).filter(|l| !l.is_empty());
        self.block(lines.collect::<Vec<_>>().join(" "));
    }

    /// One line beside the answer, unless quiet; dim where a terminal can show that.
    pub fn aside(self, text: impl Display) {
        let stderr = std::io::stderr();
        let dim = self.terminal && anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
        match dim {
            false => self.note(text),
            true if self.quiet => {}
            true => drop(writeln!(std::io::stderr(), "{DIM}{}{DIM:#}", escape(&text.to_string()))),
        }
    }

    /// Begins another line, unless quiet or in a pipe, where the answer goes elsewhere.
    pub fn break_line(self) {
        if self.terminal && !self.quiet {
            let _ = writeln!(std::io::stderr());
        }
    }

    /// Lines that somebody asked for.
    pub fn block(self, text: impl Display) {
        let text = text.to_string();
        let _ = writeln!(std::io::stderr(), "{}", shown(&text, self.terminal));
    }

    /// Whether passing states are shown: to a person who didn't ask for quiet, where the next can replace the last.
    pub fn shows_progress(self) -> bool {
        self.terminal && !self.quiet && self.replaces
    }

    /// The width of the terminal, if it is one.
    pub fn columns(self) -> usize {
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
        size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0).unwrap_or(80)
    }

    /// A state that the next one replaces. What a narrow screen has no room for is left out: on two lines it would stay.
    pub fn progress(self, text: impl Display) {
        if self.shows_progress() {
            let text: String = escape(&text.to_string()).chars().take(self.columns() - 1).collect();
            let _ = write!(std::io::stderr(), "\r{text}\x1b[K");
        }
    }

    /// Takes the last state away.
    pub fn end_progress(self) {
        if self.shows_progress() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
