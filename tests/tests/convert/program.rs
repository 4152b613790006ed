//! The program's manners: output and checksum, --force, --dry-run, --json, signals, threads.

use std::fs;
use std::process::{Command, Stdio};

use qwren_tests::bin;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Sample, assert_one_line, convert, text};

#[test]
fn the_checksum_is_the_files_and_stands_alone_on_stdout() {
    let sample = Sample::dense();
    let output = sample.converts(&[]);
    let hash: String = Sha256::digest(fs::read(sample.out()).unwrap()).iter().map(|b| format!("{b:02x}")).collect();
    let line = format!("{hash}  x.gguf\n");
    assert_eq!(text(&output.stdout), line);
    assert_eq!(fs::read_to_string(sample.out().with_extension("gguf.sha256")).unwrap(), line);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("My Model (qwen3): 25 tensors, 1181184 weights"), "{stderr}");
    assert!(stderr.contains("types: F32 9, Q4_K 13, Q6_K 3"), "{stderr}");
    let quiet = sample.converts(&["--quiet", "--force"]);
    assert_eq!((text(&quiet.stdout), text(&quiet.stderr)), (line, String::new()));
}

#[test]
fn c15_an_existing_output_stays_whole_until_the_new_one_is_done() {
    let sample = Sample::dense();
    fs::write(sample.out(), "old").unwrap();
    let output = sample.run(&[]);
    assert_one_line(&output, 2, &["x.gguf: exists already; use --force"]);
    assert_eq!(fs::read(sample.out()).unwrap(), b"old");
    // A conversion that fails on the way leaves it alone too.
    sample.edit_tensors("model.safetensors", |t| t.last_mut().unwrap().3[..2].copy_from_slice(&[0xff, 0xff]));
    assert_one_line(&sample.run(&["--force"]), 2, &["not finite"]);
    assert_eq!(fs::read(sample.out()).unwrap(), b"old");
    assert_eq!(sample.left(), ["x.gguf"]);
    sample.converts(&["--force", "--allow-nonfinite"]);
    assert_eq!(fs::read(sample.out()).unwrap()[..4], *b"GGUF");
}

#[test]
fn outputs_that_cannot_be() {
    let sample = Sample::dense();
    let weights = sample.path("model.safetensors");
    let before = fs::read(&weights).unwrap();
    let to = |path: &std::path::Path| convert(&sample.dir(), &["--force", "-o", path.to_str().unwrap()]);
    assert_one_line(&to(&weights), 2, &["is read by this conversion"]);
    assert!(fs::read(&weights).unwrap() == before);
    assert_one_line(&to(&sample.dir()), 2, &["is not a regular file"]);
    assert_one_line(&to("/dev/null".as_ref()), 2, &["/dev/null: is not a regular file"]);
    assert_one_line(&to(&sample.path("no/such/x.gguf")), 2, &["make the output's folder first"]);
    // What stands beside the output is looked at before the work too.
    for name in ["x.gguf.json", "x.gguf.sha256", "x.gguf.partial", "x.gguf.json.partial"] {
        let folder = sample.out().with_file_name(name);
        fs::create_dir(&folder).unwrap();
        assert_one_line(&sample.run(&["--force"]), 2, &[name, "is not a regular file"]);
        fs::remove_dir(&folder).unwrap();
    }
    assert!(sample.left().is_empty());
}

