//! The output file: `OUT.partial` beside `OUT`, reserved, synced, renamed at the end, and gone if anything fails.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Problem};
use crate::plan::Plan;

/// See [`super::check_output`].
pub(super) fn check(plan: &Plan, out: &Path, force: bool) -> Result<(), Error> {
    let folder = folder_of(out);
    if !folder.is_dir() {
        let problem = if folder.exists() { Problem::NotAFolder } else { Problem::NoOutputFolder };
        return Err(problem.of(folder));
    }
    if out.file_name().is_none() {
        return Err(Problem::NotAFile.of(out));
    }
    let meta = match fs::metadata(out) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Problem::Write(e).of(out)),
    };
    if !meta.is_file() {
        return Err(Problem::NotAFile.of(out));
    }
    for (path, file) in plan.checkpoint.weight_files() {
        let source = file.metadata().map_err(|e| Problem::Read(e).of(path))?;
        if (source.dev(), source.ino()) == (meta.dev(), meta.ino()) {
            return Err(Problem::OutputIsInput.of(out));
        }
    }
    if force { Ok(()) } else { Err(Problem::Exists.of(out)) }
}

/// Bytes that a program without special rights may still write beside `out`.
///
/// # Errors
/// The folder can't be asked.
pub fn free_bytes(out: &Path) -> Result<u64, Error> {
    let folder = folder_of(out);
    let stat = rustix::fs::statvfs(folder).map_err(|e| Problem::Write(e.into()).of(folder))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A file in the making. Dropped before [`Output::commit`] it leaves nothing behind.
pub(super) struct Output {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    committed: bool,
}

impl Output {
    /// Creates `path.partial`, locked against other writers. What an earlier run left there after a power cut is
    /// overwritten.
    pub fn create(path: &Path) -> Result<Output, Error> {
        let partial = with_suffix(path, ".partial");
        let fail = |e: io::Error| Problem::Write(e).of(&partial);
        // No link is followed: in a folder that others write to, it could lead anywhere.
        let flags = OFlags::NOFOLLOW.bits() as i32;
        let file = OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags).open(&partial);
        let file = file.map_err(fail)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Problem::Busy.of(path)),
            Err(e) => return Err(fail(e.into())),
        }
        // Between open and lock another run may have finished and renamed this very file: it must not be truncated.
        let (ours, named) = (file.metadata().map_err(fail)?, fs::symlink_metadata(&partial));
        if !named.is_ok_and(|m| m.is_file() && (m.dev(), m.ino()) == (ours.dev(), ours.ino())) {
            return Err(Problem::Busy.of(path));
        }
        file.set_len(0).map_err(fail)?;
        Ok(Output { path: path.to_path_buf(), partial, file, committed: false })
    }

    /// The final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name until [`Output::commit`].
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// The file, for writing from its start.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes sure that `bytes` fit, and where the file system can, sets them aside.
    pub fn reserve(&self, bytes: u64) -> Result<(), Error> {
        let free = free_bytes(&self.path)?;
        if bytes > free {
            return Err(Problem::NoSpace { needed: bytes, free }.of(&self.path));
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(e) => Err(self.write_error(e.into(), bytes)),
        }
    }

    /// The meaning of an error while writing a file of `needed` bytes.
    pub fn write_error(&self, e: io::Error, needed: u64) -> Error {
        let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].iter().any(|f| e.raw_os_error() == Some(f.raw_os_error()));
        let problem = if full {
            // What this file takes is given back when it is removed.
            let ours = self.file.metadata().map_or(0, |m| m.blocks() * 512);
            let free = free_bytes(&self.path).unwrap_or(0).saturating_add(ours);
            Problem::NoSpace { needed, free }
        } else {
            Problem::Write(e)
        };
        problem.of(&self.path)
    }

    /// Waits until the data are on the disk.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|e| Problem::Write(e).of(&self.partial))
    }

    /// Gives the file its name and writes `path.sha256` beside it. Returns the line that stands in there.
    pub fn commit(mut self, sha256: &str) -> Result<Vec<u8>, Error> {
        let name = self.path.file_name().unwrap_or_default();
        let line = sum_line(sha256, name);
        let sums = Sums::write(with_suffix(&self.path, ".sha256"), &line)?;
        // An old sum beside the new file would be a lie, should the power fail between the two renames.
        let _ = fs::remove_file(&sums.path);
        fs::rename(&self.partial, &self.path).map_err(|e| Problem::Write(e).of(&self.path))?;
        self.committed = true;
        sums.commit()?;
        let folder = folder_of(&self.path);
        let synced = File::open(folder).and_then(|f| f.sync_all());
        synced.map_err(|e| Problem::Write(e).of(folder))?;
        Ok(line)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// The checksum's file, until its rename under a name of its own.
struct Sums {
    path: PathBuf,
    partial: PathBuf,
}

impl Sums {
    fn write(path: PathBuf, line: &[u8]) -> Result<Sums, Error> {
        let sums = Sums { partial: with_suffix(&path, ".partial"), path };
        let _ = fs::remove_file(&sums.partial);
        let written = File::create_new(&sums.partial).and_then(|mut f| {
            f.write_all(line)?;
            f.sync_all()
        });
        written.map_err(|e| Problem::Write(e).of(&sums.path))?;
        Ok(sums)
    }

    fn commit(self) -> Result<(), Error> {
        fs::rename(&self.partial, &self.path).map_err(|e| Problem::Write(e).of(&self.path))
    }
}

impl Drop for Sums {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.partial); // fails after the rename, as it should
    }
}

