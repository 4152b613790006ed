//! The SHA-256 of a file, and the one that stands in a file beside it in sha256sum's form.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::exit::Failure;

/// Bytes hashed between two steps of the progress.
const STEP: usize = 4 << 20;
/// A list of digests may have this many bytes; one line has 70 or so.
const LIST_CAP: u64 = 1 << 20;

/// The SHA-256 of `bytes` in lower case; `progress` hears how many bytes were done since the last time.
pub fn of(bytes: &[u8], mut progress: impl FnMut(u64)) -> String {
    let mut hasher = Sha256::new();
    for piece in bytes.chunks(STEP) {
        hasher.update(piece);
        progress(piece.len() as u64);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest that `PATH.sha256` has for `path`; `None` if there is no such file.
pub fn beside(path: &Path) -> anyhow::Result<Option<String>> {
    let mut list = path.as_os_str().to_owned();
    list.push(".sha256");
    let list = PathBuf::from(list);
    let mut bytes = Vec::new();
    match File::open(&list) {
        Ok(file) => file.take(LIST_CAP).read_to_end(&mut bytes)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Failure::usage(format!("{}: {e}", list.display())).into()),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match find(&String::from_utf8_lossy(&bytes), &name) {
        Some(digest) => Ok(Some(digest)),
        None => {
            let text = format!("{}: has no SHA-256 of {name}; write it again with sha256sum", list.display());
            Err(Failure::usage(text).into())
        }
    }
}

/// The digest of `name` in `list`, whose lines are `DIGEST  NAME` or `DIGEST *NAME`. The only line counts whatever name it
/// has, since files get renamed.
fn find(list: &str, name: &str) -> Option<String> {
    let mut lines = list.lines().filter_map(|line| {
        let (digest, rest) = line.split_at_checked(64)?;
        let is_hex = digest.bytes().all(|b| b.is_ascii_hexdigit());
        let file = if rest.is_empty() { "" } else { rest.strip_prefix("  ").or(rest.strip_prefix(" *"))? };
        is_hex.then_some((digest, file))
    });
    let first = lines.next()?;
    let digest = match lines.next() {
        None => first.0,
        Some(second) => [first, second].into_iter().chain(lines).find(|(_, file)| *file == name)?.0,
    };
    Some(digest.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_are_sha256() {
        let mut seen = 0;
        assert_eq!(of(b"abc", |n| seen += n), A);
        assert_eq!(seen, 3);
    }

    #[test]
    fn lists_are_sha256sums() {
        let b = "B".repeat(64);
        for list in [format!("{A}  m.gguf\n"), format!("{A} *m.gguf"), format!("{A}  other.gguf\r\n"), A.to_owned()] {
            assert_eq!(find(&list, "m.gguf").as_deref(), Some(A), "{list}");
        }
        let two = format!("{b}  n.gguf\n{A}  m.gguf\n");
        assert_eq!(find(&two, "m.gguf").as_deref(), Some(A));
        assert_eq!(find(&two, "n.gguf"), Some(b.to_lowercase()));
        assert_eq!(find(&two, "o.gguf"), None);
        for list in ["", "no digest here", &A[1..], &format!("{A}m.gguf"), &"ü".repeat(40)] {
            assert_eq!(find(list, "m.gguf"), None, "{list}");
        }
    }
}
