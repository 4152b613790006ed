//! The process `qwren-gpu`: found, started, spoken to, ended. It may be missing, fail to start, answer nonsense, hang or
//! crash; each of these is a [`Fault`] whose text is one line.
use super::{NEVER, Times};
use qwren_offload::line::{self, MAX_LINE};
use qwren_offload::message::{Refusal, Reply, Request};
use qwren_offload::shared::Shared;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The program's name.
const PROGRAM: &str = "qwren-gpu";
/// An interrupt is noticed after so long.
const GLANCE: Duration = Duration::from_millis(50);
/// A process that ends takes a moment until it can be reaped and its last words are read.
const MOMENT: Duration = Duration::from_millis(300);
/// What is quoted of the last words.
const QUOTED: usize = 300;

/// How much longer than [`patience`] a driver may take to come up.
pub const DRIVER: u32 = 6;
/// How much longer it may take to translate its shaders, which happens when they are first used.
pub const SHADERS: u32 = 60;

/// How long a child may be silent beyond what its work is expected to take: `QWREN_GPU_PATIENCE` in seconds, else 10.
pub fn patience() -> Duration {
    asked_patience().ok().flatten().unwrap_or(Duration::from_secs(10))
}

fn asked_patience() -> Result<Option<Duration>, Fault> {
    let Some(text) = env::var_os("QWREN_GPU_PATIENCE").filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse().ok()).filter(|s| (0.01..=3600.0).contains(s));
    seconds.map(|s| Some(Duration::from_secs_f64(s))).ok_or_else(|| Fault::Patience(text.display().to_string()))
}

/// Why layers aren't computed in a child.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It isn't installed.
    #[error("{PROGRAM} is not installed: it is neither beside qwren nor on the PATH")]
    NoProgram,
    /// It is there and can't be run.
    #[error("{path} can't be started: {source}")]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended.
    #[error("{PROGRAM} ended unexpectedly ({0})")]
    Gone(String),
    /// It doesn't answer.
    #[error("{PROGRAM} did not answer within {} s", .0.as_secs_f32().ceil())]
    Silent(Duration),
    /// The user's patience is no number of seconds.
    #[error("QWREN_GPU_PATIENCE={0}: give seconds from 0.01 to 3600")]
    Patience(String),
    /// It says what can't be understood.
    #[error("{PROGRAM} is of another version than qwren; install both from one release")]
    Alien,
    /// It says why it can't.
    #[error("{0}")]
    Refused(Refusal),
    /// Its results are far from the processor's.
    #[error("{device} computes wrong numbers ({part}, {n} at once: off by {off:.0} %)")]
    Wrong {
        /// The device.
        device: String,
        /// Which layer, or the output.
        part: String,
        /// Tokens.
        n: usize,
        /// How far, in per cent of what the layer adds, or of the logits.
        off: f64,
    },
    /// Other experts are better, by the processor's scores.
    #[error("{device} chooses wrong experts (layer {layer}, {n} at once)")]
    Choice {
        /// The device.
        device: String,
        /// The layer.
        layer: usize,
        /// Tokens.
        n: usize,
    },
    /// What it says of its choice can't be.
    #[error("{0} chooses experts that there aren't, or one twice")]
    Experts(String),
    /// Its results are no numbers.
    #[error("{0} gave results that are no numbers")]
    Nan(String),
    /// The device is no help.
    #[error("{device} takes {:.1?} for a token in {part}, the processor {:.1?}", .times.there, .times.here)]
    Slower {
        /// The device.
        device: String,
        /// What it would have computed.
        part: String,
        /// How long that takes.
        times: Times,
    },
    /// Not one layer fits.
    #[error("{0} has no room for a layer")]
    Room(String),
    /// The processor's results could not be had.
    #[error("{0}")]
    Here(String),
    /// The system refuses memory or pipes.
    #[error("{PROGRAM}: {0}")]
    Io(#[from] io::Error),
}

