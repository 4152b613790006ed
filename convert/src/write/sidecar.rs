//! Small files beside the output: its checksum and its manifest.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use qwren_quant::manifest::Digest;

use super::output::{Rename, with_suffix};

/// A file that is written under another name; what still has that name when this is dropped is removed.
pub(super) struct Sidecar {
    path: PathBuf,
    partial: PathBuf,
}

impl Sidecar {
    /// Writes the file, down to the disk.
    pub fn write(path: PathBuf, bytes: &[u8]) -> io::Result<Sidecar> {
        let sidecar = Sidecar { partial: with_suffix(&path, ".partial"), path };
        let _ = fs::remove_file(&sidecar.partial);
        let mut file = File::create_new(&sidecar.partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(sidecar)
    }

    /// How it gets its name.
    pub fn rename(&self) -> Rename<'_> {
        Rename { from: &self.partial, to: &self.path }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.partial); // fails after the rename, as it should
    }
}

/// `HASH  NAME` as sha256sum has it: with a backslash in front when the name needed escapes.
pub(super) fn sum_line(sha256: Digest, name: &OsStr) -> Vec<u8> {
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
        let digest = Digest([0xab; 32]);
        let hex = "ab".repeat(32);
        assert_eq!(sum_line(digest, OsStr::new("x y.gguf")), format!("{hex}  x y.gguf\n").as_bytes());
        assert_eq!(sum_line(digest, OsStr::new("x\\y\n")), format!("\\{hex}  x\\\\y\\n\n").as_bytes());
        assert_eq!(sum_line(digest, OsStr::from_bytes(b"\xffx")), [hex.as_bytes(), b"  \xffx\n"].concat());
    }

    #[test]
    fn a_sidecar_that_is_dropped_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf.json");
        fs::write(&path, "old").unwrap();
        drop(Sidecar::write(path.clone(), b"new").unwrap());
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(dir.path()).unwrap().count()), (b"old".to_vec(), 1));
        let sidecar = Sidecar::write(path.clone(), b"new").unwrap();
        fs::rename(sidecar.rename().from, sidecar.rename().to).unwrap();
        drop(sidecar);
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(dir.path()).unwrap().count()), (b"new".to_vec(), 1));
    }
}
