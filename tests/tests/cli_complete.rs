//! `qwren complete`: stdout is the completion and nothing else.
use std::fs;
use std::io::Read;
use std::process::Stdio;

use qwren_tests::cli::{Run, model_of_nans, qwren, random_model, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn complete(flags: &[&str], input: &str) -> Run {
    let mut command = qwren(["complete"]);
    command.args(flags).arg("-m").arg(random_model());
    run(command, input)
}

fn json(flags: &[&str]) -> Value {
    let mut all = vec!["--json", "--quiet"];
    all.extend(flags);
    serde_json::from_str(&complete(&all, "").ok()).expect("one JSON value")
}

const PROMPT: &str = "Once upon a time";

#[test]
fn t4_stdout_is_the_text_and_stderr_the_rest() {
    let ended = complete(&["-n", "8", "--temp", "0"], "Once upon a time\n");
    assert_eq!(ended.code, Some(0));
    let stderr: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(stderr.len(), 2, "{}", ended.stderr);
    assert!(stderr[0].contains("seed ") && stderr[0].contains(" thread") && stderr[0].contains("context 4096 tokens"));
    assert!(stderr[1].contains("tokens/s") && stderr[1].ends_with("ended by: the length asked for"), "{}", stderr[1]);
    let text = json(&["-n", "8", "--temp", "0", "-p", PROMPT])["text"].clone();
    assert_eq!(ended.stdout, text.as_str().unwrap());
    assert!(!text.as_str().unwrap().is_empty());
    // The same prompt from anywhere, quiet or not.
    let quiet = complete(&["-n", "8", "--temp", "0", "--quiet", "-p", PROMPT], "");
    assert_eq!((quiet.stdout, quiet.stderr.as_str()), (ended.stdout.clone(), ""));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prompt.txt");
    fs::write(&file, "Once upon a time\n").unwrap();
    assert_eq!(complete(&["-n", "8", "--temp", "0", "-f", file.to_str().unwrap()], "").ok(), ended.stdout);
}

#[test]
fn echo_prints_the_prompt_first() {
    let plain = complete(&["-n", "4", "--temp", "0", "-p", PROMPT], "").ok();
    assert_eq!(complete(&["-n", "4", "--temp", "0", "-p", PROMPT, "--echo"], "").ok(), format!("{PROMPT}{plain}"));
}

#[test]
fn x5_every_reason_is_told() {
    let none = json(&["-n", "0", "-p", PROMPT]);
    assert_eq!((none["reason"].as_str(), none["text"].as_str()), (Some("length"), Some("")));
    let long = json(&["-n", "5", "-p", PROMPT, "--temp", "0"]);
    assert_eq!(long["reason"], "length");
    assert_eq!(long["tokens"].as_array().unwrap().len(), 5);
    assert_eq!(long["prompt_tokens"], 12);
    assert!(long["timings"]["decode_tokens_per_s"].as_f64().unwrap() > 0.0);
    let full = json(&["-c", "16", "-p", PROMPT, "--ignore-eos"]);
    // The prompt's 12, 4 more to fill the context, and the one that follows from these.
    assert_eq!((full["reason"].as_str(), full["tokens"].as_array().unwrap().len()), (Some("context"), 5));
    let text = long["text"].as_str().unwrap();
    let stop: String = text.chars().skip(2).take(1).collect();
    let stopped = json(&["-n", "5", "-p", PROMPT, "--temp", "0", "--stop", "not in it", "--stop", &stop]);
    assert_eq!((stopped["reason"].as_str(), stopped["stop"].as_str()), (Some("stop"), Some(stop.as_str())));
    assert_eq!(stopped["text"].as_str().unwrap(), text.split(stop.as_str()).next().unwrap());
}

#[test]
fn p9_an_interrupted_run_keeps_its_text_and_tells_its_times() {
    let mut command = qwren(["complete", "-p", PROMPT, "-c", "60000", "--ignore-eos", "-m"]);
    command.arg(random_model()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 8];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.trim_end().ends_with("ended by: an interrupt") && stderr.contains("tokens/s"), "{stderr}");
}

#[test]
fn t6_a_prompt_that_does_not_fit_is_refused_with_both_counts() {
    let line = complete(&["-c", "8", "-p", PROMPT], "").error(2);
    assert!(line.contains("the prompt has 12 tokens, the context holds 8"), "{line}");
    assert!(complete(&[], "").error(2).contains("the prompt is empty"));
    let line = complete(&["-f", "/no/such.txt"], "").error(2);
    assert!(line.starts_with("qwren: /no/such.txt: cannot be read"), "{line}");
}

