//! The loop at a terminal: read a line, do what it says, until somebody leaves.

use qwren::sampler::{Purpose, Resolved};
use qwren::stream::FinishReason;
use qwren_quant::gguf::Header;

use super::Args;
use super::commands::{Command, HELP, Input, parse};
use super::conversation::Conversation;
use super::editor::{Line, Prompt};
use super::render::Printer;
use crate::console::Console;
use crate::exit::{self, Exit};
use crate::report;
use crate::signals::{Interrupt, Second};

const PROMPT: &str = "> ";

/// What `/show` shows and `/think` changes.
pub struct Settings<'a> {
    /// As typed at the start.
    pub args: &'a Args,
    /// The file's keys.
    pub header: &'a Header,
    /// Whether the template can be told to think or not.
    pub has_switch: bool,
    /// How tokens are chosen, and who says so.
    pub sampling: Resolved,
}

/// What comes after a line.
enum Next {
    Line,
    Leave,
}

/// Talks until the user leaves; ends with 0, or 130 after Ctrl-C twice.
pub fn run(conversation: &mut Conversation<'_>, mut settings: Settings<'_>, console: Console) -> anyhow::Result<Exit> {
    console.note("/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves");
    let mut prompt = Prompt::new()?;
    // From the first listener on the signal never ends the program, not even between the editor and an answer.
    drop(Interrupt::listen(Second::Ignored)?);
    let mut warned = false;
    let exit = loop {
        match prompt.read(PROMPT)? {
            Line::End => break Exit::Done,
            Line::Interrupt { empty: true } if warned => break Exit::Interrupted,
            Line::Interrupt { empty } => {
                warned = empty;
                if empty {
                    console.line("Ctrl-C again leaves, as does Ctrl-D; /help lists the commands");
                }
            }
            Line::Text(line) => {
                warned = false;
                let mut talk = Talk { conversation, settings: &mut settings, console, prompt: &mut prompt };
                match talk.take(&line)? {
                    Next::Line => {}
                    Next::Leave => break Exit::Done,
                }
            }
        }
    };
    if conversation.totals.chosen > 0 {
        console.note(report::rates_text(&conversation.totals));
    }
    Ok(exit)
}

/// Everything a line may act on.
struct Talk<'t, 's, 'm> {
    conversation: &'t mut Conversation<'m>,
    settings: &'t mut Settings<'s>,
    console: Console,
    prompt: &'t mut Prompt,
}

impl Talk<'_, '_, '_> {
    fn take(&mut self, line: &str) -> anyhow::Result<Next> {
        match parse(line) {
            Input::Empty => {}
            Input::Message(text) => self.ask(text.into_owned())?,
            Input::Command(Command::Exit) => return Ok(Next::Leave),
            Input::Command(command) => self.obey(command)?,
            Input::Unknown(word) => {
                let question = format!("{word} is no command (/help lists them). Send the line as a message?");
                if self.prompt.confirm(&question)? {
                    self.ask(line.to_owned())?;
                }
            }
        }
        Ok(Next::Line)
    }

    fn ask(&mut self, text: String) -> anyhow::Result<()> {
        self.conversation.history.ask(text);
        self.answer()
    }

    /// Streams an answer to the last message. An error takes the message back and is said; the conversation goes on.
    fn answer(&mut self) -> anyhow::Result<()> {
        let interrupt = Interrupt::listen(Second::Ignored)?;
        let mut printer = Printer::stdout(self.settings.args.thinking);
        let outcome = self.conversation.answer(interrupt.flag(), &mut |part| printer.put(part));
        printer.end()?;
        match outcome {
            Ok((FinishReason::Interrupt, _)) => {
                self.console.line("[stopped; what was said stays in the conversation, /regen answers again]");
            }
            Ok((FinishReason::Context, _)) => {
                self.console.line("[the context is full; /clear, or start with a larger -c]")
            }
            Ok((FinishReason::Length, _)) => self.console.note("[as long as -n allows]"),
            Ok(_) => {}
            // Nobody reads the answers any more.
            Err(err) if exit::code(&err) == Exit::Done => return Err(err),
            Err(err) => {
                exit::report(&err, self.console);
                self.conversation.history.undo();
            }
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Help => self.console.block(HELP),
            Command::Clear => {
                self.conversation.history.clear();
                self.console.line("[the conversation is empty]");
            }
            Command::Regen if self.conversation.history.reopen() => self.answer()?,
            Command::Regen => self.console.line("[there is no message to answer]"),
            Command::Undo => match self.conversation.history.undo() {
                Some(turn) => self.console.line(format_args!("[taken back: {}]", turn.user)),
                None => self.console.line("[there is no message to take back]"),
            },
            Command::Stats => self.console.block(report::rates_text(&self.conversation.totals)),
            Command::Show => self.console.block(self.show()),
            Command::Think => self.think(true)?,
            Command::NoThink => self.think(false)?,
            Command::Exit => {}
        }
        Ok(())
    }

    fn think(&mut self, on: bool) -> anyhow::Result<()> {
        if !self.settings.has_switch {
            self.console.line("[this model has no thinking switch]");
            return Ok(());
        }
        let settings = &mut *self.settings;
        let sampling = settings.args.sampling.resolve(settings.header, Purpose::Chat { thinking: on })?;
        // The seed of this run stays.
        settings.sampling = Resolved { seed: settings.sampling.seed, ..sampling };
        self.conversation.sampling = settings.sampling.sampling();
        self.conversation.thinking = Some(on);
        self.console.line(if on { "[thinking is on]" } else { "[thinking is off]" });
        Ok(())
    }

    /// The settings in force, each with its source.
    fn show(&self) -> String {
        let thinking = match (self.settings.has_switch, self.conversation.thinking) {
            (false, _) => "as the model has it (no switch)",
            (true, None) => "as the template has it",
            (true, Some(true)) => "on",
            (true, Some(false)) => "off",
        };
        let rows = self.settings.sampling.rows();
        let rows = rows.iter().map(|(name, value, source)| format!("{name:<18} {value}  ({source})"));
        std::iter::once(format!("{:<18} {thinking}", "thinking")).chain(rows).collect::<Vec<_>>().join("\n")
    }
}
