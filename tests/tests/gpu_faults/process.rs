//! The other process's life: it ends with ours, and ours does not wait for it.
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use qwren_tests::cli::random_model;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::command;

/// The children of a process.
fn children(pid: u32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|n| n.parse().unwrap()).collect()
}

fn wait_until(mut done: impl FnMut() -> bool, what: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_process_ends_with_ours_even_when_it_is_stopped() {
    let mut c = command("", "chat", &random_model(), &["--jsonl", "-ngl", "2"]);
    c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ours = c.spawn().unwrap();
    // Ready when it tells where the layers are.
    let mut lines = BufReader::new(ours.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let line = lines.find(|line| line.starts_with("Vulkan0")).unwrap();
    let theirs = children(ours.id());
    assert_eq!(theirs.len(), 1, "{line}");
    let theirs = Pid::from_raw(theirs[0]).unwrap();
    kill_process(theirs, Signal::STOP).unwrap();
    ours.kill().unwrap();
    ours.wait().unwrap();
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", theirs.as_raw_nonzero())).unwrap_or_default();
        test_kill_process(theirs).is_err() || stat.contains(") Z ")
    };
    wait_until(gone, "it lives on");
}

#[test]
fn t1_an_interrupt_does_not_wait_for_the_device() {
    let mut c =
        command("hang@prefill", "complete", &random_model(), &["-p", "Once upon a time", "-b", "4", "-ngl", "2"]);
    c.env("QWREN_GPU_PATIENCE", "3600");
    c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ours = c.spawn().unwrap();
    let mut lines = BufReader::new(ours.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    lines.find(|line| line.contains(" | seed ")).expect("what runs: reading the prompt comes next");
    thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&ours), Signal::INT).unwrap();
    assert_eq!(ours.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    ours.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
