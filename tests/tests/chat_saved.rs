//! Conversations on disk: nothing that was on the screen is lost, and no file of others' does harm.
mod talk;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use qwren_tests::cli::run;
use qwren_tests::pty::Terminal;
use rexpect::process::Signal;
use talk::{Home, demo, random};

fn leave(p: Terminal) {
    assert_eq!(p.leave(), 0);
}

#[test]
fn t7_a_conversation_is_kept_and_goes_on() {
    let home = Home::new();
    let mut p = home.terminal(demo(&["--no-think"]), 80);
    p.wait("\n> ");
    p.line("What is the capital of France?");
    p.wait("\n[");
    p.wait("\n> ");
    p.keys("\x04");
    p.wait("this conversation is kept: qwren chat -m ");
    p.wait(".gguf --resume ");
    assert_eq!(p.end(), 0);
    let file = home.conversations().pop().unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(file.clone()), 0o600);
    assert_eq!(mode(file.parent().unwrap().to_owned()), 0o700);
    assert_eq!(mode(home.path(".local/state/qwren/history")), 0o600);

    let list = run(home.command(qwren_tests::cli::qwren(["chat", "--list"])), "").ok();
    let id = file.file_stem().unwrap().to_str().unwrap();
    assert_eq!(list, format!("{id}  Demo  What is the capital of France?\n"));

    for flags in [vec!["--resume"], vec!["--resume", id], vec!["--resume", &id[..id.len() - 1]]] {
        let mut p = home.terminal(demo(&[&["--no-think"][..], &flags].concat()), 80);
        let shown = p.wait("\n> ");
        let shown = shown + &p.wait("\n> ");
        assert!(shown.contains("> What is the capital of France?\nThe capital of France is Paris.\n"), "{shown}");
        // What was typed in the last run comes back too.
        p.keys("\x1b[A");
        p.wait("What is the capital of France?");
        p.keys("\x15");
        leave(p);
    }
    assert_eq!(home.conversations().len(), 1);
    // A pipe goes on with it.
    let said = run(home.command(demo(&["--no-think", "--quiet", "--resume"])), "What is 2 + 3?").ok();
    assert_eq!(said, "2 + 3 = 5.");
    assert_eq!(home.users(), ["What is the capital of France?", "What is 2 + 3?"]);
}

#[test]
fn private_leaves_nothing() {
    let home = Home::new();
    let mut p = home.terminal(demo(&["--no-think", "--private"]), 80);
    p.wait("private: neither");
    p.wait("\n> ");
    p.line("Hello");
    p.wait("\n[");
    p.line("/clear");
    p.wait("a new conversation");
    p.line("Hello");
    p.wait("\n[");
    p.wait("\n> ");
    leave(p);
    assert!(!home.path(".local").exists());
    // A pipe leaves nothing either.
    run(home.command(demo(&["--no-think", "--quiet"])), "Hello").ok();
    assert!(!home.path(".local").exists());
}

#[test]
fn a_hundred_kills_lose_nothing_that_was_on_the_screen() {
    let flags = ["-n", "3000", "-c", "8192", "--ignore-eos", "--temp", "1", "--no-think", "--quiet", "-t", "1"];
    // Some at a time, each in a home of its own.
    let kill_many = |runs: std::ops::Range<u64>| {
        for i in runs {
            let home = Home::new();
            let mut p = home.terminal(random(&flags), 80);
            p.wait("> ");
            p.line("Tell me something");
            p.wait("Tell me something\n");
            let begun = p.raw().len();
            // At another point each time.
            while p.raw().len() < begun + 40 + (i as usize * 37) % 900 {
                thread::sleep(Duration::from_micros(200));
            }
            p.signal(Signal::SIGKILL);
            // The editor's end, and then the mark that keeps what is pasted together.
            let screen = p.output_after("\x1b[?2004l\r\n\x1b[?2004h");
            let path = home.conversations().pop().expect("the conversation is kept");
            let text = fs::read_to_string(&path).expect("whole characters");
            let said: String = text
                .lines()
                .filter_map(|line| {
                    serde_json::from_str::<serde_json::Value>(line).ok()?["answer"].as_str().map(str::to_owned)
                })
                .collect();
            // As the screen shows it.
            let said = qwren::terminal::escape(&said).replace('\n', "\r\n");
            let said = said.trim_start_matches("\r\n");
            assert!(said.starts_with(screen.trim_start_matches("\r\n")), "{screen:?}\nis not in\n{said:?}");
            assert!(!screen.is_empty());
        }
    };
    thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || kill_many(part * 25..(part + 1) * 25));
        }
    });
}

