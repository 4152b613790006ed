//! How a source file was when it was opened: what is read later must be of the same file.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Problem};

/// Size, time of the last change, and identity of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub len: u64,
    /// Last change, seconds and nanoseconds since 1970.
    pub mtime: (i64, i64),
    /// Number of the inode.
    pub inode: u64,
    /// Number of the device. It may differ after a restart of the machine.
    pub device: u64,
}

impl Stamp {
    /// Of an open file.
    pub(super) fn of(file: &File, path: &Path) -> Result<Stamp, Error> {
        file.metadata().map(|meta| Stamp::new(&meta)).map_err(|e| Problem::Read(e).of(path))
    }

    fn new(meta: &Metadata) -> Stamp {
        Stamp { len: meta.len(), mtime: (meta.mtime(), meta.mtime_nsec()), inode: meta.ino(), device: meta.dev() }
    }

    /// Compares with `file` as it is now, and with what is at `path`. That nothing is there any more is no matter: the open
    /// file is whole.
    pub(super) fn check(&self, file: &File, path: &Path) -> Result<(), Error> {
        let replaced = std::fs::metadata(path).is_ok_and(|meta| Stamp::new(&meta) != *self);
        if replaced || Stamp::of(file, path)? != *self { Err(Problem::SourceChanged.of(path)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;

    #[test]
    fn every_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        let fresh = || {
            let _ = fs::remove_file(&path);
            fs::write(&path, "weights").unwrap();
            let file = File::open(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
            let stamp = Stamp::of(&file, &path).unwrap();
            (file, stamp)
        };
        let (file, stamp) = fresh();
        assert!(stamp.check(&file, &path).is_ok());
        fs::remove_file(&path).unwrap();
        assert!(stamp.check(&file, &path).is_ok());

        let changes: [fn(&Path); 4] = [
            |p| OpenOptions::new().append(true).open(p).unwrap().write_all(b"!").unwrap(),
            |p| File::options().write(true).open(p).unwrap().set_len(3).unwrap(),
            |p| File::options().write(true).open(p).unwrap().write_all(b"W").unwrap(),
            |p| {
                fs::write(p.with_extension("new"), "weights").unwrap();
                fs::rename(p.with_extension("new"), p).unwrap();
            },
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let (file, stamp) = fresh();
            change(&path);
            let error = stamp.check(&file, &path).unwrap_err();
            assert!(matches!(error.problem, Problem::SourceChanged), "{i}");
        }
    }
}
