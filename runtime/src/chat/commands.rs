//! What a typed line is: a message, or a command.

use std::borrow::Cow;

/// A command of the chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Help,
    Exit,
    Regen,
    Continue,
    Undo,
    EditLast,
    Edit,
    Clear,
    System,
    Think,
    NoThink,
    Set,
    Show,
    Read,
    Glob,
    Tool,
    Save,
    Load,
    Copy,
    Markdown,
    Stats,
    Context,
    Tokens,
}

/// What may follow a command's name on its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Nothing.
    None,
    /// Something, or nothing.
    Optional(&'static str),
    /// Something.
    Required(&'static str),
}

/// A command's spellings and its line in the help.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// The command.
    pub command: Command,
    /// Its names; the help shows the first one.
    pub names: &'static [&'static str],
    /// What follows.
    pub argument: Argument,
    /// What it does.
    pub help: &'static str,
}

const fn spec(command: Command, names: &'static [&'static str], argument: Argument, help: &'static str) -> Spec {
    Spec { command, names, argument, help }
}

/// Every command, in the order of the help.
pub const SPECS: &[Spec] = {
    use Argument::{None, Optional, Required};
    &[
        spec(Command::Help, &["/help", "/?"], None, "this list"),
        spec(Command::Regen, &["/regen"], None, "answer the last message again; /undo brings the old answer back"),
        spec(Command::Continue, &["/continue"], None, "go on with an answer that was stopped"),
        spec(Command::Undo, &["/undo"], None, "take the last message and its answer back"),
        spec(Command::EditLast, &["/edit-last"], None, "change the last message and send it again"),
        spec(Command::Edit, &["/edit"], Optional("TEXT"), "write a message in $VISUAL or $EDITOR"),
        spec(
            Command::Clear,
            &["/clear"],
            None,
            "begin a new conversation; the system prompt stays, the old one is kept on disk",
        ),
        spec(
            Command::System,
            &["/system"],
            Optional("TEXT"),
            "show or change the system prompt; /system none: without one",
        ),
        spec(Command::Think, &["/think"], None, "think before answering"),
        spec(Command::NoThink, &["/no_think", "/no-think", "/nothink"], None, "answer at once"),
        spec(Command::Set, &["/set"], Optional("NAME VALUE"), "change a setting; VALUE default: as it was"),
        spec(Command::Show, &["/show"], None, "the settings in force, and where each comes from"),
        spec(Command::Read, &["/read"], Optional("FILE"), "put a file before the next message"),
        spec(
            Command::Glob,
            &["/glob"],
            Required("PATTERN"),
            "put all files of that name before the next message: *.txt",
        ),
        spec(Command::Tool, &["/tool"], Required("RESULT"), "give the result of a tool that the model called"),
        spec(Command::Save, &["/save"], Required("FILE"), "write the conversation to a file"),
        spec(Command::Load, &["/load"], Required("FILE"), "go on with the conversation in a file"),
        spec(Command::Copy, &["/copy"], None, "put the last answer on the clipboard"),
        spec(Command::Markdown, &["/markdown"], Optional("on|off"), "show headings, bold text and code as such"),
        spec(Command::Stats, &["/stats"], None, "tokens and times so far"),
        spec(Command::Context, &["/context"], None, "how full the context is"),
        spec(
            Command::Tokens,
            &["/tokens"],
            Optional("TEXT"),
            "the tokens of a text, or of the last message and answer",
        ),
        spec(Command::Exit, &["/exit", "/quit", "/bye"], None, "leave; so does Ctrl-D"),
    ]
};

/// What stands below the commands in the help.
const NOTES: &str = "\
//word sends a message that begins with /word. Ctrl-C stops an answer; what was said until then stays.
A message of several lines: Alt-Enter or \\ at a line's end begins another line, \"\"\" begins and ends a block, and what is
pasted arrives as one message. Tab completes commands, settings and files; the arrow keys bring back what was typed.";

/// What `/help` prints on a screen of that width.
pub fn help(columns: usize) -> String {
    let left = |spec: &Spec| match spec.argument {
        Argument::None => spec.names[0].to_owned(),
        Argument::Optional(what) => format!("{} [{what}]", spec.names[0]),
        Argument::Required(what) => format!("{} {what}", spec.names[0]),
    };
    let width = SPECS.iter().map(|spec| left(spec).len()).max().unwrap_or(0);
    let mut out = String::new();
    for spec in SPECS {
        let also = spec.names[1..].join(", ");
        let also = if also.is_empty() { also } else { format!(" (also {also})") };
        out.push_str(&folded(&format!("{:width$}  {}{also}", left(spec), spec.help), width + 2, columns));
    }
    NOTES.lines().for_each(|line| out.push_str(&folded(line, 0, columns)));
    out.trim_end().to_owned()
}

