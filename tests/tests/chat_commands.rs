//! The commands of a chat: what each one does, shown with a model that answers what it is asked.
mod talk;

use std::fs;

use qwren_tests::pty::Terminal;
use talk::{Home, demo, random};

const FRANCE: &str = "The capital of France is Paris.";

fn leave(p: Terminal) {
    assert_eq!(p.leave(), 0);
}

/// Sends a message and waits for the answer's end.
fn ask(p: &mut Terminal, message: &str) -> String {
    p.line(message);
    // Behind the line as it was typed.
    p.wait(&format!("{message}\n"));
    let said = p.wait("\n[");
    p.wait("\n> ");
    said.trim_end_matches("\n[").to_owned()
}

/// Sends a command and gives what it says in brackets.
fn command(p: &mut Terminal, line: &str) -> String {
    p.line(line);
    p.wait(&format!("{line}\n"));
    let said = p.wait("\n> ");
    said.trim_end_matches("\n> ").to_owned()
}

#[test]
fn settings_tell_where_they_come_from_and_can_be_changed() {
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "3", "--temp", "0.5", "--no-think"]), 80);
    p.wait("\n> ");
    let shown = command(&mut p, "/show");
    let row = |shown: &str, name: &str| {
        shown.lines().find(|l| l.starts_with(name)).map(|l| l.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(row(&shown, "thinking ").as_deref(), Some("off"));
    assert_eq!(row(&shown, "temp").as_deref(), Some("0.5 (flag)"));
    assert_eq!(row(&shown, "top-k").as_deref(), Some("20 (model card)"));
    assert_eq!(row(&shown, "repeat-penalty").as_deref(), Some("1 (default)"));
    assert_eq!(row(&shown, "n ").as_deref(), Some("3"));
    assert_eq!(command(&mut p, "/set temp 0.25"), "[temp is 0.25  (/set)]");
    assert_eq!(command(&mut p, "/set top-p 2"), "[top-p is 2 (/set); it must be between 0 and 1]");
    assert_eq!(command(&mut p, "/set temp default"), "[temp is 0.5  (flag)]");
    assert_eq!(command(&mut p, "/set n 2"), "[n is 2]");
    assert_eq!(command(&mut p, "/set thoughts hide"), "[thoughts is hide]");
    assert_eq!(command(&mut p, "/set thinking-budget 5"), "[thinking-budget is 5]");
    assert_eq!(command(&mut p, "/set context-full stop"), "[context-full is stop]");
    assert!(command(&mut p, "/set colour blue").starts_with("[colour is no setting; there are temp, "));
    assert!(command(&mut p, "/set n many").contains("not a number"));
    p.line("Hello");
    p.wait("[as long as -n allows; 2 tokens");
    // The file holds the values for thinking; without it the card's others held.
    assert_eq!(command(&mut p, "/think"), "[thinking is on]");
    assert_eq!(row(&command(&mut p, "/show"), "top-p").as_deref(), Some("0.95 (file)"));
    leave(p);
}

#[test]
fn commands_that_lack_something_and_words_that_are_none() {
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "3", "--no-think"]), 80);
    p.wait("\n> ");
    assert_eq!(command(&mut p, "/regen"), "[there is no message to answer]");
    assert_eq!(command(&mut p, "/undo"), "[there is no message to take back]");
    assert_eq!(command(&mut p, "/continue"), "[there is no answer to go on with]");
    assert_eq!(command(&mut p, "/edit-last"), "[there is no message to change]");
    assert_eq!(command(&mut p, "/copy"), "[there is no answer to copy]");
    assert_eq!(command(&mut p, "/save"), "[/save needs FILE]");
    assert_eq!(command(&mut p, "/tool x"), "[the last answer calls no function]");
    assert_eq!(command(&mut p, "/read /no/such"), "[/no/such: cannot be read: No such file or directory (os error 2)]");
    assert_eq!(command(&mut p, "/glob /no/such/*"), "[/no/such/*: names no file]");
    assert!(command(&mut p, "/load /no/such").starts_with("[/no/such: cannot be read"));
    p.line("/path/to is what?");
    p.wait("/path/to is no command");
    p.line("n");
    p.wait("\n> ");
    p.line("/path/to is what?");
    p.wait("/path/to is no command");
    p.line("y");
    p.wait("[as long as -n allows");
    p.line("//path");
    p.wait("[as long as -n allows");
    p.line("/undo");
    p.wait("[taken back: /path]");
    assert_eq!(home.users(), ["/path/to is what?", "/path"]);
    leave(p);
}

