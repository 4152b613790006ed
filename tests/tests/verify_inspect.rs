//! `qwren verify` finds what is damaged inside a sound structure; `qwren inspect` tells what is in a file.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use half::f16;
use qwren_quant::block::codec;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::{GgufFile, Plan, Writer};
use qwren_tests::cli::{model_of_nans, qwren, random_model};
use qwren_tests::{bin, converted, data};
use sha2::{Digest, Sha256};

const COLS: u64 = 256;
/// More than one piece of work, so that threads share it.
const ROWS: u64 = 1500;
const TYPES: [DType; 15] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::IQ4NL,
    DType::Q2K,
    DType::Q3K,
    DType::IQ4XS,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
];

/// Each type's tensor `[ROWS, COLS]`, all of it sound.
fn tensors() -> Vec<Vec<u8>> {
    let floats: Vec<f32> = (0..COLS * ROWS).map(|i| (i as f32 * 0.37).sin()).collect();
    let quantized = |t: &DType| {
        let mut bytes = vec![0; t.tensor_bytes(&[COLS, ROWS]).unwrap() as usize];
        codec(*t).unwrap().quantize(&floats, &mut bytes, None);
        bytes
    };
    TYPES.iter().map(quantized).collect()
}

fn write(path: &Path, tensors: &[Vec<u8>]) {
    let mut plan = Plan::new(32);
    plan.push_kv("general.architecture", "other");
    plan.push_kv("tokenizer.ggml.tokens", (0..1000).map(|i| format!("token {i}")).collect::<Vec<_>>());
    for t in TYPES {
        plan.push_tensor(&format!("{t}.weight"), &[COLS, ROWS], t).unwrap();
    }
    let layout = plan.layout().unwrap();
    let mut writer = Writer::new(Vec::new(), &layout).unwrap();
    for bytes in tensors {
        writer.write(bytes).unwrap();
        writer.end_tensor().unwrap();
    }
    std::fs::write(path, writer.finish().unwrap()).unwrap();
}

fn run(command: &str, args: &[&str], path: &Path) -> (Option<i32>, String, String) {
    let out = Command::new(bin("qwren")).arg(command).args(args).arg(path).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    (folder, path)
}

#[test]
fn values_that_are_not_finite_are_found_in_every_type() {
    let (_folder, path) = folder();
    let good = tensors();
    write(&path, &good);
    let (code, stdout, stderr) = run("verify", &[], &path);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let n = TYPES.len();
    let lines = [format!("sound: 2 keys, {n} tensors"), format!("finite in {n} tensors")];
    assert!(lines.iter().all(|line| stdout.contains(line)), "{stdout}");
    assert!(stdout.contains("there is no .sha256 file beside it"), "{stdout}");

    for (i, t) in TYPES.into_iter().enumerate() {
        let len = t.block_len() as u64;
        // The last block but one: far from where a search begins.
        let block = (COLS * ROWS / len - 2) as usize;
        // Where the scale of a block is: in some formats at or near its end.
        let scale = match t {
            DType::Q2K => 80,
            DType::Q3K => 108,
            DType::Q6K => 208,
            _ => 0,
        };
        let at = block * t.block_bytes() + scale;
        let nan: &[u8] = match t {
            DType::F32 => &f32::NAN.to_le_bytes(),
            DType::BF16 => &half::bf16::NAN.to_le_bytes(),
            _ => &f16::NAN.to_le_bytes(),
        };
        let mut bad = good.clone();
        bad[i][at..at + nan.len()].copy_from_slice(nan);
        write(&path, &bad);
        let (code, stdout, stderr) = run("verify", &[], &path);
        assert_eq!(code, Some(2), "{t}: {stderr}");
        let index = block as u64 * len;
        let expected =
            format!("has {len} values that are not finite in tensor '{t}.weight', the first at index {index};");
        assert!(stderr.contains(&expected) && stderr.lines().count() == 1, "{expected} / {stderr}");
        assert!(stdout.contains(&format!("'{t}.weight' has NaN at index {index}")), "{stdout}");
    }

    let mut bad = good;
    for (i, index) in [(0, 300_000), (0, 70_000), (1, 5)] {
        let size = TYPES[i].block_bytes();
        let infinity =
            if i == 0 { f32::NEG_INFINITY.to_le_bytes().to_vec() } else { f16::INFINITY.to_le_bytes().to_vec() };
        bad[i][index * size..(index + 1) * size].copy_from_slice(&infinity);
    }
    write(&path, &bad);
    let (code, stdout, stderr) = run("verify", &[], &path);
    assert_eq!(code, Some(2));
    assert!(stdout.contains("'F32.weight' has -inf at index 70000, and 2 such values in all"), "{stdout}");
    assert!(stdout.contains("'F16.weight' has inf at index 5, and 1 such values in all"), "{stdout}");
    assert!(
        stderr.contains("2 values that are not finite in tensor 'F32.weight', the first at index 70000 (and so 1 more"),
        "{stderr}"
    );
}

