//! Opening and reading the files of a checkpoint: regular files only, bounded, Git LFS pointers recognised.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Problem};

/// Configuration files have a few kB, the index of a 235B model about 4 MB.
pub(crate) const SMALL_LIMIT: u64 = 16 << 20;
/// tokenizer.json: the genuine one has 11 MB, the largest known ones about 35 MB.
pub(crate) const TOKENIZER_LIMIT: u64 = 64 << 20;

const LFS_MAGIC: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Pointer files are at most this long, says the LFS specification.
const LFS_MAX: u64 = 1024;

/// Opens a regular file (links are followed) that is no LFS pointer, and tells its length in bytes.
pub(crate) fn open(path: &Path) -> Result<(File, u64), Error> {
    // Before the open: opening a named pipe would wait for its other end.
    let meta = std::fs::metadata(path).map_err(|e| Problem::read(e).of(path))?;
    if !meta.is_file() {
        return Err(Problem::NotAFile.of(path));
    }
    let file = File::open(path).map_err(|e| Problem::read(e).of(path))?;
    let len = file.metadata().map_err(|e| Problem::Read(e).of(path))?.len();
    if len <= LFS_MAX {
        let mut text = vec![0; len as usize];
        file.read_exact_at(&mut text, 0).map_err(|e| Problem::Read(e).of(path))?;
        if let Some(bytes) = lfs_size(&text) {
            return Err(Problem::LfsPointer { bytes }.of(path));
        }
    }
    Ok((file, len))
}

/// Size that an LFS pointer promises; `None` when the text is not a pointer.
fn lfs_size(text: &[u8]) -> Option<u64> {
    if !text.starts_with(LFS_MAGIC) {
        return None;
    }
    let text = String::from_utf8_lossy(text);
    let size = text.lines().find_map(|l| l.strip_prefix("size "));
    Some(size.and_then(|s| s.trim().parse().ok()).unwrap_or(0))
}

/// Whole contents of a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let (file, len) = open(path)?;
    if len > limit {
        return Err(Problem::TooLarge { bytes: len, limit }.of(path));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    // `take`: the file may grow while it is read.
    file.take(limit).read_to_end(&mut bytes).map_err(|e| Problem::Read(e).of(path))?;
    Ok(bytes)
}

/// A JSON file of at most `limit` bytes as a `T`.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T, Error> {
    let bytes = read(path, limit)?;
    // A byte order mark is not JSON, but editors on Windows leave one.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| Problem::Json(e).of(path))?;
    json.end().map_err(|e| Problem::AfterJson(e).of(path))?;
    Ok(value)
}

/// Like [`read_json`], but an absent file is `None`. Any other trouble is an error.
pub(crate) fn read_json_opt<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, Error> {
    match read_json(path, limit) {
        Ok(value) => Ok(Some(value)),
        Err(Error { problem: Problem::Missing, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A text file of at most `limit` bytes; `None` when absent.
pub(crate) fn read_text_opt(path: &Path, limit: u64) -> Result<Option<String>, Error> {
    match read(path, limit) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(e) => Err(Problem::Read(std::io::Error::new(std::io::ErrorKind::InvalidData, e.utf8_error())).of(path)),
        },
        Err(Error { problem: Problem::Missing, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lfs_pointers_tell_their_size() {
        let text = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 4967215360\n";
        assert_eq!(lfs_size(text), Some(4_967_215_360));
        assert_eq!(lfs_size(b"{}"), None);
        assert_eq!(lfs_size(b"version https://git-lfs.github.com/spec/v1\nsize lots\n"), Some(0));
    }

    #[test]
    fn folders_absent_and_long_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b \u{e9}.json");
        assert!(matches!(read(dir.path(), 10).unwrap_err().problem, Problem::NotAFile));
        assert!(matches!(read(&path, 10).unwrap_err().problem, Problem::Missing));
        std::fs::write(&path, "[1, 2, 3, 4]").unwrap();
        assert!(matches!(read(&path, 10).unwrap_err().problem, Problem::TooLarge { bytes: 12, limit: 10 }));
        assert_eq!(read_json::<Vec<u8>>(&path, 12).unwrap(), [1, 2, 3, 4]);
        std::fs::write(&path, b"\xef\xbb\xbf[5]").unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path, 12).unwrap(), [5]);
    }
}
