//! qwren-gpu itself, on Mesa's lavapipe: a Vulkan driver that computes on the processor, which is taken since it is named; or on
//! the GPU that `QWREN_TEST_DEVICE` names. Run by `scripts/test.sh --vulkan`, since it wants a build of ggml with its shaders, whose
//! place `QWREN_GPU` tells.
mod experts;
mod long;
mod prompt_cache;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use qwren::gpu::{Settings, Wanted};
use qwren_quant::dtype::DType;
use qwren_quant::kernel::kernels;
use qwren_tests::bin;
use qwren_tests::cli::{qwren, random_model, run};
use qwren_tests::models::mean_kl;
use qwren_tests::offload::{floats, logits, told, with_gpu};
use qwren_tests::tiny::{Sizes, Tiny};
use rustix::process::{Pid, Signal, kill_process};

/// Rows are whole blocks of every type.
const BLOCKS: Sizes =
    Sizes { layers: 3, hidden: 256, heads: 4, kv_heads: 2, head_dim: 64, ff: 512, vocab: 200, experts: None };
/// Two batches of different lengths, then nothing.
const IDS: [u32; 36] = [
    5, 17, 99, 3, 141, 62, 8, 8, 90, 27, 33, 71, 2, 56, 14, 6, 80, 49, 1, 22, 180, 199, 0, 45, 12, 9, 77, 150, 31, 64,
    5, 17, 99, 120, 4, 11,
];
/// Logits of the processor, whose activations have 8 bits, and of the device are so far apart at most (mean KL, nats).
const APART: f64 = 0.001;

/// lavapipe, as it calls itself.
const SOFTWARE: &str = "llvmpipe";

/// A part of the device's description: `QWREN_TEST_DEVICE`, else lavapipe's.
fn device() -> String {
    env::var("QWREN_TEST_DEVICE").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| SOFTWARE.into())
}

/// All layers on that device, in this process.
fn on_device() -> Settings {
    assert!(env::var_os("QWREN_GPU").is_some(), "QWREN_GPU must name qwren-gpu");
    Settings { wanted: Wanted::All, device: Some(device()) }
}

/// Whether a line begins as `Vulkan0 (NAME`.
fn names_device(line: &str) -> bool {
    let description = line.strip_prefix("Vulkan").and_then(|rest| rest.split_once(" ("));
    description.is_some_and(|(_, rest)| rest.to_lowercase().contains(&device().to_lowercase()))
}

/// `qwren COMMAND` with the device.
fn command(command: &str, model: &Path, args: &[&str]) -> Command {
    let mut c = with_gpu(&bin("qwren-gpu"), command, model, args);
    // lavapipe translates shaders to the processor's instructions, which takes seconds each.
    c.args(["--device", &device()]).env("QWREN_GPU_PATIENCE", "60");
    c
}

/// Checks a model's logits with `ngl` layers on the device against those without.
fn agree(path: &Path, ngls: &[&str]) {
    let args = ["-b", "32", "-ctk", "f16", "-ctv", "f16"];
    let mut here = qwren(["logits", "-m"]);
    here.arg(path).args(args);
    let here = floats(&logits(here, &IDS).0);
    for ngl in ngls {
        let (there, ended) = logits(command("logits", path, &[&args[..], &["-ngl", ngl]].concat()), &IDS);
        assert!(names_device(told(&ended)[0]), "{}", ended.stderr);
        let line = told(&ended)[0];
        assert!(line.ends_with(" layers and the output") || line.contains(" layers, the processor "), "{line}");
        let there = floats(&there);
        let apart = mean_kl(&here, &there, here.len() / IDS.len());
        eprintln!("-ngl {ngl}: mean KL {apart:.6}");
        assert!(apart < APART && here != there, "-ngl {ngl}: mean KL {apart}");
    }
}

fn written(tiny: &Tiny) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    tiny.write(&path, 11, |_, _| ());
    (dir, path)
}

/// Gives those of the matrices of a model's layers whose names contain `part` all types in turn that the processor computes with.
fn mix(tiny: &mut Tiny, part: &str) {
    let types: BTreeSet<DType> = kernels().iter().map(|kernel| kernel.weight).collect();
    let matrices = tiny.tensors.iter_mut().filter(|(name, shape, _)| name.starts_with("blk.") && shape.len() > 1);
    let matrices: Vec<_> = matrices.filter(|(name, ..)| name.contains(part)).collect();
    assert!(matrices.len() >= types.len(), "{} matrices for {} types", matrices.len(), types.len());
    matrices.into_iter().zip(types.iter().cycle()).for_each(|((.., dtype), &t)| *dtype = t);
}

#[test]
#[ignore = "needs qwren-gpu: scripts/test.sh --vulkan"]
fn dense_layers_of_all_types() {
    let mut tiny = Tiny::new(&BLOCKS, DType::F32);
    mix(&mut tiny, "");
    agree(&written(&tiny).1, &["all"]);
}

#[test]
#[ignore = "needs qwren-gpu: scripts/test.sh --vulkan"]
fn layers_without_norms_on_heads_whose_neighbours_turn() {
    let mut tiny = Tiny::llama(&BLOCKS, DType::Q8_0);
    tiny.set("rope.freq_base", 1e3f32);
    agree(&written(&tiny).1, &["2", "all"]);
}

