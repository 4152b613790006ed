//! SmolLM2-135M-Instruct, a model of another family that really talks, against what llama.cpp answers on the same file
//! (recorded by scripts/compat/record_smollm2.py). Skipped, saying so, where the file can't be fetched.
use std::collections::HashMap;
use std::fs;
use std::process::Command;

use qwren::model::Model;
use qwren::session::Session;
use qwren::vocab::{Specials, Vocab};
use qwren_tests::models::{argmax, exact, log_softmax, logits};
use qwren_tests::{bin, data, smollm2};
use serde_json::Value as Json;

fn ids(value: &Json) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

#[test]
fn ids_and_greedy_steps_are_llama_cpps() {
    let Some(path) = smollm2() else { return };
    let model = Model::open(&path).expect("a model");
    let vocab = Vocab::from_gguf(model.gguf().header()).expect("a vocabulary");
    let mut session = Session::new(&model, &exact(512)).expect("a session");
    let golden: Vec<Json> = serde_json::from_slice(&fs::read(data("smollm2/golden.json")).unwrap()).unwrap();
    let (mut clear, mut off, mut compared) = (0, 0.0, 0);
    for case in &golden {
        let text = fs::read_to_string(data("smollm2/prompts").join(case["prompt"].as_str().unwrap())).unwrap();
        let prompt = vocab.encode(&text, Specials::Parse).expect("ids");
        assert_eq!(prompt, ids(&case["ids"]), "{text:?}");
        assert_eq!(vocab.decode(&prompt), text);

        // Along their path, so that one step that is a toss-up does not end the comparison.
        let (tokens, steps) = (ids(&case["tokens"]), case["top"].as_array().unwrap());
        let path = [&prompt[..], &tokens[..tokens.len() - 1]].concat();
        let rows = logits(&mut session, &path, &[prompt.len(), 1], steps.len());
        for (i, row) in rows.chunks_exact(vocab.len()).enumerate() {
            // Both programs round activations to 8 bits, each in its own way.
            if case["margins"][i].as_f64().unwrap() > 1.0 {
                assert_eq!(argmax(row), tokens[i], "step {i} of {text:?}");
                clear += 1;
            }
            let ours = log_softmax(row);
            for pair in steps[i].as_array().unwrap() {
                off += (ours[pair[0].as_u64().unwrap() as usize] - pair[1].as_f64().unwrap()).abs();
                compared += 1;
            }
        }
    }
    assert!(clear > 70 && compared == 8 * 32 * golden.len());
    let mean = off / f64::from(compared as u32);
    assert!(mean < 0.15, "log-probabilities are off by {mean:.3} in the mean");
}

#[test]
fn it_talks_and_is_told_as_what_it_is() {
    let Some(path) = smollm2() else { return };
    let run = |args: &[&str]| {
        let out = Command::new(bin("qwren")).args(args).arg("-m").arg(&path).output().expect("qwren starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    };
    let text = run(&["complete", "-p", "The capital of France is", "-n", "2", "--temp", "0"]);
    assert_eq!(text, " Paris.");
    let lines = Command::new(bin("qwren")).arg("verify").arg(&path).output().expect("qwren starts");
    let text = String::from_utf8(lines.stdout).expect("text");
    assert!(lines.status.success() && text.contains("llama, 30 layers, 49152 tokens"), "{text}");
}

/// The card's recipe puts a system message in front when there is none.
#[test]
fn its_template_renders() {
    let Some(path) = smollm2() else { return };
    let mut child = Command::new(bin("qwren"))
        .args(["template", "--jsonl", "-m"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("qwren starts");
    let message = HashMap::from([("role", "user"), ("content", "Hi")]);
    let request = serde_json::json!({ "messages": [message], "add_generation_prompt": true });
    serde_json::to_writer(child.stdin.take().unwrap(), &request).unwrap();
    let out = child.wait_with_output().unwrap();
    let text: String = serde_json::from_slice(&out.stdout).expect("a JSON string");
    assert!(text.starts_with("<|im_start|>system\nYou are a helpful AI assistant named SmolLM"), "{text}");
    assert!(text.ends_with("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), "{text}");
}