#[test]
fn an_answer_that_was_killed_goes_on() {
    let home = Home::new();
    let mut p = home.terminal(demo(&["--no-think", "-n", "4"]), 80);
    p.wait("\n> ");
    p.line("What is the capital of France?");
    p.wait("[as long as -n allows");
    p.signal(Signal::SIGKILL);
    assert_eq!(p.end(), -9);
    let begun = home.said();
    let mut p = home.terminal(demo(&["--no-think", "--resume"]), 80);
    p.wait("\n> ");
    p.wait("\n> ");
    p.line("/continue");
    p.wait("\n[");
    assert!(begun.len() < home.said().len());
    assert_eq!(home.said(), "The capital of France is Paris.");
    leave(p);
}

#[test]
fn one_conversation_is_open_once() {
    let home = Home::new();
    let mut p = home.terminal(demo(&["--no-think"]), 80);
    p.wait("\n> ");
    p.line("Hello");
    p.wait("\n[");
    let line = run(home.command(demo(&["--quiet", "--resume"])), "x").error(2);
    assert!(line.contains("another qwren has this conversation open"), "{line}");
    p.wait("\n> ");
    leave(p);
}

#[test]
fn files_that_are_no_conversations_are_refused_in_one_line() {
    let home = Home::new();
    let none = run(home.command(demo(&["--quiet", "--resume"])), "x").error(2);
    assert!(none.contains("there is no conversation to resume yet"), "{none}");
    assert_eq!(run(home.command(qwren_tests::cli::qwren(["chat", "--list"])), "").ok(), "");
    let folder = home.path(".local/state/qwren/conversations");
    fs::create_dir_all(&folder).unwrap();
    let head = r#"{"conversation":{"version":1,"created":"","model":"x\u001b]0;t\u0007"}}"#;
    for (name, text, words) in [
        ("empty", String::new(), "is empty"),
        ("text", "once upon a time".into(), "is no conversation"),
        ("deep", format!("{head}\n{}\n", "[".repeat(1 << 20)), "line 2"),
        ("wrong", format!("{head}\n{{\"user\":[1]}}\n\n"), "line 2"),
        ("newer", head.replace(":1,", ":7,"), "newer qwren"),
    ] {
        fs::write(folder.join(format!("{name}.jsonl")), text).unwrap();
        let line = run(home.command(demo(&["--quiet", "--resume", name])), "x").error(2);
        assert!(line.contains(words) && line.contains(name), "{line}");
    }
    for id in ["../history", "no-such", "/etc/passwd"] {
        let line = run(home.command(demo(&["--quiet", "--resume", id])), "x").error(2);
        assert!(line.contains("there is no conversation"), "{line}");
    }
    // At a terminal a hostile name is shown, not obeyed.
    let mut p = home.terminal(qwren_tests::cli::qwren(["chat", "--list"]), 80);
    p.wait("wrong");
    p.wait("\\u{1b}]0;t\\u{7}");
    assert_eq!(p.end(), 0);
}

#[test]
fn a_pipe_among_the_conversations_keeps_nobody_waiting_and_a_broken_one_is_told() {
    let home = Home::new();
    let folder = home.path(".local/state/qwren/conversations");
    fs::create_dir_all(&folder).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, folder.join("p.jsonl"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    fs::write(folder.join("broken.jsonl"), "nothing").unwrap();
    let listed = home.command(qwren_tests::cli::qwren(["chat", "--list"])).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "broken  (can't be read as a conversation)\n");
}
