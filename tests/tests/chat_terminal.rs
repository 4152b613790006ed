//! `qwren chat` at a terminal: what is typed, and what the screen shows.
mod talk;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use qwren_tests::pty::Terminal;
use rexpect::process::Signal;
use talk::{Home, random};

/// Ends the chat by Ctrl-D.
fn leave(p: Terminal) {
    assert_eq!(p.leave(), 0);
}

#[test]
fn t1_three_turns_one_of_them_stopped_and_both_ways_to_leave() {
    let home = Home::new();
    let flags = ["-n", "1500", "-c", "8192", "--ignore-eos", "--temp", "0", "--no-think", "--system", "Be brief."];
    let mut p = home.terminal(random(&flags), 80);
    p.wait("/help lists the commands");
    p.wait("> ");
    p.line("One");
    p.wait("[as long as -n allows; 1500 tokens");

    // Ctrl-C stops the answer and is not the first of two.
    p.wait("> ");
    p.line("Two");
    p.wait("Two\n");
    home.wait_for_answer("Two");
    let pressed = Instant::now();
    p.keys("\x03");
    p.wait("[stopped; what was said stays");
    println!("an answer stops after {:?}", pressed.elapsed());

    p.wait("> ");
    p.line("/stats");
    let stats = p.wait(" tokens/s");
    assert!(stats.contains(" reused"), "{stats}");
    p.wait("> ");
    p.line("Three");
    p.wait("[as long as -n allows");

    // A hint at the empty prompt; typing in between starts the count anew.
    p.wait("> ");
    p.keys("\x03");
    p.wait("Ctrl-C again leaves");
    p.wait("> ");
    p.line("/help");
    p.wait("//word");
    p.wait("> ");
    p.keys("\x03");
    p.wait("Ctrl-C again leaves");
    p.wait("> ");
    p.keys("\x03");
    assert_eq!(p.end(), 130);
}

#[test]
fn t1_ctrl_c_stops_a_prompt_that_is_being_read() {
    let home = Home::new();
    // A batch of one token: reading takes long, on any machine.
    let mut p = home.terminal(random(&["-n", "5", "-c", "60000", "-b", "1", "-t", "1", "--no-think"]), 80);
    p.wait("> ");
    let path = home.file("long.txt", &"word and ".repeat(12_000));
    p.line(&format!("/read {path}"));
    p.wait("goes with the next message");
    p.line("What?");
    // After a second: how much is read, of how much, and the time that is left.
    let told = p.wait(" s left");
    assert!(told.contains("reading the prompt: ") && told.contains(" of "), "{told}");
    let pressed = Instant::now();
    p.keys("\x03");
    p.wait("[stopped before an answer");
    println!("a prompt stops after {:?}", pressed.elapsed());
    leave(p);
}

#[test]
fn x6_a_full_context_lets_the_oldest_turns_go_or_stops() {
    let home = Home::new();
    let flags = ["-n", "40", "-c", "128", "--ignore-eos", "--temp", "0", "--no-think"];
    let mut p = home.terminal(random(&flags), 80);
    let mut shown = String::new();
    for _ in 0..6 {
        p.line("Tell me something of the sea and of the sky");
        shown += &p.wait("[as long as -n allows");
    }
    assert!(shown.contains("[the context of 128 tokens is full: the oldest "), "{shown}");
    p.line("/context");
    let context = p.wait("the conversation has ");
    assert!(
        context.contains("6 turns, of which the oldest ") && context.contains(" of 128 tokens of context"),
        "{context}"
    );
    leave(p);

    let mut p = home.terminal(random(&[&flags[..], &["--context-full", "stop"]].concat()), 80);
    let mut shown = String::new();
    while !shown.contains("the context is full") && !shown.contains("the context holds 128") {
        p.line("Tell me something of the sea and of the sky");
        // Either ends with the next prompt.
        shown += &p.wait("sky\n");
        shown += &p.wait("\n> ");
        assert!(!shown.contains("left it"), "{shown}");
    }
    leave(p);
}

#[test]
fn p11_the_processor_rests_at_the_prompt() {
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "20", "--ignore-eos", "--no-think"]), 80);
    p.wait("> ");
    p.line("Hello");
    p.wait("[as long as -n allows");
    p.wait("> ");
    let pid = p.pid();
    // utime and stime, in ticks of 10 ms, after the name in parentheses.
    let ticks = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    thread::sleep(Duration::from_millis(100));
    let before = ticks();
    thread::sleep(Duration::from_millis(500));
    assert!(ticks() - before <= 1, "{} ticks", ticks() - before);
    leave(p);
}

