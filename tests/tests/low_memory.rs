//! Models of the published sizes on boards with little memory, with random weights: what is promised for a Raspberry Pi of
//! 4 GB (Qwen3-4B) and of 2 GB (Qwen3-1.7B), both Q4_K_M with a Q8_0 cache of 4096 tokens; and the refusal where it can't be.
//!
//! The limit is a memory control group where this process may make one, else `ulimit -v`; the test says which.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use qwren::kv::KvType;
use qwren::model::Model;
use qwren::session::WORK_BYTES;
use qwren_quant::dtype::DType;
use qwren_tests::tiny::{Sizes, Tiny};
use qwren_tests::tokenizer::{self, QWEN3_ROWS};
use qwren_tests::{bin, qwen3_tokenizer, target_dir};

const GIB: u64 = 1 << 30;

/// Qwen3-4B and Qwen3-1.7B, whose embedding is the output matrix too.
const SHAPES: [(&str, Sizes); 2] = [
    ("4B", Sizes { layers: 36, hidden: 2560, heads: 32, ff: 9728, ..COMMON }),
    ("1.7B", Sizes { layers: 28, hidden: 2048, heads: 16, ff: 6144, ..COMMON }),
];
const COMMON: Sizes = Sizes {
    layers: 0,
    hidden: 0,
    heads: 0,
    kv_heads: 8,
    head_dim: 128,
    ff: 0,
    vocab: QWEN3_ROWS as u64,
    experts: None,
};

/// Writes a model of that shape, with Qwen3's own tokenizer and the types of Q4_K_M.
fn write(sizes: &Sizes, path: &Path) {
    let mut tiny = Tiny::new(sizes, DType::Q4K);
    tiny.tensors.retain(|(name, ..)| name != "output.weight");
    for (name, _, dtype) in &mut tiny.tensors {
        let layer: Option<u64> = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
        let finer = layer.is_some_and(|i| i < sizes.layers / 8 || i >= 7 * sizes.layers / 8 || i % 3 == 0);
        if name == "token_embd.weight" || finer && (name.contains("attn_v") || name.contains("ffn_down")) {
            *dtype = DType::Q6K;
        }
    }
    let tokens = tokenizer::header(&qwen3_tokenizer(), QWEN3_ROWS);
    let keys = tokens.metadata().filter(|(key, _)| key.starts_with("tokenizer."));
    tiny.keys.extend(keys.map(|(key, value)| (key.to_owned(), value.clone())));
    tiny.set("context_length", 40_960u32);
    tiny.write_repeating(path, 3);
}

/// A limit for the memory of a program.
enum Limit {
    /// A control group of our own, and the name of its file of members.
    Group(PathBuf),
    /// `ulimit -v`, in KiB.
    AddressSpace(u64),
}

impl Limit {
    fn new(bytes: u64) -> Limit {
        let name = format!("qwren-test-{}-{bytes}", std::process::id());
        for (root, file) in [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")] {
            let group = Path::new(root).join(&name);
            if fs::create_dir(&group).is_err() {
                continue;
            }
            // The file is the kernel's, or this is no folder of groups.
            let limited =
                || fs::OpenOptions::new().write(true).open(group.join(file))?.write_all(bytes.to_string().as_bytes());
            if limited().is_ok() {
                println!("limit: {bytes} bytes by {}", group.display());
                return Limit::Group(group);
            }
            let _ = fs::remove_dir(&group);
        }
        println!("limit: {bytes} bytes by ulimit -v (no control group can be made here)");
        Limit::AddressSpace(bytes >> 10)
    }

    /// Runs `qwren ARGS` under it; gives the outcome and the peak of its resident memory.
    fn run(&self, args: &[&str]) -> (Output, u64) {
        let enter = match self {
            Limit::Group(group) => format!("echo $$ > '{}/cgroup.procs'", group.display()),
            Limit::AddressSpace(kib) => format!("ulimit -v {kib}"),
        };
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{enter} && exec \"$@\"")).arg("sh").arg(bin("qwren")).args(args);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh");
        let status = format!("/proc/{}/status", child.id());
        let watch = std::thread::spawn(move || {
            let mut peak = 0;
            // A process that has ended has no memory any more.
            while let Some(kib) = fs::read_to_string(&status).ok().and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
                line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
            }) {
                peak = kib << 10;
                std::thread::sleep(Duration::from_millis(10));
            }
            peak
        });
        let output = child.wait_with_output().expect("an end");
        (output, watch.join().expect("a peak"))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Limit::Group(group) = self {
            let _ = fs::remove_dir(group);
        }
    }
}

#[test]
fn a3_the_promised_models_fit_small_boards_and_what_does_not_is_refused() {
    // What a board of 4 or 2 GB leaves to a program.
    for ((name, sizes), room) in SHAPES.iter().zip([3 * GIB + GIB / 2, GIB + 7 * GIB / 10]) {
        let file = tempfile::NamedTempFile::new_in(target_dir()).expect("a temporary file");
        let path = file.path().to_str().expect("UTF-8");
        write(sizes, file.path());
        let run = ["complete", "-m", path, "-p", "Small boards", "-n", "3", "--temp", "0", "--ignore-eos"];
        let run = |ctx| [&run[..], &["-ctk", "q8_0", "-ctv", "q8_0", "-c", ctx]].concat();
        let (output, peak) = Limit::new(room).run(&run("4096"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
        let model = Model::open(file.path()).expect("a model");
        let (bytes, position) =
            (model.gguf().file_len(), model.hparams().kv_bytes_per_position(KvType::Q8_0, KvType::Q8_0));
        let promised = bytes + position * 4096 + WORK_BYTES;
        println!("{name}: peak {} MiB, promised {} MiB, room {} MiB", peak >> 20, promised >> 20, room >> 20);
        assert!(peak <= promised && promised <= room, "{name}: {peak} bytes of {promised}, and {room} are there");

        // A context that doesn't fit beside it, and a board of half the size.
        for (room, ctx) in [(room, "40960"), (room / 2, "4096")] {
            let limit = Limit::new(room);
            let (output, _) = limit.run(&run(ctx));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "{name} in {room} bytes: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            // Of an address space nobody asks what is left before it is used up.
            assert!(said.contains(": needs ") || matches!(limit, Limit::AddressSpace(_)), "{said}");
        }
    }
}
