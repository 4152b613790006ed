//! `--prompt-cache`: a prompt is read once, and nothing but the time tells.
use std::fs;
use std::path::Path;

use qwren_quant::kernel::Level;
use qwren_tests::cli::{Run, qwren, random_model, run};
use qwren_tests::{converted, data};
use serde_json::Value;

const PROMPT: &str = "Once upon a time there was a small model that read the same prompt every day";

fn complete(model: &Path, cache: &Path, flags: &[&str]) -> Run {
    // Of an option that is given twice the last value counts.
    let mut command = qwren(["complete", "-n", "6", "--temp", "0", "--json", "--logprobs", "5", "-p", PROMPT]);
    command.args(flags).arg("--prompt-cache").arg(cache).arg("-m").arg(model);
    run(command, "")
}

/// What was said with its probabilities, and how many tokens were not read again.
fn said(run: Run) -> (Value, u64) {
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let all: Value = serde_json::from_str(&run.stdout).unwrap();
    (all["logprobs"].clone(), all["timings"]["reused_tokens"].as_u64().unwrap())
}

#[test]
fn t10_p7_a_cached_prompt_gives_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let model = random_model();
    for types in [["f16", "f16"], ["f32", "q8_0"]] {
        let cache = dir.path().join(types[0]);
        let flags = |more: &[&'static str]| [&["-ctk", types[0], "-ctv", types[1], "--quiet"], more].concat();
        let (cold, none) = said(complete(&model, &cache, &flags(&[])));
        let (warm, reused) = said(complete(&model, &cache, &flags(&[])));
        assert_eq!((none, &warm), (0, &cold));
        assert!(reused > 20, "{reused}");
        // Another context, other batches, other threads; a prompt that is shorter or longer than the cached one.
        for more in [&["-c", "64"][..], &["-b", "3", "-t", "1"]] {
            assert_eq!(said(complete(&model, &cache, &flags(more))), (cold.clone(), reused));
        }
        for prompt in [&PROMPT[..30], &format!("{PROMPT} and night"), "Something else"] {
            let other = dir.path().join("other");
            let prompt = ["-p", prompt];
            let mut command = qwren(["complete", "-n", "6", "--temp", "0", "--json", "--logprobs", "5", "--quiet"]);
            command.args(prompt).args(["-ctk", types[0], "-ctv", types[1], "-m"]).arg(&model);
            let cold: Value = serde_json::from_str(&run(command, "").ok()).unwrap();
            fs::copy(&cache, &other).unwrap();
            let mut command = qwren(["complete", "-n", "6", "--temp", "0", "--json", "--logprobs", "5", "--quiet"]);
            command
                .args(prompt)
                .args(["-ctk", types[0], "-ctv", types[1], "--prompt-cache"])
                .arg(&other)
                .arg("-m")
                .arg(&model);
            let warm: Value = serde_json::from_str(&run(command, "").ok()).unwrap();
            assert_eq!(warm["logprobs"], cold["logprobs"], "{prompt:?}");
        }
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_prompt_is_read_ahead_with_n_0() {
    let dir = tempfile::tempdir().unwrap();
    let (model, cache) = (random_model(), dir.path().join("cache"));
    let run = complete(&model, &cache, &["-n", "0"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let (_, reused) = said(complete(&model, &cache, &[]));
    assert!(reused > 20, "{reused}");
}

#[test]
fn a_cache_that_is_damaged_or_anothers_is_not_used_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let (model, cache) = (random_model(), dir.path().join("cache"));
    let (cold, _) = said(complete(&model, &cache, &[]));
    let whole = fs::read(&cache).unwrap();
    let head = whole.iter().position(|&b| b == b'\n').unwrap();
    let spoiled = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let other_tokens =
        String::from_utf8(whole[..head].to_vec()).unwrap().replace("\"tokens\":[", "\"tokens\":[4000000000,");
    for (what, bytes, words) in [
        ("a bit of the keys", spoiled(head + 100), "is damaged"),
        ("a bit of the tokens", spoiled(head - 3), "is damaged"),
        ("the digest", spoiled(whole.len() - 1), "is damaged"),
        ("cut off", whole[..whole.len() - 1000].to_vec(), "is damaged"),
        ("cut in the head", whole[..head / 2].to_vec(), "is damaged"),
        ("more behind it", [&whole[..], b"x"].concat(), "is damaged"),
        ("a token that there is not", other_tokens.into_bytes(), "is damaged"),
    ] {
        fs::write(&cache, bytes).unwrap();
        let ended = complete(&model, &cache, &[]);
        assert!(ended.stderr.contains(words) && ended.stderr.contains("will be replaced"), "{what}: {}", ended.stderr);
        assert_eq!(said(ended), (cold.clone(), 0), "{what}");
        assert_eq!(fs::read(&cache).unwrap(), whole, "{what}: it is made anew");
    }
    // Other types, another model.
    let ended = complete(&model, &cache, &["-ctk", "f32"]);
    assert!(ended.stderr.contains("was made with other types of keys and values (f16, f16)"), "{}", ended.stderr);
    let odd = converted("dense-odd", &data("checkpoints/dense-odd"), "f32");
    let ended = complete(&odd, &cache, &[]);
    assert!(ended.stderr.contains("belongs to another model"), "{}", ended.stderr);
    // Other instructions round otherwise. (On a CPU without any there is nothing to tell apart.)
    let mut scalar = qwren(["complete", "-n", "1", "-p", PROMPT, "--prompt-cache"]);
    scalar.arg(&cache).arg("-m").arg(&model).env("QWREN_CPU", "scalar");
    fs::write(&cache, &whole).unwrap();
    let ended = run(scalar, "");
    let told = ended.stderr.contains("was computed otherwise (");
    assert_eq!(told, Level::best() != Level::Scalar, "{}", ended.stderr);
    // What is no cache stays as it is.
    for text in ["my diary", "{\"qwren"] {
        fs::write(&cache, text).unwrap();
        let ended = complete(&model, &cache, &[]);
        assert!(ended.stderr.contains("is no prompt cache; it is not used and stays as it is"), "{}", ended.stderr);
        assert_eq!(said(ended).0, cold);
        assert_eq!(fs::read_to_string(&cache).unwrap(), text);
    }
}

#[test]
fn a_chat_begins_where_the_last_one_ended() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let ask = || {
        let mut command = qwren(["chat", "--temp", "0", "--no-think", "--system", "You know all capitals."]);
        command.arg("--prompt-cache").arg(&cache).arg("-m").arg(converted("demo", &data("demo"), "q8_0"));
        run(command, "What is the capital of France?")
    };
    let (first, second) = (ask(), ask());
    assert_eq!(first.stdout, second.stdout);
    assert!(!first.stderr.contains(" reused") && second.stderr.contains("prompt: 1 token and "), "{}", second.stderr);
}
