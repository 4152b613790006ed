//! Conversations without a terminal: one message and its answer, or messages as lines of JSON.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use qwren::stream::FinishReason;
use serde::{Deserialize, Serialize};

use super::conversation::Conversation;
use super::render::{Printer, Thinking, View};
use super::store::Record;
use super::tools::{self, Call};
use crate::args::text;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::signals::{Interrupt, Second};
use crate::{jsonl, report};

/// All of stdin is one message (no line of a script's text is a command); it is answered, and that is all.
pub fn once(conversation: &mut Conversation<'_>, thoughts: Thinking, console: Console) -> anyhow::Result<Exit> {
    let message = text::decode("stdin", text::stdin(console)?)?;
    if message.trim().is_empty() {
        return Err(Failure::usage("there is no message on stdin; pipe one in, or start at a terminal").into());
    }
    conversation.chronicle.happen(Record::User(message));
    let interrupt = Interrupt::listen(Second::Exits)?;
    let tools = conversation.has_tools();
    let mut printer = Printer::stdout(View { thoughts, markdown: false, tools });
    let outcome = conversation.answer(false, interrupt.flag(), &mut |part| printer.put(part))?;
    printer.end()?;
    console.note(report::end_line(&outcome.timings, outcome.reason, outcome.thought_cut));
    Ok(if outcome.reason == FinishReason::Interrupt { Exit::Interrupted } else { Exit::Done })
}

/// A line of stdin.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Message {
    Text(String),
    Object { role: Role, content: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    User,
    Tool,
}

/// An answer on stdout, in the form that chat templates take messages.
#[derive(Debug, Serialize)]
struct Reply {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
    reason: &'static str,
    tokens: usize,
}

#[derive(Debug, Serialize)]
struct ToolCall {
    r#type: &'static str,
    function: Call,
}

/// Answers each line of stdin with one on stdout, until Ctrl-C. Results of several calls come on as many lines; the last is
/// answered.
pub fn lines(conversation: &mut Conversation<'_>) -> anyhow::Result<Exit> {
    let interrupt = Interrupt::listen(Second::Exits)?;
    let mut dialogue = Dialogue { conversation, results: Vec::new(), awaited: 0 };
    let wanted = "a message: a string, or an object with role (system, user, tool) and content";
    interrupt.set_idle(true);
    let ended = jsonl::map_until(wanted, |message: Message| {
        interrupt.set_idle(false);
        let reply = dialogue.hear(message, &interrupt)?;
        if interrupt.flag().load(Ordering::Relaxed) {
            return Ok(ControlFlow::Break(reply));
        }
        interrupt.set_idle(true);
        Ok(ControlFlow::Continue(reply))
    })?;
    Ok(if ended.is_break() { Exit::Interrupted } else { Exit::Done })
}

/// A conversation whose messages come one by one.
struct Dialogue<'c, 'a> {
    conversation: &'c mut Conversation<'a>,
    /// Results of tools that came so far, and how many the last answer wants.
    results: Vec<String>,
    awaited: usize,
}

impl Dialogue<'_, '_> {
    /// Takes a message in and answers it, unless it is one that nobody answers.
    fn hear(&mut self, message: Message, interrupt: &Interrupt) -> anyhow::Result<Option<Reply>> {
        let (role, content) = match message {
            Message::Text(content) => (Role::User, content),
            Message::Object { role, content } => (role, content),
        };
        let chronicle = &mut self.conversation.chronicle;
        match role {
            Role::System => {
                chronicle.happen(Record::System(Some(content)));
                return Ok(None);
            }
            Role::Tool if self.awaited == 0 => {
                return Err(Failure::usage("is the result of a tool, but the last answer calls none").into());
            }
            Role::Tool => {
                self.results.push(content);
                if self.results.len() < self.awaited {
                    return Ok(None);
                }
                chronicle.happen(Record::Tools(std::mem::take(&mut self.results)));
            }
            Role::User => {
                self.results.clear();
                chronicle.happen(Record::User(content));
            }
        }
        let outcome = self.conversation.answer(false, interrupt.flag(), &mut |_| Ok(()))?;
        let said = self.conversation.chronicle.history().last().and_then(|turn| turn.reply.clone()).unwrap_or_default();
        let (content, calls) = match self.conversation.has_tools() {
            true => tools::split(&said.text),
            false => (said.text.trim().to_owned(), Vec::new()),
        };
        self.awaited = calls.len();
        let tool_calls = calls.into_iter().map(|function| ToolCall { r#type: "function", function }).collect();
        Ok(Some(Reply {
            role: "assistant",
            content,
            reasoning_content: said.thought.trim().to_owned(),
            tool_calls,
            reason: outcome.reason.name(),
            tokens: outcome.timings.chosen,
        }))
    }
}
