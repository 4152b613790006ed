//! Layers in another process: the same results wherever they are computed, and whatever becomes of that process.
mod process;
mod prompt_cache;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use qwren_quant::dtype::DType;
use qwren_tests::bin;
use qwren_tests::cli::{Run, qwren, random_model, run};
use qwren_tests::offload::{floats, logits, told, with_gpu};
use qwren_tests::tiny::{PLAIN, Sizes, Tiny};
use serde_json::{Value, json};

fn stand_in() -> PathBuf {
    env!("CARGO_BIN_EXE_qwren-gpu-stand-in").into()
}

/// `qwren COMMAND` with a stand-in that fails in this way.
fn command(fault: &str, command: &str, model: &Path, args: &[&str]) -> Command {
    let mut c = with_gpu(&stand_in(), command, model, args);
    c.env("STAND_IN", fault);
    c
}

const FOUR: Sizes = Sizes { layers: 4, ..PLAIN };
const IDS: [u32; 20] = [5, 17, 99, 3, 41, 62, 8, 8, 90, 27, 33, 71, 2, 56, 14, 6, 80, 49, 1, 22];

/// A model of four layers, and its logits without a GPU.
fn model(tiny: &Tiny) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    tiny.write(&path, 7, |_, _| ());
    let (here, _) = logits(command("", "logits", &path, &["-b", "8"]), &IDS);
    (dir, path, here)
}

#[test]
fn logits_are_the_same_wherever_layers_are_computed() {
    let experts = Sizes { experts: Some((6, 2)), ..FOUR };
    for tiny in [Tiny::new(&FOUR, DType::Q8_0), Tiny::new(&experts, DType::F16)] {
        let (_dir, path, here) = model(&tiny);
        for (ngl, says) in [
            ("1", "computes 1 of 4 layers, the processor 3 and the output"),
            ("3", "computes 3 of 4 layers, the processor 1 and the output"),
            ("4", "computes 4 of 4 layers and the output"),
            ("99", "computes 4 of 4 layers and the output"),
            ("all", "computes 4 of 4 layers and the output"),
        ] {
            let (there, ended) = logits(command("", "logits", &path, &["-b", "8", "-ngl", ngl]), &IDS);
            assert_eq!(told(&ended).first().copied(), Some(format!("Vulkan0 (Stand-in) {says}").as_str()));
            assert!(there == here, "-ngl {ngl} changes the logits");
        }
        // None, and nothing is started.
        let (there, ended) = logits(command("start", "logits", &path, &["-b", "8", "-ngl", "0"]), &IDS);
        assert!(there == here && told(&ended).len() == 1, "{}", ended.stderr);
    }
}

