//! Files that go into a message: `/read` and `/glob`.

use std::io::Read;
use std::path::{Path, PathBuf};

use qwren::vocab::{Specials, Vocab};

use crate::units::{bytes, count};

/// The largest file: a context of 128 Ki tokens holds less than half a megabyte of text.
const MAX_BYTES: u64 = 4 << 20;
/// The most files for one pattern.
const MAX_FILES: usize = 100;

/// The file that somebody typed: `~/x` lies in the user's home; quotes around it and backslashes before spaces, as a shell
/// wants them, are no part of a name that isn't there with them.
pub fn expand_home(path: &str) -> PathBuf {
    let quoted = ['"', '\''].into_iter().find_map(|q| path.strip_prefix(q)?.strip_suffix(q));
    let path = match quoted {
        Some(inner) if !Path::new(path).exists() => inner.to_owned(),
        None if path.contains("\\ ") && !Path::new(path).exists() => path.replace("\\ ", " "),
        _ => path.to_owned(),
    };
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.into(),
    }
}

/// Files that wait for the next message.
#[derive(Debug, Default)]
pub struct Attachments(Vec<Attachment>);

#[derive(Debug)]
struct Attachment {
    name: String,
    text: String,
    tokens: usize,
}

impl Attachments {
    /// Adds a file; says its size.
    ///
    /// # Errors
    /// What is wrong, in words for the user: a file that isn't there, is no text, or doesn't fit `ctx` tokens.
    pub fn add(&mut self, path: &Path, vocab: &Vocab, ctx: usize) -> Result<String, String> {
        let name = path.display().to_string();
        let text = read(path).map_err(|why| format!("{name}: {why}"))?;
        let tokens = vocab.encode(&text, Specials::Plain).map_err(|err| format!("{name}: {err}"))?.len();
        let waiting: usize = self.0.iter().map(|a| a.tokens).sum();
        if waiting + tokens > ctx {
            let already = if waiting > 0 { format!(" besides {waiting} of other files") } else { String::new() };
            return Err(format!("{name}: has {tokens} tokens{already}, the context holds {ctx}"));
        }
        let said = format!("{name}: {}, {}", bytes(text.len() as u64), count(tokens, "token"));
        self.0.push(Attachment { name, text, tokens });
        Ok(said)
    }

    /// Adds the files that a pattern names, in order of their names; says the size of each.
    ///
    /// # Errors
    /// A wrong pattern, or one that names no file or too many. Files that can't be added are left out and said.
    pub fn add_all(&mut self, pattern: &str, vocab: &Vocab, ctx: usize) -> Result<Vec<String>, String> {
        if pattern.contains("**") {
            return Err(format!("{pattern}: ** would walk through whole trees; name a folder"));
        }
        let path = expand_home(pattern);
        let found = glob::glob(&path.to_string_lossy()).map_err(|err| format!("{pattern}: {err}"))?;
        let files: Vec<PathBuf> = found.filter_map(Result::ok).filter(|p| p.is_file()).take(MAX_FILES + 1).collect();
        match files.len() {
            0 => Err(format!("{pattern}: names no file")),
            n if n > MAX_FILES => Err(format!("{pattern}: names more than {MAX_FILES} files")),
            _ => Ok(files.iter().map(|path| self.add(path, vocab, ctx).unwrap_or_else(|why| why)).collect()),
        }
    }

    /// The files that wait, a line each.
    pub fn list(&self) -> Vec<String> {
        self.0.iter().map(|a| format!("{}: {}", a.name, count(a.tokens, "token"))).collect()
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The message with the files before it, each in a fence that its text does not contain.
    pub fn join(&mut self, message: String) -> String {
        let mut out = String::new();
        for Attachment { name, text, .. } in self.0.drain(..) {
            let ticks = longest_run(&text).max(2) + 1;
            let fence = "`".repeat(ticks);
            let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
            out.push_str(&format!("{name}:\n{fence}\n{text}{end}{fence}\n\n"));
        }
        out + &message
    }
}

/// The longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |err: std::io::Error| format!("cannot be read: {err}");
    // A pipe or a device would keep us waiting.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is no file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("is larger than {} MiB", MAX_BYTES >> 20));
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err("is no text in UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_they_are_typed_in_a_shell_too() {
        for typed in ["\"a b\"", "'a b'", "a\\ b", "a b"] {
            assert_eq!(expand_home(typed), Path::new("a b"), "{typed}");
        }
        assert_eq!(expand_home("\"a"), Path::new("\"a"));
    }

    #[test]
    fn files_stand_before_the_message_in_fences_of_their_own() {
        let file = |name: &str, text: &str| Attachment { name: name.into(), text: text.into(), tokens: 1 };
        let mut waiting = Attachments(vec![file("a.md", "```\nx\n```\n"), file("b", "y")]);
        assert_eq!(waiting.list(), ["a.md: 1 token", "b: 1 token"]);
        assert_eq!(waiting.join("Why?".into()), "a.md:\n````\n```\nx\n```\n````\n\nb:\n```\ny\n```\n\nWhy?");
        assert_eq!(waiting.join("Why?".into()), "Why?", "they go once");
    }

    #[test]
    fn what_is_no_text_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for bytes in [&b"\xff"[..], b"a\0b"] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path).unwrap_err(), "is no text in UTF-8");
        }
        std::fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(read(&path).unwrap_err().contains("larger"));
        assert!(read(Path::new("/dev/zero")).unwrap_err().contains("is no file"));
        assert!(read(dir.path()).unwrap_err().contains("is no file"));
    }
}