/// A line, broken between words where it is longer than `columns`; what follows is indented.
fn folded(line: &str, indent: usize, columns: usize) -> String {
    // On a very narrow screen nothing would be left beside the indentation.
    let indent = if indent * 2 > columns { 2.min(columns / 4) } else { indent };
    let (mut out, mut at) = (String::new(), 0);
    for word in line.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if at > indent && at + length > columns {
            out.truncate(out.trim_end().len());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            at = indent;
        }
        out.push_str(word);
        at += word.chars().count();
    }
    out + "\n"
}

/// A line as the chat takes it.
#[derive(Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Nothing but white space.
    Empty,
    /// Text for the model.
    Message(Cow<'a, str>),
    /// A command, and what follows it.
    Command(Command, &'a str),
    /// A command that lacks what must follow it.
    Incomplete(&'static Spec),
    /// A command, and something after it that it doesn't take.
    Surplus(&'static Spec),
    /// A slash word that is no command: the user is asked what is meant.
    Unknown(&'a str),
}

/// Takes a line apart. Several lines (pasted) are always a message; so is a line that only ends in `/no_think`, which is
/// the model's own switch.
pub fn parse(line: &str) -> Input<'_> {
    if let Some(block) = block(line) {
        return if block.trim().is_empty() { Input::Empty } else { Input::Message(Cow::Borrowed(block)) };
    }
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
    let (word, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let argument = argument.trim();
    let Some(spec) = SPECS.iter().find(|spec| spec.names.contains(&word)) else { return Input::Unknown(word) };
    match spec.argument {
        Argument::None if !argument.is_empty() => Input::Surplus(spec),
        Argument::Required(_) if argument.is_empty() => Input::Incomplete(spec),
        _ => Input::Command(spec.command, argument),
    }
}

/// What marks a block of lines.
pub const QUOTES: &str = "\"\"\"";

/// Whether a block was begun and not ended, so that the next line belongs to it.
pub fn is_open_block(text: &str) -> bool {
    text.trim_start().strip_prefix(QUOTES).is_some_and(|rest| !rest.contains(QUOTES))
}

/// The lines of a block, without the quotes and the line breaks next to them. A text that goes on after the closing
/// quotes, such as a pasted Python file, is none.
fn block(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix(QUOTES)?.strip_suffix(QUOTES)?;
    if inner.contains(QUOTES) {
        return None;
    }
    let inner = inner.strip_prefix('\n').unwrap_or(inner);
    Some(inner.strip_suffix('\n').unwrap_or(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q9_commands_messages_and_what_is_neither() {
        assert_eq!(parse("  \t"), Input::Empty);
        assert_eq!(parse("Hello /exit"), Input::Message("Hello /exit".into()));
        assert_eq!(parse("What? /no_think"), Input::Message("What? /no_think".into()));
        assert_eq!(parse("/no_think "), Input::Command(Command::NoThink, ""));
        assert_eq!(parse("/bye"), Input::Command(Command::Exit, ""));
        assert_eq!(parse("/?"), Input::Command(Command::Help, ""));
        assert_eq!(parse("/usr/bin/env does what?"), Input::Unknown("/usr/bin/env"));
        assert!(matches!(parse("/exit now"), Input::Surplus(spec) if spec.command == Command::Exit));
        assert_eq!(parse("//exit"), Input::Message("/exit".into()));
        assert_eq!(parse("/exit\nis a word"), Input::Message("/exit\nis a word".into()));
        assert_eq!(parse(" /exit"), Input::Message(" /exit".into()));
        assert_eq!(parse("/read  my file.txt "), Input::Command(Command::Read, "my file.txt"));
        assert_eq!(parse("/set"), Input::Command(Command::Set, ""));
        assert!(matches!(parse("/save"), Input::Incomplete(spec) if spec.command == Command::Save));
    }

    #[test]
    fn blocks_lose_their_quotes() {
        for (text, inner) in [
            ("\"\"\"one line\"\"\"", "one line"),
            ("\"\"\"\n/exit\nb\n\"\"\"", "/exit\nb"),
            ("\"\"\"a\n\nb\"\"\" ", "a\n\nb"),
        ] {
            assert!(!is_open_block(text));
            assert_eq!(parse(text), Input::Message(inner.into()), "{text:?}");
        }
        assert_eq!(parse("\"\"\"\n\"\"\""), Input::Empty);
        assert!(is_open_block("\"\"\"a\nb") && is_open_block(" \"\"\"") && !is_open_block("a \"\"\""));
    }

    #[test]
    fn t9_a_pasted_file_that_begins_with_a_docstring_traps_nobody() {
        let file = "\"\"\"Module.\"\"\"\nimport os\nx = \"\"\"y\"\"\"";
        assert!(!is_open_block(file));
        assert_eq!(parse(file), Input::Message(file.into()));
    }

    #[test]
    fn the_help_names_every_command() {
        for columns in [120, 80, 40] {
            let help = help(columns);
            for name in SPECS.iter().flat_map(|spec| spec.names) {
                assert!(help.contains(name), "{name} is not in the help");
            }
            assert!(help.lines().all(|line| line.chars().count() <= columns), "{help}");
            assert!(help.split_whitespace().eq(super::help(1000).split_whitespace()), "{help}");
        }
    }
}
