//! The commands that scripts use: values in, values out.
use std::fs;
use std::path::Path;
use std::process::Command;

use qwren_tests::bin;
use qwren_tests::cli::{qwren, random_model, run};
use serde_json::{Value, json};

fn lines(values: &[Value]) -> String {
    values.iter().map(|v| format!("{v}\n")).collect()
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn plumbing(command: &str, flags: &[&str], input: &str) -> qwren_tests::cli::Run {
    let mut c = qwren([command, "--jsonl"]);
    c.args(flags).arg("-m").arg(random_model());
    run(c, input)
}

#[test]
fn text_goes_to_ids_and_back() {
    let texts = [json!("Once upon a time"), json!(""), json!("é 日本 👩‍🚀\n\ttab"), json!("<|im_end|>")];
    let ids = plumbing("tokenize", &[], &lines(&texts)).ok();
    let ids: Vec<Value> = parsed(&ids);
    assert_eq!(ids.len(), texts.len());
    assert_eq!(ids[1], json!([]));
    assert!(ids[3].as_array().unwrap().len() > 1, "typed special tokens stay text: {}", ids[3]);
    assert_eq!(parsed(&plumbing("detokenize", &[], &lines(&ids)).ok()), texts);
    let special = parsed(&plumbing("tokenize", &["--special"], &lines(&texts[3..])).ok());
    assert_eq!(special, [json!([745])]);
    assert_eq!(parsed(&plumbing("detokenize", &[], "[745]\n").ok()), [json!("<|im_end|>")]);
}

#[test]
fn a_malformed_line_ends_with_2_and_is_named() {
    for (command, input) in [
        ("tokenize", "\"a\"\n\"b\n"),
        ("tokenize", "\"a\"\n[1]\n"),
        ("tokenize", "\"a\"\nnothing\n"),
        ("detokenize", "[1]\n[-1]\n"),
        ("detokenize", "[1]\n[4000000000]\n"),
        ("detokenize", "[1]\n\"a\"\n"),
        ("template", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n{\"messages\":1}\n"),
        ("template", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n{}\n"),
    ] {
        let ended = plumbing(command, &[], input);
        assert_eq!(ended.code, Some(2), "{command} {input:?}: {}", ended.stderr);
        assert_eq!(ended.stdout.lines().count(), 1, "the line before it is answered");
        assert!(ended.stderr.starts_with("qwren: stdin, line 2: "), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1);
    }
}

#[test]
fn templates_render() {
    let message = json!([{"role": "user", "content": "Hi"}]);
    let requests = [
        json!({"messages": message, "add_generation_prompt": true, "tools": null, "enable_thinking": null}),
        json!({"messages": message, "add_generation_prompt": true, "enable_thinking": false}),
        json!({"messages": message}),
    ];
    let out = parsed(&plumbing("template", &[], &lines(&requests)).ok());
    let user = "<|im_start|>user\nHi<|im_end|>\n";
    assert_eq!(out[0], json!(format!("{user}<|im_start|>assistant\n")));
    assert_eq!(out[1], json!(format!("{user}<|im_start|>assistant\n<think>\n\n</think>\n\n")));
    assert_eq!(out[2], json!(user));
}

#[test]
fn tokens_are_shown_to_people_with_their_texts() {
    let mut command = qwren(["tokenize", "-p", "a\n", "--special"]);
    command.arg("-m").arg(random_model());
    let table = run(command, "").ok();
    let quoted: Vec<&str> = table.lines().map(|l| l.trim().split_once("  ").unwrap().1).collect();
    assert_eq!(quoted, ["\"a\"", "\"\\n\""]);
}

/// Shape and values of a .npy file of float32 in C order.
fn read_npy(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let data = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    assert_eq!(data % 64, 0);
    let header = std::str::from_utf8(&bytes[10..data]).unwrap();
    assert!(header.contains("'descr': '<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split(['(', ')']).nth(1).unwrap().split(',');
    let shape: Vec<usize> = shape.map(|n| n.trim().parse().unwrap()).collect();
    let values: Vec<f32> = bytes[data..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(values.len(), shape.iter().product::<usize>());
    (shape, values)
}

fn logits(dir: &Path, name: &str, flags: &[&str]) -> (Vec<usize>, Vec<f32>) {
    let out = dir.join(name);
    let mut command = qwren(["logits", "--quiet"]);
    command.args(flags).arg("-m").arg(random_model()).arg("-o").arg(&out);
    assert_eq!(run(command, "").ok(), "");
    read_npy(&out)
}

#[test]
fn logits_are_a_numpy_array() {
    let dir = tempfile::tempdir().unwrap();
    let all = logits(dir.path(), "all.npy", &["--ids", "1,2,3,4,5"]);
    assert_eq!(all.0, [5, 768]);
    assert!(all.1.iter().all(|x| x.is_finite()));
    let last = logits(dir.path(), "last.npy", &["--ids", "1,2,3,4,5", "--last", "2"]);
    assert_eq!((last.0, &last.1[..]), (vec![2, 768], &all.1[3 * 768..]));
    let more = logits(dir.path(), "more.npy", &["--ids", "1,2,3,4,5", "--last", "9", "-b", "2", "-t", "1"]);
    assert_eq!(more, all, "neither batches nor threads change a bit");
    let exact = logits(dir.path(), "exact.npy", &["--ids", "1,2,3,4,5", "-ctk", "f32", "-ctv", "f32"]);
    let worst = exact.1.iter().zip(&all.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst < 0.05, "an f16 cache rounds a little: {worst}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "no temporary file is left");
}

#[test]
fn a_limit_of_file_sizes_is_an_error_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    // 100 rows of 768 floats are more than 128 blocks, which leave qemu room for the file that it keeps /proc/self/maps in.
    let ids = vec!["1"; 100].join(",");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 128; exec \"$0\" \"$@\""]).arg(bin("qwren"));
    command
        .args(["logits", "--quiet", "--ids", &ids, "-o"])
        .arg(dir.path().join("x.npy"))
        .arg("-m")
        .arg(random_model());
    let ended = run(command, "");
    assert!(ended.stderr.contains("x.npy: ") && ended.stderr.contains("File too large"), "{}", ended.stderr);
    assert_eq!((ended.code, ended.stderr.trim_end().lines().count()), (Some(4), 1), "{}", ended.stderr);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_a_command_reads_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (model, text, link) = (dir.path().join("m.gguf"), dir.path().join("t.txt"), dir.path().join("l.gguf"));
    fs::copy(random_model(), &model).unwrap();
    fs::write(&text, "Once upon a time there was a model. ".repeat(8)).unwrap();
    fs::hard_link(&model, &link).unwrap();
    let before = [fs::read(&model).unwrap(), fs::read(&text).unwrap()];
    let (m, t, l) = (model.to_str().unwrap(), text.to_str().unwrap(), link.to_str().unwrap());
    for args in [
        &["logits", "--ids", "1,2", "-o", m][..],
        &["logits", "--ids", "1,2", "-o", l],
        &["imatrix", "-f", t, "-c", "16", "-o", m],
        &["imatrix", "-f", t, "-c", "16", "-o", t],
        &["perplexity", "-f", t, "-c", "16", "--save-logits", t],
        &["perplexity", "-f", t, "-c", "16", "--save-logits", m],
    ] {
        let mut command = qwren(args);
        command.args(["--force", "--quiet", "-m", m]);
        let ended = run(command, "");
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.ends_with(": is read by this command; give another name\n"), "{}", ended.stderr);
        assert!([fs::read(&model).unwrap(), fs::read(&text).unwrap()] == before, "{args:?}");
    }
}

#[test]
fn logits_refuse_what_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.npy");
    let command = |ids: &str| {
        let mut c = qwren(["logits", "--ids", ids]);
        c.arg("-m").arg(random_model()).arg("-o").arg(&out);
        c
    };
    assert!(run(command("1,768"), "").error(2).contains("token 768 is not among the model's 768"));
    assert!(!out.exists());
    fs::write(&out, "mine").unwrap();
    assert!(run(command("1"), "").error(2).contains("exists already"));
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
    let mut forced = command("1");
    forced.arg("--force");
    assert_eq!(run(forced, "").code, Some(0));
    assert_eq!(read_npy(&out).0, [1, 768]);
}
