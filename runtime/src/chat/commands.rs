//! What a typed line is: a message, or a command.

use std::borrow::Cow;

/// A command of the chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// List the commands.
    Help,
    /// Leave.
    Exit,
    /// Forget the conversation; the system prompt stays.
    Clear,
    /// Answer the last message again.
    Regen,
    /// Take the last message and its answer back.
    Undo,
    /// Tokens and times so far.
    Stats,
    /// The settings in force, and where each comes from.
    Show,
    /// Let the model think before it answers.
    Think,
    /// Answer without thinking.
    NoThink,
}

/// Every spelling of every command, in the order of the help.
const SPELLINGS: [(&str, Command); 14] = [
    ("/help", Command::Help),
    ("/?", Command::Help),
    ("/exit", Command::Exit),
    ("/quit", Command::Exit),
    ("/bye", Command::Exit),
    ("/clear", Command::Clear),
    ("/regen", Command::Regen),
    ("/undo", Command::Undo),
    ("/stats", Command::Stats),
    ("/show", Command::Show),
    ("/think", Command::Think),
    ("/no_think", Command::NoThink),
    ("/no-think", Command::NoThink),
    ("/nothink", Command::NoThink),
];

/// What `/help` prints.
pub const HELP: &str = "\
/help      this list
/regen     answer the last message again
/undo      take the last message and its answer back
/clear     forget the conversation; the system prompt stays
/think     think before answering; /no_think: answer at once
/show      the settings in force
/stats     tokens and times so far
/exit      leave (also /quit, /bye, Ctrl-D)
//word     send a message that begins with /word
Ctrl-C stops an answer; what was said until then stays in the conversation. Pasted lines arrive as one message.";

/// A line as the chat takes it.
#[derive(Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Nothing but white space.
    Empty,
    /// Text for the model.
    Message(Cow<'a, str>),
    /// A command.
    Command(Command),
    /// A slash word that is no command, and the text it stands in: the user is asked what is meant.
    Unknown(&'a str),
}

/// Takes a line apart. Several lines (pasted) are always a message; so is a line that only ends in `/no_think`, which is
/// the model's own switch.
pub fn parse(line: &str) -> Input<'_> {
    let text = line.trim_end();
    if text.trim_start().is_empty() {
        return Input::Empty;
    }
    if text.contains('\n') || !text.starts_with('/') {
        return Input::Message(Cow::Borrowed(line));
    }
    if text.starts_with("//") {
        return Input::Message(Cow::Borrowed(&line[1..]));
    }
    match SPELLINGS.iter().find(|(spelling, _)| *spelling == text) {
        Some((_, command)) => Input::Command(*command),
        None => Input::Unknown(text.split_whitespace().next().unwrap_or(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q9_commands_messages_and_what_is_neither() {
        assert_eq!(parse("  \t"), Input::Empty);
        assert_eq!(parse("Hello /exit"), Input::Message("Hello /exit".into()));
        assert_eq!(parse("What? /no_think"), Input::Message("What? /no_think".into()));
        assert_eq!(parse("/no_think "), Input::Command(Command::NoThink));
        assert_eq!(parse("/bye"), Input::Command(Command::Exit));
        assert_eq!(parse("/?"), Input::Command(Command::Help));
        assert_eq!(parse("/usr/bin/env does what?"), Input::Unknown("/usr/bin/env"));
        assert_eq!(parse("/exit now"), Input::Unknown("/exit"));
        assert_eq!(parse("//exit"), Input::Message("/exit".into()));
        assert_eq!(parse("/exit\nis a word"), Input::Message("/exit\nis a word".into()));
        assert_eq!(parse(" /exit"), Input::Message(" /exit".into()));
    }

    #[test]
    fn the_help_names_every_command() {
        for (name, command) in SPELLINGS {
            let named = SPELLINGS.iter().any(|(n, c)| *c == command && HELP.contains(n));
            assert!(named, "{name} is not in the help");
        }
    }
}