#[test]
#[ignore = "needs qwren-gpu: scripts/test.sh --vulkan"]
fn some_of_the_layers() {
    let mut tiny = Tiny::new(&BLOCKS, DType::Q8_0);
    tiny.set("rope.scaling.type", "yarn");
    tiny.set("rope.scaling.factor", 4.0_f32);
    tiny.set("rope.scaling.original_context_length", 32_u32);
    let (_dir, path) = written(&tiny);
    agree(&path, &["1", "2", "3"]);
    // None: the same bits, and no word of a device.
    let mut c = qwren(["logits", "-m"]);
    c.arg(&path);
    let (here, _) = logits(c, &IDS);
    let (none, ended) = logits(command("logits", &path, &["-ngl", "0"]), &IDS);
    assert!(here == none && !ended.stderr.contains("layers"), "{}", ended.stderr);
}

#[test]
#[ignore = "needs qwren-gpu: scripts/test.sh --vulkan"]
fn what_is_missing_is_told() {
    let (_dir, path) = written(&Tiny::new(&BLOCKS, DType::Q8_0));
    let says = |c: Command| told(&logits(c, &IDS).1)[0].to_owned();
    let software = device() == SOFTWARE;
    // V6: lavapipe is not taken for a GPU.
    let unnamed = says(with_gpu(&bin("qwren-gpu"), "logits", &path, &["-ngl", "all"]));
    assert!(
        if software { unnamed.starts_with("no GPU found, only llvmpipe") } else { names_device(&unnamed) },
        "{unnamed}"
    );
    let mut c = command("logits", &path, &["-ngl", "all"]);
    c.env("VK_DRIVER_FILES", "/nowhere.json").env("VK_ICD_FILENAMES", "/nowhere.json");
    assert!(says(c).starts_with("no Vulkan driver found"));
    let other = with_gpu(&bin("qwren-gpu"), "logits", &path, &["-ngl", "all", "--device", "Radeon"]);
    assert!(says(other).starts_with("no device \"Radeon\"; `qwren devices` lists them"));
    let quantized = says(command("logits", &path, &["-ngl", "all", "-ctv", "q8_0"]));
    let refused = quantized.contains("has no flash attention, which -ctk and -ctv other than f16 and f32 want");
    assert!(if software { refused } else { names_device(&quantized) }, "{quantized}");
    // No loader: a copy that asks for another library.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("qwren-gpu");
    let mut bytes = fs::read(bin("qwren-gpu")).unwrap();
    let name = b"libvulkan.so.1\0";
    let at = bytes.windows(name.len()).position(|w| w == name).expect("the loader is linked");
    bytes[at + name.len() - 2] = b'X';
    fs::write(&copy, bytes).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let none = says(with_gpu(&copy, "logits", &path, &["-ngl", "all"]));
    assert!(
        none.starts_with("qwren-gpu ended unexpectedly (exit code 127: ") && none.contains("libvulkan.so.X"),
        "{none}"
    );
    // The list has it all the same.
    let mut c = qwren(["devices"]);
    c.env("QWREN_GPU", bin("qwren-gpu"));
    let list = run(c, "").ok();
    let line = list.lines().find(|line| line.starts_with("gpu ") && line.contains(&device()));
    assert!(
        line.is_some_and(|line| line.contains(": ")) && list.contains("used only when named") == software,
        "{list}"
    );
}

/// The only child of a process that is still to start one.
fn child(pid: u32) -> Pid {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        if let Some(pid) = text.split_whitespace().next().and_then(|n| Pid::from_raw(n.parse().ok()?)) {
            return pid;
        }
        assert!(Instant::now() < end, "no child");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "needs qwren-gpu: scripts/test.sh --vulkan"]
fn a_conversation_survives_a_crash_and_a_hang() {
    use std::io::{BufRead, BufReader, Write};
    // A batch of several tokens takes seconds here, and a hang is one that takes ten times as long: that is tried with single ones.
    for (signal, batch, ngl, patience) in [(Signal::KILL, "16", "all", "60"), (Signal::STOP, "1", "1", "5")] {
        let args = ["--jsonl", "-n", "4", "--temp", "0", "-ngl", ngl, "-b", batch, "-c", "512"];
        let mut c = command("chat", &random_model(), &args);
        c.env("QWREN_GPU_PATIENCE", patience);
        c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ours = c.spawn().unwrap();
        let mut answers = BufReader::new(ours.stdout.take().unwrap()).lines();
        let mut ask = |text: &str| {
            let stdin = ours.stdin.as_mut().unwrap();
            writeln!(stdin, "{{\"role\":\"user\",\"content\":\"{text}\"}}").unwrap();
            stdin.flush().unwrap();
            answers.next().unwrap().unwrap()
        };
        assert!(ask("One?").contains("\"content\""));
        kill_process(child(ours.id()), signal).unwrap();
        let stdin = ours.stdin.as_mut().unwrap();
        writeln!(stdin, "{{\"role\":\"user\",\"content\":\"Two?\"}}").unwrap();
        assert!(answers.next().unwrap().unwrap().contains("\"content\""));
        drop(ours.stdin.take());
        let ended = ours.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{stderr}");
        let lost: Vec<&str> =
            stderr.lines().filter(|l| l.ends_with("; the processor goes on with its layers")).collect();
        assert_eq!(lost.len(), 1, "{stderr}");
    }
}
