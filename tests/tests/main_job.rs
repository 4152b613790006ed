//! Every reference checkpoint goes through both programs: converted to each type, verified, and run.
use std::path::Path;
use std::process::{Command, Output};
use std::{fs, str};

use qwren_tests::safetensors::Arrays;
use qwren_tests::{bin, converted, reference_checkpoints};
use serde_json::Value;

fn qwren(args: &[&str], model: &Path) -> Output {
    let out = Command::new(bin("qwren")).args(args).arg("-m").arg(model).output().expect("qwren starts");
    assert!(out.status.success(), "{args:?} {}: {}", model.display(), String::from_utf8_lossy(&out.stderr));
    out
}

/// Shape and values of a version 1.0 .npy file of float32 in C order.
fn read_npy(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let raw = fs::read(path).expect("an .npy file");
    assert_eq!(&raw[..8], b"\x93NUMPY\x01\x00");
    let header = 10 + usize::from(u16::from_le_bytes([raw[8], raw[9]]));
    assert_eq!(header % 64, 0, "data must be aligned");
    let text = str::from_utf8(&raw[10..header]).expect("ASCII");
    assert!(text.contains("'descr': '<f4'") && text.contains("'fortran_order': False"), "{text}");
    let shape = text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("a shape").0;
    let shape = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let values = raw[header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    (shape, values)
}

fn argmax(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.expect("a row").0 as u32
}

#[test]
fn logits_of_the_f32_file_are_the_references() {
    let dir = tempfile::tempdir().unwrap();
    for r in reference_checkpoints() {
        let model = converted(&r.name, &r.checkpoint, "f32");
        let expected = Arrays::read(&r.outputs);
        let ids = expected.ids("p2.ids");
        let list: Vec<String> = ids.iter().map(u32::to_string).collect();
        let npy = dir.path().join(format!("{}.npy", r.name));
        let (list, out) = (list.join(","), npy.to_str().unwrap());
        qwren(&["logits", "--ids", &list, "--last", "16", "-ctk", "f32", "-ctv", "f32", "-o", out], &model);

        let (shape, got) = read_npy(&npy);
        let want = expected.f32("p2.logits");
        assert_eq!(shape, expected.shape("p2.logits"), "{}", r.name);
        let mean = want.iter().sum::<f32>() / want.len() as f32;
        let deviation = (want.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / want.len() as f32).sqrt();
        let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 2e-3 * deviation, "{}: off by {worst}, deviation {deviation}", r.name);
        assert_eq!(argmax(&got[got.len() - shape[1]..]), expected.ids("p2.greedy")[0], "{}", r.name);
    }
}

#[test]
fn every_checkpoint_runs_in_every_type() {
    for r in reference_checkpoints() {
        for dtype in ["f32", "f16", "bf16", "q8_0", "q4_k_m", "q4_k_s", "q5_k_m", "q6_k"] {
            let model = converted(&r.name, &r.checkpoint, dtype);
            let verified = Command::new(bin("qwren")).arg("verify").arg(&model).output().unwrap();
            assert!(verified.status.success(), "{} {dtype}: {}", r.name, String::from_utf8_lossy(&verified.stderr));
            let args =
                ["complete", "-p", "Hello, world", "-n", "6", "--temp", "0", "--json", "--ignore-eos", "--quiet"];
            let out: Value = serde_json::from_slice(&qwren(&args, &model).stdout).expect("JSON");
            assert_eq!(out["reason"], "length", "{} {dtype}: {out}", r.name);
        }
    }
}
