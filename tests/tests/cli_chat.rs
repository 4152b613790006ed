//! `qwren chat` without a terminal: one message through a pipe, or lines of JSON.
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use qwren_tests::cli::{qwren, random_model, run};
use qwren_tests::{converted, data};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn chat(flags: &[&str]) -> Command {
    let mut command = qwren(["chat"]);
    command.args(flags).arg("-m").arg(random_model());
    command
}

/// A chat with the demo, which answers what it is asked.
fn demo(flags: &[&str]) -> Command {
    let mut command = qwren(["chat", "--temp", "0"]);
    command.args(flags).arg("-m").arg(converted("demo", &data("demo"), "q8_0"));
    command
}

/// What `chat --jsonl` answers to lines.
fn lines(command: Command, messages: &[Value]) -> Vec<Value> {
    let input: String = messages.iter().map(|m| format!("{m}\n")).collect();
    run(command, &input).ok().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
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

#[test]
fn ctrl_c_ends_lines_of_json_in_an_answer_and_between_two() {
    // With more messages than one the signal comes while the next answer is made.
    for messages in [1, 200] {
        let mut command = chat(&["--jsonl", "--quiet", "-n", "64", "-c", "60000"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Left open: the end of the input is not what ends the program.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all("\"Hello\"\n".repeat(messages).as_bytes()).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&stdout.next().unwrap().unwrap()).unwrap();
        assert_eq!(first["reason"], "length");
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let rest: Vec<Value> = stdout.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(rest.len() < messages, "{} answers of {messages}", 1 + rest.len());
        assert!(rest.iter().rev().skip(1).all(|answer| answer["reason"] == "length"), "{rest:?}");
    }
}

#[test]
fn lines_of_json_are_a_conversation() {
    let answers = lines(
        demo(&["--jsonl", "--no-think", "--quiet"]),
        &[json!("What is the capital of France?"), json!({"role": "user", "content": "What is 2 + 3?"})],
    );
    assert_eq!(answers[0]["content"], "The capital of France is Paris.");
    assert_eq!(answers[1]["content"], "2 + 3 = 5.");
    assert_eq!((&answers[0]["role"], &answers[0]["reason"]), (&json!("assistant"), &json!("eos")));
    assert_eq!(answers[0].get("reasoning_content"), None);
    let thought = lines(demo(&["--jsonl", "--think", "--quiet"]), &[json!("What is the opposite of hot?")]);
    assert!(thought[0]["reasoning_content"].as_str().unwrap().contains("opposite"), "{}", thought[0]);
    let wrong = run(demo(&["--jsonl", "--quiet"]), "{\"role\": \"king\", \"content\": \"x\"}\n");
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.starts_with("qwren: stdin, line 1: is not a message"), "{}", wrong.stderr);
}

#[test]
fn q6_a_thought_ends_with_its_budget_and_the_answer_follows() {
    let ask = |flags: &[&str]| {
        let all = [&["--jsonl", "--think", "--quiet"][..], flags].concat();
        lines(demo(&all), &[json!("What is the capital of France?")]).remove(0)
    };
    let free = ask(&[]);
    assert!(free["reasoning_content"].as_str().unwrap().len() > 20, "{free}");
    let short = ask(&["--thinking-budget", "3", "--thinking-budget-message", "Enough."]);
    let thought = short["reasoning_content"].as_str().unwrap();
    assert!(
        thought.ends_with("\n\nEnough.")
            && free["reasoning_content"].as_str().unwrap().starts_with(thought.trim_end_matches("\n\nEnough.")),
        "{thought}"
    );
    assert!(!short["content"].as_str().unwrap().is_empty(), "{short}");
    let none = ask(&["--thinking-budget", "0"]);
    assert_eq!(none.get("reasoning_content"), None, "a budget of 0 is no thought: {none}");
    assert!(none["content"].as_str().unwrap().contains("Paris"), "{none}");
    // Said on stderr.
    let told = run(demo(&["--think", "--thinking-budget", "3"]), "What is the capital of France?");
    assert!(told.stderr.contains("the thought by its budget"), "{}", told.stderr);
}

#[test]
fn q5_a_model_that_repeats_itself_is_stopped() {
    let flags = ["--no-think", "--temp", "0", "-n", "3000"];
    let ended = run(chat(&flags), "Hello");
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.trim_end().ends_with("ended by: a repetition"), "{}", ended.stderr);
    let free = run(chat(&[&flags[..], &["--no-loop-guard"]].concat()), "Hello");
    assert!(free.stderr.trim_end().ends_with("ended by: the length asked for"), "{}", free.stderr);
    assert!(free.stdout.starts_with(&ended.stdout) && free.stdout.len() > ended.stdout.len());
}