#[test]
fn the_digest_beside_a_file_is_compared() {
    let (folder, path) = folder();
    write(&path, &tensors());
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let digest = hex(&std::fs::read(&path).unwrap());
    let list = folder.path().join("m.gguf.sha256");

    for text in [format!("{digest}  m.gguf\n"), format!("{}  x\n{} *m.gguf\n", hex(b"x"), digest.to_uppercase())] {
        std::fs::write(&list, text).unwrap();
        let (code, stdout, stderr) = run("verify", &[], &path);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains(&format!("sha256     {digest}, as the file beside it says")), "{stdout}");
    }
    std::fs::write(&list, format!("{}  m.gguf\n", hex(b"x"))).unwrap();
    let (code, _, stderr) = run("verify", &[], &path);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains(&format!("has the SHA-256 {digest}, but the file beside it says {}", hex(b"x"))),
        "{stderr}"
    );

    std::fs::write(&list, "\x1b[2J no digest\n").unwrap();
    let (code, _, stderr) = run("verify", &[], &path);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("m.gguf.sha256: has no SHA-256 of 'm.gguf'"), "{stderr}");

    // Nobody writes to the FIFO: to open it would wait for ever.
    std::fs::remove_file(&list).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &list, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let fifo = run("verify", &[], &path);
    std::fs::remove_file(&list).unwrap();
    std::fs::create_dir(&list).unwrap();
    for (code, _, stderr) in [fifo, run("verify", &[], &path)] {
        assert_eq!(code, Some(2));
        let line = format!("qwren: {}: is not a regular file\n", list.display());
        assert_eq!(stderr.lines().last().map(|last| format!("{last}\n")), Some(line));
    }
}

