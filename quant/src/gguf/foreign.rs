//! Files that people give in place of a GGUF file, named as what they are.

use super::error::GgufError;

/// How a git-LFS pointer file starts.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// First bytes of other files, what they are, and whether qwren-convert may take them.
const MAGICS: &[(&[u8], &str, bool)] = &[
    (b"lmgg", "a GGML file of before GGUF", false),
    (b"fmgg", "a GGMF file of before GGUF", false),
    (b"tjgg", "a GGJT file of before GGUF", false),
    (b"algg", "a GGML adapter of before GGUF", false),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint, perhaps)", true),
    (b"\x80\x02", "a Python pickle (an old PyTorch checkpoint)", true),
    (b"\x1f\x8b", "a gzip archive", false),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", false),
    (b"\x89HDF", "an HDF5 file", false),
    (b"<!DOCTYPE", "a web page (a failed download)", false),
    (b"<!doctype", "a web page (a failed download)", false),
    (b"<html", "a web page (a failed download)", false),
    (b"{", "a JSON file", false),
];

/// What `bytes`, the start of a file that is not GGUF, are.
pub(crate) fn recognise(bytes: &[u8]) -> GgufError {
    if let Some(bytes) = lfs_pointer(bytes) {
        return GgufError::LfsPointer { bytes };
    }
    if bytes.starts_with(b"FUGG") {
        return GgufError::BigEndian;
    }
    if is_safetensors(bytes) {
        return GgufError::NotGguf { found: "a safetensors file".to_owned(), convert: true };
    }
    match MAGICS.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        Some(&(_, found, convert)) => GgufError::NotGguf { found: found.to_owned(), convert },
        None => {
            let start = bytes[..bytes.len().min(4)].escape_ascii();
            GgufError::NotGguf { found: format!("a file that starts with \"{start}\""), convert: false }
        }
    }
}

/// The size that a pointer file stands for.
fn lfs_pointer(bytes: &[u8]) -> Option<u64> {
    if !bytes.starts_with(LFS) {
        return None;
    }
    // The format allows 1024 bytes.
    let text = std::str::from_utf8(&bytes[..bytes.len().min(1024)]).ok()?;
    text.lines().find_map(|line| line.strip_prefix("size ")?.parse().ok())
}

/// Eight bytes of length, then JSON.
fn is_safetensors(bytes: &[u8]) -> bool {
    match bytes.split_first_chunk::<8>() {
        Some((len, rest)) => rest.starts_with(b"{\"") && u64::from_le_bytes(*len) < 1 << 32,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_named() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1503300328\n";
        let page = b"<!DOCTYPE html><html>".as_slice();
        let safetensors = b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}".as_slice();
        for (bytes, text) in [
            (pointer.as_bytes(), "is a git-LFS pointer to 1503300328 bytes, not the model itself; run 'git lfs pull'"),
            (safetensors, "is a safetensors file, not a GGUF file; convert the checkpoint's folder with qwren-convert"),
            (page, "is a web page (a failed download), not a GGUF file"),
            (b"FUGG\0\0\0\x03", "is a big-endian GGUF file; only little-endian ones can be read"),
            (b"tjgg\x03\0\0\0", "is a GGJT file of before GGUF, not a GGUF file"),
            (b"\x1b]0;", "is a file that starts with \"\\x1b]0;\", not a GGUF file"),
            (b"\n", "is a file that starts with \"\\n\", not a GGUF file"),
        ] {
            assert_eq!(recognise(bytes).to_string(), text);
        }
    }
}