#[test]
fn answers_are_given_again_taken_back_and_gone_on_with() {
    let home = Home::new();
    let mut p = home.terminal(demo(&["--no-think"]), 80);
    p.wait("\n> ");
    assert_eq!(ask(&mut p, "What is the capital of France?"), FRANCE);
    assert_eq!(command(&mut p, "/set n 3"), "[n is 3]");
    p.line("/regen");
    p.wait("[as long as -n allows; 3 tokens");
    // The rest of it follows where it stopped.
    assert_eq!(command(&mut p, "/set n -1"), "[n is -1]");
    let begun = home.said();
    let begun = begun.strip_prefix(FRANCE).unwrap();
    assert!(FRANCE.starts_with(begun) && !begun.is_empty(), "{begun}");
    p.line("/continue");
    p.wait("/continue\n");
    let rest = p.wait("\n[").trim_end_matches("\n[").to_owned();
    assert_eq!(format!("{begun}{rest}"), FRANCE);
    // The first answer comes back, then the message goes.
    p.wait("\n> ");
    assert_eq!(command(&mut p, "/undo"), format!("[the answer before is back: {FRANCE}]"));
    assert_eq!(command(&mut p, "/undo"), "[taken back: What is the capital of France?]");
    assert_eq!(command(&mut p, "/undo"), "[there is no message to take back]");
    // A message that is changed.
    assert_eq!(ask(&mut p, "What is the capital of France?"), FRANCE);
    p.line("/edit-last");
    p.wait("> What is the capital of France?");
    p.keys(&"\x7f".repeat(7));
    p.keys("Italy?\r");
    assert!(p.wait("\n[").contains("The capital of Italy is Rome."));
    assert_eq!(home.users().last().unwrap(), "What is the capital of Italy?");
    p.wait("\n> ");
    // Dropped, it changes nothing.
    p.line("/edit-last");
    p.wait("> What is the capital of Italy?");
    p.keys("\x03");
    p.wait("\n> ");
    let context = command(&mut p, "/context");
    assert!(context.starts_with("1 turn\n"), "{context}");
    leave(p);
}

#[test]
fn a_stopped_thought_is_gone_on_with_too() {
    let home = Home::new();
    let mut p = home.terminal(demo(&["--think", "--thinking", "show"]), 80);
    p.wait("\n> ");
    p.line("What is the capital of France?");
    let whole = p.wait("\n[");
    let whole = whole.split_once("France?\n").unwrap().1.trim_end_matches("\n[").to_owned();
    assert!(whole.starts_with("<think>\n") && whole.contains("\n</think>\n\n"), "{whole}");
    p.wait("\n> ");
    command(&mut p, "/set n 6");
    p.line("/regen");
    p.wait("[as long as -n allows; 6 tokens");
    p.wait("\n> ");
    command(&mut p, "/set n -1");
    p.line("/continue");
    p.wait("\n[");
    let records = home.records();
    let text = |key: &str| -> String { records.iter().filter_map(|r| r[key].as_str()).collect() };
    // Both times the same thought and answer.
    let (thought, answer) = (text("thought"), text("answer"));
    assert_eq!(thought[..thought.len() / 2], thought[thought.len() / 2..]);
    assert_eq!(answer[..answer.len() / 2], answer[answer.len() / 2..]);
    leave(p);
}

#[test]
fn the_system_prompt_and_a_new_conversation() {
    let home = Home::new();
    let mut p = home.terminal(demo(&["--no-think", "--system", "Be brief."]), 80);
    p.wait("\n> ");
    assert_eq!(command(&mut p, "/system"), "[system prompt: Be brief.]");
    assert_eq!(command(&mut p, "/system Be kind."), "[system prompt: Be kind.]");
    ask(&mut p, "Hello");
    assert_eq!(home.records()[1]["system"], "Be kind.");
    assert!(command(&mut p, "/clear").starts_with("[a new conversation"));
    assert_eq!(command(&mut p, "/undo"), "[there is no message to take back]");
    assert_eq!(command(&mut p, "/system none"), "[no system prompt]");
    ask(&mut p, "What is 2 + 3?");
    assert_eq!(home.conversations().len(), 2, "each conversation has a file");
    assert_eq!(home.users(), ["What is 2 + 3?"]);
    leave(p);
}

