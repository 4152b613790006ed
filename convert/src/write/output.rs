//! The files of an output: each is `FILE.partial` until all are whole, synced and read back.
//!
//! What a run that ends early leaves: `FILE.partial` and `OUT.partial.journal` if the same command can continue there,
//! nothing otherwise. A killed run may also leave `FILE.json.partial` and `FILE.sha256.partial`, which the next one replaces.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use qwren_quant::manifest::Manifest;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::journal::{Journal, Past, Record};
use super::sidecar::{Sidecar, sum_line};
use crate::error::{Error, Kept, Problem};
use crate::plan::Plan;
use crate::split;

/// The files in the making. Dropped before [`Output::commit`] or [`Output::keep`] they are removed.
pub(super) struct Output {
    out: PathBuf,
    files: Vec<OutFile>,
    journal: Journal,
    stays: bool,
}

/// One of them.
pub(super) struct OutFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    /// Size when it is whole.
    bytes: u64,
}

/// Says whether `out` may be written, before any work.
pub(super) fn check(plan: &Plan, out: &Path, force: bool, committing: impl FnOnce() -> bool) -> Result<(), Error> {
    let folder = folder_of(out);
    if !folder.is_dir() {
        let problem = if folder.exists() { Problem::NotAFolder } else { Problem::NoOutputFolder };
        return Err(problem.of(folder));
    }
    if out.file_name().is_none() {
        return Err(Problem::NotAFile.of(out));
    }
    let mut present = Vec::new();
    for (part, path) in split::paths(out, plan.files.len()).into_iter().enumerate() {
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Problem::Write(e).of(path)),
        };
        if !meta.is_file() {
            return Err(Problem::NotAFile.of(path));
        }
        for (source, file, _) in plan.checkpoint.weight_files() {
            let source = file.metadata().map_err(|e| Problem::Read(e).of(source))?;
            if (source.dev(), source.ino()) == (meta.dev(), meta.ino()) {
                return Err(Problem::OutputIsInput.of(path));
            }
        }
        if is_of_checkpoint(plan, &path) {
            return Err(Problem::OutputIsInput.of(path));
        }
        present.push((part, path));
    }
    check_manifest(plan, &split::paths(out, plan.files.len())[0], force)?;
    match present.into_iter().next() {
        // Without the first part the others are of a run that was killed while it gave names, if the journal says so.
        Some((part, path)) if !force && (part == 0 || !committing()) => Err(Problem::Exists.of(path)),
        _ => Ok(()),
    }
}

/// The manifest's name may be taken by something else: an output called `config` has `config.json` beside it.
fn check_manifest(plan: &Plan, first: &Path, force: bool) -> Result<(), Error> {
    let path = Manifest::path_of(first);
    if Manifest::read(&path).is_ok() {
        return Ok(()); // none there, or one of ours
    }
    if is_of_checkpoint(plan, &path) {
        return Err(Problem::OutputIsInput.of(path));
    }
    if force { Ok(()) } else { Err(Problem::Exists.of(path)) }
}

/// Whether `path` lies in the checkpoint's folder and is no GGUF file: those, and only those, are outputs there.
fn is_of_checkpoint(plan: &Plan, path: &Path) -> bool {
    let same = |a: &Path, b: &Path| fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b));
    let mut magic = [0; 4];
    let gguf = File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF";
    same(folder_of(path), plan.checkpoint.dir()) && path.exists() && !gguf
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

/// Bytes of an output called `out` in `files` files that an earlier run has taken already.
pub fn taken_bytes(out: &Path, files: usize) -> u64 {
    let partials = split::paths(out, files).into_iter().map(|path| with_suffix(&path, ".partial"));
    partials.filter_map(|path| fs::symlink_metadata(path).ok()).map(|meta| meta.blocks() * 512).sum()
}

impl Output {
    /// Opens the partial files, which shall have `sizes` bytes: those of an earlier run if `past` knows of any, else new ones.
    pub fn open(out: &Path, sizes: &[u64], journal: Journal, past: &Past) -> Result<Output, Error> {
        let mut output = Output { out: out.to_path_buf(), files: Vec::new(), journal, stays: false };
        // Should this fail, what earlier runs did must not be lost.
        output.stays = !past.tensors.is_empty();
        for (part, (path, &bytes)) in split::paths(out, sizes.len()).into_iter().zip(sizes).enumerate() {
            let partial = with_suffix(&path, ".partial");
            // A run was killed between two renames: this part has its name already, and the first part has not.
            if past.committing && part > 0 && !partial.exists() && path.exists() {
                fs::rename(&path, &partial).map_err(|e| Problem::Write(e).of(&path))?;
            }
            let file = open_partial(&partial, past.tensors.is_empty()).map_err(|e| e.of(&path))?;
            output.files.push(OutFile { path, partial, file, bytes });
        }
        output.stays = false;
        Ok(output)
    }

    /// What was asked for.
    pub fn path(&self) -> &Path {
        &self.out
    }

