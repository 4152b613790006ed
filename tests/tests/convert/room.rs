//! Outputs for which there is no room or no permission.

use std::fs;
use std::process::Command;

use qwren_tests::bin;
use rustix::process::{Resource, Rlimit, prlimit};

use crate::running::{CHEAP, Running, TENSORS, clear, long_sample, report, results, tensors_in};
use crate::support::{Sample, assert_one_line, convert, text};

/// Runs the program under a shell command that ends in `exec "$0" "$@"`.
fn under(shell: &str, sample: &Sample, args: &[&str]) -> std::process::Output {
    let mut command = Command::new("sh");
    command.args(["-c", shell]).arg(bin("qwren-convert")).arg(sample.dir()).arg("-o").arg(sample.out()).args(args);
    command.output().expect("a shell")
}

#[test]
fn a_limit_of_file_sizes_is_told_and_splits_respect_it() {
    let sample = long_sample();
    // In blocks of 512 or 1024 bytes, as the shell has it.
    let output = under("ulimit -f 1000; exec \"$0\" \"$@\"", &sample, &[]);
    assert_one_line(&output, 4, &["x.gguf: needs ", "no file may be so large here (ulimit -f: ", "--split-max-size"]);
    assert_eq!(sample.left(), [""; 0]);
    let output =
        under("ulimit -f 1000; exec \"$0\" \"$@\"", &sample, &[&CHEAP[..], &["--split-max-size", "500K"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_file_that_cannot_grow_further_is_continued_later() {
    let sample = long_sample();
    sample.converts(&CHEAP);
    let good = results(&sample);
    clear(&sample);
    let running = Running::stopped_in_the_middle(&sample, &CHEAP);
    let so_far = fs::metadata(sample.out().with_extension("gguf.partial")).unwrap().len() / 2;
    prlimit(Some(running.pid()), Resource::Fsize, Rlimit { current: Some(so_far), maximum: None }).unwrap();
    let output = running.goes_on(None);
    let done = tensors_in(&sample.out().with_extension("gguf.partial.journal"));
    assert!((3..TENSORS).contains(&done));
    assert_one_line(&output, 4, &[&format!("; {done} of {TENSORS} tensors are done, and the same command continues")]);
    assert_eq!(report(&sample, &CHEAP)["resumed_tensors"], done);
    assert!(results(&sample) == good);
}

#[test]
fn a_small_file_system_is_told_with_both_numbers() {
    let sample = long_sample();
    let size = report(&sample, &[&CHEAP[..], &["--dry-run"]].concat())["bytes"].as_u64().unwrap();
    let folder = sample.out().parent().unwrap().to_str().unwrap().to_owned();
    let mount = |bytes: u64, rest: &str| {
        format!("mount -t tmpfs -o size={bytes} none '{folder}' 2>/dev/null || exit 99; {rest}")
    };
    let inside = |shell: &str, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", shell]).arg(bin("qwren-convert")).arg(sample.dir()).arg("-o").arg(sample.out());
        command.args(CHEAP).args(args).output()
    };
    let output = match inside(&mount(size / 2, "exec \"$0\" \"$@\""), &[]) {
        Ok(output) if output.status.code() != Some(99) && !text(&output.stderr).contains("unshare") => output,
        _ => return eprintln!("skipped: mounting is not permitted here"),
    };
    assert_one_line(&output, 4, &[&format!("x.gguf: needs {size} bytes, "), " are free; make room"]);
    // Large enough for one output, not for two: what a killed run has taken is counted.
    let twice = "\"$0\" \"$@\" -t 1 >/dev/null 2>&1 & id=$!
        while ! grep -q tensor '{}' 2>/dev/null; do sleep 0.01; done
        kill -9 $id; wait $id; exec \"$0\" \"$@\"";
    let twice = twice.replace("{}", &format!("{folder}/x.gguf.partial.journal"));
    let output = inside(&mount(size + size / 2, &twice), &["--json"]).unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("\"resumed_tensors\":0,"), "{}", text(&output.stdout));
}

#[test]
fn outputs_that_may_not_be_written() {
    let sample = Sample::dense();
    // Nobody, root included, makes files there.
    let output = convert(&sample.dir(), &["-o", "/sys/x.gguf"]);
    assert_one_line(&output, 2, &["/sys/x.gguf: cannot be written: "]);
    let pipe = sample.out();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_one_line(&sample.run(&["--force"]), 2, &["x.gguf: is not a regular file"]);
    fs::rename(&pipe, sample.out().with_extension("gguf.partial")).unwrap();
    assert_one_line(&sample.run(&[]), 2, &["x.gguf.partial: is not a regular file"]);
    fs::remove_file(sample.out().with_extension("gguf.partial")).unwrap();
    fs::create_dir(sample.out().with_extension("gguf.partial.journal")).unwrap();
    assert_one_line(&sample.run(&[]), 2, &["x.gguf.partial.journal: is not a regular file"]);
}
