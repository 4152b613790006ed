//! What reading costs in memory: of hostile files and of real ones. One test, since the limit holds for the process.

mod raw;

use qwren_quant::gguf::{Plan, Writer};
use raw::{Raw, outcome, parse, sample};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A small file may make the reader ask for this much and no more.
const ROOM: u64 = 64 << 20;

/// Bytes of address space in use.
fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

/// Runs `work` where an allocation beyond `ROOM` aborts the process, whether it would be touched or not.
fn within_limits<T>(work: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: Some(address_space() + ROOM), maximum: before.maximum }).unwrap();
    let result = work();
    setrlimit(Resource::As, before).unwrap();
    result
}

/// Files of some hundred bytes that promise gigabytes (G1).
fn promises() -> Vec<Vec<u8>> {
    let mut files = vec![Raw::new(u64::MAX, 0).bytes, Raw::new(0, u64::MAX).bytes];
    for count in [1 << 20, 1 << 28, 1 << 32, 1 << 40, 1 << 60, u64::MAX] {
        for element_type in 0..13 {
            let mut raw = Raw::new(0, 1);
            raw.key("k", 9).array(element_type, count).raw(&[0; 64]);
            files.push(raw.bytes);
        }
        let mut raw = Raw::new(0, 1);
        raw.key("k", 8).field(raw::Field::TextLength, count).raw(b"x");
        files.push(raw.bytes);
        let mut raw = Raw::new(1, 0);
        raw.tensor("t", &[count, 1024, 1024], 0, 0).data(32, 64);
        files.push(raw.bytes);
    }
    let raw = sample();
    for &place in &raw.fields {
        files.extend([1 << 24, 1 << 31, 1 << 32, 1 << 62, u64::MAX].map(|n| raw.with(place, n)));
    }
    files
}

/// One megabyte of the records that grow most in memory.
fn bloated() -> Vec<Vec<u8>> {
    let n = 1 << 17;
    let mut texts = Raw::new(0, 1);
    texts.key("k", 9).array(8, n).raw(&vec![0; 8 * n as usize]);
    let mut arrays = Raw::new(0, 1);
    arrays.key("k", 9).array(9, n).raw(&vec![0; 12 * n as usize]);
    let mut keys = Raw::new(0, 60_000);
    for i in 0..60_000 {
        keys.bytes.extend_from_slice(&5u64.to_le_bytes());
        keys.bytes.extend_from_slice(format!("{i:05}").as_bytes());
        keys.bytes.extend_from_slice(&[0, 0, 0, 0, 1]);
    }
    let mut tensors = Raw::new(30_000, 0);
    for i in 0..30_000u64 {
        tensors.tensor(&format!("{i:05}"), &[1], 24, 8 * i);
    }
    [texts, arrays, keys, tensors].map(|raw| raw.bytes).into()
}

/// A file with a vocabulary of Qwen3's size.
fn vocabulary() -> Vec<u8> {
    let tokens: Vec<String> = (0..151_936).map(|i| format!("Ġtoken{i}")).collect();
    let merges: Vec<String> = (0..151_387).map(|i| format!("Ġto ken{i}")).collect();
    let mut plan = Plan::new(32);
    plan.push_kv("general.architecture", "qwen3");
    plan.push_kv("tokenizer.ggml.tokens", tokens);
    plan.push_kv("tokenizer.ggml.token_type", vec![1i32; 151_936]);
    plan.push_kv("tokenizer.ggml.merges", merges);
    Writer::new(Vec::new(), &plan.layout().unwrap()).unwrap().finish().unwrap()
}

#[test]
fn memory_follows_what_was_read() {
    let (small, large, real) = (promises(), bloated(), vocabulary());
    within_limits(|| {
        for file in &small {
            assert!(file.len() < 2048);
            let _ = outcome(file);
        }
        for file in &large {
            let _ = parse(file);
        }
        let header = parse(&real).unwrap();
        assert_eq!(header.strings("tokenizer.ggml.merges").unwrap().unwrap().len(), 151_387);
    });
}
