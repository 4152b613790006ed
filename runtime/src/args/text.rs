//! Text that a command works on: given, from a file, or from stdin.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use crate::console::Console;
use crate::exit::{Failure, reword};

/// Where the text comes from: `-p`, else `-f`, else stdin to its end.
#[derive(Debug, clap::Args)]
pub struct TextArgs {
    /// The text itself
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "file")]
    pub prompt: Option<String>,

    /// A file with the text, - for stdin; one newline at its end is dropped, as it is of stdin
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl TextArgs {
    /// The text. What editors and `echo` put at the end, one newline, is no part of it; `-p` is taken as it is.
    pub fn read(&self, console: Console) -> anyhow::Result<String> {
        if let Some(text) = &self.prompt {
            return Ok(text.clone());
        }
        match &self.file {
            Some(path) => file_or_stdin(path, console),
            None => decode("stdin", stdin(console)?),
        }
    }
}

/// The longest text: tokens take several times as much memory.
const MOST_BYTES: u64 = 256 << 20;

/// The text of a file, or of stdin where the path is `-`, without one newline at its end.
pub fn file_or_stdin(path: &Path, console: Console) -> anyhow::Result<String> {
    if is_stdin(path) { decode("stdin", stdin(console)?) } else { read_file(path) }
}

/// What [`file_or_stdin`] reads, for people.
pub fn source(path: &Path) -> String {
    if is_stdin(path) { "stdin".to_owned() } else { path.display().to_string() }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A file's text, without one newline at its end.
pub fn read_file(path: &Path) -> anyhow::Result<String> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|err| Failure::usage(format!("{name}: cannot be read: {err}")))?;
    let bytes = read(&name, file)?;
    decode(&name, bytes)
}

/// All of stdin. At a terminal nothing would seem to happen, so say what is awaited.
pub fn stdin(console: Console) -> anyhow::Result<Vec<u8>> {
    let input = io::stdin().lock();
    if input.is_terminal() {
        console.note("Type the text; Ctrl-D on an empty line ends it.");
    }
    read("stdin", input)
}

/// All bytes; `name` stands in the error. Devices and pipes may have no end.
fn read(name: &str, input: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = input.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|err| {
        let text = format!("{name}: cannot be read: {err}");
        reword(err.into(), text)
    })?;
    if bytes.len() as u64 > MOST_BYTES {
        let text = format!("{name}: is longer than {} MiB; give a part of it", MOST_BYTES >> 20);
        return Err(Failure::usage(text).into());
    }
    Ok(bytes)
}

/// Bytes as text without one final newline; `name` stands in the error.
pub fn decode(name: &str, bytes: Vec<u8>) -> anyhow::Result<String> {
    let mut text = String::from_utf8(bytes).map_err(|err| {
        let at = err.utf8_error().valid_up_to();
        Failure::usage(format!("{name}: is not UTF-8 at byte {at}; convert it first (iconv -t UTF-8)"))
    })?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_dropped() {
        assert_eq!(decode("f", b"a\n\n".to_vec()).unwrap(), "a\n");
        assert_eq!(decode("f", b"a".to_vec()).unwrap(), "a");
        assert_eq!(decode("f", Vec::new()).unwrap(), "");
    }

    #[test]
    fn text_without_end_is_refused() {
        let err = read("f.txt", io::repeat(b'a')).unwrap_err();
        assert_eq!(err.to_string(), "f.txt: is longer than 256 MiB; give a part of it");
    }

    #[test]
    fn broken_text_is_refused_by_position() {
        let err = decode("f.txt", b"ab\xff".to_vec()).unwrap_err();
        assert!(err.to_string().starts_with("f.txt: is not UTF-8 at byte 2"), "{err}");
    }
}
