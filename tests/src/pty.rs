//! A pseudo-terminal as a person has it: keys go in, a screen comes out.
use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rexpect::process::{PtyProcess, Signal, WaitStatus};
use rustix::termios::{Termios, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};

/// Longest wait for something on the screen. A machine may run many tests at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the program wrote.
struct Output {
    screen: vt100::Parser,
    /// All bytes.
    raw: Vec<u8>,
    ended: bool,
}

/// A program at a terminal of its own. Dropped, it is killed.
pub struct Terminal {
    process: PtyProcess,
    keys: File,
    output: Arc<(Mutex<Output>, Condvar)>,
    /// How much of the output [`Terminal::wait`] has seen.
    seen: usize,
}

impl Terminal {
    /// Starts `command` at a terminal of 24 lines of `columns` characters.
    ///
    /// # Panics
    /// When there is no terminal.
    pub fn start(command: Command, columns: u16) -> Terminal {
        Terminal::start_as(command, columns, "xterm-256color")
    }

    /// As [`Terminal::start`], at a terminal that calls itself `term`.
    ///
    /// # Panics
    /// When there is no terminal.
    pub fn start_as(mut command: Command, columns: u16, term: &str) -> Terminal {
        command.env("TERM", term);
        // The tests' own terminal has no say.
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            if !command.get_envs().any(|(set, _)| set == name) {
                command.env_remove(name);
            }
        }
        let mut process = PtyProcess::new(command).expect("a terminal");
        process.set_kill_timeout(Some(1000));
        let keys = process.get_file_handle().expect("its other end");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&keys, size).expect("a size");
        let screen = vt100::Parser::new(24, columns, 0);
        let output = Arc::new((Mutex::new(Output { screen, raw: Vec::new(), ended: false }), Condvar::new()));
        let (mut from, to) = (process.get_file_handle().expect("its other end"), Arc::clone(&output));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            let mut noise = Noise::default();
            loop {
                // After the program's end reading fails.
                let n = from.read(&mut bytes).unwrap_or(0);
                let text = noise.remove(&bytes[..n]);
                let mut output = to.0.lock().expect("no panic");
                output.screen.process(&text);
                output.raw.extend(&text);
                output.ended = n == 0;
                to.1.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        Terminal { process, keys, output, seen: 0 }
    }

    /// The modes that a terminal has before any program changes them.
    ///
    /// # Panics
    /// When there is no terminal.
    pub fn new_modes() -> Termios {
        let process = PtyProcess::new(Command::new("true")).expect("a terminal");
        // The new process itself turns the echo off, as for every one of these terminals.
        let _ = process.wait();
        tcgetattr(process.get_file_handle().expect("its other end")).expect("a terminal")
    }

    /// Presses keys.
    pub fn keys(&mut self, keys: &str) {
        // A program that has ended takes none, and is waited for elsewhere.
        let _ = self.keys.write_all(keys.as_bytes());
    }

    /// Types a line and presses Enter.
    pub fn line(&mut self, text: &str) {
        self.keys(&format!("{text}\r"));
    }

    /// Waits until `text` was written after what was waited for before; escape sequences don't count. Gives everything up to
    /// and with it.
    ///
    /// # Panics
    /// When it doesn't come.
    pub fn wait(&mut self, text: &str) -> String {
        let start = Instant::now();
        let mut output = self.output.0.lock().expect("no panic");
        loop {
            let (plain, places) = plain(&output.raw[self.seen..]);
            if let Some(at) = plain.find(text) {
                let end = at + text.len();
                self.seen += places[end - 1] + 1;
                return plain[..end].to_owned();
            }
            assert!(
                !output.ended && start.elapsed() < PATIENCE,
                "{text:?} is not in {plain:?}\n{}",
                output.screen.screen().contents()
            );
            drop(self.output.1.wait_timeout(output, Duration::from_millis(200)).expect("no panic"));
            // What comes in the next moment is looked at together: each look at a long answer takes a while, and meanwhile the
            // program can't write.
            thread::sleep(Duration::from_millis(5));
            output = self.output.0.lock().expect("no panic");
        }
    }

    /// Waits until the screen as a whole is as `is_so` wants it; gives its lines.
    ///
    /// # Panics
    /// When it doesn't become so.
    pub fn wait_screen(&self, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        let start = Instant::now();
        let mut output = self.output.0.lock().expect("no panic");
        loop {
            let lines = lines(&output.screen);
            if is_so(&lines) {
                return lines;
            }
            assert!(!output.ended && start.elapsed() < PATIENCE, "{}", lines.join("\n"));
            output = self.output.1.wait_timeout(output, Duration::from_millis(200)).expect("no panic").0;
        }
    }

    /// The screen's lines, without white space at their ends and without the empty ones at its foot.
    ///
    /// # Panics
    /// Never.
    pub fn screen(&self) -> Vec<String> {
        lines(&self.output.0.lock().expect("no panic").screen)
    }

    /// Row and column of the cursor, from 0.
    ///
    /// # Panics
    /// Never.
    pub fn cursor(&self) -> (u16, u16) {
        self.output.0.lock().expect("no panic").screen.screen().cursor_position()
    }

    /// Everything that was written, as it was.
    ///
    /// # Panics
    /// Never.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.output.0.lock().expect("no panic").raw).into_owned()
    }

    /// Everything that was written after the first `mark`, once the program has ended.
    ///
    /// # Panics
    /// When it goes on, or never wrote that.
    pub fn output_after(&self, mark: &str) -> String {
        let start = Instant::now();
        let mut output = self.output.0.lock().expect("no panic");
        while !output.ended {
            assert!(start.elapsed() < PATIENCE, "the program goes on");
            output = self.output.1.wait_timeout(output, Duration::from_millis(200)).expect("no panic").0;
        }
        let raw = String::from_utf8_lossy(&output.raw);
        raw.split_once(mark).unwrap_or_else(|| panic!("{mark:?} is not in {raw:?}")).1.to_owned()
    }

    /// The process that has the terminal.
    ///
    /// # Panics
    /// When none has it any more.
    pub fn pid(&self) -> i32 {
        tcgetpgrp(&self.keys).expect("a process").as_raw_nonzero().get()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal).expect("a process");
    }

    /// The file of the terminal, to look at its modes.
    pub fn file(&self) -> &File {
        &self.keys
    }

    /// Presses Ctrl-D until the program ends; what is pressed while an answer streams is lost.
    ///
    /// # Panics
    /// When it doesn't end.
    pub fn leave(mut self) -> i32 {
        while !self.output.0.lock().expect("no panic").ended {
            self.keys("\x04");
            thread::sleep(Duration::from_millis(50));
        }
        self.end()
    }

    /// Waits for the end and gives the exit code, or the signal's number below zero.
    ///
    /// # Panics
    /// When it doesn't end.
    pub fn end(self) -> i32 {
        let start = Instant::now();
        loop {
            match self.process.status() {
                Some(WaitStatus::Exited(_, code)) => return code,
                Some(WaitStatus::Signaled(_, signal, _)) => return -(signal as i32),
                _ => assert!(start.elapsed() < PATIENCE, "the program goes on\n{}", self.screen().join("\n")),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A debug build of ggml talks about its buffers on stderr, which no test wants to see.
#[derive(Default)]
struct Noise {
    held: Vec<u8>,
}

impl Noise {
    const MARK: &[u8] = b"ggml_gallocr_";

    /// `bytes` without lines of noise; one that is not whole is held back.
    fn remove(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend(bytes);
        let mut out = Vec::new();
        while let Some(at) = self.held.windows(Self::MARK.len()).position(|w| w == Self::MARK) {
            out.extend(self.held.drain(..at));
            let Some(end) = self.held.iter().position(|&b| b == b'\n') else { return out };
            self.held.drain(..=end);
        }
        out.append(&mut self.held);
        out
    }
}

fn lines(screen: &vt100::Parser) -> Vec<String> {
    let mut lines: Vec<String> = screen.screen().rows(0, u16::MAX).map(|row| row.trim_end().to_owned()).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// The text without escape sequences and carriage returns, and for each of its bytes the place in `raw`.
fn plain(raw: &[u8]) -> (String, Vec<usize>) {
    let (mut out, mut places) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < raw.len() {
        match (raw[i], raw.get(i + 1)) {
            // CSI: to its final byte.
            (0x1b, Some(b'[')) => {
                i += 2;
                while i < raw.len() && !(0x40..=0x7e).contains(&raw[i]) {
                    i += 1;
                }
            }
            // OSC: to the bell.
            (0x1b, Some(b']')) => {
                while i < raw.len() && raw[i] != 0x07 {
                    i += 1;
                }
            }
            (0x1b | b'\r', _) => {}
            (byte, _) => {
                out.push(byte);
                places.push(i);
            }
        }
        i += 1;
    }
    // The end may be half a character.
    let valid = match std::str::from_utf8(&out) {
        Ok(_) => out.len(),
        Err(err) => err.valid_up_to(),
    };
    out.truncate(valid);
    places.truncate(valid);
    (String::from_utf8(out).expect("it was cut at a character"), places)
}