#[test]
fn v5_a_gpu_that_is_of_no_use_is_told_in_one_line() {
    let (_dir, path, here) = model(&Tiny::new(&FOUR, DType::F16));
    for (fault, patience, says) in [
        (
            "start",
            "60",
            "qwren-gpu ended unexpectedly (exit code 127: error while loading shared libraries: libvulkan.so.1",
        ),
        ("greeting", "60", "qwren-gpu is of another version than qwren; install both from one release"),
        ("version", "60", "qwren-gpu is of another version than qwren"),
        ("silent", "0.1", "qwren-gpu did not answer within 1 s"),
        ("no-device", "60", "no Vulkan driver found"),
        ("limits", "60", "Vulkan0: buffers of 64 KiB are too small for this model"),
        ("wrong", "60", "Vulkan0 computes wrong numbers (layer 0, 8 at once: off by "),
        ("wrong-output", "60", "Vulkan0 computes wrong numbers (the output, 16 at once: off by "),
        ("room:0", "60", "Vulkan0 has no room for a layer"),
        ("crash-room:0", "60", "qwren-gpu ended unexpectedly (signal 6: stand-in: the device was lost)"),
    ] {
        let mut c = command(fault, "logits", &path, &["-b", "8", "-ngl", "all"]);
        c.env("QWREN_GPU_PATIENCE", patience);
        let (there, ended) = logits(c, &IDS);
        let lines = told(&ended);
        assert!(lines.len() == 2 && lines[0].starts_with(says), "{fault}: {}", ended.stderr);
        assert!(lines[0].ends_with("; the processor computes all layers"), "{}", lines[0]);
        assert!(there == here, "{fault}");
    }
    // A folder without qwren-gpu, and one that can't be run.
    let dir = tempfile::tempdir().unwrap();
    let (alone, no_program) = (dir.path().join("qwren"), dir.path().join("text"));
    fs::copy(bin("qwren"), &alone).unwrap();
    fs::write(&no_program, "no program").unwrap();
    let beside = dir.path().join("qwren-gpu");
    for (program, says) in [
        ("/nowhere/qwren-gpu", "/nowhere/qwren-gpu can't be started: No such file or directory"),
        (no_program.to_str().unwrap(), &format!("{} can't be started: Permission denied", no_program.display())),
        ("", "qwren-gpu is not installed: it is neither beside qwren nor on the PATH"),
    ] {
        let mut c = Command::new(&alone);
        c.args(["logits", "-b", "8", "-ngl", "all", "-m"]).arg(&path);
        c.env("QWREN_GPU", program).env("PATH", "/nowhere");
        let (there, ended) = logits(c, &IDS);
        assert!(there == here && told(&ended)[0].starts_with(says), "{}", ended.stderr);
    }
    // Beside qwren, one that can't be run: told, unless another one on the PATH can.
    fs::write(&beside, "no program").unwrap();
    let cannot = format!("{} can't be started: Permission denied", beside.display());
    let other = tempfile::tempdir().unwrap();
    let ends = other.path().join("qwren-gpu");
    fs::write(&ends, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&ends, fs::Permissions::from_mode(0o755)).unwrap();
    for (path_variable, patience, says) in [
        ("/nowhere", "", &cannot[..]),
        (&format!("/nowhere:{}", other.path().display()), "60", "qwren-gpu ended unexpectedly (exit code 3)"),
        ("/nowhere", "-1", "QWREN_GPU_PATIENCE=-1: give seconds from 0.01 to 3600"),
        ("/nowhere", "soon", "QWREN_GPU_PATIENCE=soon: give seconds from 0.01 to 3600"),
    ] {
        let mut c = Command::new(&alone);
        c.args(["logits", "-b", "8", "-ngl", "all", "-m"]).arg(&path);
        c.env("PATH", path_variable).env("QWREN_GPU_PATIENCE", patience).env_remove("QWREN_GPU");
        let (there, ended) = logits(c, &IDS);
        assert!(there == here && told(&ended)[0].starts_with(says), "{}", ended.stderr);
    }
}

#[test]
fn experts_are_judged_apart_from_what_they_compute() {
    let sizes = Sizes { experts: Some((6, 3)), ..FOUR };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    // Experts 0 and 1, 2 and 3, 4 and 5 are equally good for every token, and have nothing else in common.
    Tiny::new(&sizes, DType::F16).write(&path, 7, |name, values| {
        if name.contains("ffn_gate_inp") {
            let (row, pairs) = (sizes.hidden as usize, values.len() / (2 * sizes.hidden as usize));
            (0..pairs).for_each(|i| values.copy_within(2 * i * row..(2 * i + 1) * row, (2 * i + 1) * row));
        }
    });
    let says = |fault| {
        let (_, ended) = logits(command(fault, "logits", &path, &["-b", "8", "-ngl", "all"]), &IDS);
        told(&ended)[0].to_owned()
    };
    assert!(says("tie").starts_with("Vulkan0 (Stand-in) computes 4 of 4 layers"), "{}", says("tie"));
    for (fault, text) in [
        ("choice", "Vulkan0 chooses wrong experts (layer 0, 8 at once); "),
        ("twice", "Vulkan0 chooses experts that there aren't, or one twice; "),
        ("wrong", "Vulkan0 computes wrong numbers (layer 0, 8 at once: off by "),
    ] {
        assert!(says(fault).starts_with(text), "{fault}: {}", says(fault));
    }
}

#[test]
fn layers_without_norms_on_heads() {
    let (_dir, path, here) = model(&Tiny::llama(&FOUR, DType::F16));
    let (there, ended) = logits(command("", "logits", &path, &["-b", "8", "-ngl", "3"]), &IDS);
    assert!(there == here && told(&ended)[0].contains("computes 3 of 4 layers"), "{}", ended.stderr);
}

#[test]
fn v4_fewer_layers_are_tried_when_memory_is_short() {
    let (_dir, path, here) = model(&Tiny::new(&FOUR, DType::F16));
    for (fault, layers) in [("room:2", 2), ("room:3", 3), ("crash-room:2", 2), ("crash-room:3", 3)] {
        let (there, ended) = logits(command(fault, "logits", &path, &["-b", "8", "-ngl", "all"]), &IDS);
        let says = format!("Vulkan0 (Stand-in) computes {layers} of 4 layers, ");
        assert!(told(&ended)[0].starts_with(&says), "{fault}: {}", ended.stderr);
        let crash = fault.starts_with("crash");
        let why = if crash { "(with more, qwren-gpu ended unexpectedly (" } else { "(more didn't fit its memory)" };
        assert!(ended.stderr.contains(why) && there == here, "{fault}: {}", ended.stderr);
    }
}

