//! `--draft-lookup`: tokens that were guessed are those that would have been chosen, with every way of choosing and ending.
use std::fs;

use qwren_tests::cli::{Run, qwren, random_model, run};
use qwren_tests::{converted, data};
use serde_json::Value;

/// Repeats itself, so that much can be guessed.
const PROMPT: &str = "one two three four one two three four one two three four one two";

const SCHEMA: &str = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "again": {"type":
    "string", "maxLength": 12}}, "required": ["name", "again"], "additionalProperties": false}"#;

fn complete(flags: &[&str]) -> Run {
    let mut command = qwren(["complete", "--json", "--quiet", "-p", PROMPT]);
    command.args(flags).arg("-m").arg(random_model());
    run(command, "")
}

fn json(run: Run) -> Value {
    serde_json::from_str(&run.ok()).expect("one JSON value")
}

#[test]
fn drafts_change_no_token() {
    let cases: [&[&str]; 8] = [
        &["--temp", "0", "-n", "60", "--logprobs", "3"],
        &["--temp", "1", "-s", "7", "-n", "60"],
        &["--temp", "0.3", "-s", "3", "--repeat-penalty", "1.1", "-n", "40"],
        // To the end of the context.
        &["--temp", "0", "--ignore-eos", "-c", "128"],
        // In batches smaller than a guess.
        &["--temp", "0", "-n", "60", "-b", "3"],
        &["--temp", "0", "-n", "60", "-ctk", "q8_0", "-ctv", "q8_0"],
        &["--temp", "0.7", "-s", "5", "-n", "80", "--json-schema", SCHEMA],
        &["--temp", "0", "--no-loop-guard", "-n", "90"],
    ];
    let mut guesses = [0, 0];
    for flags in cases {
        let plain = json(complete(flags));
        assert_eq!((&plain["timings"]["draft_tokens"], &plain["timings"]["draft_accepted"]), (&0.into(), &0.into()));
        for most in ["1", "7", "16"] {
            let drafted = json(complete(&[flags, &["--draft-lookup", most]].concat()));
            for key in ["tokens", "text", "reason", "logprobs", "prompt_tokens"] {
                assert_eq!(drafted[key], plain[key], "{key} with {flags:?}, {most} guesses");
            }
            let count = |key: &str| drafted["timings"][key].as_u64().unwrap();
            guesses[0] += count("draft_tokens");
            guesses[1] += count("draft_accepted");
            assert!(count("draft_accepted") <= count("draft_tokens"));
        }
    }
    // Both ways were taken: guesses that were right and such that were not.
    assert!(guesses[1] > 20 && guesses[0] > guesses[1] + 20, "{guesses:?}");
}

#[test]
fn drafts_end_where_a_stop_string_does_and_leave_a_sound_cache() {
    let flags = ["--temp", "0", "-n", "60"];
    let text = json(complete(&flags))["text"].as_str().unwrap().to_owned();
    let stop: String = text.chars().skip(text.chars().count() / 2).take(2).collect();
    let dir = tempfile::tempdir().unwrap();
    let with = |cache: &str, more: &[&str]| {
        let cache = dir.path().join(cache);
        let flags = [&flags[..], &["--stop", &stop, "--prompt-cache", cache.to_str().unwrap()], more].concat();
        let said = json(complete(&flags));
        (said["tokens"].clone(), said["stop"].clone(), fs::read(&cache).unwrap())
    };
    let plain = with("plain", &[]);
    assert_eq!(plain.1, stop);
    assert!(with("drafted", &["--draft-lookup", "8"]) == plain);
}

#[test]
fn drafts_keep_thoughts_their_budget_and_a_conversation_its_turns() {
    let questions = "\"What is the capital of France?\"\n\"What is the capital of France?\"\n\"What is 2 + 3?\"\n";
    let cases: [&[&str]; 4] = [
        &["--think"],
        &["--think", "--thinking-budget", "4"],
        &["--no-think", "--stop", "is"],
        // The oldest turns leave.
        &["--think", "-c", "96"],
    ];
    for flags in cases {
        let ask = |more: &[&str]| {
            let mut command = qwren(["chat", "--jsonl", "--temp", "0", "--quiet"]);
            command.args(flags).args(more).arg("-m").arg(converted("demo", &data("demo"), "q8_0"));
            run(command, questions).ok()
        };
        let plain = ask(&[]);
        assert_eq!(plain.lines().count(), 3);
        assert_eq!(ask(&["--draft-lookup", "6"]), plain, "{flags:?}");
    }
}

#[test]
fn guesses_are_told_and_have_bounds() {
    let mut command = qwren(["complete", "-p", PROMPT, "--temp", "0", "-n", "60", "--draft-lookup", "4"]);
    let ended = run(
        {
            command.arg("-m").arg(random_model());
            command
        },
        "",
    );
    assert!(ended.stderr.contains(" guesses right)"), "{}", ended.stderr);
    assert_eq!(complete(&["--draft-lookup", "4", "--stock-ops"]).code, Some(2));
    assert_eq!(complete(&["--draft-lookup", "17"]).code, Some(2));
}

/// Where the file is mapped, read ahead or not, and in huge pages: the same weights.
#[test]
fn p12_however_the_file_is_read_the_text_is_the_same() {
    // Long enough for the move to begin.
    let long = ["--temp", "0", "-n", "400", "--ignore-eos"];
    let tokens = |flags: &[&str]| json(complete(&[&long, flags].concat()))["tokens"].clone();
    let moved = tokens(&[]);
    assert_eq!(tokens(&["--mmap"]), moved);
    assert_eq!(tokens(&["--no-warm"]), moved);
}
