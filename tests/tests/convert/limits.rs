//! Disk and memory.

use std::fs;
use std::process::Command;

use qwren_tests::bin;
use serde_json::{Value, json};

use crate::support::{Sample, sparse_checkpoint, text};

#[test]
fn c13_a_disk_that_is_too_small_is_told_before_any_work() {
    let sample = Sample::dense();
    // 2^40 weights in a hole: 4.4 TB as F32.
    let mut config: Value = serde_json::from_slice(&fs::read(sample.path("config.json")).unwrap()).unwrap();
    config["num_hidden_layers"] = json!(1);
    config["intermediate_size"] = json!(1 << 20);
    config["hidden_size"] = json!(349_526);
    sparse_checkpoint(&sample.dir(), &config);
    sample.fails(
        &["--type", "f32"],
        4,
        &["x.gguf: needs 4401280", "bytes, ", " are free; make room or choose a smaller --type"],
    );
}

#[test]
fn c12_memory_does_not_grow_with_the_model() {
    let sample = Sample::moe(json!({}));
    let mut config: Value = serde_json::from_slice(&fs::read(sample.path("config.json")).unwrap()).unwrap();
    // One layer of 128 experts, 1.2 GB in a hole; the address space is less than half of that.
    for (key, value) in
        [("num_hidden_layers", 1), ("hidden_size", 2048), ("num_experts", 128), ("moe_intermediate_size", 768)]
    {
        config[key] = json!(value);
    }
    sparse_checkpoint(&sample.dir(), &config);
    assert!(fs::metadata(sample.path("model.safetensors")).unwrap().len() > 1_200_000_000);
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 550000; exec \"$0\" \"$@\""])
        .arg(bin("qwren-convert"))
        .arg(sample.dir())
        .arg("-o")
        .arg(sample.out())
        .args(["--type", "q8_0", "-t", "2", "--quiet"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(fs::metadata(sample.out()).unwrap().len() > 600_000_000);
}