/// The folder that a file lies in; "." for a bare name.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// `HASH  NAME` as sha256sum has it: with a backslash in front when the name needed escapes.
fn sum_line(sha256: &str, name: &OsStr) -> Vec<u8> {
    let mut line = Vec::new();
    for &byte in name.as_bytes() {
        match byte {
            b'\\' => line.extend(b"\\\\"),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            byte => line.push(byte),
        }
    }
    let escaped = line.len() > name.len();
    let prefix = format!("{}{sha256}  ", if escaped { "\\" } else { "" });
    [prefix.as_bytes(), &line, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_lines_are_sha256sums() {
        assert_eq!(sum_line("ab", OsStr::new("x y.gguf")), b"ab  x y.gguf\n");
        assert_eq!(sum_line("ab", OsStr::new("x\\y\n")), b"\\ab  x\\\\y\\n\n");
        assert_eq!(sum_line("ab", OsStr::from_bytes(b"\xffx")), b"ab  \xffx\n");
    }

    #[test]
    fn nothing_is_left_of_a_dropped_output() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        let partial = dir.path().join("x.gguf.partial");
        std::fs::write(&partial, "left by a power cut").unwrap();
        let output = Output::create(&path).unwrap();
        assert_eq!(fs::metadata(&partial).unwrap().len(), 0);
        assert!(matches!(Output::create(&path).map(|_| ()).unwrap_err().problem, Problem::Busy));
        drop(output);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "data").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("x.gguf.partial")).unwrap();
        assert!(Output::create(&dir.path().join("x.gguf")).is_err());
        assert_eq!(fs::read(&precious).unwrap(), b"data");
    }

    #[test]
    fn a_full_disk_is_told_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::create(&dir.path().join("x.gguf")).unwrap();
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let e = output.write_error(errno.into(), 12345);
            assert!(matches!(e.problem, Problem::NoSpace { needed: 12345, free } if free > 0), "{e}");
            assert_eq!(e.exit_code(), 4);
        }
        assert_eq!(output.write_error(Errno::IO.into(), 1).exit_code(), 2);
        let e = output.reserve(u64::MAX / 2).unwrap_err();
        assert!(matches!(e.problem, Problem::NoSpace { needed, .. } if needed == u64::MAX / 2));
        assert_eq!(e.exit_code(), 4);
    }
}