/// Neither the output nor the manifest beside it may take the place of what is read, or of what is somebody's.
#[test]
fn nothing_of_the_checkpoint_or_of_others_is_replaced() {
    let sample = Sample::dense();
    for name in ["config.json", "tokenizer.json"] {
        let path = sample.path(name);
        let before = fs::read(&path).unwrap();
        for (out, force) in [(path.with_extension(""), false), (path.with_extension(""), true), (path.clone(), true)] {
            let output =
                convert(&sample.dir(), &[&["-o", out.to_str().unwrap()][..], &["--force"][..force.into()]].concat());
            assert_one_line(&output, 2, &[name, "is read by this conversion"]);
            assert!(fs::read(&path).unwrap() == before && !path.with_extension("").exists());
        }
    }
    let notes = sample.out().with_extension("gguf.json");
    fs::write(&notes, "precious").unwrap();
    assert_one_line(&sample.run(&[]), 2, &["x.gguf.json: exists already; use --force"]);
    assert_eq!(fs::read(&notes).unwrap(), b"precious");
    sample.converts(&["--force"]);
    // A manifest of ours gives way, and an output may lie in the checkpoint's folder.
    sample.converts(&["--force"]);
    let inside = sample.path("model.gguf");
    for force in [false, true] {
        let output =
            convert(&sample.dir(), &[&["-o", inside.to_str().unwrap()][..], &["--force"][..force.into()]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

#[test]
fn a_dry_run_tells_all_and_writes_nothing() {
    let sample = Sample::dense();
    let output = sample.run(&["--dry-run"]);
    assert!(output.status.success() && sample.left().is_empty());
    let table = text(&output.stdout);
    assert!(
        table
            .lines()
            .any(|l| l.split_whitespace().eq("blk.0.attn_v.weight Q4_K 256 × 128 18432 4.50".split_whitespace())),
        "{table}"
    );
    assert!(table.contains("bits per weight") && table.contains("bytes needed"), "{table}");
    // The cache of 2 layers, 2 heads of 64, keys and values, 2 bytes each, for 4096 tokens.
    assert!(table.contains("cache of 4096 tokens 4.2 MB, work 100.7 MB)"), "{table}");

    let json: Value = serde_json::from_slice(&sample.run(&["--dry-run", "--json"]).stdout).unwrap();
    let result: Value = serde_json::from_slice(&sample.converts(&["--json"]).stdout).unwrap();
    for key in ["bytes", "tensors", "parameters", "bits_per_weight", "types", "fallbacks", "vocabulary", "type"] {
        assert_eq!(json[key], result[key], "{key}");
    }
    assert_eq!(result["bytes"], fs::metadata(sample.out()).unwrap().len());
    assert_eq!(result["path"], sample.out().to_str().unwrap());
    assert_eq!(json["plan"].as_array().unwrap().len(), 25);
    let run = &json["memory"]["run"];
    assert_eq!((&run["context"], &run["cache_bytes"]), (&json!(4096), &json!(4096 * 2 * 2 * 64 * 2 * 2)));
    assert_eq!(run["file_bytes"], result["bytes"]);
    let sum = ["file_bytes", "cache_bytes", "work_bytes"].iter().map(|key| run[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(run["bytes"], sum);
    assert_eq!((&json["taken_bytes"], &result["resumed_tensors"]), (&json!(0), &json!(0)));
    assert_eq!(json["files"][0]["bytes"], result["files"][0]["bytes"]);
}

#[test]
fn c17_fallbacks_for_row_lengths_are_said() {
    let sample = Sample::new(json!({"hidden_size": 320, "intermediate_size": 336, "head_dim": 32}), 1);
    let output = sample.converts(&[]);
    let stderr = text(&output.stderr);
    assert!(
        stderr
            .contains("F16 instead of Q4_K 1, F16 instead of Q6_K 1, Q5_0 instead of Q4_K 12, Q8_0 instead of Q6_K 1"),
        "{stderr}"
    );
}

#[test]
fn tensor_types_can_be_chosen() {
    let sample = Sample::dense();
    let args = [
        "--tensor-type",
        "blk.1.attn_?.weight=q8_0",
        "--tensor-type",
        "*_norm*=q8_0",
        "--tensor-type",
        "output.weight=bf16",
    ];
    let output = sample.run(&args);
    assert_one_line(&output, 2, &["--tensor-type *_norm*: no tensor that may be quantized has such a name"]);
    let output = sample.converts(&[&args[..2], &args[4..], &["--json"]].concat());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["types"]["Q8_0"]["tensors"], 3);
    assert_eq!(json["types"]["BF16"]["tensors"], 1);
    assert_eq!(sample.run(&["--tensor-type", "x=iq9"]).status.code(), Some(2));
}

#[test]
fn the_same_bytes_for_any_number_of_threads() {
    for sample in [Sample::sharded(), Sample::moe(json!({"num_experts": 8}))] {
        let bytes = |threads: &str| {
            sample.converts(&["-t", threads, "--force", "--quiet"]);
            fs::read(sample.out()).unwrap()
        };
        let one = bytes("1");
        assert!(["2", "3", "16"].iter().all(|t| bytes(t) == one));
    }
}

#[test]
fn norm_topk_prob_false_is_written_and_said() {
    let sample = Sample::moe(json!({"norm_topk_prob": false}));
    let output = sample.converts(&["--type", "f32"]);
    assert!(text(&output.stderr).contains("llama.cpp ignores it and will compute otherwise"));
    let file = qwren_quant::gguf::GgufFile::open(&sample.out()).unwrap();
    assert_eq!(file.header().bool("qwen3moe.expert_weights_norm").unwrap(), Some(false));
}

#[test]
fn names_from_files_do_not_drive_the_terminal() {
    let sample = Sample::dense();
    sample.edit_tensors("model.safetensors", |t| t.push(("\u{1b}]0;gotcha\u{7}\n".into(), "F32", vec![1], vec![0; 4])));
    sample.fails(&[], 3, &["tensor \\u{1b}]0;gotcha\\u{7}\\n is unknown"]);
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let sample = Sample::dense();
    let mut child = Command::new(bin("qwren-convert"))
        .args([sample.dir().as_os_str(), "--dry-run".as_ref()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn a_full_disk_under_stdout_ends_with_4() {
    let sample = Sample::dense();
    for args in [&["--dry-run"][..], &["--json"], &[]] {
        let mut command = std::process::Command::new(qwren_tests::bin("qwren-convert"));
        command.arg(sample.dir()).args(args).arg("-o").arg(sample.out()).arg("--force");
        let output = command.stdout(fs::File::create("/dev/full").unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).ends_with("No space left on device (os error 28)\n"), "{args:?}");
        let whole = text(&output.stderr).contains("x.gguf is whole, but stdout can't take the result: ");
        assert_eq!(whole, args != ["--dry-run"], "{}", text(&output.stderr));
    }
    for page in ["--help", "--version"] {
        let mut command = std::process::Command::new(qwren_tests::bin("qwren-convert"));
        let output = command.arg(page).stdout(fs::File::create("/dev/full").unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{page}: {}", text(&output.stderr));
    }
}

#[test]
fn the_manual_and_the_completions_know_every_option() {
    let run = |what: &str| {
        let output = std::process::Command::new(qwren_tests::bin("qwren-convert")).args(["--generate", what]).output();
        let output = output.unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{what}");
        text(&output.stdout)
    };
    for what in ["man", "bash", "zsh", "fish"] {
        let page = run(what).replace('\\', "");
        for option in ["split-max-size", "imatrix", "allow-nonfinite", "dry-run", "force"] {
            assert!(page.contains(option), "{what} lacks {option}");
        }
    }
    assert!(run("man").contains(".TH qwren-convert 1"));
}