#[test]
fn the_output_stays_here_where_it_does_not_fit() {
    let (_dir, path, here) = model(&Tiny::new(&FOUR, DType::F16));
    let says = "Vulkan0 (Stand-in) computes 4 of 4 layers, the processor the output";
    for (fault, why) in [("no-output", ""), ("output-room", ""), ("output-batch-room", " (more didn't fit its memory)")]
    {
        let (there, ended) = logits(command(fault, "logits", &path, &["-b", "8", "-ngl", "all"]), &IDS);
        assert!(told(&ended)[0] == format!("{says}{why}") && there == here, "{fault}: {}", ended.stderr);
    }
}

#[test]
fn logits_of_many_rows_survive_the_device() {
    let (_dir, path, here) = model(&Tiny::new(&FOUR, DType::F16));
    for (what, says) in
        [("kill", "qwren-gpu ended"), ("refuse", "the stand-in refuses"), ("nan", "Vulkan0 gave results")]
    {
        let (there, ended) =
            logits(command(&format!("{what}@output"), "logits", &path, &["-b", "8", "-ngl", "all"]), &IDS);
        let told = told(&ended);
        assert!(told[0].ends_with("and the output") && there == here, "{what}: {}", ended.stderr);
        assert!(told.iter().any(|l| l.starts_with(says) && l.ends_with("; the processor goes on with its layers")));
    }
}

#[test]
fn auto_fits_the_free_memory_and_makes_nothing_slower() {
    let (_dir, path, _) = model(&Tiny::new(&FOUR, DType::F16));
    let says = |fault: &str| {
        told(&logits(command(fault, "logits", &path, &["-b", "8", "-ngl", "auto"]), &IDS).1)[0].to_owned()
    };
    let slow = says("slow");
    assert!(slow.contains("ms for a token in 4 layers and the output, the processor "), "{slow}");
    assert!(slow.contains("; the processor computes all layers"), "{slow}");
    // A slow output is not used; the layers take much the same time on both sides.
    let slow = says("slow-output");
    let kept = slow.contains("4 of 4 layers, the processor the output (the output takes longer there; a token takes ");
    assert!(kept || slow.contains("ms for a token in 4 layers and the output, the processor "), "{slow}");
    // 256 MiB are left alone.
    assert!(says("free:1000000").starts_with("Vulkan0 has no room for a layer; the processor"));
}

/// Runs `complete` with a prompt of three batches.
fn complete(fault: &str, args: &[&str]) -> Run {
    let args = [&["-p", "Once upon a time", "-b", "4", "-n", "12", "--temp", "0"], args].concat();
    let mut c = command(fault, "complete", &random_model(), &args);
    c.env("QWREN_GPU_PATIENCE", "2");
    run(c, "")
}

#[test]
fn v3_an_answer_goes_on_when_the_device_is_lost() {
    let here = complete("", &[]).ok();
    for (what, says) in [
        ("kill", "qwren-gpu ended unexpectedly (signal 9"),
        ("abort", "qwren-gpu ended unexpectedly (signal 6: stand-in: the device was lost)"),
        ("hang", "qwren-gpu did not answer within "),
        ("refuse", "the stand-in refuses"),
        ("nan", "Vulkan0 gave results that are no numbers"),
    ] {
        for (when, ngl) in [("prefill", "2"), ("decode", "2"), ("output", "all")] {
            let ended = complete(&format!("{what}@{when}"), &["-ngl", ngl]);
            assert_eq!(ended.code, Some(0));
            assert_eq!(ended.stdout, here, "{what}@{when}");
            let told: Vec<&str> =
                ended.stderr.lines().filter(|l| l.contains("qwren-gpu") || l.starts_with(says)).collect();
            assert!(told.len() == 1 && told[0].starts_with(says), "{what}@{when}: {}", ended.stderr);
            assert!(told[0].ends_with("; the processor goes on with its layers"), "{}", told[0]);
        }
    }
    let whole = complete("", &["-ngl", "all"]);
    assert!(whole.stdout == here && !whole.stderr.contains("goes on"));
}

