//! `bench`, `perplexity` and `devices`: figures for people and for scripts.
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use qwren_tests::cli::{Run, model_of_nans, qwren, random_model, run};
use qwren_tests::{converted, data};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn json(run: Run) -> Value {
    serde_json::from_str(&run.ok()).expect("one JSON value")
}

fn above_0(value: &Value) -> bool {
    value.as_f64().is_some_and(|x| x.is_finite() && x > 0.0)
}

#[test]
fn bench_gives_a_rate_for_everything_asked() {
    let mut command = qwren(["bench", "--json", "--prefill", "16,32", "--decode", "4", "--depth", "0,64", "-r", "2"]);
    command.args(["-t", "2", "-ctk", "f32", "-ctv", "f16", "--quiet", "-m"]).arg(random_model());
    let report = json(run(command, ""));
    let column = |list: &str, key: &str| -> Vec<u64> {
        report[list].as_array().unwrap().iter().map(|row| row[key].as_u64().unwrap()).collect()
    };
    assert_eq!((column("prefill", "tokens"), column("decode", "depth")), (vec![16, 32], vec![0, 64]));
    for row in report["prefill"].as_array().unwrap() {
        for key in ["tokens_per_s", "gmac_per_s", "share_of_limit"] {
            assert!(above_0(&row[key]), "{row}");
        }
    }
    for row in report["decode"].as_array().unwrap() {
        assert!(above_0(&row["tokens_per_s"]) && above_0(&row["gb_per_s"]) && above_0(&row["share_of_limit"]), "{row}");
    }
    assert!(above_0(&report["machine"]["read_gb_per_s"]) && above_0(&report["machine"]["int8_gmac_per_s"]));
    assert_eq!((report["machine"]["threads"].as_u64(), report["repetitions"].as_u64()), (Some(2), Some(2)));
    assert_eq!((&report["model"]["cache_type_k"], &report["model"]["architecture"]), (&"f32".into(), &"qwen3".into()));
    assert!(!report["model"]["kernels"].as_array().unwrap().is_empty());
}

#[test]
fn bench_prints_tables() {
    let mut command = qwren(["bench", "--prefill", "8", "--decode", "2", "--depth", "0,16", "-r", "1", "-m"]);
    command.arg(random_model());
    let table = run(command, "").ok();
    for word in ["tokens/s", "GMAC/s", "GB/s", "of limit", "kernels: ", "threads", "Dense Tied (qwen3, "] {
        assert!(table.contains(word), "{word} is missing in\n{table}");
    }
    let mut command = qwren(["bench", "--prefill", "8", "--decode", "0", "-r", "1", "-m"]);
    command.arg(random_model());
    assert!(!run(command, "").ok().contains("decode"));
}

#[test]
fn bench_tells_what_computes() {
    let mut command = qwren(["bench", "--json", "--quiet", "--prefill", "8", "--decode", "0", "-r", "1"]);
    command.args(["--stock-ops", "-t", "2", "-m"]).arg(random_model());
    let stock = json(run(command, ""));
    assert_eq!((&stock["machine"]["threads"], &stock["machine"]["threads_batch"]), (&1.into(), &1.into()));
    assert_eq!(stock["model"]["kernels"], json!(["ggml's own operations"]));
}

#[test]
fn bench_says_which_depths_it_leaves_out() {
    let note = |flags: &[&str]| {
        let mut command = qwren(["bench", "--prefill", "8", "-r", "1"]);
        command.args(flags).arg("-m").arg(converted("demo", &data("demo"), "q8_0"));
        let ended = run(command, "");
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stderr.lines().find(|line| line.contains("a model of 2048 tokens: ")).map(str::to_owned)
    };
    let line = note(&["--decode", "2"]).unwrap();
    assert!(line.ends_with("nothing is written at depth 2048, 8192; --depth chooses"), "{line}");
    assert!(note(&["--decode", "1", "--depth", "2048"]).unwrap().ends_with(": beyond them it writes nonsense"));
    for flags in [&["--decode", "0"][..], &["--decode", "2", "--depth", "0"]] {
        assert_eq!(note(flags), None);
    }
}