#[test]
fn inspect_counts_types_and_cuts_arrays() {
    let (_folder, path) = folder();
    write(&path, &tensors());
    let (code, stdout, stderr) = run("inspect", &["--json"], &path);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["version"], 3);
    assert_eq!(report["metadata"]["general.architecture"], "other");
    assert_eq!(report["metadata"]["tokenizer.ggml.tokens"]["count"], 1000);
    assert_eq!(report["metadata"]["tokenizer.ggml.tokens"]["first"].as_array().unwrap().len(), 6);
    assert_eq!(report["tensors"].as_array().unwrap().len(), TYPES.len());
    let q4_k = &report["tensors"][TYPES.iter().position(|t| *t == DType::Q4K).unwrap()];
    assert_eq!(q4_k["name"], "Q4_K.weight");
    assert_eq!(q4_k["shape"], serde_json::json!([256, 1500]));
    assert_eq!(q4_k["bytes"], 144 * 1500);
    assert_eq!(report["weights"], TYPES.len() * 256 * 1500);
    let bits = report["bits_per_weight"].as_f64().unwrap();
    let expected: f64 =
        TYPES.iter().map(|t| t.block_bytes() as f64 * 8.0 / t.block_len() as f64).sum::<f64>() / TYPES.len() as f64;
    assert!((bits - expected).abs() < 1e-9, "{bits} {expected}");
    assert!(
        report["memory"].is_null() && report["cannot_run"].as_str().unwrap().contains("architecture 'other'"),
        "{report}"
    );

    let (code, stdout, _) = run("inspect", &[], &path);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("can't run here: the file is a model of architecture 'other'"), "{stdout}");
    assert!(stdout.contains("array<string>[1000]"), "{stdout}");
    assert!(stdout.contains(r#"["token 0", "token 1", "token 2", "token 3", "token 4", "token 5", …]"#), "{stdout}");
    assert!(stdout.lines().any(|l| l.contains("Q8_0.weight") && l.contains("[256, 1500]")), "{stdout}");
    assert!(stdout.contains(&format!("{expected:.2} bits per weight")), "{stdout}");
}

/// G10: a file that is cut short while it is mapped ends the program with a line, not with a signal.
#[test]
fn a_file_cut_short_while_it_is_read_is_an_error() {
    let (_folder, path) = folder();
    let rows = 6_000_000;
    let mut plan = Plan::new(32);
    plan.push_tensor("large", &[COLS, rows], DType::F32).unwrap();
    let layout = plan.layout().unwrap();
    std::fs::write(&path, &layout.header).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    // Six gigabytes of holes: some seconds to read, and none on disk.
    file.set_len(layout.file_bytes).unwrap();

    let mut command = Command::new(bin("qwren"));
    let mut child = command.arg("verify").arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Its first line comes when the header is read and before the values are.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    file.set_len(layout.data_offset).unwrap();
    let out = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr, "qwren: the model file was cut short or became unreadable while it was in use; copy it again\n");
}

/// A converted checkpoint is whole, and its memory is that of its shapes.
#[test]
fn a_model_is_whole_and_its_memory_is_told() {
    let path = converted("dense-tied", &data("checkpoints/dense-tied"), "bf16");
    let (code, stdout, stderr) = run("verify", &[], &path);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("model      whole: qwen3, "), "{stdout}");

    let (code, stdout, stderr) = run("inspect", &["--json", "-c", "1000"], &path);
    assert_eq!(code, Some(0), "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let key = |name: &str| report["metadata"][format!("qwen3.{name}")].as_u64().unwrap();
    let position = key("block_count") * key("attention.head_count_kv") * key("attention.key_length") * 2;
    let memory = &report["memory"];
    assert_eq!(memory["context"], 1000);
    assert_eq!(memory["file_bytes"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(memory["cache_f16_bytes"], 1000 * position * 2);
    assert_eq!(memory["cache_f32_bytes"], 1000 * position * 4);

    let trained = key("context_length");
    for (args, context) in [(&["--json"][..], trained.min(4096)), (&["--json", "-c", "0"], trained)] {
        let (_, stdout, _) = run("inspect", args, &path);
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["memory"]["context"], context);
    }
    let (code, stdout, _) = run("inspect", &["-c", "100"], &path);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("memory at a context of 100 tokens") && stdout.contains("f16 cache"), "{stdout}");
}

