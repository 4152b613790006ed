//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::exit::{self, Failure};

/// A file that is written beside its name and gets it when it is finished; dropped before that, it leaves nothing.
pub struct OutputFile {
    path: PathBuf,
    file: BufWriter<File>,
    unfinished: TempPath,
}

impl OutputFile {
    /// Begins the file. One that exists is refused unless `force`; what is no regular file, or one of `inputs`, always.
    pub fn create<'a>(
        path: &Path,
        force: bool,
        inputs: impl IntoIterator<Item = &'a Path>,
    ) -> anyhow::Result<OutputFile> {
        let identity = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
        let same = |input: &Path| identity(input).is_some_and(|input| identity(path) == Some(input));
        let refused = |why| Err(Failure::usage(format!("{}: {why}", path.display())).into());
        match path.symlink_metadata() {
            _ if path.as_os_str() == "-" => {
                return refused("stands for no file here; name one (./- is one of that name)");
            }
            Ok(meta) if !meta.is_file() => return refused("is there and is not a regular file; give another name"),
            Ok(_) if !force => return refused("exists already; give another name, or --force to replace it"),
            Ok(_) if inputs.into_iter().any(same) => return refused("is read by this command; give another name"),
            _ => {}
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".qwren-").suffix(".partial");
        // Made, and later written, by the system's calls alone: the library's errors name the unfinished file, which nobody knows.
        let file = builder.make_in(folder, |name| File::create_new(name));
        let (file, unfinished) = file.map_err(|err| failed(path, "created", err))?.into_parts();
        Ok(OutputFile { path: path.to_owned(), file: BufWriter::with_capacity(1 << 20, file), unfinished })
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes what was written durable and gives it its name.
    pub fn finish(self) -> anyhow::Result<()> {
        let finish = || {
            let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            self.unfinished.persist(&self.path).map_err(|e| e.error)
        };
        finish().map_err(|err| failed(&self.path, "written", err))
    }
}

/// An error with the file's name and the reason in its line.
fn failed(path: &Path, what: &str, err: io::Error) -> anyhow::Error {
    let text = format!("{}: cannot be {what}: {err}", path.display());
    exit::reword(err.into(), text)
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let mut dropped = OutputFile::create(&path, false, []).unwrap();
        dropped.write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut file = OutputFile::create(&path, false, []).unwrap();
        file.write_all(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert!(OutputFile::create(&path, false, []).is_err());
        OutputFile::create(&path, true, []).unwrap().finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        let err = OutputFile::create(Path::new("-"), true, []).err().unwrap();
        assert!(err.to_string().starts_with("-: stands for no file"), "{err}");
        let err = OutputFile::create(&path, true, [&*dir.path().join("./x.npy")]).err().unwrap();
        assert!(err.to_string().ends_with("x.npy: is read by this command; give another name"), "{err}");
    }

    #[cfg(unix)]
    #[test]
    fn nothing_but_a_regular_file_is_replaced() {
        use rustix::fs::{CWD, FileType, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let at = |name| dir.path().join(name);
        std::fs::create_dir(at("folder")).unwrap();
        std::fs::write(at("target"), "old").unwrap();
        std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
        mknodat(CWD, at("fifo"), FileType::Fifo, 0o600.into(), 0).unwrap();
        for name in ["folder", "link", "dangling", "fifo"] {
            for force in [false, true] {
                let err = OutputFile::create(&at(name), force, []).err().unwrap();
                assert_eq!(exit::code(&err), exit::Exit::Usage);
                assert!(err.to_string().contains("is not a regular file"), "{err}");
            }
        }
        assert_eq!(std::fs::read(at("target")).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        for (path, why) in [
            (dir.path().join("no/x"), "No such file or directory (os error 2)"),
            ("/dev/null/x".into(), "Not a directory (os error 20)"),
        ] {
            let err = OutputFile::create(&path, false, []).err().unwrap();
            assert_eq!(err.to_string(), format!("{}: cannot be created: {why}", path.display()));
            assert_eq!(exit::code(&err), exit::Exit::Usage);
        }
    }
}