fn perplexity(model: &Path, text: &Path, flags: &[&str]) -> Run {
    let mut command = qwren(["perplexity", "--json", "--quiet", "-c", "64", "-m"]);
    command.arg(model).arg("-f").arg(text).args(flags);
    run(command, "")
}

#[test]
fn divergence_from_a_saved_run() {
    let dir = tempfile::tempdir().unwrap();
    let (text, base) = (dir.path().join("text"), dir.path().join("base"));
    fs::write(&text, "The quick brown fox jumps over the lazy dog. ".repeat(6)).unwrap();
    let base_arg = base.to_str().unwrap();

    let first = json(perplexity(&random_model(), &text, &["--save-logits", base_arg]));
    assert!(above_0(&first["perplexity"]) && first["kl"].is_null());
    let scored = first["tokens"].as_u64().unwrap();
    assert_eq!(scored % 31, 0, "31 of 64 tokens are scored in each chunk");

    let same = json(perplexity(&random_model(), &text, &["--base-logits", base_arg, "-t", "1", "-b", "7"]));
    assert_eq!((same["kl"]["mean"].as_f64(), same["kl"]["same_top"].as_f64()), (Some(0.0), Some(1.0)));
    assert_eq!(same["perplexity"], first["perplexity"]);
    let mut piped = qwren(["perplexity", "--json", "--quiet", "-c", "64", "-f", "-", "-m"]);
    piped.arg(random_model());
    assert_eq!(json(run(piped, &fs::read_to_string(&text).unwrap()))["perplexity"], first["perplexity"]);

    let coarse = converted("dense-tied", &data("checkpoints/dense-tied"), "q8_0");
    let kl = json(perplexity(&coarse, &text, &["--base-logits", base_arg]))["kl"].clone();
    let (mean, max) = (kl["mean"].as_f64().unwrap(), kl["max"].as_f64().unwrap());
    assert!(mean > 0.0 && mean < 0.1 && max >= mean && kl["same_top"].as_f64().unwrap() > 0.8, "{kl}");

    // Another text, a damaged file, a file that exists.
    let other = dir.path().join("other");
    fs::write(&other, "The quick brown fox jumps over the lazy cat. ".repeat(6)).unwrap();
    assert_eq!(perplexity(&random_model(), &other, &["--base-logits", base_arg]).code, Some(2));
    assert!(perplexity(&random_model(), &text, &["--save-logits", base_arg]).error(2).contains("exists already"));
    let bytes = fs::read(&base).unwrap();
    fs::write(&base, &bytes[..bytes.len() - 1]).unwrap();
    let line = perplexity(&random_model(), &text, &["--base-logits", base_arg]).error(2);
    assert!(line.contains("another length"), "{line}");
}

#[test]
fn a_signal_leaves_no_unfinished_file() {
    let dir = tempfile::tempdir().unwrap();
    let (text, out) = (dir.path().join("text"), dir.path().join("out"));
    fs::write(&text, "The quick brown fox jumps over the lazy dog. ".repeat(5_000)).unwrap();
    let names = || -> Vec<_> { fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    for (command, to) in [("perplexity", "--save-logits"), ("imatrix", "-o")] {
        for signal in [Signal::INT, Signal::TERM] {
            let mut command = qwren([command, "--quiet", "-b", "16", "-c", "64", "-m"]);
            command.arg(random_model()).arg("-f").arg(&text).arg(to).arg(&out);
            let mut child = command.stdout(Stdio::null()).spawn().unwrap();
            while names().len() < 2 {
                assert!(child.try_wait().unwrap().is_none(), "it ended");
                thread::sleep(Duration::from_millis(5));
            }
            kill_process(Pid::from_child(&child), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(130), "{signal:?}");
            // An importance matrix of what was read so far is of use.
            let _ = fs::remove_file(&out);
            assert_eq!(names(), ["text"], "{signal:?}");
        }
    }
}

#[test]
fn logits_leave_no_unfinished_file_either() {
    let dir = tempfile::tempdir().unwrap();
    let ids = vec!["5"; 20_000].join(",");
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = qwren(["logits", "--quiet", "-b", "4", "--ids", &ids, "-m"]);
        command.arg(random_model()).arg("-o").arg(dir.path().join("out.npy"));
        let mut child = command.spawn().unwrap();
        while fs::read_dir(dir.path()).unwrap().count() == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            thread::sleep(Duration::from_millis(5));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{signal:?}");
    }
}