    /// The files in order.
    pub fn files(&self) -> &[OutFile] {
        &self.files
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Makes sure that all files fit, and where the file system can, sets the room aside.
    pub fn reserve(&self) -> Result<(), Error> {
        let (needed, free) = (self.needed(), self.free()?);
        if needed > free {
            return Err(Problem::NoSpace { needed, free }.of(&self.out));
        }
        for file in &self.files {
            // Nothing of an earlier run belongs beyond the planned end.
            if file.file.metadata().is_ok_and(|meta| meta.len() > file.bytes) {
                file.file.set_len(file.bytes).map_err(|e| self.write_error(e))?;
            }
            match rustix::fs::fallocate(&file.file, FallocateFlags::empty(), 0, file.bytes) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(e) => return Err(self.write_error(e.into())),
            }
        }
        Ok(())
    }

    fn needed(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// Bytes that the output may take: what is free, and what it has already.
    fn free(&self) -> Result<u64, Error> {
        let ours: u64 = self.files.iter().filter_map(|f| f.file.metadata().ok()).map(|m| m.blocks() * 512).sum();
        Ok(free_bytes(&self.out)?.saturating_add(ours))
    }

    /// The meaning of an error while writing.
    pub fn write_error(&self, e: io::Error) -> Error {
        let is = |errno: Errno| e.raw_os_error() == Some(errno.raw_os_error());
        let problem = if is(Errno::NOSPC) || is(Errno::DQUOT) {
            Problem::NoSpace { needed: self.needed(), free: self.free().unwrap_or(0) }
        } else if is(Errno::FBIG) {
            let needed = self.files.iter().map(|f| f.bytes).max().unwrap_or(0);
            Problem::FileLimit { needed, limit: getrlimit(Resource::Fsize).current.filter(|&limit| limit < needed) }
        } else {
            Problem::Write(e)
        };
        problem.of(&self.out)
    }

    /// Waits until the data are on the disk.
    pub fn sync(&self) -> Result<(), Error> {
        self.files.iter().try_for_each(|f| f.file.sync_all()).map_err(|e| self.write_error(e))
    }

    /// Leaves everything for another run, if it can save that run any work.
    pub fn keep(&mut self, tensors: usize) -> Option<Kept> {
        self.stays = self.journal.done() > 0;
        self.stays.then(|| Kept { done: self.journal.done(), of: tensors })
    }

    /// Gives the files their names, with checksums and manifest beside the first one. Returns the checksums' lines.
    ///
    /// In this order, so that a kill or a power cut between any two steps leaves no set of files that passes for whole but is
    /// not: checksums and manifest, which say nothing without their file; a first part that stood there (readers start from
    /// it); the parts from the last to the first; the journal.
    pub fn commit(&mut self, manifest: &Manifest) -> Result<Vec<u8>, Error> {
        // All work is done: whatever fails now, it must not be lost.
        self.stays = true;
        self.commit_all(manifest).map_err(|e| self.write_error(e))
    }

    fn commit_all(&self, manifest: &Manifest) -> io::Result<Vec<u8>> {
        let Some((first, rest)) = self.files.split_first() else { return Ok(Vec::new()) };
        let sums: Vec<Vec<u8>> = self
            .files
            .iter()
            .zip(&manifest.files)
            .map(|(file, entry)| sum_line(entry.sha256, file.path.file_name().unwrap_or_default()))
            .collect();
        let sums = sums.concat();
        let sidecars = [
            Sidecar::write(Manifest::path_of(&first.path), &manifest.to_text()?)?,
            Sidecar::write(with_suffix(&first.path, ".sha256"), &sums)?,
        ];
        let folder = File::open(folder_of(&self.out))?;
        self.journal.append(&Record::Commit)?;
        self.journal.sync()?;
        sidecars.into_iter().try_for_each(Sidecar::commit)?;
        if !rest.is_empty() {
            match fs::remove_file(&first.path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => folder.sync_all()?,
            }
            rest.iter().rev().try_for_each(|f| fs::rename(&f.partial, &f.path))?;
            folder.sync_all()?;
        }
        fs::rename(&first.partial, &first.path)?;
        folder.sync_all()?;
        self.journal.remove();
        Ok(sums)
    }
}

impl OutFile {
    /// The final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name until then.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Its size when it is whole.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, for reading and writing by position.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.stays {
            for file in &self.files {
                let _ = fs::remove_file(&file.partial);
            }
            self.journal.remove();
        }
    }
}

/// Opens a partial file; what is in it goes if `afresh`.
fn open_partial(path: &Path, afresh: bool) -> Result<File, Problem> {
    // No link is followed: in a folder that others write to, it could lead anywhere. Nor is a pipe waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path);
    let file = options.map_err(Problem::Write)?;
    if !file.metadata().map_err(Problem::Write)?.is_file() {
        return Err(Problem::NotAFile);
    }
    if afresh {
        file.set_len(0).map_err(Problem::Write)?;
    }
    Ok(file)
}

