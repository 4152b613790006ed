//! The bundled demo checkpoint does the main job: it is converted, answers, stops by itself and thinks when told to.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use qwren_tests::{bin, converted, data};
use serde_json::{Value, json};

fn demo(dtype: &str) -> PathBuf {
    converted("demo", &data("demo"), dtype)
}

/// stdout of `qwren ARGS` fed with `input`; the program must succeed.
fn qwren(args: &[&str], model: &Path, input: &str) -> String {
    let mut child = Command::new(bin("qwren"))
        .args(args)
        .arg("-m")
        .arg(model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("qwren starts");
    child.stdin.take().unwrap().write_all(input.as_bytes()).expect("qwren reads its input");
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8 on stdout")
}

struct Question {
    text: String,
    answer: String,
    prompt: String,
}

/// The held-out questions with their rendered prompts.
fn questions(model: &Path, thinking: bool) -> Vec<Question> {
    let lines: Vec<Value> = fs::read_to_string(data("demo/questions.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text = |q: &Value, key: &str| q[key].as_str().unwrap().to_owned();
    let requests: String = lines
        .iter()
        .map(|q| {
            let messages = json!([{"role": "user", "content": q["question"]}]);
            format!("{}\n", json!({"messages": messages, "enable_thinking": thinking, "add_generation_prompt": true}))
        })
        .collect();
    let rendered = qwren(&["template", "--jsonl"], model, &requests);
    let prompts: Vec<String> = rendered.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(prompts.len(), lines.len());
    lines
        .iter()
        .zip(prompts)
        .map(|(q, prompt)| Question { text: text(q, "question"), answer: text(q, "answer"), prompt })
        .collect()
}

/// Greedy completion of a rendered prompt: its text and why it ended.
fn complete(model: &Path, prompt: &str, most: &str) -> (String, String) {
    // By -p: of stdin the last newline is dropped, and a rendered prompt ends in one.
    let args = ["complete", "--json", "--quiet", "--temp", "0", "-t", "1", "-n", most, "-p", prompt];
    let out = qwren(&args, model, "");
    let out: Value = serde_json::from_str(&out).expect("one JSON object");
    (out["text"].as_str().expect("text").to_owned(), out["reason"].as_str().expect("a reason").to_owned())
}

/// The answer as a whole word, whatever its case.
fn right(reply: &str, answer: &str) -> bool {
    let word = |text: &str| -> Vec<String> {
        text.to_lowercase().split(|c: char| !c.is_alphanumeric() && c != '-').map(str::to_owned).collect()
    };
    let (reply, answer) = (word(reply), word(answer));
    reply.windows(answer.len()).any(|w| w == answer)
}

/// How many of the questions are answered rightly, and how many replies end by themselves; asked on two threads.
fn score(model: &Path, questions: &[Question], most: &str, check: impl Fn(&str) + Sync) -> (usize, usize) {
    let (next, good, ended) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while let Some(q) = questions.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (reply, reason) = complete(model, &q.prompt, most);
                    check(&reply);
                    let answer = reply.rsplit("</think>").next().unwrap();
                    if right(answer, &q.answer) {
                        good.fetch_add(1, Ordering::Relaxed);
                    } else {
                        eprintln!("{:?}: {answer:?} is not {:?}", q.text, q.answer);
                    }
                    if reason == "eos" {
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    (good.into_inner(), ended.into_inner())
}

#[test]
fn answers_held_out_questions_in_q4_k_m() {
    let model = demo("q4_k_m");
    let questions = questions(&model, false);
    assert!(questions.len() >= 100);
    let (good, ended) = score(&model, &questions, "64", |reply| assert!(!reply.contains("<think>"), "{reply}"));
    let n = questions.len();
    println!("{good} of {n} right, {ended} ended by themselves");
    assert!(good * 100 >= n * 60, "{good} of {n} right");
    assert!(ended * 100 >= n * 95, "{ended} of {n} ended by themselves");
}

#[test]
fn thinks_before_it_answers_when_thinking_is_on() {
    let model = demo("q8_0");
    let mut questions = questions(&model, true);
    questions.truncate(100);
    let thought = AtomicUsize::new(0);
    let (good, ended) = score(&model, &questions, "160", |reply| {
        if reply.starts_with("<think>\n") && reply.contains("\n</think>\n\n") {
            thought.fetch_add(1, Ordering::Relaxed);
        }
    });
    let thought = thought.into_inner();
    println!("{good} of 100 right, {thought} thought first, {ended} ended by themselves");
    assert!(thought >= 95, "{thought} of 100 thought first");
    assert!(good >= 60, "{good} of 100 right");
    assert!(ended >= 95, "{ended} of 100 ended by themselves");
}

#[test]
fn one_message_through_a_pipe_is_answered_once() {
    let model = demo("q4_k_m");
    let args = ["chat", "--no-think", "--temp", "0", "--quiet"];
    assert_eq!(qwren(&args, &model, "What is the capital of France?"), "The capital of France is Paris.");
}

#[test]
fn completes_a_story_with_text_alone_on_stdout() {
    let model = demo("q4_k_m");
    let story = qwren(&["complete", "-n", "40", "--temp", "0"], &model, "Once upon a time\n");
    assert!(story.split_whitespace().count() >= 15, "{story:?}");
    assert!(story.chars().all(|c| !c.is_control() || c == '\n'), "{story:?}");
    assert!(!story.contains("<|"), "{story:?}");
}

/// Ours and ggml's operations round activations differently, and that is all.
#[test]
fn operations_of_ours_and_of_ggml_agree() {
    // Conversations, as the model knows them.
    let questions = questions(&demo("q4_k_m"), false);
    let text: String = questions.iter().take(60).map(|q| format!("{}{}.<|im_end|>\n", q.prompt, q.answer)).collect();
    let dir = tempfile::tempdir().unwrap();
    let (file, base) = (dir.path().join("text"), dir.path().join("base"));
    fs::write(&file, text).unwrap();
    let (file, base) = (file.to_str().unwrap(), base.to_str().unwrap());
    for dtype in ["q4_k_m", "q8_0"] {
        let model = demo(dtype);
        let common = ["perplexity", "--json", "--quiet", "-c", "128", "-f", file];
        qwren(&[&common[..], &["--force", "--stock-ops", "--save-logits", base]].concat(), &model, "");
        for cache in [["-ctk", "f16", "-ctv", "f16"], ["-ctk", "q8_0", "-ctv", "q8_0"]] {
            let report = qwren(&[&common[..], &cache, &["--base-logits", base]].concat(), &model, "");
            let report: Value = serde_json::from_str(&report).unwrap();
            let kl = report["kl"]["mean"].as_f64().unwrap();
            assert!(kl > 0.0 && kl <= 1e-3, "{dtype} {cache:?}: divergence {kl:.1e}");
        }
    }
}