/// A running child.
pub struct Child {
    process: std::process::Child,
    input: ChildStdin,
    output: ChildStdout,
    /// What was read of the next reply.
    line: Vec<u8>,
    /// The last line that it wrote on stderr.
    last_words: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
    /// Activations.
    pub shared: Shared,
}

/// Finds the program: `$QWREN_GPU`, beside this one, on the PATH; one that can be run before one that can't.
fn find() -> Option<PathBuf> {
    if let Some(path) = env::var_os("QWREN_GPU").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let beside = env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let on_path = env::var_os("PATH").unwrap_or_default();
    // No entry means no folder here, not the current one.
    let on_path = env::split_paths(&on_path).filter(|dir| !dir.as_os_str().is_empty()).map(|dir| dir.join(PROGRAM));
    let found: Vec<PathBuf> = beside.into_iter().chain(on_path).filter(|path| path.is_file()).collect();
    let runs = |path: &&PathBuf| path.metadata().is_ok_and(|file| file.permissions().mode() & 0o111 != 0);
    found.iter().find(runs).or(found.first()).cloned()
}

impl Child {
    /// Starts the program, gives it `files` and room for `floats` activations, and waits for its greeting. Called from a
    /// thread that lives as long as the child is needed: the system ends the child with it.
    ///
    /// # Errors
    /// As [`Fault`] says.
    pub fn start(files: &[&File], floats: usize) -> Result<Child, Fault> {
        asked_patience()?;
        let path = find().ok_or(Fault::NoProgram)?;
        let mut child = Child::spawn(&path, files, floats)?;
        match child.receive(patience() * DRIVER, &NEVER)? {
            Some(Reply::Hello { version: qwren_offload::VERSION }) => Ok(child),
            _ => Err(Fault::Alien),
        }
    }

    fn spawn(path: &Path, files: &[&File], floats: usize) -> Result<Child, Fault> {
        let shared = Shared::create(floats)?;
        // Duplicates are inherited, unlike the originals, and last until the child has its own.
        let mut inherited = vec![rustix::io::dup(shared.file()).map_err(io::Error::from)?];
        for file in files {
            inherited.push(rustix::io::dup(file).map_err(io::Error::from)?);
        }
        let mut command = Command::new(path);
        command.arg("serve").args(inherited.iter().map(|fd| fd.as_raw_fd().to_string()));
        // Else ggml runs a debugger on itself when it gives up.
        command.env("GGML_NO_BACKTRACE", "1");
        // A Ctrl-C at the terminal is for us.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(|source| Fault::Start { path: path.to_owned(), source })?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(input), Some(output), Some(stderr)) = pipes else { return Err(io::Error::other("no pipes").into()) };
        let last_words = Arc::new(Mutex::new(String::new()));
        let words = Arc::clone(&last_words);
        let reader = thread::Builder::new().name("qwren-gpu's stderr".into()).spawn(move || listen(stderr, &words))?;
        Ok(Child { process, input, output, line: Vec::new(), last_words, reader, shared })
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// As [`Fault`] says; the child is of no more use.
    pub fn ask(&mut self, request: &Request, limit: Duration) -> Result<Reply, Fault> {
        self.send(request)?;
        self.receive(limit, &NEVER)?.ok_or(Fault::Silent(limit))
    }

    /// Sends a request. One that was answered has left room for it in the pipe.
    ///
    /// # Errors
    /// As [`Fault`] says.
    pub fn send(&mut self, request: &Request) -> Result<(), Fault> {
        line::write(&mut self.input, request).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => self.gone(),
            _ => e.into(),
        })
    }

    /// Waits for a reply; None when `stop` was set meanwhile, and the reply is still to come.
    ///
    /// # Errors
    /// As [`Fault`] says.
    pub fn receive(&mut self, limit: Duration, stop: &AtomicBool) -> Result<Option<Reply>, Fault> {
        let end = Instant::now() + limit;
        loop {
            if stop.load(Relaxed) {
                return Ok(None);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::Silent(limit));
            }
            let wait = left.min(GLANCE);
            let wait = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as _ };
            match poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(e) => return Err(io::Error::from(e).into()),
            }
            let mut piece = [0; 4096];
            let n = self.output.read(&mut piece)?;
            if n == 0 {
                return Err(self.gone());
            }
            self.line.extend_from_slice(&piece[..n]);
            if self.line.ends_with(b"\n") {
                let reply = line::parse(&self.line).map_err(|_| Fault::Alien)?;
                self.line.clear();
                return Ok(Some(reply));
            }
            if self.line.len() > MAX_LINE {
                return Err(Fault::Alien);
            }
        }
    }

    /// How it ended, in one line.
    fn gone(&mut self) -> Fault {
        let end = Instant::now() + MOMENT;
        let mut status = None;
        while status.is_none() && Instant::now() < end {
            status = self.process.try_wait().ok().flatten();
            thread::sleep(Duration::from_millis(5));
        }
        while !self.reader.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        let how = status.map_or_else(|| "its pipe closed".to_owned(), in_words);
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        Fault::Gone(if words.is_empty() { how } else { format!("{how}: {words}") })
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no reason known".to_owned(),
    }
}