#[test]
fn p13_a_seed_gives_the_same_text_whatever_computes_it() {
    let flags = ["-n", "24", "-p", PROMPT, "-s", "7", "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0"];
    let with = |more: &[&str]| json(&[&flags[..], more].concat())["tokens"].clone();
    let text = with(&[]);
    for more in [&["-t", "1"][..], &["-t", "3", "-tb", "2"], &["-b", "1"], &["-b", "5", "-c", "64"]] {
        assert_eq!(with(more), text, "{more:?}");
    }
    let mut other = flags;
    other[5] = "8";
    assert_ne!(json(&other)["tokens"], text);
    assert_eq!(json(&flags)["seed"], 7);
}

#[test]
fn x1_temperature_0_is_the_most_likely_token_whatever_else_is_set() {
    let plain = json(&["-n", "8", "-p", PROMPT, "--temp", "0"])["tokens"].clone();
    let more = ["--top-k", "3", "--top-p", "0.1", "--min-p", "0.9", "-s", "3"];
    assert_eq!(json(&[&["-n", "8", "-p", PROMPT, "--temp", "0"][..], &more].concat())["tokens"], plain);
    assert!(complete(&["-p", "a", "--top-p", "1.5"], "").error(2).contains("top-p"));
}

#[test]
fn typed_special_tokens_are_parsed_unless_told_otherwise() {
    assert_eq!(json(&["-n", "0", "-p", "<|im_start|>"])["prompt_tokens"], 1);
    assert!(json(&["-n", "0", "-p", "<|im_start|>", "--no-special"])["prompt_tokens"].as_u64().unwrap() > 1);
}

#[test]
fn a_model_of_no_numbers_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_of_nans(dir.path());
    for flags in [&[][..], &["--temp", "0"], &["-j", r#"{"type":"integer"}"#], &["--ignore-eos"]] {
        let mut command = qwren(["complete", "--quiet", "-p", PROMPT, "-n", "4", "-m"]);
        command.arg(&model).args(flags);
        assert!(run(command, "").error(2).ends_with("not finite; check it with 'qwren verify'\n"), "{flags:?}");
    }
}

#[test]
fn no_speed_is_told_where_nothing_was_timed() {
    // The only token comes out of the prompt.
    let stderr = complete(&["-n", "1", "-p", PROMPT], "").stderr;
    assert!(stderr.contains(" tokens/s | answer: 1 token | ended by: the length asked for"), "{stderr}");
}

#[test]
fn stock_operations_choose_the_same_tokens() {
    let flags = ["-n", "6", "-p", PROMPT, "--temp", "0", "-ctk", "f32", "-ctv", "f32"];
    let ours = json(&flags);
    let stock = json(&[&flags[..], &["--stock-ops"]].concat());
    assert_eq!(ours["tokens"][0], stock["tokens"][0]);
}

#[test]
fn p5_what_cannot_fit_is_refused_with_numbers() {
    let line = complete(&["-p", "a", "-c", "1000000000"], "").error(4);
    assert!(line.contains("needs ") && line.contains("available") && line.contains("--force"), "{line}");
    // What would fit is told, and does.
    let (_, fits) = line.split_once("use a smaller context, of ").unwrap_or_else(|| panic!("{line}"));
    let fits: u64 = fits.split(' ').next().unwrap().parse().unwrap();
    assert!(fits.is_multiple_of(256) && (1..1_000_000_000).contains(&fits), "{line}");
    assert_eq!(complete(&["-p", "a", "-n", "1", "-c", &(fits / 2).to_string()], "").code, Some(0));
    // Forced, the cache is only reserved, and grows as it is used.
    assert_eq!(complete(&["-p", "a", "-n", "1", "-c", "2000000", "--force"], "").code, Some(0));
}

#[test]
fn verbose_tells_the_causes() {
    let ended = complete(&["--verbose", "-f", "/no/such.txt"], "");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.starts_with("qwren: /no/such.txt"), "{}", ended.stderr);
}

#[test]
fn logprobs_are_those_of_the_model() {
    let flags = ["-n", "4", "-p", PROMPT, "--temp", "0", "--logprobs", "3"];
    let all = json(&flags);
    let positions = all["logprobs"].as_array().unwrap();
    assert_eq!(positions.len(), 4);
    for (position, id) in positions.iter().zip(all["tokens"].as_array().unwrap()) {
        let top = position["top"].as_array().unwrap();
        assert_eq!((&position["id"], top.len()), (id, 3));
        // Greedy: the chosen one is the most likely.
        assert_eq!((&top[0]["id"], &top[0]["logprob"]), (id, &position["logprob"]));
        let p: Vec<f64> = top.iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert!(p[0] >= p[1] && p[1] >= p[2] && p.iter().map(|p| p.exp()).sum::<f64>() <= 1.0 + 1e-6, "{p:?}");
    }
    let text: String = positions.iter().map(|p| p["text"].as_str().unwrap()).collect();
    assert_eq!(text, all["text"].as_str().unwrap());
    assert_eq!(json(&flags[..6]).get("logprobs"), None);
    let none = json(&["-n", "2", "-p", PROMPT, "--logprobs", "0"]);
    assert_eq!(none["logprobs"][0]["top"], serde_json::json!([]));
    assert!(none["logprobs"][0]["logprob"].as_f64().unwrap() <= 0.0);
}

