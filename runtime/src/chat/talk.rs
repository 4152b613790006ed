//! What the lines of a chat do.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use qwren::stream::FinishReason;
use qwren::terminal::escape;
use qwren::thinking::Part;
use qwren::vocab::Specials;

use super::commands::{Command, Input, Spec, help, parse};
use super::conversation::{Conversation, Outcome};
use super::editor::Prompt;
use super::files::{Attachments, expand_home};
use super::history::Asked;
use super::render::{Printer, View};
use super::settings::Settings;
use super::store::{self, Record};
use super::terminal_guard::Hushed;
use super::{clipboard, external, tools};
use crate::console::Console;
use crate::exit::{self, Exit};
use crate::report;
use crate::signals::{Interrupt, Second};
use crate::units::count;

/// What comes after a line.
pub enum Next {
    /// Another line.
    Line,
    /// Another line, of which this is typed already.
    Edit(String),
    /// Nothing.
    Leave,
}

/// Everything that a line may act on.
pub struct Talk<'t, 'm> {
    /// What was said, and the model.
    pub conversation: &'t mut Conversation<'m>,
    /// The line editor.
    pub prompt: Prompt,
    settings: Settings,
    console: Console,
    waiting: Attachments,
    /// The next message replaces the last one.
    editing_last: bool,
    /// Results of tools, until there are as many as calls.
    results: Vec<String>,
    markdown: bool,
}

impl<'t, 'm> Talk<'t, 'm> {
    /// At the beginning nothing waits.
    pub fn new(
        conversation: &'t mut Conversation<'m>,
        settings: Settings,
        console: Console,
        prompt: Prompt,
    ) -> Talk<'t, 'm> {
        Talk {
            conversation,
            prompt,
            settings,
            console,
            waiting: Attachments::default(),
            editing_last: false,
            results: Vec::new(),
            markdown: false,
        }
    }

    /// Does what a line says.
    pub fn take(&mut self, line: &str) -> anyhow::Result<Next> {
        match parse(line) {
            Input::Empty => {}
            Input::Message(text) => self.ask(text.into_owned())?,
            Input::Command(command, argument) => return self.obey(command, argument),
            Input::Incomplete(Spec { names, argument, .. }) => {
                let what = match argument {
                    super::commands::Argument::Required(what) => what,
                    _ => "",
                };
                self.console.line(format_args!("[{} needs {what}]", names[0]));
            }
            Input::Surplus(Spec { names, .. }) => {
                self.console
                    .line(format_args!("[{0} takes nothing after it; /{0} … sends the line as a message]", names[0]));
            }
            Input::Unknown(word) => {
                let question = format!("{word} is no command (/help lists them). Send the line as a message?");
                if self.prompt.confirm(&escape(&question))? {
                    self.ask(line.to_owned())?;
                }
            }
        }
        Ok(Next::Line)
    }

    /// The line after `/edit-last` was dropped.
    pub fn forget_edit(&mut self) {
        self.editing_last = false;
    }

    fn ask(&mut self, text: String) -> anyhow::Result<()> {
        if std::mem::take(&mut self.editing_last) {
            // The answers that /regen put aside belong to the old words.
            while self.conversation.chronicle.history().last().is_some_and(|turn| !turn.earlier.is_empty()) {
                self.conversation.chronicle.happen(Record::Undo);
            }
            self.conversation.chronicle.happen(Record::Undo);
        }
        self.results.clear();
        let text = self.waiting.join(text);
        self.conversation.chronicle.happen(Record::User(text));
        self.answer(false)
    }