/// Keeps the last line of `stderr` that isn't empty.
fn listen(stderr: ChildStderr, last: &Mutex<String>) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while matches!((&mut stderr).take(MAX_LINE as u64).read_until(b'\n', &mut line), Ok(n) if n > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if !text.is_empty() {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = text.chars().take(QUOTED).collect();
        }
        line.clear();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        // One that is stuck in its driver can't be reaped; nobody waits for it.
        let end = Instant::now() + MOMENT;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(dir: &Path, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn first_reply(text: &str, limit: Duration) -> Result<Option<Reply>, Fault> {
        let dir = tempfile::tempdir().unwrap();
        Child::spawn(&program(dir.path(), text), &[], 4).and_then(|mut child| child.receive(limit, &NEVER))
    }

    #[test]
    fn whatever_a_program_does_is_told_in_one_line() {
        let long = Duration::from_secs(20);
        let hello = first_reply(r#"echo '{"Hello":{"version":7}}'"#, long);
        assert!(matches!(hello, Ok(Some(Reply::Hello { version: 7 }))), "{hello:?}");
        let text = |script| first_reply(script, long).unwrap_err().to_string();
        assert_eq!(
            text("echo 'no\tlibrary' >&2; echo >&2; exit 127"),
            "qwren-gpu ended unexpectedly (exit code 127: no\tlibrary)"
        );
        assert_eq!(text("kill -9 $$"), "qwren-gpu ended unexpectedly (signal 9)");
        assert!(matches!(first_reply("echo nonsense", long), Err(Fault::Alien)));
        assert!(matches!(first_reply("head -c 70000 /dev/zero", long), Err(Fault::Alien)));
        let silent = first_reply("sleep 100", Duration::from_millis(60));
        assert!(matches!(silent, Err(Fault::Silent(_))), "{silent:?}");
        let nowhere = Child::spawn(Path::new("/nowhere/program"), &[], 4).err().unwrap().to_string();
        assert!(nowhere.starts_with("/nowhere/program can't be started: "), "{nowhere}");
    }

    #[test]
    fn a_child_is_told_of_the_memory_and_the_files_that_it_inherits() {
        let file = tempfile::tempfile().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let script = "[ -e /proc/self/fd/$2 ] && [ -e /proc/self/fd/$3 ] && echo \"{\\\"Hello\\\":{\\\"version\\\":$#}}\"; read line";
        let mut child = Child::spawn(&program(dir.path(), script), &[&file], 4).unwrap();
        let reply = child.receive(Duration::from_secs(20), &NEVER).unwrap();
        assert_eq!(reply, Some(Reply::Hello { version: 3 }));
    }

    #[test]
    fn an_interrupt_ends_the_waiting_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = program(dir.path(), r#"read line; echo '"Done"'; read line"#);
        let mut child = Child::spawn(&path, &[], 4).unwrap();
        assert_eq!(child.receive(Duration::from_secs(20), &AtomicBool::new(true)).unwrap(), None);
        assert_eq!(child.ask(&Request::Prepare, Duration::from_secs(20)).unwrap(), Reply::Done);
    }
}
