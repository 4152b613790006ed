//! Outputs in several files.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use qwren_quant::gguf::{GgufFile, Value};
use qwren_tests::bin;
use rustix::process::Signal;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::running::{CHEAP, Running, clear, everything, long_sample, report};
use crate::support::{Sample, assert_one_line, text};

fn parts(sample: &Sample) -> Vec<PathBuf> {
    let names = sample.left().into_iter().filter(|name| name.ends_with(".gguf"));
    names.map(|name| sample.out().with_file_name(name)).collect()
}

fn converts(sample: &Sample, args: &[&str]) -> String {
    let output = sample.run(args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn verify(path: &std::path::Path) -> (Option<i32>, String, String) {
    let output = Command::new(bin("qwren")).arg("verify").arg(path).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn parts_hold_together_what_one_file_holds() {
    let sample = long_sample();
    sample.converts(&CHEAP);
    let whole = GgufFile::open(&sample.out()).unwrap();
    clear(&sample);
    for (args, most) in [(["--split-max-size", "1300K"], 1_300_000), (["--split-max-tensors", "20"], u64::MAX)] {
        let sums = converts(&sample, &[CHEAP, args].concat());
        let parts = parts(&sample);
        assert!(parts.len() > 3, "{parts:?}");
        for (i, part) in parts.iter().enumerate() {
            let name = format!("x-{:05}-of-{:05}.gguf", i + 1, parts.len());
            assert_eq!(part.file_name().unwrap().to_str(), Some(name.as_str()));
            let bytes = fs::read(part).unwrap();
            assert!(bytes.len() as u64 <= most, "{name} has {} bytes", bytes.len());
            let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(sums.lines().nth(i), Some(format!("{hash}  {name}").as_str()));
        }
        let file = GgufFile::open(parts.last().unwrap()).unwrap();
        let header = file.header();
        assert_eq!(header.get("split.no"), Some(&Value::U16(0)));
        assert_eq!(header.get("split.count"), Some(&Value::U16(parts.len() as u16)));
        assert_eq!(header.get("split.tensors.count"), Some(&Value::I32(whole.header().tensors().len() as i32)));
        assert_eq!(header.metadata().len(), whole.header().metadata().len() + 3);
        for (key, value) in whole.header().metadata() {
            assert_eq!(header.get(key), Some(value), "{key}");
        }
        assert_eq!(header.tensors().len(), whole.header().tensors().len());
        for (t, w) in header.tensors().iter().zip(whole.header().tensors()) {
            assert_eq!((&t.name, &t.shape, t.dtype), (&w.name, &w.shape, w.dtype));
            assert!(file.data(t) == whole.data(w), "{}", t.name);
        }
        let beside = format!("x-00001-of-{:05}.gguf", parts.len());
        let mut left: Vec<String> = parts.iter().map(|p| p.file_name().unwrap().to_str().unwrap().into()).collect();
        left.extend([format!("{beside}.json"), format!("{beside}.sha256")]);
        left.sort();
        assert_eq!(sample.left(), left);
        let manifest: Json = serde_json::from_slice(&fs::read(parts[0].with_extension("gguf.json")).unwrap()).unwrap();
        assert_eq!(manifest["files"].as_array().unwrap().len(), parts.len());

        for part in [&parts[0], &parts[2]] {
            let (code, stdout, stderr) = verify(part);
            assert_eq!(code, Some(0), "{stderr}");
            assert_eq!(stdout.matches("as the file beside it says").count(), parts.len(), "{stdout}");
        }
        let mut bytes = fs::read(&parts[2]).unwrap();
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
        fs::write(&parts[2], bytes).unwrap();
        let (code, stdout, stderr) = verify(&parts[0]);
        let last = header.tensors().iter().rfind(|t| t.part == 2).unwrap();
        assert_eq!(code, Some(2), "{stdout}");
        assert!(
            stderr.contains(&format!("x-00003-of-{:05}.gguf: is damaged in tensor '{}'", parts.len(), last.name)),
            "{stderr}"
        );
        clear(&sample);
    }
}

#[test]
fn what_fits_into_one_file_is_one_file() {
    let sample = Sample::dense();
    sample.converts(&["--split-max-size", "2G"]);
    assert!(GgufFile::open(&sample.out()).unwrap().header().get("split.count").is_none());
    let output = sample.run(&["--split-max-size", "60K", "--force"]);
    let stderr = text(&output.stderr);
    assert!(
        output.status.success() && stderr.contains("is larger than 60000 bytes: tensors are not divided"),
        "{stderr}"
    );
}

#[test]
fn parts_are_continued_refused_and_replaced() {
    let sample = long_sample();
    let split = [&CHEAP[..], &["--split-max-tensors", "50"]].concat();
    converts(&sample, &split);
    let good = everything(&sample);
    assert_eq!(good.len(), 8 + 2);
    assert_one_line(&sample.run(&split), 2, &["x-00001-of-00008.gguf: exists already; use --force"]);
    fs::remove_file(sample.out().with_file_name("x-00001-of-00008.gguf")).unwrap();
    assert_one_line(&sample.run(&split), 2, &["x-00002-of-00008.gguf: exists already; use --force"]);
    converts(&sample, &[&split[..], &["--force"]].concat());
    assert!(everything(&sample) == good);
    clear(&sample);

    let output = Running::stopped_in_the_middle(&sample, &split).goes_on(Some(Signal::INT));
    assert_one_line(&output, 130, &["the same command continues"]);
    assert!(parts(&sample).is_empty());
    assert!(report(&sample, &split)["resumed_tensors"].as_u64().unwrap() >= 3);
    assert!(everything(&sample) == good);
}

#[test]
fn a_plan_of_parts_is_shown() {
    let sample = long_sample();
    let plan = report(&sample, &["--dry-run", "--split-max-size", "1M"]);
    let files = plan["files"].as_array().unwrap();
    assert!(files.len() > 1 && files.iter().all(|f| f["bytes"].as_u64().unwrap() <= 1_000_000));
    assert_eq!(plan["bytes"], files.iter().map(|f| f["bytes"].as_u64().unwrap()).sum::<u64>());
    let output = sample.run(&["--dry-run", "--split-max-size", "1M"]);
    let name = format!("x-00001-of-{:05}.gguf", files.len());
    assert!(text(&output.stdout).contains(&name), "{}", text(&output.stdout));
    assert!(sample.left().is_empty());
}
