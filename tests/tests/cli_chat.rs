//! `qwren chat`: one message through a pipe, a conversation at a terminal.
use std::process::Command;
use std::time::{Duration, Instant};

use qwren_tests::cli::{qwren, random_model, run};
use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

fn chat(flags: &[&str]) -> Command {
    let mut command = qwren(["chat"]);
    command.args(flags).arg("-m").arg(random_model());
    command
}

#[test]
fn t5_a_pipe_is_one_message_and_gets_one_answer() {
    let flags = ["-n", "12", "--temp", "0", "--quiet"];
    let ended = run(chat(&flags), "Hello\n/help\nsecond line\n");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(!ended.stdout.is_empty());
    assert_eq!(
        run(chat(&flags), "Hello\n/help\nsecond line").ok(),
        ended.stdout,
        "one newline at the end is no part of it"
    );
    assert_ne!(run(chat(&flags), "Hello").ok(), ended.stdout);
    // The answer is what completing the rendered prompt gives.
    let prompt = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
    let mut complete = qwren(["complete", "-n", "12", "--temp", "0", "--quiet", "-p", prompt, "-m"]);
    complete.arg(random_model());
    let plain = run(chat(&[&flags[..], &["--no-think"]].concat()), "Hello").ok();
    assert_eq!(plain, run(complete, "").ok());
}

#[test]
fn an_empty_message_and_a_prompt_that_does_not_fit_are_refused() {
    assert!(run(chat(&["--quiet"]), " \n").error(2).contains("no message on stdin"));
    let line = run(chat(&["--quiet", "-c", "8"]), "Hello").error(2);
    assert!(line.contains("the context holds 8"), "{line}");
}

/// A chat at a terminal whose answers are long.
fn terminal(flags: &[&str]) -> PtySession {
    let mut command = chat(flags);
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    spawn_command(command, Some(15_000)).expect("a terminal")
}

fn exit_code(session: &mut PtySession) -> i32 {
    session.exp_eof().expect("the program ends");
    match session.process().wait().expect("a child") {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn t1_three_turns_one_of_them_stopped_and_both_ways_to_leave() {
    let flags = ["-n", "1500", "-c", "8192", "--ignore-eos", "--temp", "0", "--no-think", "--system", "Be brief."];
    let mut p = terminal(&flags);
    p.exp_string("/help lists the commands").unwrap();
    p.exp_string("> ").unwrap();
    p.send_line("One").unwrap();
    p.exp_string("[as long as -n allows]").unwrap();

    // Ctrl-C stops the answer and is not the first of two.
    p.exp_string("> ").unwrap();
    p.send_line("Two").unwrap();
    // The line is taken, and the answer has begun: 30 characters and none of the editor's escape sequences.
    p.exp_regex(r"2004l\r\n[^\x1b]{30}").unwrap();
    let pressed = Instant::now();
    p.send_control('c').unwrap();
    p.exp_string("[stopped;").unwrap();
    // 250 ms are promised; a machine that runs other tests beside this one gets twice that.
    assert!(pressed.elapsed() < Duration::from_millis(500), "{:?}", pressed.elapsed());

    p.exp_string("> ").unwrap();
    p.send_line("/stats").unwrap();
    p.exp_regex(r"prompt: \d+ tokens and \d+ reused").unwrap();
    p.exp_string("> ").unwrap();
    p.send_line("Three").unwrap();
    p.exp_string("[as long as -n allows]").unwrap();

    // A hint at the empty prompt; typing in between starts the count anew.
    p.exp_string("> ").unwrap();
    p.send_control('c').unwrap();
    p.exp_string("Ctrl-C again leaves").unwrap();
    p.exp_string("> ").unwrap();
    p.send_line("/help").unwrap();
    p.exp_string("//word").unwrap();
    p.exp_string("> ").unwrap();
    p.send_control('c').unwrap();
    p.exp_string("Ctrl-C again leaves").unwrap();
    p.exp_string("> ").unwrap();
    p.send_control('c').unwrap();
    assert_eq!(exit_code(&mut p), 130);
}

#[test]
fn commands_act_and_unknown_ones_ask() {
    let mut p = terminal(&["-n", "3", "--temp", "0.5", "--no-think"]);
    p.exp_string("> ").unwrap();
    p.send_line("/show").unwrap();
    p.exp_regex(r"thinking\s+off").unwrap();
    p.exp_regex(r"top-k\s+20\s+\(model card\)").unwrap();
    p.exp_regex(r"temp\s+0.5\s+\(flag\)").unwrap();
    p.send_line("/think").unwrap();
    p.exp_string("[thinking is on]").unwrap();
    p.send_line("/regen").unwrap();
    p.exp_string("[there is no message to answer]").unwrap();
    p.send_line("/path/to is what?").unwrap();
    p.exp_string("/path/to is no command").unwrap();
    p.send_line("n").unwrap();
    p.send_line("/undo").unwrap();
    p.exp_string("[there is no message to take back]").unwrap();
    p.send_line("//path").unwrap();
    p.exp_string("[as long as -n allows]").unwrap();
    p.send_line("/undo").unwrap();
    p.exp_string("[taken back: /path]").unwrap();
    p.send_line("/clear").unwrap();
    p.exp_string("[the conversation is empty]").unwrap();
    p.send_control('d').unwrap();
    assert_eq!(exit_code(&mut p), 0);
}

#[test]
fn x6_a_full_context_lets_the_oldest_turns_go() {
    let mut p = terminal(&["-n", "40", "-c", "128", "--ignore-eos", "--temp", "0", "--no-think"]);
    let mut shown = String::new();
    for _ in 0..6 {
        p.send_line("Tell me something of the sea and of the sky").unwrap();
        shown += &p.exp_string("[as long as -n allows]").unwrap();
    }
    assert!(shown.contains("[the context of 128 tokens is full: the oldest "), "{shown}");
    p.send_line("/bye").unwrap();
    assert_eq!(exit_code(&mut p), 0);
}

#[test]
fn p11_the_processor_rests_at_the_prompt() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo pid $$; exec \"$@\"", "sh"]);
    let chat = chat(&["-n", "20", "--ignore-eos", "--no-think"]);
    command.arg(chat.get_program()).args(chat.get_args()).env("TERM", "xterm");
    let mut p = spawn_command(command, Some(15_000)).expect("a terminal");
    let (_, pid) = p.exp_regex(r"pid \d+").unwrap();
    let pid = pid.trim_start_matches("pid ").to_owned();
    p.exp_string("> ").unwrap();
    p.send_line("Hello").unwrap();
    p.exp_string("[as long as -n allows]").unwrap();
    p.exp_string("> ").unwrap();
    // utime and stime, in ticks of 10 ms, after the name in parentheses.
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    std::thread::sleep(Duration::from_millis(100));
    let before = ticks();
    std::thread::sleep(Duration::from_millis(1000));
    assert!(ticks() - before <= 2, "{} ticks", ticks() - before);
    p.send_control('d').unwrap();
    assert_eq!(exit_code(&mut p), 0);
}