/// The folder that a file lies in; "." for a bare name.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use qwren_quant::manifest::{Digest, FileEntry, Recipe};

    use super::*;
    use crate::write::journal::Done;

    fn open(out: &Path, sizes: &[u64]) -> Result<Output, Error> {
        let (journal, past) = Journal::open(out, Digest([1; 32]))?;
        Output::open(out, sizes, journal, &past)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn tensor(name: &str) -> Record {
        Record::Tensor(Done { name: name.into(), sha256: Digest([0; 32]), squares: 0, notes: Vec::new() })
    }

    fn manifest(files: usize) -> Manifest {
        let recipe = Recipe {
            file_type: "q8_0".into(),
            tensor_types: Vec::new(),
            tie_embeddings: false,
            allow_nonfinite: false,
            imatrix: None,
        };
        let file = FileEntry { name: "x".into(), bytes: 3, sha256: Digest([2; 32]), tensors: Vec::new() };
        Manifest::new("t".into(), recipe, Vec::new(), vec![file; files])
    }

    #[test]
    fn nothing_is_left_of_a_dropped_output() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        let partial = dir.path().join("x.gguf.partial");
        fs::write(&partial, "of another program").unwrap();
        let output = open(&path, &[10]).unwrap();
        assert_eq!(fs::metadata(&partial).unwrap().len(), 0);
        assert!(matches!(open(&path, &[10]).map(|_| ()).unwrap_err().problem, Problem::Busy));
        drop(output);
        assert_eq!(names(dir.path()), [""; 0]);
        // With nothing done there is nothing to keep.
        assert_eq!(open(&path, &[10]).unwrap().keep(3), None);
        assert_eq!(names(dir.path()), [""; 0]);
        let mut output = open(&path, &[10]).unwrap();
        output.journal().append(&tensor("a")).unwrap();
        assert_eq!(output.keep(3), Some(Kept { done: 1, of: 3 }));
        drop(output);
        assert_eq!(names(dir.path()), ["x.gguf.partial", "x.gguf.partial.journal"]);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "data").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("x.gguf.partial")).unwrap();
        assert!(open(&dir.path().join("x.gguf"), &[10]).is_err());
        assert_eq!(fs::read(&precious).unwrap(), b"data");
        assert_eq!(names(dir.path()), ["precious", "x.gguf.partial"]);
    }

    #[test]
    fn a_full_disk_is_told_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let output = open(&dir.path().join("x.gguf"), &[12_000, 345]).unwrap();
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let e = output.write_error(errno.into());
            assert!(matches!(e.problem, Problem::NoSpace { needed: 12_345, free } if free > 0), "{e}");
            assert_eq!(e.exit_code(), 4);
        }
        let e = output.write_error(Errno::FBIG.into());
        assert!(matches!(e.problem, Problem::FileLimit { needed: 12_000, .. }) && e.exit_code() == 4);
        assert_eq!(output.write_error(Errno::IO.into()).exit_code(), 2);
        drop(output);
        let output = open(&dir.path().join("x.gguf"), &[u64::MAX / 2]).unwrap();
        let e = output.reserve().unwrap_err();
        assert!(matches!(e.problem, Problem::NoSpace { needed, .. } if needed == u64::MAX / 2));
        assert_eq!(e.exit_code(), 4);
    }

    #[test]
    fn parts_get_their_names_together() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("x.gguf");
        for part in split::paths(&out, 3) {
            fs::write(part, "old").unwrap();
        }
        let mut output = open(&out, &[3; 3]).unwrap();
        for file in output.files() {
            fs::write(file.partial(), "new").unwrap();
        }
        output.journal().append(&tensor("a")).unwrap();
        let sums = output.commit(&manifest(3)).unwrap();
        drop(output);
        let parts = ["x-00001-of-00003.gguf", "x-00002-of-00003.gguf", "x-00003-of-00003.gguf"];
        let lines: Vec<String> = parts.iter().map(|name| format!("{}  {name}\n", "02".repeat(32))).collect();
        assert_eq!(sums, lines.concat().as_bytes());
        let beside = ["x-00001-of-00003.gguf.json", "x-00001-of-00003.gguf.sha256"];
        assert_eq!(names(dir.path()), [parts[0], beside[0], beside[1], parts[1], parts[2]]);
        assert_eq!(fs::read(dir.path().join(beside[1])).unwrap(), sums);
        assert!(parts.iter().all(|name| fs::read(dir.path().join(name)).unwrap() == b"new"));
    }

    /// A kill between any two renames: the first part is not there, and the next run finds all that was written.
    #[test]
    fn a_kill_between_names_is_taken_up() {
        for renamed in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("x.gguf");
            let mut output = open(&out, &[3; 3]).unwrap();
            for (i, file) in output.files().iter().enumerate() {
                fs::write(file.partial(), format!("{i}")).unwrap();
            }
            output.journal().append(&tensor("a")).unwrap();
            output.journal().append(&Record::Commit).unwrap();
            output.keep(1);
            for file in output.files().iter().rev().take(renamed) {
                fs::rename(file.partial(), file.path()).unwrap();
            }
            drop(output);
            let again = open(&out, &[3; 3]).unwrap();
            for (i, file) in again.files().iter().enumerate() {
                assert!(!file.path().exists());
                assert_eq!(fs::read(file.partial()).unwrap(), format!("{i}").as_bytes());
            }
        }
    }
}
