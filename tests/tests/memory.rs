//! Memory of a run beside the file and the cache. The only test of its file: it counts the process's pages.
use qwren::model::{Copier, Model};
use qwren::session::{DEFAULT_BATCH, KvType, Options, Session, Threads, WORK_BYTES};
use qwren_quant::dtype::DType;
use qwren_tests::models::{NEVER, exact};
use qwren_tests::tiny::{PLAIN, Sizes, Tiny};

/// The most memory that this process has held.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process's state");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("KiB") << 10
}

/// Widths of Qwen3-0.6B and its whole vocabulary's worth of logits in a long batch: what scratch depends on.
#[test]
fn p3_a_run_takes_the_file_the_cache_and_little_more() {
    let sizes = Sizes { hidden: 1024, heads: 16, kv_heads: 8, head_dim: 128, ff: 3072, vocab: 4000, ..PLAIN };
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let written = std::thread::spawn({
        let path = file.path().to_owned();
        move || Tiny::new(&sizes, DType::Q8_0).write(&path, 7, |_, _| ())
    });
    written.join().expect("a model");
    // Writing it took memory too, which the peak counts from here on anew.
    std::fs::write("/proc/self/clear_refs", "5").expect("a new peak");
    let before = peak_bytes();

    let model = Model::open(file.path()).unwrap_or_else(|e| panic!("{e}"));
    let (ctx, threads) = (2048, Threads { decode: 2, prefill: 2 });
    let opts = Options { batch: DEFAULT_BATCH, threads, type_k: KvType::F16, type_v: KvType::F16, ..exact(ctx) };
    let mut session = Session::new(&model, &opts).expect("a session");
    let ids: Vec<u32> = (0..1500).map(|i| i * 7 % 4000).collect();
    session.eval(&ids, &NEVER, &mut |_, _| ()).expect("evaluation");
    // Into memory of the process, as the program does it: what has moved is not held twice.
    let (mut moved, level) = (0, session.level().expect("a level"));
    Copier::new(&model, level, model.matrices())
        .and_then(|copier| copier.run(&NEVER, &mut |bytes| moved = bytes))
        .expect("a move");
    session.eval(&[1], &NEVER, &mut |_, _| ()).expect("evaluation");
    let cache = model.hparams().kv_bytes_per_position(KvType::F16, KvType::F16) * ctx as u64;
    let most = model.gguf().file_len() + cache + WORK_BYTES;
    let peak = peak_bytes() - before;
    assert_eq!(moved, model.matrices().map(|weight| weight.info.bytes).sum::<u64>());
    assert!(peak <= most, "{peak} bytes, {most} allowed");
}
