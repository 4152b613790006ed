//! A conversion in the middle of its work.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use qwren_tests::bin;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Sample, text};

/// A checkpoint of many tensors, which takes long enough on one thread to be met in the middle.
pub fn long_sample() -> Sample {
    layers(LAYERS)
}

/// A checkpoint of many small tensors.
pub fn layers(layers: usize) -> Sample {
    Sample::new(json!({"num_hidden_layers": layers, "head_dim": 32}), 3)
}

/// A type that costs little to make, for tests of what is the same for every type: a search for scales would take nearly all
/// of their time, minutes of it on an emulated CPU.
pub const CHEAP: [&str; 2] = ["--type", "q8_0"];

const LAYERS: usize = 32;
/// Tensors of the long sample.
pub const TENSORS: usize = 3 + LAYERS * 11;

/// A running converter. Dropped, it is killed.
pub struct Running {
    child: Option<Child>,
    journal: PathBuf,
}

impl Running {
    /// Starts the program on a sample, on one thread.
    pub fn start(sample: &Sample, args: &[&str]) -> Running {
        // As a terminal's shell leaves them, whatever runs this test.
        Running::with_signals("--default-signal", sample, args)
    }

    /// The same; the option of `env` says what signals do.
    pub fn with_signals(option: &str, sample: &Sample, args: &[&str]) -> Running {
        let child = Command::new("env")
            .arg(option)
            .arg(bin("qwren-convert"))
            .arg(sample.dir())
            .arg("-o")
            .arg(sample.out())
            .args(["-t", "1"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("qwren-convert starts");
        Running { child: Some(child), journal: sample.out().with_extension("gguf.partial.journal") }
    }

    /// Starts it, and stops it (SIGSTOP) as soon as some tensors are done.
    pub fn stopped_in_the_middle(sample: &Sample, args: &[&str]) -> Running {
        Running::start(sample, args).stop_in_the_middle()
    }

    /// Stops it as soon as some tensors are done.
    pub fn stop_in_the_middle(mut self) -> Running {
        while tensors_in(&self.journal) < 3 {
            assert!(!self.has_ended(), "it can't be met in the middle");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.signal(Signal::STOP);
        self
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("a child"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a process");
    }

    /// Lets it go on, after a signal if one is given, and waits for its end.
    pub fn goes_on(mut self, signal: Option<Signal>) -> Output {
        signal.into_iter().for_each(|s| self.signal(s));
        self.signal(Signal::CONT);
        self.child.take().expect("a child").wait_with_output().expect("an end")
    }

    /// Has it ended by itself?
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| c.try_wait().expect("a state").is_some())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Tensors of which a journal tells.
pub fn tensors_in(journal: &std::path::Path) -> usize {
    fs::read_to_string(journal).map_or(0, |text| text.matches("\"tensor\"").count())
}

/// Runs the program to its end, and returns its JSON report.
pub fn report(sample: &Sample, args: &[&str]) -> Value {
    let output = sample.run(&[&["--json"], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// All files in the output folder: names and contents.
pub fn everything(sample: &Sample) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| {
        let bytes = fs::read(sample.out().with_file_name(&name)).expect("a file");
        (name, bytes)
    };
    sample.left().into_iter().map(read).collect()
}

/// All that a conversion into one file leaves: file, manifest, checksum.
pub fn results(sample: &Sample) -> Vec<Vec<u8>> {
    assert_eq!(sample.left(), ["x.gguf", "x.gguf.json", "x.gguf.sha256"]);
    everything(sample).into_iter().map(|(_, bytes)| bytes).collect()
}

/// Removes all outputs.
pub fn clear(sample: &Sample) {
    for name in sample.left() {
        fs::remove_file(sample.out().with_file_name(name)).expect("a file");
    }
}
