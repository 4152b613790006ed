//! The answer on stdout: raw in a pipe, harmless on a terminal, thoughts apart.

use std::io::{self, IsTerminal, Write};

use qwren::terminal::shown;
use qwren::thinking::Part;

use super::markdown::{Markdown, Styled};
use super::tools::{Calls, Piece};
use crate::console::DIM;

/// What becomes of thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Thinking {
    /// Shown like the answer, between <think> and </think>
    Show,
    /// Dimmed on a terminal, left out elsewhere
    Dim,
    /// Left out
    Hide,
}

/// How thoughts are set off from the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Tags,
    Dimmed,
    Hidden,
}

/// What was printed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Thought,
    Answer,
}

/// How answers are shown.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// What becomes of thoughts.
    pub thoughts: Thinking,
    /// Markdown is shown as such, on a terminal with colours.
    pub markdown: bool,
    /// Calls of functions are shown as lines of JSON.
    pub tools: bool,
}

/// Prints one answer as it comes.
pub struct Printer<W> {
    out: W,
    terminal: bool,
    form: Form,
    last: Last,
    at_line_start: bool,
    markdown: Option<Markdown>,
    calls: Option<Calls>,
}

impl Printer<io::Stdout> {
    /// Prints to stdout.
    pub fn stdout(view: View) -> Printer<io::Stdout> {
        let out = io::stdout();
        let colour = anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never;
        let terminal = out.is_terminal();
        Printer::new(out, terminal, colour, view)
    }
}

impl<W: Write> Printer<W> {
    fn new(out: W, terminal: bool, colour: bool, view: View) -> Printer<W> {
        let form = match view.thoughts {
            Thinking::Hide => Form::Hidden,
            Thinking::Dim if !terminal => Form::Hidden,
            Thinking::Dim if colour => Form::Dimmed,
            Thinking::Dim | Thinking::Show => Form::Tags,
        };
        let markdown = (view.markdown && terminal && colour).then(Markdown::new);
        let calls = view.tools.then(Calls::default);
        Printer { out, terminal, form, last: Last::Nothing, at_line_start: true, markdown, calls }
    }

    /// Prints a piece at once.
    pub fn put(&mut self, part: &Part) -> io::Result<()> {
        match part {
            Part::Thought(_) if self.form == Form::Hidden => return Ok(()),
            Part::Thought(text) => {
                if self.last != Last::Thought && self.form == Form::Tags {
                    self.out.write_all(b"<think>\n")?;
                }
                self.last = Last::Thought;
                self.write(text, self.form == Form::Dimmed)?;
            }
            Part::Answer(text) => {
                if self.last == Last::Thought {
                    self.leave_thought()?;
                }
                self.last = Last::Answer;
                match &mut self.calls {
                    Some(calls) => {
                        let pieces = calls.push(text);
                        self.pieces(pieces)?;
                    }
                    None => self.answer(text)?,
                }
            }
            // It can't be unprinted; what follows is set off from it.
            Part::WasThought if self.last == Last::Answer && self.form != Form::Hidden => self.last = Last::Thought,
            Part::WasThought => {}
        }
        self.out.flush()
    }

    /// Ends the answer: a terminal's line is completed, a pipe's bytes are left as they are.
    pub fn end(&mut self) -> io::Result<()> {
        if self.last == Last::Thought && self.form == Form::Tags {
            self.close_thought()?;
        }
        if let Some(calls) = &mut self.calls {
            let pieces = calls.finish();
            self.pieces(pieces)?;
        }
        if let Some(markdown) = &mut self.markdown {
            let rest = markdown.finish();
            self.styled(&rest)?;
        }
        if self.terminal && !self.at_line_start {
            self.out.write_all(b"\n")?;
            self.at_line_start = true;
        }
        self.out.flush()
    }

