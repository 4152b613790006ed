//! What is said beside the answer: stderr, quiet or not.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// How much is said on stderr, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    quiet: bool,
    verbose: bool,
    terminal: bool,
}

impl Console {
    /// Asks once whether stderr is a terminal.
    pub fn new(quiet: bool, verbose: bool) -> Console {
        Console { quiet, verbose, terminal: std::io::stderr().is_terminal() }
    }

    /// Whether stderr is a terminal.
    pub fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Whether nothing but errors is said.
    pub fn is_quiet(self) -> bool {
        self.quiet
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

    /// One line in any case. A closed stderr is nobody's fault.
    pub fn line(self, text: impl Display) {
        let text = one_line(&text.to_string());
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Joins lines, so that a message stays one line whatever it quotes.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}