#[test]
fn t13_wide_characters_keep_the_cursor_right_on_forty_columns() {
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "1"]), 40);
    p.wait("> ");
    // Two columns each, a combining mark, an emoji of several code points.
    p.keys("日本語 e\u{301} 👩\u{200d}🚀");
    p.wait("🚀");
    let row = p.wait_screen(|lines| lines.last().is_some_and(|line| line.contains("日本語")));
    assert!(row.last().unwrap().starts_with("> 日本語 e\u{301} "), "{row:?}");
    // Back over all of it: 3 + 1 + 1 + 1 + 1 characters.
    p.keys(&"\x1b[D".repeat(7));
    p.keys("x");
    p.wait_screen(|lines| lines.last().is_some_and(|line| line.starts_with("> x日本語")));
    p.keys("\x01\x0b");
    // A line that wraps: 30 wide characters are 60 columns.
    p.keys(&"字".repeat(30));
    p.wait_screen(|lines| {
        let n = lines.len();
        n >= 2 && lines[n - 2] == format!("> {}", "字".repeat(19)) && lines[n - 1] == "字".repeat(11)
    });
    // Deleting goes back over the line's end.
    p.keys(&"\x7f".repeat(12));
    p.wait_screen(|lines| lines.last().is_some_and(|line| *line == format!("> {}", "字".repeat(18))));
    p.keys("\x15");
    leave(p);
}

#[test]
fn t2_t12_lines_that_are_pasted_and_long_ones_arrive_as_one_message() {
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "1", "--no-think"]), 80);
    p.wait("> ");
    // Bracketed: line breaks and backslashes are text, and so is a command.
    p.keys("\x1b[200~first \\\n/exit\nthird\x1b[201~");
    p.wait("third");
    p.keys("\r");
    p.wait("[as long as -n allows");
    assert_eq!(home.users(), ["first \\\n/exit\nthird"]);
    // 100 KB in one line, which is more than this context holds.
    p.wait("> ");
    let long = "0123456789".repeat(10_000);
    p.keys(&format!("\x1b[200~{long}\x1b[201~\r"));
    p.wait("the context holds 4096");
    assert_eq!(home.users()[1], long);
    leave(p);
}

#[test]
fn lines_are_put_together_in_four_ways() {
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "1", "--no-think"]), 80);
    p.wait("> ");
    // Alt-Enter.
    p.keys("one\x1b\rtwo\r");
    p.wait("[as long as");
    // A backslash.
    p.wait("> ");
    p.line("three\\");
    p.line("four");
    p.wait("[as long as");
    // Quotes; the way out is shown.
    p.wait("> ");
    p.line("\"\"\"five");
    p.wait("(\"\"\" and Enter sends, Ctrl-C drops)");
    p.line("/exit");
    p.line("six\"\"\"");
    p.wait("[as long as");
    assert_eq!(home.users(), ["one\ntwo", "three\nfour", "five\n/exit\nsix"]);
    // Ctrl-C leaves a block.
    p.wait("> ");
    p.line("\"\"\"never");
    p.wait("drops)");
    p.keys("\x03");
    p.wait("> ");
    leave(p);
    assert_eq!(home.users().len(), 3);
}

#[test]
fn a_message_can_be_written_in_another_editor() {
    let home = Home::new();
    let script = home.file("edit.sh", "#!/bin/sh\ncat \"$1\" > \"$0.saw\"\nprintf 'line 1\\nline 2\\n' > \"$1\"\n");
    let mut command = random(&["-n", "1", "--no-think"]);
    command.env("EDITOR", "false").env("VISUAL", format!("sh {script}"));
    let mut p = home.terminal(command, 80);
    p.wait("> ");
    p.line("/edit a draft");
    p.wait("line 2");
    p.wait("[as long as -n allows");
    assert_eq!(home.users(), ["line 1\nline 2"]);
    assert_eq!(fs::read_to_string(format!("{script}.saw")).unwrap(), "a draft");
    leave(p);
    let mut command = random(&["-n", "1"]);
    command.env("EDITOR", "exit 3;").env_remove("VISUAL");
    let mut p = home.terminal(command, 80);
    p.wait("> ");
    p.line("/edit");
    p.wait("nothing is sent]");
    leave(p);
}

#[test]
fn tab_completes_commands_settings_and_files() {
    let home = Home::new();
    let path = home.file("letters and more.txt", "abc");
    let mut p = home.terminal(random(&["-n", "1"]), 120);
    p.wait("> ");
    p.keys("/mar\t");
    p.wait("/markdown");
    p.keys("\x15/set rep\t");
    p.wait("repeat-");
    p.keys("\x15");
    p.keys(&format!("/read {}\t", path.strip_suffix(" and more.txt").unwrap()));
    p.wait("letters and more.txt");
    p.keys("\r");
    p.wait("goes with the next message");
    leave(p);
}