#[test]
fn files_go_with_the_next_message() {
    let home = Home::new();
    home.file("a.txt", "alpha\n");
    home.file("b.txt", "beta <|im_end|> \x1b]0;title\x07");
    let binary = home.path("c.txt");
    fs::write(&binary, b"\xff\xfe").unwrap();
    let mut p = home.terminal(random(&["-n", "1", "--no-think"]), 120);
    p.wait("\n> ");
    assert!(command(&mut p, "/read ~/a.txt").contains("a.txt: 6 B, "));
    let said = command(&mut p, "/glob ~/[bc].txt");
    assert!(said.contains("b.txt: ") && said.contains("c.txt: is no text in UTF-8"), "{said}");
    assert!(command(&mut p, "/read").contains("a.txt"));
    p.line("Which?");
    p.wait("[as long as");
    let message = home.users().pop().unwrap();
    let folder = home.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    assert_eq!(
        message,
        format!(
            "{folder}/a.txt:\n```\nalpha\n```\n\n{folder}/b.txt:\n```\nbeta <|im_end|> \x1b]0;title\x07\n```\n\nWhich?"
        )
    );
    // Taken back it is shown, and harmless.
    p.line("/undo");
    p.wait("\\u{1b}]0;title\\u{7}");
    assert!(!p.raw().contains("\x1b]0;"));
    leave(p);
}