    /// Streams an answer to the last message. An error is said, and the conversation goes on.
    fn answer(&mut self, goes_on: bool) -> anyhow::Result<()> {
        let interrupt = Interrupt::listen(Second::Ignored)?;
        let hushed = Hushed::new();
        let mut printer = Printer::stdout(self.view());
        let outcome = self.conversation.answer(goes_on, interrupt.flag(), &mut |part| printer.put(part));
        printer.end()?;
        drop(hushed);
        if !std::io::stdout().is_terminal() {
            // Of several answers in a file each is a line at least.
            writeln!(std::io::stdout())?;
        }
        match outcome {
            Ok(outcome) if goes_on && outcome.timings.chosen == 0 && outcome.reason == FinishReason::Eos => {
                self.say("the answer is complete; the model has nothing to add");
            }
            Ok(outcome) => self.ended(&outcome),
            // Nobody reads the answers any more.
            Err(err) if exit::code(&err) == Exit::Done => return Err(err),
            Err(err) => {
                exit::report(&err, self.console);
            }
        }
        Ok(())
    }

    fn view(&self) -> View {
        View { thoughts: self.settings.thoughts, markdown: self.markdown, tools: self.conversation.has_tools() }
    }

    /// Says how an answer ended, and what it took.
    fn ended(&mut self, outcome: &Outcome) {
        let said = self.conversation.chronicle.history().last().is_some_and(|turn| turn.reply.is_some());
        match outcome.reason {
            FinishReason::Interrupt if said => {
                self.console.line("[stopped; what was said stays: /continue goes on, /regen answers again]");
            }
            FinishReason::Interrupt => {
                self.console.line("[stopped before an answer; /regen answers, /undo takes it back]")
            }
            FinishReason::Context => self.console.line("[the context is full; /clear, or start with a larger -c]"),
            FinishReason::Loop => self.console.line("[stopped: the model repeats itself; /regen answers again]"),
            FinishReason::Length | FinishReason::Stop | FinishReason::Eos => {}
        }
        let calls = self.calls();
        if calls > 0 {
            self.console
                .line(format_args!("[the model calls {}; give each result with /tool]", count(calls, "function")));
        }
        let (used, ctx) = (self.conversation.session().len(), self.conversation.session().ctx());
        self.console.aside(report::status_line(&outcome.timings, outcome.reason, outcome.thought_cut, used, ctx));
    }

    /// How many functions the last answer calls.
    fn calls(&self) -> usize {
        if !self.conversation.has_tools() {
            return 0;
        }
        let reply = self.conversation.chronicle.history().last().and_then(|turn| turn.reply.as_ref());
        reply.map_or(0, |reply| tools::split(&reply.text).1.len())
    }

    fn obey(&mut self, command: Command, argument: &str) -> anyhow::Result<Next> {
        match command {
            Command::Exit => return Ok(Next::Leave),
            Command::EditLast => {
                match self.conversation.chronicle.history().last().map(|turn| turn.message().to_owned()) {
                    Some(message) if !message.is_empty() => {
                        self.editing_last = true;
                        return Ok(Next::Edit(message));
                    }
                    _ => self.say("there is no message to change"),
                }
            }
            Command::Help => self.console.block(help(self.console.columns())),
            Command::Regen => self.regen()?,
            Command::Continue => self.go_on()?,
            Command::Undo => self.undo(),
            Command::Edit => match external::edit(argument) {
                Ok(text) if text.trim().is_empty() => self.say("nothing was written; nothing is sent"),
                Ok(text) => {
                    self.console.block(&text);
                    self.ask(text)?;
                }
                Err(why) => self.say(why),
            },
            Command::Clear => {
                self.conversation.chronicle.start_anew();
                self.waiting.clear();
                self.results.clear();
                self.say("a new conversation; the old one is kept unless this is private");
            }
            Command::System => self.system(argument),
            Command::Think | Command::NoThink => {
                let on = command == Command::Think;
                match self.settings.think(on, self.conversation) {
                    Ok(()) => self.say(if on { "thinking is on" } else { "thinking is off" }),
                    Err(why) => self.say(why),
                }
            }
            Command::Set if argument.is_empty() => self.console.block(self.settings.show(self.conversation)),
            Command::Set => match self.settings.set(argument, self.conversation) {
                Ok(now) => self.say(now),
                Err(why) => self.say(why),
            },
            Command::Show => self.console.block(self.settings.show(self.conversation)),
            Command::Read | Command::Glob => self.read(command, argument),
            Command::Tool => self.tool(argument)?,
            Command::Save => self.save(argument)?,
            Command::Load => self.load(argument)?,
            Command::Copy => self.copy(),
            Command::Markdown => self.switch_markdown(argument),
            Command::Stats => self.console.block(report::rates_text(&self.conversation.totals)),
            Command::Context => self.context()?,
            Command::Tokens => self.tokens(argument)?,
        }
        Ok(Next::Line)
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.console.line(format_args!("[{what}]"));
    }

