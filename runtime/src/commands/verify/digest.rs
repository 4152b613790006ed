//! The SHA-256 of a file and of its tensors, and the one that stands in a file beside it in sha256sum's form.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use qwren_quant::gguf::{GgufFile, Quoted, TensorInfo};
use qwren_quant::manifest::Digest;
use sha2::{Digest as _, Sha256};

use crate::exit::Failure;

/// Bytes hashed between two steps of the progress.
const STEP: usize = 4 << 20;
/// A list of digests may have this many bytes; one line has 70 or so.
const LIST_CAP: u64 = 1 << 20;

/// Digests of one file.
pub struct Digests<'f> {
    /// Of all of it.
    pub file: Digest,
    /// Of each tensor.
    pub tensors: Vec<(&'f TensorInfo, Digest)>,
}

/// Reads part `part` of a model once, front to back; `progress` hears how many bytes were done since the last time.
pub fn of<'f>(file: &'f GgufFile, part: usize, mut progress: impl FnMut(u64)) -> Digests<'f> {
    let bytes = file.parts()[part].bytes();
    let mut tensors: Vec<&TensorInfo> = file.header().tensors().iter().filter(|t| t.part == part).collect();
    tensors.sort_by_key(|t| t.offset);
    let (mut all, mut at) = (Sha256::new(), 0);
    let mut hash = |end: usize, mut tensor: Option<&mut Sha256>| {
        for piece in bytes[at..end].chunks(STEP) {
            all.update(piece);
            if let Some(sha) = &mut tensor {
                sha.update(piece);
            }
            progress(piece.len() as u64);
        }
        at = end;
    };
    let tensors = tensors.into_iter().map(|t| {
        let span = file.span(t);
        let mut sha = Sha256::new();
        hash(span.start, None);
        hash(span.end, Some(&mut sha));
        (t, Digest(sha.finalize().into()))
    });
    let tensors = tensors.collect();
    hash(bytes.len(), None);
    Digests { file: Digest(all.finalize().into()), tensors }
}

/// The digest that a `.sha256` file beside `path` has for it; `None` if there is no such file. A split model may have one
/// for all its parts, beside the first.
pub fn beside(path: &Path, first: &Path) -> anyhow::Result<Option<String>> {
    match in_list_of(path, path)? {
        None if path != first => in_list_of(first, path),
        found => Ok(found),
    }
}

/// The digest that `LISTED.sha256` has for `path`; `None` if there is no such file.
fn in_list_of(listed: &Path, path: &Path) -> anyhow::Result<Option<String>> {
    let mut list = listed.as_os_str().to_owned();
    list.push(".sha256");
    let list = PathBuf::from(list);
    let bytes = match read_list(&list) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Failure::usage(format!("{}: {e}", list.display())).into()),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match find(&String::from_utf8_lossy(&bytes), &name) {
        Some(digest) => Ok(Some(digest)),
        None => {
            let name = Quoted::new(&name);
            let text = format!("{}: has no SHA-256 of {name}; write it again with sha256sum", list.display());
            Err(Failure::usage(text).into())
        }
    }
}

/// The first bytes of a list. Others than regular files are refused: to open a FIFO would wait for its writer.
fn read_list(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LIST_CAP).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The digest of `name` in `list`, whose lines are `DIGEST  NAME` or `DIGEST *NAME`, with a backslash in front where the name
/// needs escapes. The only line counts whatever name it has, since files get renamed.
fn find(list: &str, name: &str) -> Option<String> {
    let mut lines = list.lines().filter_map(|line| {
        let (line, is_escaped) = line.strip_prefix('\\').map_or((line, false), |line| (line, true));
        let (digest, rest) = line.split_at_checked(64)?;
        let is_hex = digest.bytes().all(|b| b.is_ascii_hexdigit());
        let file = if rest.is_empty() { "" } else { rest.strip_prefix("  ").or(rest.strip_prefix(" *"))? };
        is_hex.then(|| (digest, if is_escaped { unescaped(file) } else { file.to_owned() }))
    });
    let first = lines.next()?;
    let digest = match lines.next() {
        None => first.0,
        Some(second) => [first, second].into_iter().chain(lines).find(|(_, file)| file == name)?.0,
    };
    Some(digest.to_ascii_lowercase())
}

/// A name in which sha256sum has replaced backslashes and line ends.
fn unescaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some(escaped @ ('n' | 'r' | '\\'))) => {
                chars.next();
                out.push(match escaped {
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                });
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

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

    #[test]
    fn names_with_escapes_are_sha256sums() {
        let b = "b".repeat(64);
        let list = format!("{b}  x\\n\n\\{A}  x\\n\n\\{b} *y\\\\\\r\n");
        assert_eq!(find(&list, "x\n").as_deref(), Some(A));
        assert_eq!(find(&list, "x\\n").as_deref(), Some(&b[..]));
        assert_eq!(find(&list, "y\\\r").as_deref(), Some(&b[..]));
        assert_eq!(find(&list, "y"), None);
        // What is no escape stands for itself, whatever is in the file.
        assert_eq!(unescaped("a\\tb\\"), "a\\tb\\");
    }
}
