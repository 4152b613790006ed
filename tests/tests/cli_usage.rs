//! What holds for every command: exit codes, one line an error, closed pipes, help.
use std::process::Stdio;

use qwren_tests::cli::{qwren, random_model, run};

const WITH_MODEL: [&[&str]; 8] = [
    &["complete", "-p", "x"],
    &["chat"],
    &["bench"],
    &["perplexity", "-f", "/dev/null"],
    &["tokenize", "--jsonl"],
    &["detokenize", "--jsonl"],
    &["template", "--jsonl"],
    &["logits", "--ids", "1", "-o", "/nowhere/x.npy"],
];

#[test]
fn help_and_version_end_with_0() {
    assert!(run(qwren(["--version"]), "").ok().starts_with("qwren 0."));
    let help = run(qwren(["--help"]), "").ok();
    for command in
        ["complete", "chat", "bench", "perplexity", "tokenize", "detokenize", "template", "logits", "devices"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in the help");
        let help = run(qwren([command, "--help"]), "").ok();
        assert!(help.contains("Usage: qwren"), "{help}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &["complete"] as &[&str],
        &[],
        &["no-such-command"],
        &["complete", "-m", "x", "--no-such-flag"],
        &["complete", "-m", "x", "-t", "0"],
        &["complete", "-m", "x", "-n", "-2"],
        &["complete", "-m", "x", "-n", "many"],
        &["complete", "-m", "x", "-ctk", "q3"],
        &["complete", "-m", "x", "-p", "a", "-f", "b"],
        &["complete", "-m", "x", "--stop", ""],
        &["complete", "-m", "x", "--quiet", "--verbose"],
        &["chat", "-m", "x", "--think", "--no-think"],
        &["chat", "-m", "x", "-cnv"],
        &["complete", "-hf", "x/y"],
        &["bench", "-m", "x", "--prefill", "-1"],
        &["-m", "x", "-p", "a"],
        &["bench", "-m", "x", "-r", "0"],
        &["logits", "-m", "x", "--ids", "1,a", "-o", "y"],
        &["logits", "-m", "x", "--ids", "1", "-o", "y", "--last", "0"],
        &["detokenize", "-m", "x"],
        &["completions", "no-such-shell"],
    ] {
        let ended = run(qwren(args), "");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn negative_numbers_are_values() {
    for (args, option, why) in [
        (&["complete", "-c", "-1"] as &[&str], "--ctx-size <N>", "give a whole number, 0 or more"),
        (&["inspect", "-c", "-1"], "--ctx-size <N>", "give a whole number, 0 or more"),
        (&["chat", "--top-k", "-1"], "--top-k <K>", "give a whole number, 0 or more"),
        (&["complete", "--repeat-last-n", "-1"], "--repeat-last-n <N>", "give a whole number, 0 or more"),
        (&["complete", "-t", "-1"], "--threads <N>", "give a number from 1 to 1024"),
        (&["bench", "-tb", "-1"], "--threads-batch <N>", "give a number from 1 to 1024"),
        (&["chat", "-ngl", "-1"], "--gpu-layers <N>", "give a number of layers, `all` or `auto`"),
        (&["complete", "-n", "-2"], "--predict <N>", "-2 is not in -1..=1073741824"),
        (&["perplexity", "-c", "-5"], "--ctx-size <N>", "-5 is not in 4..=16777216"),
    ] {
        let ended = run(qwren(args), "");
        let value = args[args.len() - 1];
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
        assert_eq!(
            ended.stderr.lines().next().unwrap(),
            format!("error: invalid value '{value}' for '{option}': {why}")
        );
    }
}

#[test]
fn what_llama_cpp_has_is_told_with_what_to_use() {
    for (args, says) in [
        (&["complete", "-m", "x", "--no-mmap"] as &[&str], "there is no --no-mmap: weights are moved into memory"),
        (&["chat", "-m", "x", "--chat-template", "chatml"], "there is no --chat-template: a conversation is written"),
        (&["chat", "-m", "x", "-fa", "on"], "there is no -fa: attention is fused"),
    ] {
        let ended = run(qwren(args), "");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
        assert!(ended.stderr.starts_with(&format!("error: {says}")), "{}", ended.stderr);
    }
}

#[test]
fn a_missing_model_ends_with_2_and_one_line() {
    for args in WITH_MODEL {
        let line = run(qwren(args.iter().chain(&["-m", "/no/such.gguf"])), "").error(2);
        assert!(line.starts_with("qwren: /no/such.gguf: "), "{args:?}: {line}");
    }
}

#[test]
fn a_wrong_file_ends_with_2_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("empty.gguf", &b""[..]),
        ("text.gguf", b"once upon a time"),
        ("short.gguf", b"GGUF\x03\x00\x00\x00"),
        ("lfs.gguf", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        for args in WITH_MODEL {
            let mut command = qwren(args);
            command.arg("-m").arg(&path);
            let line = run(command, "").error(2);
            assert!(line.contains(name), "{args:?}: {line}");
        }
    }
}

#[test]
fn a_closed_stdout_ends_quietly_with_0() {
    let model = random_model();
    let model = model.to_str().unwrap();
    for args in [
        &["devices"] as &[&str],
        &["man"],
        &["completions", "bash"],
        &["--help"],
        &["complete", "-m", model, "-p", "a", "-n", "100", "--quiet", "--ignore-eos"],
        &["tokenize", "-m", model, "-p", "a"],
    ] {
        let mut command = qwren(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_ends_with_4() {
    for page in ["man", "help", "--version"] {
        let mut command = qwren([page]);
        command.stdout(std::fs::File::create("/dev/full").unwrap());
        let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{page}: {stderr}");
        assert!(stderr.starts_with("qwren: ") && stderr.lines().count() == 1, "{page}: {stderr}");
    }
}

#[test]
fn the_manual_and_the_completions_know_every_command() {
    let manual = run(qwren(["man"]), "").ok();
    assert!(manual.starts_with(".ie") || manual.starts_with(".TH"), "{manual:.80}");
    let bash = run(qwren(["completions", "bash"]), "").ok();
    for command in ["complete", "chat", "bench", "perplexity", "devices", "tokenize"] {
        assert!(manual.contains(&format!("COMMAND {}", command.to_uppercase())), "{command}");
        assert!(bash.contains(&format!("qwren__{command}")) || bash.contains(command), "{command}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(run(qwren(["completions", shell]), "").ok().contains("qwren"));
    }
}

/// Folders and names with spaces are completed in bash, as it completes them itself.
#[test]
fn bash_completes_files() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub dir")).unwrap();
    std::fs::write(dir.path().join("sp ace.txt"), "").unwrap();
    let script = dir.path().join("complete.bash");
    std::fs::write(&script, run(qwren(["completions", "bash"]), "").ok()).unwrap();
    for (typed, wanted) in [("su", "sub dir"), ("sp", "sp ace.txt")] {
        let bash = format!(
            "source complete.bash; compopt() {{ :; }}; COMP_WORDS=(qwren chat -m {typed}); COMP_CWORD=3; \
             _qwren qwren {typed} -m; printf '%s|' \"${{COMPREPLY[@]}}\""
        );
        let output = std::process::Command::new("bash").args(["-c", &bash]).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, format!("{wanted}|"), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