    fn regen(&mut self) -> anyhow::Result<()> {
        if self.conversation.chronicle.history().last().is_none() {
            self.say("there is no message to answer");
            return Ok(());
        }
        self.conversation.chronicle.happen(Record::Regen);
        self.answer(false)
    }

    fn go_on(&mut self) -> anyhow::Result<()> {
        match self.conversation.chronicle.history().last() {
            Some(turn) if turn.reply.is_some() => self.answer(true),
            Some(_) => self.answer(false),
            None => {
                self.say("there is no answer to go on with");
                Ok(())
            }
        }
    }

    fn undo(&mut self) {
        let Some(turn) = self.conversation.chronicle.history().last() else {
            return self.say("there is no message to take back");
        };
        let said = match (turn.earlier.last(), &turn.asked) {
            (Some(earlier), _) => format!("the answer before is back: {}", brief(earlier.text.trim())),
            (None, Asked::User(text)) => format!("taken back: {}", brief(text)),
            (None, Asked::Tools(_)) => "taken back: the results of tools".to_owned(),
        };
        self.conversation.chronicle.happen(Record::Undo);
        self.say(said);
    }

    fn system(&mut self, text: &str) {
        if !text.is_empty() {
            let text = (text != "none").then(|| text.to_owned());
            self.conversation.chronicle.happen(Record::System(text));
        }
        match self.conversation.chronicle.history().system() {
            Some(text) => self.say(format_args!("system prompt: {text}")),
            None => self.say("no system prompt"),
        }
    }

    fn read(&mut self, command: Command, argument: &str) {
        let ctx = self.conversation.session().ctx();
        let vocab = self.conversation.vocab();
        let said = match command {
            Command::Read if argument.is_empty() => Ok(self.waiting.list()),
            Command::Read => self.waiting.add(&expand_home(argument), vocab, ctx).map(|said| vec![said]),
            _ => self.waiting.add_all(argument, vocab, ctx),
        };
        match said {
            Ok(files) if files.is_empty() => self.say("no file waits for the next message"),
            Ok(files) => {
                files.iter().for_each(|file| self.say(file));
                self.say("goes with the next message");
            }
            Err(why) => self.say(why),
        }
    }

    fn tool(&mut self, result: &str) -> anyhow::Result<()> {
        let calls = self.calls();
        if calls == 0 {
            self.say("the last answer calls no function");
            return Ok(());
        }
        self.results.push(result.to_owned());
        if self.results.len() < calls {
            self.say(format_args!("{} of {calls} results; the next one?", self.results.len()));
            return Ok(());
        }
        let results = std::mem::take(&mut self.results);
        self.conversation.chronicle.happen(Record::Tools(results));
        self.answer(false)
    }

    fn save(&mut self, name: &str) -> anyhow::Result<()> {
        let path = match store::target(&expand_home(name)) {
            Ok(path) => path,
            Err(err) => {
                self.say(format_args!("{name}: cannot be written: {err}"));
                return Ok(());
            }
        };
        if path.exists() && !self.prompt.confirm(&escape(&format!("{name} exists already. Replace it?")))? {
            return Ok(());
        }
        match self.conversation.chronicle.save(&path) {
            Ok(()) => self.say(format_args!("saved: {name}; /load reads it")),
            Err(err) => self.say(format_args!("{name}: cannot be written: {err}")),
        }
        Ok(())
    }