    /// Words and calls, each call on a line of its own.
    fn pieces(&mut self, pieces: Vec<Piece>) -> io::Result<()> {
        for piece in pieces {
            match piece {
                // Line breaks around calls are the template's.
                Piece::Text(text) if text.trim().is_empty() && self.at_line_start => {}
                Piece::Text(text) => self.answer(&text)?,
                Piece::Call(call) => {
                    let line_end = if self.at_line_start { "" } else { "\n" };
                    self.write(&format!("{line_end}{}\n", call.line()), false)?;
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, text: &str) -> io::Result<()> {
        match &mut self.markdown {
            Some(markdown) => {
                let pieces = markdown.push(text);
                self.styled(&pieces)
            }
            None => self.write(text, false),
        }
    }

    fn styled(&mut self, pieces: &[Styled]) -> io::Result<()> {
        for (style, text) in pieces {
            self.at_line_start = text.ends_with('\n');
            write!(self.out, "{style}{}{style:#}", shown(text, self.terminal))?;
        }
        Ok(())
    }

    fn write(&mut self, text: &str, dim: bool) -> io::Result<()> {
        let text_shown = shown(text, self.terminal);
        self.at_line_start = text.ends_with('\n');
        if dim {
            // Closed at once: a program that ends here leaves no dim terminal behind.
            write!(self.out, "{DIM}{text_shown}{DIM:#}")
        } else {
            self.out.write_all(text_shown.as_bytes())
        }
    }

    /// Sets the answer off from the thought before it.
    fn leave_thought(&mut self) -> io::Result<()> {
        if self.form == Form::Tags {
            self.close_thought()?;
            return self.out.write_all(b"\n");
        }
        self.out.write_all(if self.at_line_start { b"\n" } else { b"\n\n" })
    }

    fn close_thought(&mut self) -> io::Result<()> {
        let line_end: &[u8] = if self.at_line_start { b"" } else { b"\n" };
        self.out.write_all(line_end)?;
        self.out.write_all(b"</think>\n")?;
        self.at_line_start = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(terminal: bool, colour: bool, thoughts: Thinking, parts: &[Part]) -> String {
        viewed(terminal, colour, View { thoughts, markdown: false, tools: false }, parts)
    }

    fn viewed(terminal: bool, colour: bool, view: View, parts: &[Part]) -> String {
        let mut printer = Printer::new(Vec::new(), terminal, colour, view);
        parts.iter().for_each(|part| printer.put(part).unwrap());
        printer.end().unwrap();
        String::from_utf8(printer.out).unwrap()
    }

    fn parts() -> Vec<Part> {
        let thought = ["Hm", "…"].map(|text| Part::Thought(text.into()));
        thought.into_iter().chain([Part::Answer("Yes\x1b[31m".into())]).collect()
    }

    #[test]
    fn t4_a_pipe_gets_the_answer_and_nothing_else() {
        assert_eq!(printed(false, false, Thinking::Dim, &parts()), "Yes\x1b[31m");
        assert_eq!(printed(false, false, Thinking::Hide, &parts()), "Yes\x1b[31m");
        assert_eq!(printed(false, false, Thinking::Show, &parts()), "<think>\nHm…\n</think>\n\nYes\x1b[31m");
    }

    #[test]
    fn t11_a_terminal_gets_dim_thoughts_and_no_escape_sequences() {
        let dim = "\x1b[2mHm\x1b[0m\x1b[2m…\x1b[0m\n\nYes\\u{1b}[31m\n";
        assert_eq!(printed(true, true, Thinking::Dim, &parts()), dim);
        assert_eq!(printed(true, false, Thinking::Dim, &parts()), "<think>\nHm…\n</think>\n\nYes\\u{1b}[31m\n");
    }

    #[test]
    fn q4_without_a_thought_nothing_stands_before_the_answer() {
        for thinking in [Thinking::Show, Thinking::Dim, Thinking::Hide] {
            assert_eq!(printed(true, true, thinking, &[Part::Answer("Yes\n".into())]), "Yes\n");
        }
    }

    #[test]
    fn a_thought_that_was_stopped_is_closed() {
        assert_eq!(printed(false, false, Thinking::Show, &parts()[..2]), "<think>\nHm…\n</think>\n");
    }

    #[test]
    fn q3_what_turns_out_to_be_a_thought_is_set_off() {
        let parts = [Part::Answer("Hm".into()), Part::WasThought, Part::Answer("Yes".into())];
        assert_eq!(printed(true, true, Thinking::Dim, &parts), "Hm\n\nYes\n");
        assert_eq!(printed(false, false, Thinking::Show, &parts), "Hm\n</think>\n\nYes");
    }

    #[test]
    fn t15_markdown_is_for_terminals_that_show_it() {
        let view = View { thoughts: Thinking::Dim, markdown: true, tools: false };
        let parts = [Part::Answer("a **b".into()), Part::Answer("** \x1b]0;x\x07".into())];
        assert_eq!(viewed(true, true, view, &parts), "a \x1b[1mb\x1b[0m \\u{1b}]0;x\\u{7}\n");
        assert_eq!(viewed(true, false, view, &parts), "a **b** \\u{1b}]0;x\\u{7}\n");
        assert_eq!(viewed(false, true, view, &parts), "a **b** \x1b]0;x\x07");
    }

    #[test]
    fn calls_are_lines_of_json() {
        let view = View { thoughts: Thinking::Dim, markdown: false, tools: true };
        let parts =
            ["I look.\n", "<tool_call>", "\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n", "</tool_call>", "\n"];
        let parts = parts.map(|text| Part::Answer(text.into()));
        assert_eq!(viewed(false, false, view, &parts), "I look.\n{\"name\":\"f\",\"arguments\":{\"x\":1}}\n");
    }
}