#[test]
fn values_that_are_not_finite_have_no_perplexity() {
    let dir = tempfile::tempdir().unwrap();
    let (text, base, model) = (dir.path().join("text"), dir.path().join("base"), model_of_nans(dir.path()));
    fs::write(&text, "The quick brown fox jumps over the lazy dog. ".repeat(6)).unwrap();
    perplexity(&random_model(), &text, &["--save-logits", base.to_str().unwrap()]).ok();
    for flags in [&[][..], &["--base-logits", base.to_str().unwrap()]] {
        let line = perplexity(&model, &text, flags).error(2);
        assert!(line.ends_with("nan.gguf: gives values that are not finite; check it with 'qwren verify'\n"), "{line}");
    }
}

#[test]
fn bench_measures_the_least_and_only_what_is_asked() {
    let bench = |args: &[&str]| {
        let mut command = qwren(["bench", "--json", "--quiet", "-r", "1", "-m"]);
        command.arg(random_model()).args(args);
        run(command, "")
    };
    let rows = |report: &Value| ["prefill", "decode"].map(|table| report[table].as_array().unwrap().len());
    assert_eq!(rows(&json(bench(&["-p", "1", "-n", "0"]))), [1, 0]);
    // A depth at which nothing is written takes no memory.
    assert_eq!(rows(&json(bench(&["--n-prompt", "2", "--n-gen", "0", "--n-depth", "16777216"]))), [1, 0]);
    let stock = json(bench(&["-p", "0", "-n", "1", "-d", "0", "--stock-ops", "-t", "2"]));
    assert_eq!(rows(&stock), [0, 1]);
    // The limits are those of the threads that compute.
    assert_eq!([&stock["machine"]["threads"], &stock["machine"]["threads_batch"]], [1, 1]);
    let line = bench(&["--decode", "16777216"]).error(2);
    assert!(line.contains(" tokens can't write 16777216; choose --decode or --depth"), "{line}");
}

#[test]
fn a_text_too_short_to_score_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    fs::write(&text, "a").unwrap();
    assert!(perplexity(&random_model(), &text, &[]).error(2).contains("too short"));
}

#[test]
fn devices_tell_what_is_chosen() {
    let table = run(qwren(["devices"]), "").ok();
    for word in ["processor ", "cores ", "memory ", "level ", "Q4_K", "gpu "] {
        assert!(table.contains(word), "{word} is missing in\n{table}");
    }
    let devices = json(run(qwren(["devices", "--json"]), ""));
    assert!(devices["cpu"]["default_threads"].as_u64().unwrap() >= 1);
    assert!(devices["memory"]["available_bytes"].as_u64() <= devices["memory"]["total_bytes"].as_u64());

    let mut scalar = qwren(["devices", "--json"]);
    scalar.env("QWREN_CPU", "scalar");
    assert_eq!(json(run(scalar, ""))["cpu"]["level"], "scalar");
    let mut unknown = qwren(["devices"]);
    unknown.env("QWREN_CPU", "z80");
    assert!(run(unknown, "").error(2).contains("QWREN_CPU=z80"));
}