/// A copy of a converted checkpoint with its manifest, and a way to spoil either.
fn with_manifest() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let out = Command::new(bin("qwren-convert"))
        .arg(data("checkpoints/dense-tied"))
        .arg("-o")
        .arg(&path)
        .args(["--type", "q8_0", "--quiet"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    (folder, path)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_tensor_is_named() {
    let (_folder, path) = with_manifest();
    let (code, stdout, stderr) = run("verify", &[], &path);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let file = GgufFile::open(&path).unwrap();
    let tensors = file.header().tensors();
    assert!(stdout.contains("manifest   fits: 'q8_0' by 'qwren-convert "), "{stdout}");
    assert!(stdout.contains(&format!("{} tensors are as the manifest says", tensors.len())), "{stdout}");

    for t in [&tensors[0], &tensors[tensors.len() / 2], &tensors[tensors.len() - 1]] {
        let span = file.span(t);
        for at in [span.start, span.start + span.len() / 2, span.end - 1] {
            flip(&path, at);
            let (code, _, stderr) = run("verify", &[], &path);
            assert_eq!(code, Some(2), "{}: {stderr}", t.name);
            assert!(stderr.contains(&format!("m.gguf: is damaged in tensor '{}'; ", t.name)), "{stderr}");
            assert_eq!(stderr.lines().count(), 1);
            flip(&path, at);
        }
    }
    // Two at once.
    for t in [&tensors[1], &tensors[3]] {
        flip(&path, file.span(t).start);
    }
    let (code, stdout, stderr) = run("verify", &[], &path);
    assert_eq!(code, Some(2));
    assert!(stderr.contains(&format!("in tensor '{}' (and so are 1 more tensors)", tensors[1].name)), "{stderr}");
    assert!(stdout.contains(&format!("damaged    '{}' has another SHA-256", tensors[3].name)), "{stdout}");
}

#[test]
fn damage_outside_of_tensors_is_found() {
    let (_folder, path) = with_manifest();
    let bytes = std::fs::read(&path).unwrap();
    // A letter of the chat template or of a token: another one is as good for the structure.
    let at = bytes.windows(9).position(|w| w == b"<|im_star").unwrap() + 5;
    flip(&path, at);
    let (code, _, stderr) = run("verify", &[], &path);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("but the file beside it says"), "{stderr}");
    std::fs::remove_file(path.with_extension("gguf.sha256")).unwrap();
    let (code, _, stderr) = run("verify", &[], &path);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("m.gguf: is damaged outside of its tensors: has the SHA-256 "), "{stderr}");
}

#[test]
fn a_manifest_of_another_file_is_told() {
    let (_folder, path) = with_manifest();
    let beside = path.with_extension("gguf.json");
    let text = std::fs::read_to_string(&beside).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        std::fs::write(&beside, manifest.to_string()).unwrap();
        let (code, _, stderr) = run("verify", &[], &path);
        assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
        stderr
    };
    let tensor =
        |m: &mut serde_json::Value, key: &str, value: serde_json::Value| m["files"][0]["tensors"][1][key] = value;
    let zeros = "0".repeat(64);
    let name = manifest["files"][0]["tensors"][1]["name"].as_str().unwrap();
    type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
    let changes: [(&str, Change); 12] = [
        ("where '\\u{1b}[2Jx' should be", &|m| tensor(m, "name", "\x1b[2Jx".into())),
        ("instead of 'Q4_K'", &|m| tensor(m, "type", "Q4_K".into())),
        ("instead of [1, 2]", &|m| tensor(m, "shape", serde_json::json!([1, 2]))),
        ("instead of 5 at ", &|m| tensor(m, "bytes", 5.into())),
        (" at 999", &|m| tensor(m, "offset", 999.into())),
        ("is damaged in tensor ", &|m| tensor(m, "sha256", zeros.clone().into())),
        ("bytes instead of 7;", &|m| m["files"][0]["bytes"] = 7.into()),
        ("but the manifest says 0000", &|m| m["files"][0]["sha256"] = zeros.clone().into()),
        ("tensors instead of 0", &|m| m["files"][0]["tensors"] = serde_json::json!([])),
        ("1 files instead of 0", &|m| m["files"] = serde_json::json!([])),
        ("is a manifest of form 2", &|m| m["manifest"] = 2.into()),
        ("a SHA-256 has 64 digits", &|m| tensor(m, "sha256", "00".into())),
    ];
    for (told, change) in changes {
        let stderr = changed(change);
        assert!(stderr.contains(told), "{told} / {stderr}");
    }
    assert!(changed(&|m| tensor(m, "type", "F16".into())).contains(name));
    std::fs::write(&beside, &text[..text.len() / 2]).unwrap();
    let (code, _, stderr) = run("verify", &[], &path);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("m.gguf.json: is no manifest that can be read"), "{stderr}");
}

#[test]
fn the_verdict_needs_no_reader() {
    let dir = tempfile::tempdir().unwrap();
    for (model, code) in [(random_model(), 0), (model_of_nans(dir.path()), 2)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = qwren(["verify"]);
        command.arg(model).stdout(writer).stderr(Stdio::null());
        assert_eq!(command.status().unwrap().code(), Some(code));
    }
}