    fn load(&mut self, name: &str) -> anyhow::Result<()> {
        match store::load(&expand_home(name)) {
            Ok(loaded) => {
                self.conversation.chronicle.replace(loaded.history);
                self.results.clear();
                self.show_last()?;
            }
            Err(err) => self.say(err),
        }
        Ok(())
    }

    /// Shows where a conversation stands that goes on.
    pub fn show_last(&self) -> anyhow::Result<()> {
        let history = self.conversation.chronicle.history();
        self.console.note(format_args!("[{}; the last one:]", count(history.turns().len(), "turn")));
        let Some(turn) = history.last() else { return Ok(()) };
        let mut out = std::io::stdout();
        writeln!(out, "> {}", escape(&brief(turn.message())))?;
        if let Some(reply) = &turn.reply {
            let mut printer = Printer::stdout(self.view());
            if !reply.thought.is_empty() {
                printer.put(&Part::Thought(reply.thought.clone()))?;
            }
            printer.put(&Part::Answer(reply.text.clone()))?;
            printer.end()?;
        }
        Ok(())
    }

    fn copy(&self) {
        let reply = self.conversation.chronicle.history().last().and_then(|turn| turn.reply.as_ref());
        match reply.map(|reply| clipboard::copy(reply.text.trim())) {
            None => self.say("there is no answer to copy"),
            Some(Ok(by)) => self.say(format_args!("copied, by {by}")),
            Some(Err(why)) => self.say(why),
        }
    }

    fn switch_markdown(&mut self, argument: &str) {
        self.markdown = match argument {
            "on" => true,
            "off" => false,
            "" => !self.markdown,
            _ => return self.say("/markdown on, or /markdown off"),
        };
        self.say(if self.markdown {
            "Markdown is shown as such; /markdown off"
        } else {
            "Markdown is shown as it is written"
        });
    }

    /// How full the context is, and of what.
    fn context(&self) -> anyhow::Result<()> {
        let (session, history) = (self.conversation.session(), self.conversation.chronicle.history());
        let ctx = session.ctx();
        let next = if history.last().is_some() { self.conversation.prompt()?.ids.len() } else { 0 };
        let left = match history.left() {
            0 => String::new(),
            n => format!(", of which the oldest {} left the context", count(n, "turn")),
        };
        self.console.block(format_args!(
            "{}{left}\n{} of {ctx} tokens of context are read ({} %); up to the last message the conversation has {next}",
            count(history.turns().len(), "turn"),
            session.len(),
            session.len() * 100 / ctx,
        ));
        Ok(())
    }

    /// The tokens of a text, or how many the last message and answer have.
    fn tokens(&self, text: &str) -> anyhow::Result<()> {
        let vocab = self.conversation.vocab();
        if !text.is_empty() {
            let ids = vocab.encode(text, Specials::Plain)?;
            let shown = |&id: &u32| format!("{id} {:?}", String::from_utf8_lossy(vocab.piece(id)));
            let listed = ids.iter().map(shown).collect::<Vec<_>>().join(", ");
            self.console.block(format_args!("{}: {listed}", count(ids.len(), "token")));
            return Ok(());
        }
        let Some(turn) = self.conversation.chronicle.history().last() else {
            self.say("there is no message yet; /tokens TEXT shows those of a text");
            return Ok(());
        };
        let number = |text: &str| vocab.encode(text, Specials::Plain).map(|ids| ids.len());
        let reply = turn.reply.clone().unwrap_or_default();
        let (message, thought, answer) = (number(turn.message())?, number(&reply.thought)?, number(&reply.text)?);
        self.console.block(format_args!("message {message}, thought {thought}, answer {answer} tokens"));
        Ok(())
    }
}

/// The beginning of a text that may be long, such as a message with files in it.
fn brief(text: &str) -> Cow<'_, str> {
    const MOST: usize = 400;
    match text.char_indices().nth(MOST) {
        None => text.into(),
        Some((end, _)) => format!("{}… ({} in all)", &text[..end], count(text.chars().count(), "character")).into(),
    }
}