#[test]
fn a_conversation_survives() {
    let questions = "{\"role\":\"user\",\"content\":\"One?\"}\n{\"role\":\"user\",\"content\":\"Two?\"}\n";
    let talk = |fault: &str, ngl: &str| {
        let args = ["--jsonl", "-n", "8", "--temp", "0", "-b", "16", "-ngl", ngl, "--quiet"];
        run(command(fault, "chat", &random_model(), &args), questions).ok()
    };
    let texts = |out: &str| -> Vec<String> {
        let lines = out.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
        lines.map(|v| v["content"].to_string()).collect()
    };
    let here = texts(&talk("", "0"));
    assert_eq!(here.len(), 2);
    for fault in ["kill@prefill", "kill@decode"] {
        assert_eq!(texts(&talk(fault, "2")), here, "{fault}");
    }
}

#[test]
fn what_needs_all_layers_here_says_so() {
    let model = random_model();
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    fs::write(&text, "Once upon a time there was a model that told stories to everybody. ".repeat(4)).unwrap();
    let text = text.to_str().unwrap();
    let perplexity = |ngl: &str| {
        run(command("", "perplexity", &model, &["-f", text, "-c", "32", "--json", "--quiet", "-ngl", ngl]), "").ok()
    };
    assert_eq!(perplexity("0"), perplexity("2"));
    // What needs our own operations everywhere says so.
    let out = dir.path().join("imatrix");
    let args = ["-f", text, "-c", "32", "-o", out.to_str().unwrap(), "--quiet", "-ngl", "2"];
    let ended = run(command("", "imatrix", &model, &args), "");
    assert!(ended.code == Some(2) && ended.stderr.contains("without --stock-ops and -ngl"), "{}", ended.stderr);
}

#[test]
fn a_bench_says_where_layers_are_and_ends_when_that_changes() {
    let (_dir, model, _) = model(&Tiny::new(&FOUR, DType::Q8_0));
    let bench = |fault, args: &[&str]| {
        let sizes = ["--prefill", "8", "--decode", "4", "--depth", "0", "-r", "1", "--quiet"];
        run(command(fault, "bench", &model, &[&sizes[..], args].concat()), "")
    };
    let table = bench("", &["-dev", "Vulkan0", "--n-gpu-layers", "3"]).ok();
    assert!(table.contains("\nVulkan0 (Stand-in) computes 3 of 4 layers, the processor 1 and the output\n"), "{table}");
    for (ngl, gpu) in [
        ("0", Value::Null),
        ("3", json!({"device": "Vulkan0 (Stand-in)", "layers": 3, "output": false})),
        ("all", json!({"device": "Vulkan0 (Stand-in)", "layers": 4, "output": true})),
    ] {
        let report: Value = serde_json::from_str(&bench("", &["--json", "-ngl", ngl]).ok()).unwrap();
        assert_eq!(report["gpu"], gpu);
        // The processor's limits and kernels bear on what it computes alone.
        assert_eq!(report["prefill"][0]["share_of_limit"].is_null(), ngl != "0");
        let kernels = report["model"]["kernels"].as_array().unwrap();
        assert_eq!(kernels.len(), if ngl == "all" { 1 } else { 2 }, "{kernels:?}");
    }
    for fault in ["kill@prefill", "abort@decode"] {
        let ended = bench(fault, &["--json", "-ngl", "all"]);
        assert!(ended.stdout.is_empty() && ended.code == Some(1), "{fault}: {}", ended.stdout);
        assert!(ended.stderr.contains("the GPU was lost while it was measured"), "{}", ended.stderr);
    }
}

#[test]
fn wrong_usage_is_refused() {
    let model = random_model();
    for args in [&["-ngl", "many"][..], &["-ngl", "-1"], &["--device", "Vulkan0"], &["-ngl", "2", "--stock-ops"]] {
        assert_eq!(run(command("", "complete", &model, args), "x").code, Some(2), "{args:?}");
    }
}

#[test]
fn devices_lists_what_the_program_sees() {
    let devices = |fault: &str, args: &[&str]| {
        let mut c = qwren(["devices"]);
        c.args(args).env("QWREN_GPU", stand_in()).env("STAND_IN", fault);
        run(c, "").ok()
    };
    assert!(devices("", &[]).contains("gpu        Vulkan0: Stand-in; memory of its own; "));
    assert!(devices("no-device", &[]).contains("gpu        none: no Vulkan driver found\n"));
    let json: Value = serde_json::from_str(&devices("", &["--json"])).unwrap();
    assert_eq!(json["gpus"][0]["kind"], "discrete");
}

#[test]
fn the_array_is_read_as_floats() {
    let mut npy = b"\x93NUMPY\x01\x00\x04\x00abc\n".to_vec();
    npy.write_all(&1.5_f32.to_le_bytes()).unwrap();
    assert_eq!(floats(&npy), [1.5]);
}
