//! What a model says can't drive the terminal that shows it.
use std::path::{Path, PathBuf};

use qwren_quant::gguf::{Array, GgufFile, Plan, Value, Writer};
use qwren_tests::cli::{qwren, random_model, run};
use qwren_tests::pty::Terminal;
use rexpect::session::spawn_command;
use serde_json::Value as Json;

const PROMPT: &str = "Once upon a time";

/// The random model with the texts of two tokens exchanged.
fn exchanged(dir: &Path, a: usize, b: usize) -> PathBuf {
    let file = GgufFile::open(&random_model()).unwrap();
    let header = file.header();
    let mut plan = Plan::new(32);
    for (key, value) in header.metadata() {
        let mut value = value.clone();
        if let (true, Value::Array(Array::String(tokens))) = (key == "tokenizer.ggml.tokens", &mut value) {
            tokens.swap(a, b);
        }
        plan.push_kv(key, value);
    }
    for t in header.tensors() {
        plan.push_tensor(&t.name, &t.shape, t.dtype).unwrap();
    }
    let layout = plan.layout().unwrap();
    let mut writer = Writer::new(Vec::new(), &layout).unwrap();
    for t in header.tensors() {
        writer.write(file.data(t)).unwrap();
        writer.end_tensor().unwrap();
    }
    let path = dir.join("hostile.gguf");
    std::fs::write(&path, writer.finish().unwrap()).unwrap();
    path
}

#[test]
fn t11_escape_sequences_in_a_models_words_are_shown_not_obeyed() {
    let complete = |model: &Path| {
        let mut command = qwren(["complete", "-p", PROMPT, "-n", "6", "--temp", "0", "--quiet"]);
        command.arg("-m").arg(model);
        command
    };
    let ids = |text: &str| -> Vec<usize> {
        let mut command = qwren(["tokenize", "--jsonl", "-m"]);
        command.arg(random_model());
        serde_json::from_str(&run(command, &format!("{}\n", Json::from(text))).ok()).unwrap()
    };
    let mut json = complete(&random_model());
    json.arg("--json");
    let said: Json = serde_json::from_str(&run(json, "").ok()).unwrap();
    let said: Vec<usize> = serde_json::from_value(said["tokens"].clone()).unwrap();
    let prompt = ids(PROMPT);
    let word = *said.iter().find(|id| !prompt.contains(id)).expect("a token that the prompt lacks");
    let escape = ids("\x1b")[0];

    let dir = tempfile::tempdir().unwrap();
    let hostile = exchanged(dir.path(), word, escape);
    let raw = run(complete(&hostile), "").ok();
    assert!(raw.contains('\x1b'), "a pipe gets the bytes as they are: {raw:?}");

    let mut session = spawn_command(complete(&hostile), Some(60_000)).expect("a terminal");
    let shown = session.exp_eof().expect("the program ends");
    assert!(shown.contains("\\u{1b}") && !shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn a_dumb_terminal_gets_no_sequences() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(&text, "Once upon a time there was a model. ".repeat(40)).unwrap();
    // Elsewhere a chunk's state replaces the last one's.
    for (term, sequences) in [("dumb", false), ("xterm", true)] {
        let mut command = qwren(["perplexity", "-c", "64", "-m"]);
        command.arg(random_model()).arg("-f").arg(&text);
        let mut terminal = Terminal::start_as(command, 80, term);
        terminal.wait(" tokens\n");
        assert_eq!(terminal.raw().contains('\x1b'), sequences, "{term}: {:?}", terminal.raw());
        assert_eq!(terminal.end(), 0);
    }
}
