//! Disk and memory.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use qwren_tests::{bin, qwen3_tokenizer};
use serde_json::{Value, json};

use crate::support::{Sample, sparse_checkpoint, sparse_tensors, text, write_sparse};

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

/// Address space, in kB, that a conversion may take: it includes what is reserved and never touched.
const ADDRESS_SPACE: u64 = 900_000;

/// Converts with limited address space, and asserts that the program never had `resident` kB.
fn converts_within(resident: u64, sample: &Sample, args: &[&str]) {
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {ADDRESS_SPACE}; exec \"$0\" \"$@\"")])
        .arg(bin("qwren-convert"))
        .arg(sample.dir())
        .arg("-o")
        .arg(sample.out())
        .args(["-t", "2", "--quiet"])
        .args(args)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        // The high-water mark: what is missed between the last look and the end is little.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kb = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = most.max(kb.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(most > 10_000 && most < resident, "{most} kB");
}

/// Qwen3-30B-A3B with one layer and its own vocabulary and tokenizer: 0.9 G weights in holes.
#[test]
fn c12_memory_does_not_grow_with_the_model() {
    let sample = Sample::moe(json!({}));
    let mut config: Value = serde_json::from_slice(&fs::read(sample.path("config.json")).unwrap()).unwrap();
    for (key, value) in [
        ("num_hidden_layers", 1),
        ("hidden_size", 2048),
        ("num_attention_heads", 32),
        ("num_key_value_heads", 4),
        ("head_dim", 128),
        ("num_experts", 128),
        ("moe_intermediate_size", 768),
        ("vocab_size", 151_936),
    ] {
        config[key] = json!(value);
    }
    config["tie_word_embeddings"] = json!(true);
    sparse_checkpoint(&sample.dir(), &config);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(qwen3_tokenizer().join(name), sample.path(name)).unwrap();
    }
    assert!(fs::metadata(sample.path("model.safetensors")).unwrap().len() > 1_800_000_000);
    converts_within(600_000, &sample, &["--type", "q8_0"]);
    assert!(fs::metadata(sample.out()).unwrap().len() > 900_000_000);
}

/// A matrix of 67 M weights in each quantized form that is stored input by output, and in one that is not.
#[test]
fn c12_quantized_sources_are_read_in_pieces_too() {
    let (rows, cols) = (32_768u64, 2_048u64);
    let (name, groups) = ("lm_head", cols / 128);
    type Form = (&'static str, &'static str, Vec<u64>);
    let forms: [(Value, Vec<Form>); 3] = [
        (
            json!({"quant_method": "gptq", "bits": 4, "group_size": 128}),
            vec![
                ("qweight", "I32", vec![cols / 8, rows]),
                ("qzeros", "I32", vec![groups, rows / 8]),
                ("scales", "F16", vec![groups, rows]),
                ("g_idx", "I32", vec![cols]),
            ],
        ),
        (
            json!({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}),
            vec![
                ("qweight", "I32", vec![cols, rows / 8]),
                ("qzeros", "I32", vec![groups, rows / 8]),
                ("scales", "F16", vec![groups, rows]),
            ],
        ),
        (
            json!({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0":
                {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": true}}}}),
            vec![
                ("weight_packed", "I32", vec![rows, cols / 8]),
                ("weight_scale", "BF16", vec![rows, groups]),
                ("weight_shape", "I64", vec![2]),
            ],
        ),
    ];
    for (quantization, tensors) in forms {
        let sample = Sample::dense();
        let mut config: Value = serde_json::from_slice(&fs::read(sample.path("config.json")).unwrap()).unwrap();
        for (key, value) in [("num_hidden_layers", 1), ("hidden_size", cols), ("vocab_size", rows)] {
            config[key] = json!(value);
        }
        let mut all = sparse_tensors(&config);
        all.retain(|t| t.0 != format!("{name}.weight"));
        all.extend(tensors.into_iter().map(|(suffix, dtype, shape)| (format!("{name}.{suffix}"), dtype, shape)));
        write_sparse(&sample.path("model.safetensors"), &all);
        config["quantization_config"] = quantization;
        fs::write(sample.path("config.json"), config.to_string()).unwrap();
        // As f32 the matrix alone would take 268 MB.
        converts_within(200_000, &sample, &["--type", "q8_0"]);
    }
}