const SCHEMA: &str = r#"{"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "sure": {"type": "boolean"}}, "required": ["city", "sure"], "additionalProperties": false}"#;

#[test]
fn an_answer_has_the_form_of_its_schema_and_a_thought_is_free() {
    let thought = lines(
        demo(&["--jsonl", "--think", "--quiet", "--json-schema", SCHEMA]),
        &[json!("What is the capital of France?"), json!("What is the capital of Italy?")],
    );
    assert!(thought[0]["reasoning_content"].as_str().unwrap().len() > 10, "{}", thought[0]);
    for (answer, city) in thought.iter().zip(["Paris", "Rome"]) {
        let content: Value = serde_json::from_str(answer["content"].as_str().unwrap()).expect("JSON");
        assert_eq!((&content["city"], content["sure"].is_boolean()), (&json!(city), true), "{answer}");
    }
    let plain = lines(
        demo(&["--jsonl", "--no-think", "--quiet", "--json-schema", SCHEMA]),
        &[json!("What is the capital of France?")],
    );
    // What must come is the schema's; which city, a model of this size can't say without a thought.
    let content: Value = serde_json::from_str(plain[0]["content"].as_str().unwrap()).expect("JSON");
    assert!(["Paris", "Rome"].contains(&content["city"].as_str().unwrap()), "{}", plain[0]);
    // A thought that is cut off too.
    let flags = ["--jsonl", "--think", "--quiet", "--json-schema", SCHEMA, "--thinking-budget", "2"];
    let cut = lines(demo(&flags), &[json!("What is the capital of France?")]);
    assert!(cut[0]["content"].as_str().unwrap().starts_with(r#"{"city": ""#), "{}", cut[0]);
}

#[test]
fn a_grammar_comes_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.lark");
    fs::write(&path, "start: \"The city is \" (\"Rome\" | \"Paris\") \"!\"\n").unwrap();
    let flags = ["--no-think", "--quiet", "--grammar", path.to_str().unwrap()];
    assert_eq!(run(demo(&flags), "What is the capital of France?").ok(), "The city is Paris!");
    fs::write(&path, "start: (").unwrap();
    let line = run(demo(&flags), "x").error(2);
    assert!(line.starts_with(&format!("qwren: {}: ", path.display())), "{line}");
    for schema in ["{\"type\": 3}", "{\"type\": \"object\"", "{\"$ref\": \"http://x/y\"}"] {
        let line = run(demo(&["--quiet", "--json-schema", schema]), "x").error(2);
        assert!(line.starts_with("qwren: --json-schema: "), "{line}");
    }
    assert!(run(demo(&["--quiet", "--json-schema", "/no/such.json"]), "x").error(2).contains("/no/such.json"));
}

/// Two functions.
fn tools(dir: &std::path::Path) -> String {
    let path = dir.join("tools.json");
    let function =
        |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    fs::write(&path, json!([function("add"), function("now")]).to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn calls_are_told_as_json_and_results_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let tools = tools(dir.path());
    // The demo knows no functions, so a grammar makes it call some.
    let grammar = dir.path().join("calls.lark");
    let call = |name: &str| {
        format!("<tool_call>\\n{{\\\"name\\\": \\\"{name}\\\", \\\"arguments\\\": {{\\\"a\\\": 1}}}}\\n</tool_call>")
    };
    fs::write(&grammar, format!("start: \"{}\\n{}\"\n", call("add"), call("now"))).unwrap();
    let flags = ["--jsonl", "--no-think", "--quiet", "--tools", &tools, "--grammar", grammar.to_str().unwrap()];
    let result = |text: &str| json!({"role": "tool", "content": text});
    let answers = lines(demo(&flags), &[json!("What is 1 + 2?"), result("3"), result("12:00")]);
    let calls = answers[0]["tool_calls"].as_array().unwrap();
    let called: Vec<&Value> = calls.iter().map(|call| &call["function"]).collect();
    assert_eq!(
        called,
        [&json!({"name": "add", "arguments": {"a": 1}}), &json!({"name": "now", "arguments": {"a": 1}})]
    );
    assert_eq!(answers[0]["content"], "");
    assert_eq!(answers[1], Value::Null, "the second result is still awaited");
    assert!(answers[2].is_object());
    // One message: the calls are lines.
    let flags = ["--no-think", "--quiet", "--tools", &tools, "--grammar", grammar.to_str().unwrap()];
    let said = run(demo(&flags), "What is 1 + 2?").ok();
    assert_eq!(said, "{\"name\":\"add\",\"arguments\":{\"a\":1}}\n{\"name\":\"now\",\"arguments\":{\"a\":1}}\n");
}

#[test]
fn a_base_model_is_told_from_one_that_talks() {
    let said = run(demo(&["--no-think", "-n", "1"]), "x").stderr;
    assert!(!said.contains("base model"), "{said}");
}