#[test]
fn conversations_are_saved_to_files_and_loaded() {
    let home = Home::new();
    let file = home.path("talk.jsonl");
    let mut p = home.terminal(demo(&["--no-think"]), 120);
    p.wait("\n> ");
    ask(&mut p, "What is the capital of France?");
    command(&mut p, &format!("/save {}", file.display()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    p.line(&format!("/save {}", file.display()));
    p.wait("Replace it? [y/N] ");
    p.line("n");
    p.wait("\n> ");
    command(&mut p, "/clear");
    p.line(&format!("/load {}", file.display()));
    let shown = p.wait("\n> ");
    let shown = shown + &p.wait("\n> ");
    assert!(shown.contains("> What is the capital of France?\nThe capital of France is Paris.\n"), "{shown}");
    assert_eq!(command(&mut p, "/undo"), "[taken back: What is the capital of France?]");
    // A link is followed; a folder, a pipe and the file that the conversation is kept in are refused, and stay.
    let (link, pipe) = (home.path("link"), home.path("pipe"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    ask(&mut p, "Spell cat.");
    p.line(&format!("/save {}", link.display()));
    p.wait("Replace it? [y/N] ");
    p.line("y");
    p.wait("[saved: ");
    p.wait("\n> ");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(fs::read_to_string(&file).unwrap().contains("Spell cat."));
    for target in [&pipe, &home.path(""), std::path::Path::new("/dev/null")] {
        let said = command(&mut p, &format!("/save {}", target.display()));
        assert!(said.contains("cannot be written: it is no regular file"), "{said}");
    }
    assert!(!pipe.metadata().unwrap().is_file());
    let own = home.conversations().pop().unwrap();
    p.line(&format!("/save {}", own.display()));
    p.wait("Replace it? [y/N] ");
    p.line("y");
    p.wait("this conversation is kept there as it goes");
    p.wait("\n> ");
    ask(&mut p, "What is 2 + 3?");
    assert!(fs::read_to_string(&own).unwrap().contains("2 + 3"));
    let said = command(&mut p, "/save /no/such/folder/x");
    assert!(said.contains("cannot be written: ") && !said.contains(".tmp"), "{said}");
    let wrong = home.file("wrong", "{\"user\":\"x\"}\n");
    assert!(command(&mut p, &format!("/load {wrong}")).contains("is no conversation of qwren"));
    leave(p);
}

#[test]
fn an_answer_is_copied_raw_and_tokens_are_counted() {
    let home = Home::new();
    let mut p = home.terminal(demo(&["--no-think"]), 80);
    p.wait("\n> ");
    ask(&mut p, "What is the capital of France?");
    command(&mut p, "/copy");
    // OSC 52 with the answer in base64.
    assert!(p.raw().contains("\x1b]52;c;VGhlIGNhcGl0YWwgb2YgRnJhbmNlIGlzIFBhcmlzLg==\x07"));
    assert!(command(&mut p, "/tokens").starts_with("message "));
    let tokens = command(&mut p, "/tokens a b");
    assert!(tokens.contains(" tokens: ") && tokens.contains("\"a\"") && tokens.contains("\" b\""), "{tokens}");
    let markdown = command(&mut p, "/markdown");
    assert_eq!(markdown, "[Markdown is shown as such; /markdown off]");
    assert_eq!(command(&mut p, "/markdown off"), "[Markdown is shown as it is written]");
    leave(p);
}

#[test]
fn functions_are_called_and_their_results_given() {
    let home = Home::new();
    let tools = home.file("tools.json", r#"[{"type": "function", "function": {"name": "add"}}]"#);
    let grammar =
        home.file("g.lark", r#"start: "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>""#);
    let mut p = home.terminal(demo(&["--no-think", "--tools", &tools, "--grammar", &grammar]), 100);
    p.wait("\n> ");
    p.line("What is 1 + 2?");
    let said = p.wait("give each result with /tool]");
    assert!(said.contains("\n{\"name\":\"add\",\"arguments\":{\"a\":1}}\n[the model calls 1 function"), "{said}");
    p.line("/tool 3");
    p.wait("give each result with /tool]");
    assert!(home.records().iter().any(|record| record["tools"] == serde_json::json!(["3"])));
    leave(p);
}

/// The whole of a short conversation, as the screen has it.
#[test]
fn a_conversation_reads_like_this() {
    let home = Home::new();
    let mut p = home.terminal(demo(&["-s", "1", "-t", "1"]), 100);
    p.wait("\n> ");
    for line in ["What is the opposite of hot?", "/no_think", "What is 2 + 3?", "/undo"] {
        p.line(line);
        p.wait(&format!("{line}\n"));
        p.wait("\n> ");
    }
    let digits = |line: String| -> String {
        let mut out = String::new();
        for c in line.chars() {
            match c.is_ascii_digit() || (c == '.' && out.ends_with('N')) {
                true if out.ends_with('N') => {}
                true => out.push('N'),
                false => out.push(c),
            }
        }
        out
    };
    let screen: Vec<String> = p
        .wait_screen(|lines| lines.last().is_some_and(|line| line == ">"))
        .into_iter()
        .map(|line| if line.starts_with('[') && line.contains("tokens/s") { digits(line) } else { line })
        .collect();
    assert_eq!(
        screen[1..].join("\n"),
        "\
/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves
> What is the opposite of hot?
The user asks for the opposite of hot. The words hot and cold are opposites.

The opposite of hot is cold.
[N tokens, N tokens/s; context N of N]
> /no_think
[thinking is off]
> What is 2 + 3?
2 + 3 = 5.
[N tokens, N tokens/s; context N of N]
> /undo
[taken back: What is 2 + 3?]
>"
    );
    leave(p);
}

/// What stands in a file or came from a model is shown, not obeyed, also where it is edited.
#[test]
fn t11_control_characters_in_a_message_that_is_edited_are_shown() {
    let home = Home::new();
    let evil = home.file("evil.txt", "\x1b]0;OWNED\x07\x1b[41mred\u{9b}31m");
    let mut p = home.terminal(random(&["-n", "2", "--no-think"]), 80);
    p.wait("\n> ");
    command(&mut p, &format!("/read {evil}"));
    p.line("Hello");
    p.wait("[as long as");
    p.wait("\n> ");
    p.line("/edit-last");
    p.wait("␛]0;OWNED");
    p.keys(" again\r");
    p.wait("[as long as");
    p.wait("\n> ");
    // Brought back from the history, and pasted.
    p.keys("\x1b[A");
    p.wait("␛]0;OWNED");
    p.keys("\x03");
    p.wait("\n> ");
    p.keys("\x1b[200~a\x07b\x1b[201~");
    p.wait("a␇b");
    p.keys("\x03");
    let raw = p.raw();
    for sequence in ["\x1b]0;OWNED", "\x1b[41m", "\u{9b}", "a\x07b"] {
        assert!(!raw.contains(sequence), "{sequence:?}");
    }
    assert!(home.users()[0].contains("\x1b]0;OWNED\x07"), "the message itself is what was in the file");
    leave(p);
}

#[test]
fn long_messages_are_told_in_short_and_what_takes_nothing_says_so() {
    let home = Home::new();
    let long = home.file("long.txt", &"one two three ".repeat(100));
    let mut p = home.terminal(random(&["-n", "2", "--no-think"]), 80);
    p.wait("\n> ");
    command(&mut p, &format!("/read \"{long}\""));
    p.line("Hello");
    p.wait("[as long as");
    p.wait("\n> ");
    let said = command(&mut p, "/undo");
    assert!(said.contains("… (14") && said.len() < 700, "{said}");
    assert_eq!(command(&mut p, "/clear all"), "[/clear takes nothing after it; //clear … sends the line as a message]");
    assert_eq!(command(&mut p, "/markdown perhaps"), "[/markdown on, or /markdown off]");
    assert_eq!(command(&mut p, "/set thinking default"), "[thinking is off]");
    assert_eq!(command(&mut p, "/set thinking on"), "[thinking is on]");
    assert_eq!(command(&mut p, "/set thinking default"), "[thinking is off]");
    leave(p);
}
