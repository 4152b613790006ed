//! Chats at a terminal with a home of their own, and what they leave there.
#![allow(dead_code, reason = "each test file uses what it needs")]
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use qwren_tests::cli::{qwren, random_model};
use qwren_tests::pty::Terminal;
use qwren_tests::{converted, data};
use serde_json::Value;
use tempfile::TempDir;

/// A chat with the model of random weights.
pub fn random(flags: &[&str]) -> Command {
    let mut command = qwren(["chat"]);
    command.args(flags).arg("-m").arg(random_model());
    command
}

/// The demo, which answers what it is asked.
pub fn demo_model() -> PathBuf {
    converted("demo", &data("demo"), "q8_0")
}

/// A greedy chat with the demo.
pub fn demo(flags: &[&str]) -> Command {
    let mut command = qwren(["chat", "--temp", "0"]);
    command.args(flags).arg("-m").arg(demo_model());
    command
}

/// A home in a folder that goes away.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Home {
        Home(tempfile::tempdir().expect("a temporary folder"))
    }

    /// `command` with this home.
    pub fn command(&self, mut command: Command) -> Command {
        command
            .env("HOME", self.0.path())
            .env_remove("XDG_STATE_HOME")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY");
        command
    }

    /// `command` with this home, at a terminal.
    pub fn terminal(&self, command: Command, columns: u16) -> Terminal {
        Terminal::start(self.command(command), columns)
    }

    /// A file in it; gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("a new file");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The files of conversations, the oldest first.
    pub fn conversations(&self) -> Vec<PathBuf> {
        let folder = self.0.path().join(".local/state/qwren/conversations");
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files
    }

    /// The records of the latest conversation that is whole lines.
    pub fn records(&self) -> Vec<Value> {
        let path = self.conversations().pop().expect("a conversation");
        let text = fs::read_to_string(path).expect("a conversation");
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    /// Waits until the answer to `message` has begun.
    pub fn wait_for_answer(&self, message: &str) {
        let asked = format!("{}\n", serde_json::json!({ "user": message }));
        let begun = || {
            let text = fs::read_to_string(self.conversations().pop()?).ok()?;
            Some(text.rsplit_once(&asked)?.1.contains("\"answer\""))
        };
        while begun() != Some(true) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// The messages of the latest conversation, those that were taken back too.
    pub fn users(&self) -> Vec<String> {
        self.records().iter().filter_map(|record| record["user"].as_str().map(str::to_owned)).collect()
    }

    /// What the model said in the latest conversation, in a string.
    pub fn said(&self) -> String {
        self.records().iter().filter_map(|record| record["answer"].as_str()).collect()
    }
}
