//! A prompt's cache, whose layers are computed in two processes: the same file wherever they were.
use std::fs;
use std::path::Path;

use qwren_tests::cli::{Run, random_model, run};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::command;

/// Of a prompt that is longer than what is fetched at once.
const LONG: &str =
    "Once upon a time there was a small model that read the same prompt every day, and nobody told it anything new. ";

/// Runs `complete` with `--prompt-cache`.
fn cached(fault: &str, cache: &Path, prompt: &str, args: &[&str]) -> Run {
    let args = [&["-p", prompt, "-n", "6", "--temp", "0", "--json", "--logprobs", "5", "-b", "64"], args].concat();
    let mut c = command(fault, "complete", &random_model(), &args);
    c.arg("--prompt-cache").arg(cache).env("QWREN_GPU_PATIENCE", "2");
    run(c, "")
}

/// What was said with its probabilities, and how many tokens were not read again.
fn said(run: &Run) -> (Value, u64) {
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let all: Value = serde_json::from_str(&run.stdout).unwrap();
    (all["logprobs"].clone(), all["timings"]["reused_tokens"].as_u64().unwrap())
}

#[test]
fn a_cached_prompt_gives_the_same_bits_wherever_layers_are_computed() {
    let (dir, prompt) = (tempfile::tempdir().unwrap(), LONG.repeat(8));
    for types in [["f32", "f32"], ["q8_0", "f16"]] {
        let flags = |ngl: &'static str| ["-ctk", types[0], "-ctv", types[1], "-ngl", ngl];
        let (here, _) = said(&cached("", &dir.path().join("here"), &prompt, &flags("0")));
        for ngl in ["1", "all"] {
            let cache = dir.path().join(format!("{}-{ngl}", types[0]));
            assert_eq!(said(&cached("", &cache, &prompt, &flags(ngl))), (here.clone(), 0));
            let again = cached("", &cache, &prompt, &flags(ngl));
            let (there, reused) = said(&again);
            assert!(there == here && reused > 200, "{reused} {}", again.stderr);
            // Every position is there: what follows sees all of them.
            let longer = format!("{prompt} And then");
            let (without, _) = said(&cached("", &dir.path().join(format!("{ngl}-longer")), &longer, &flags("0")));
            let (there, reused) = said(&cached("", &cache, &longer, &flags(ngl)));
            assert!(there == without && reused > 200, "{reused}");
        }
    }
}

#[test]
fn a_cache_that_was_computed_elsewhere_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    cached("", &cache, LONG, &["-ngl", "1"]);
    let whole = fs::read(&cache).unwrap();
    let refused = |ngl: &str, driver: &str| {
        fs::write(&cache, &whole).unwrap();
        let mut c = command("", "complete", &random_model(), &["-p", LONG, "-n", "1", "-ngl", ngl]);
        c.arg("--prompt-cache").arg(&cache).env("STAND_IN_DRIVER", driver);
        let ended = run(c, "");
        assert_eq!(ended.code, Some(0));
        ended.stderr.contains("layers by Stand-in, driver ); it is not used and will be replaced")
            && fs::read(&cache).unwrap() != whole
    };
    assert_eq!(
        [refused("1", ""), refused("0", ""), refused("all", ""), refused("1", "2.0")],
        [false, true, true, true]
    );
}

#[test]
fn a_device_that_fails_while_the_cache_is_fetched_costs_the_cache_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (here, _) = said(&cached("", &dir.path().join("here"), LONG, &[]));
    for (what, says) in [
        ("kill", "qwren-gpu ended unexpectedly (signal 9"),
        ("hang", "qwren-gpu did not answer within "),
        ("refuse", "the stand-in refuses"),
        ("short", "rows of the cache are of another size"),
    ] {
        let cache = dir.path().join(what);
        let ended = cached(&format!("{what}@fetch"), &cache, LONG, &["-ngl", "all"]);
        assert_eq!(said(&ended), (here.clone(), 0), "{what}");
        let told: Vec<&str> = ended.stderr.lines().filter(|l| l.ends_with("; the prompt is not kept")).collect();
        assert!(told.len() == 1 && told[0].contains(says), "{what}: {}", ended.stderr);
        assert!(!cache.exists() && !ended.stderr.contains("goes on"), "{what}");
    }
}

#[test]
fn a_device_that_fails_while_the_cache_is_given_to_it_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let (here, _) = said(&cached("", &cache, LONG, &["-ngl", "all"]));
    let whole = fs::read(&cache).unwrap();
    let longer = format!("{LONG}And then");
    let (here_longer, _) = said(&cached("", &dir.path().join("longer"), &longer, &[]));
    for (what, says) in [
        ("kill", "qwren-gpu ended unexpectedly (signal 9"),
        ("hang", "qwren-gpu did not answer within "),
        ("refuse", "the stand-in refuses"),
    ] {
        for (prompt, here) in [(LONG, &here), (&longer, &here_longer)] {
            let ended = cached(&format!("{what}@store"), &cache, prompt, &["-ngl", "all"]);
            let (there, reused) = said(&ended);
            assert!(there == *here && reused > 20, "{what}: {}", ended.stderr);
            let told: Vec<&str> = ended.stderr.lines().filter(|l| l.contains(says)).collect();
            assert!(told.len() == 1 && told[0].ends_with("; the processor goes on with its layers"), "{what}");
            // Keys and values of two makers are not kept as one's.
            let mixed = ended.stderr.contains("a part was computed by a device that is gone; the prompt is not kept");
            assert_eq!(mixed, prompt != LONG, "{what}: {}", ended.stderr);
            assert!(fs::read(&cache).unwrap() == whole, "{what}");
        }
    }
}

#[test]
fn what_is_kept_after_a_loss_was_computed_here() {
    let dir = tempfile::tempdir().unwrap();
    for (ngl, kept) in [("2", false), ("all", true)] {
        let cache = dir.path().join(ngl);
        let ended = cached("kill@decode", &cache, LONG, &["-ngl", ngl]);
        assert_eq!(ended.stderr.contains("a part was computed by a device that is gone"), !kept, "{}", ended.stderr);
        assert_eq!(cache.exists(), kept);
        assert_eq!(said(&cached("", &cache, LONG, &[])).1 > 20, kept);
    }
}

#[test]
fn a_cache_of_nonsense_is_found_out_by_its_results() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let (here, _) = said(&cached("", &cache, LONG, &["-ngl", "all"]));
    let mut bytes = fs::read(&cache).unwrap();
    let (head, end) = (bytes.iter().position(|&b| b == b'\n').unwrap() + 1, bytes.len() - 32);
    bytes[head..end].fill(0xff);
    let digest = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&digest);
    fs::write(&cache, bytes).unwrap();
    let ended = cached("", &cache, LONG, &["-ngl", "all"]);
    assert!(
        said(&ended).0 == here && ended.stderr.contains("Vulkan0 gave results that are no numbers; "),
        "{}",
        ended.stderr
    );
}