#[test]
fn echo_and_json_go_together() {
    let all = json(&["-n", "4", "--temp", "0", "-p", PROMPT, "--echo"]);
    let plain = json(&["-n", "4", "--temp", "0", "-p", PROMPT]);
    assert_eq!(all["text"].as_str().unwrap(), format!("{PROMPT}{}", plain["text"].as_str().unwrap()));
}

#[test]
fn x4_a_stop_string_over_tokens_is_not_printed() {
    let all = json(&["-n", "12", "--temp", "0", "-p", PROMPT, "--logprobs", "0"]);
    let pieces: Vec<&str> = all["logprobs"].as_array().unwrap().iter().map(|p| p["text"].as_str().unwrap()).collect();
    // Two tokens that differ, so that neither alone is the stop string.
    let at = (1..pieces.len() - 1).find(|&i| pieces[i] != pieces[i + 1]).expect("two tokens");
    let stop = format!("{}{}", pieces[at], pieces[at + 1]);
    let text = all["text"].as_str().unwrap();
    let stopped = complete(&["-n", "12", "--temp", "0", "-p", PROMPT, "--stop", &stop, "--quiet"], "").ok();
    assert_eq!(stopped, text.split(stop.as_str()).next().unwrap(), "{stop:?} in {text:?}");
}

#[test]
fn t6_a_long_prompt_is_cut_at_the_front_only_when_asked() {
    let long = "one two three four five six seven eight nine ten ".repeat(8);
    let flags = ["-c", "64", "-n", "8", "--temp", "0", "-p", &long];
    assert!(complete(&flags, "").error(2).contains("--truncate"));
    let ended = complete(&[&flags[..], &["--truncate"]].concat(), "");
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("of the prompt's ") && ended.stderr.contains("left out (--truncate)"),
        "{}",
        ended.stderr
    );
    let all = json(&[&flags[..], &["--truncate"]].concat());
    assert_eq!((all["prompt_tokens"].as_u64(), all["reason"].as_str()), (Some(56), Some("length")));
    // One that fits stays whole.
    assert_eq!(json(&["-n", "1", "-p", PROMPT, "--truncate"])["prompt_tokens"], 12);
}

const SCHEMA: &str = r#"{"type": "object", "properties": {"name": {"enum": ["Ann", "Bob"]}, "age": {"type": "integer", "minimum": 1, "maximum": 99}}, "required": ["name", "age"], "additionalProperties": false}"#;

#[test]
fn a_schema_makes_any_model_say_json_and_forced_tokens_cost_no_choice() {
    for temp in ["0", "1.5"] {
        let all =
            json(&["-p", PROMPT, "--temp", temp, "-s", "3", "--json-schema", SCHEMA, "--logprobs", "0", "-n", "200"]);
        let said: Value = serde_json::from_str(all["text"].as_str().unwrap()).expect("JSON");
        assert!(["Ann", "Bob"].contains(&said["name"].as_str().unwrap()));
        assert!((1..=99).contains(&said["age"].as_i64().unwrap()));
        assert_eq!(all["reason"], "eos");
        // What is forced is told with the model's own opinion of it too.
        assert_eq!(all["logprobs"].as_array().unwrap().len(), all["tokens"].as_array().unwrap().len());
    }
    // The same tokens whether they are evaluated together or, since their logits are wanted, each.
    let flags = ["-p", PROMPT, "--temp", "0", "--json-schema", SCHEMA];
    let (plain, each) = (json(&flags), json(&[&flags[..], &["--logprobs", "1"]].concat()));
    assert_eq!(plain["tokens"], each["tokens"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schema.json");
    fs::write(&file, SCHEMA).unwrap();
    assert_eq!(json(&["-p", PROMPT, "--temp", "0", "-j", file.to_str().unwrap()])["tokens"], plain["tokens"]);
}

#[test]
fn a_thought_in_which_the_prompt_ends_is_exempt_from_the_grammar() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("g.lark");
    fs::write(&file, "start: \"ok\"\n").unwrap();
    let grammar = ["--grammar", file.to_str().unwrap(), "--temp", "0"];
    assert_eq!(json(&[&["-p", PROMPT][..], &grammar].concat())["text"], "ok");
    let thought = json(&[&["-p", "<think>\nhm", "-n", "5"][..], &grammar].concat());
    assert_ne!(thought["text"], "ok");
    assert_eq!(thought["reason"], "length");
    assert_eq!(json(&[&["-p", "<think>\nhm</think>\n\n"][..], &grammar].concat())["text"], "ok");
}