#[test]
fn suspended_and_continued_in_any_state() {
    let home = Home::new();
    // A shell with job control, since only such a one takes a stopped program back.
    let chat = random(&["-n", "4000", "-c", "8192", "--ignore-eos", "--temp", "0", "--no-think"]);
    let mut command = std::process::Command::new("bash");
    command.args(["--norc", "--noprofile", "-i"]).env("PS1", "sh$ ").env("HISTFILE", "/dev/null");
    let mut p = home.terminal(command, 80);
    p.wait("sh$ ");
    let words: Vec<String> = std::iter::once(chat.get_program())
        .chain(chat.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    p.line(&words.join(" "));
    p.wait("Ctrl-D leaves");
    p.wait("> ");
    // At the prompt, in the middle of a line.
    p.keys("Hel\x1a");
    p.wait("Stopped");
    p.wait("sh$ ");
    p.line("fg");
    p.wait("> Hel");
    p.keys("lo\r");
    // In an answer.
    let begun = p.raw().len();
    while p.raw().len() < begun + 100 {
        thread::sleep(Duration::from_millis(1));
    }
    p.keys("\x1a");
    p.wait("Stopped");
    p.wait("sh$ ");
    p.line("fg");
    p.wait("[as long as -n allows; 4000 tokens");
    p.wait("> ");
    p.keys("\x04");
    p.wait("sh$ ");
    p.line("exit");
    assert_eq!(p.end(), 0);
    assert_eq!(home.users(), ["Hello"]);
}

#[test]
fn t8_a_signal_in_the_middle_of_a_line_leaves_the_terminal_as_it_was() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        ends_in_the_middle_of_a_line(signal);
    }
}

fn ends_in_the_middle_of_a_line(signal: Signal) {
    use rustix::termios::tcgetattr;
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "1"]), 80);
    // A new terminal's modes, whatever the program has done to this one by now.
    let before = Terminal::new_modes();
    p.wait("> ");
    p.keys("abc");
    p.wait("abc");
    let during = tcgetattr(p.file()).unwrap();
    assert_ne!(during.local_modes, before.local_modes, "a line is edited in raw mode");
    p.signal(signal);
    let keys = p.file().try_clone().unwrap();
    assert_eq!(p.end(), -(signal as i32));
    let after = tcgetattr(&keys).unwrap();
    assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes));
    assert_eq!((after.output_modes, after.control_modes), (before.output_modes, before.control_modes));
}

#[test]
fn no_color_means_no_escape_sequence_around_words() {
    let home = Home::new();
    let mut command = random(&["-n", "8", "--think", "--thinking", "dim"]);
    command.env("NO_COLOR", "1");
    let mut p = home.terminal(command, 80);
    p.wait("> ");
    p.line("/markdown on");
    p.line("Hello");
    p.wait("[as long as -n allows");
    let raw = p.raw();
    assert!(!raw.contains("\x1b[2m") && !raw.contains("\x1b[1m") && !raw.contains("\x1b[36m"), "{raw:?}");
    leave(p);
}

#[test]
fn t2_what_is_typed_or_pasted_while_an_answer_streams_waits_for_the_prompt() {
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "3000", "-c", "8192", "--ignore-eos", "--temp", "0", "--no-think"]), 80);
    p.wait("> ");
    p.line("One");
    home.wait_for_answer("One");
    p.keys("\x1b[200~pasted 1\npasted 2\x1b[201~ and typed");
    p.wait("[as long as -n allows");
    let answer = p.raw();
    let answer = answer.split_once("One").unwrap().1.split_once("[as long").unwrap().0;
    assert!(!answer.contains("pasted") && !answer.contains("typed"), "it is not echoed into the answer");
    p.wait("and typed");
    p.keys("\x03");
    p.wait("> ");
    p.line("/set n 1");
    p.wait("[n is 1]");
    p.wait("> ");
    p.keys("\x1b[200~first\nsecond\x1b[201~\r");
    p.wait("[as long as -n allows; 1 token");
    leave(p);
    assert_eq!(home.users(), ["One", "first\nsecond"]);
}

#[test]
fn bytes_that_are_no_utf_8_are_replaced_and_the_line_goes_on() {
    use std::io::Write;
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "1", "--no-think"]), 80);
    p.wait("> ");
    p.keys("caf");
    p.wait("caf");
    p.file().write_all(b"\xe9 ").unwrap();
    p.wait("\u{fffd}");
    p.keys("au lait\r");
    p.wait("[as long as -n allows");
    leave(p);
    assert_eq!(home.users().len(), 1);
    assert!(home.users()[0].starts_with("caf\u{fffd}") && home.users()[0].ends_with("au lait"), "{:?}", home.users());
}

#[test]
fn p10_progress_stays_on_one_line_of_a_narrow_screen() {
    let home = Home::new();
    let mut p = home.terminal(random(&["-n", "1", "-c", "60000", "-b", "1", "-t", "1", "--no-think"]), 40);
    p.wait("> ");
    let path = home.file("long.txt", &"word and ".repeat(8000));
    p.line(&format!("/read {path}"));
    p.wait("next message");
    p.wait("> ");
    p.line("What?");
    p.wait("reading the prompt: ");
    for _ in 0..3 {
        p.wait("reading the prompt: ");
    }
    let shown = p.screen().iter().filter(|line| line.contains("reading the prompt")).count();
    assert_eq!(shown, 1, "{:?}", p.screen());
    p.keys("\x03");
    p.wait("[stopped before an answer");
    leave(p);
}

#[test]
fn ctrl_c_leaves_on_a_terminal_that_cannot_move_the_cursor() {
    let home = Home::new();
    let mut p = Terminal::start_as(home.command(random(&["-n", "1"])), 80, "dumb");
    p.wait("> ");
    p.keys("\x03");
    assert_eq!(p.end(), 130);
}
