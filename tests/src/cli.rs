//! Runs of the programs, as a shell would do them.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// How a run ended, and what it wrote.
#[derive(Debug)]
pub struct Run {
    /// The exit code; None after a signal.
    pub code: Option<i32>,
    /// All of stdout, which must be UTF-8.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Run {
    fn of(output: Output) -> Run {
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts success, and gives stdout.
    ///
    /// # Panics
    /// When the exit code is another than 0.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Asserts an exit code and one line on stderr, nothing on stdout; gives the line.
    ///
    /// # Panics
    /// When it isn't so.
    pub fn error(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.stdout, "");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        self.stderr
    }
}

/// `qwren ARGS…`, not run yet.
pub fn qwren<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(args: I) -> Command {
    let mut command = Command::new(crate::bin("qwren"));
    command.args(args).env_remove("QWREN_CPU");
    command
}

/// Runs a command to its end with `input` on stdin.
///
/// # Panics
/// When it can't be started.
pub fn run(mut command: Command, input: &str) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    // Apart, since the program may answer before it has read everything; it may also end without reading.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("the writer ends");
    Run::of(output)
}

/// A small model with random weights, a tokenizer and a chat template, in f32.
pub fn random_model() -> PathBuf {
    crate::converted("dense-tied", &crate::data("checkpoints/dense-tied"), "f32")
}

/// The same with values that are no numbers.
///
/// # Panics
/// When it can't be written.
pub fn model_of_nans(dir: &Path) -> PathBuf {
    let path = dir.join("nan.gguf");
    let mut bytes = std::fs::read(random_model()).expect("a model");
    // What stands before the tensors is less than half of it.
    let values = bytes.len() / 2;
    bytes[values..].fill(0xff);
    std::fs::write(&path, bytes).expect("a file");
    path
}
