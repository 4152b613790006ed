//! What was typed in earlier runs: a file with a JSON string a line, which several programs may append to.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::chat::store::{appending, make_folder};

/// Entries that are brought back.
const MAX_LINES: usize = 1000;
/// Bytes at the end of the file that are looked at for them.
const MAX_BYTES: u64 = 4 << 20;
/// A file that has grown beyond this is cut down to what is brought back.
const MAX_FILE: u64 = 2 * MAX_BYTES;

/// Earlier lines, and the file that the next ones go to.
pub struct Past {
    lines: Vec<String>,
    file: Option<File>,
}

impl Past {
    /// Reads the file and opens it for more. A history is a comfort: where it can't be had there is none.
    pub fn open(path: Option<&Path>) -> Past {
        path.and_then(|path| Past::read(path).ok()).unwrap_or(Past { lines: Vec::new(), file: None })
    }

    fn read(path: &Path) -> std::io::Result<Past> {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let mut file = appending().read(true).open(path)?;
        let length = file.metadata()?.len();
        let lines = last_lines(&mut file, length)?;
        if ends_in_a_line(&mut file, length)? {
            file.write_all(b"\n")?;
        }
        if length > MAX_FILE {
            let mut kept = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
            lines.iter().try_for_each(|line| kept.write_all(&encoded(line)))?;
            kept.persist(path).map_err(|err| err.error)?;
            file = appending().open(path)?;
        }
        Ok(Past { lines, file: Some(file) })
    }

    /// The earlier lines, the oldest first.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Keeps a line.
    pub fn add(&mut self, line: &str) {
        // As above: a full disk takes no message from anybody.
        if let Some(file) = &mut self.file
            && file.write_all(&encoded(line)).is_err()
        {
            self.file = None;
        }
    }
}

fn encoded(line: &str) -> Vec<u8> {
    format!("{}\n", serde_json::Value::from(line)).into_bytes()
}

/// Whether the last line was torn by a power cut.
fn ends_in_a_line(file: &mut File, length: u64) -> std::io::Result<bool> {
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
    }
    Ok(last != [b'\n'])
}

/// The last entries of a file of `length` bytes. What is no entry is passed over.
fn last_lines(file: &mut File, length: u64) -> std::io::Result<Vec<String>> {
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let mut lines = VecDeque::new();
    for line in bytes.split(|&b| b == b'\n') {
        if let Ok(text) = serde_json::from_slice::<String>(line) {
            lines.push_back(text);
            if lines.len() > MAX_LINES {
                lines.pop_front();
            }
        }
    }
    Ok(lines.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_and_rubbish_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/history");
        let mut past = Past::open(Some(&path));
        past.add("one");
        past.add("two\nlines é");
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\xff\0[3]\n{}\n\"torn").unwrap();
        let again = Past::open(Some(&path));
        assert_eq!(again.lines(), ["one", "two\nlines é"]);
        let mut again = again;
        again.add("three");
        assert_eq!(Past::open(Some(&path)).lines().last().unwrap(), "three", "a torn line takes no other with it");
        assert!(Past::open(None).lines().is_empty());
        assert!(Past::open(Some(Path::new("/proc/no/such"))).lines().is_empty());
    }

    #[test]
    fn a_large_file_is_cut_down() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let long = "x".repeat(9000);
        let all: String = (0..1500).map(|i| format!("\"{i} {long}\"\n")).collect();
        std::fs::write(&path, all).unwrap();
        let mut past = Past::open(Some(&path));
        let kept = past.lines().len();
        assert!((400..=MAX_LINES).contains(&kept), "{kept}");
        past.add("last");
        assert!(std::fs::metadata(&path).unwrap().len() <= MAX_FILE);
        let again = Past::open(Some(&path));
        assert_eq!((again.lines().len(), again.lines().last().unwrap().as_str()), (kept + 1, "last"));
    }
}
