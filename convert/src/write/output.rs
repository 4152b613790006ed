//! The files of an output: each is `FILE.partial` until all are whole, synced and read back.
//!
//! What a run that ends early leaves: `FILE.partial` and `OUT.partial.journal` if the same command can continue there,
//! nothing otherwise. A killed run may also leave `FILE.json.partial` and `FILE.sha256.partial`, which the next one replaces.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use qwren_quant::manifest::Manifest;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::journal::{Journal, Past, Record};
use super::sidecar::{Sidecar, sum_line};
use crate::error::{Error, Kept, Problem};
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
    pub fn commit(&mut self, manifest: &Manifest) -> Result<Vec<u8>, Error> {
        // All work is done: whatever fails now, it must not be lost.
        self.stays = true;
        self.commit_all(manifest).map_err(|e| self.write_error(e))
    }

    fn commit_all(&self, manifest: &Manifest) -> io::Result<Vec<u8>> {
        let Some(first) = self.files.first() else { return Ok(Vec::new()) };
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
        let files: Vec<Rename> = self.files.iter().map(|f| Rename { from: &f.partial, to: &f.path }).collect();
        let replaces = first.path.exists();
        for step in naming_steps(&files, sidecars.each_ref().map(Sidecar::rename), replaces) {
            step.take(&folder)?;
        }
        self.journal.remove();
        Ok(sums)
    }
}

/// A file that gets its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rename<'a> {
    /// Its name so far.
    pub from: &'a Path,
    /// The name that it gets.
    pub to: &'a Path,
}

/// One of the steps in which the files get their names.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Remove(&'a Path),
    Name(Rename<'a>),
    /// What was done so far reaches the disk before what follows.
    Sync,
}

impl Step<'_> {
    fn take(self, folder: &File) -> io::Result<()> {
        match self {
            Step::Remove(path) => match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            },
            Step::Name(Rename { from, to }) => fs::rename(from, to),
            Step::Sync => folder.sync_all(),
        }
    }
}

/// The steps, in an order in which a kill or a power cut between any two leaves no set of files that passes for whole but is
/// not, and no model beside the checksums of another. Readers of a split model start from its first part, so that one goes
/// first and comes last. A single file that `replaces` an older one does it in one step: between its old checksums' end and
/// its new ones it stands without.
fn naming_steps<'a>(files: &[Rename<'a>], sidecars: [Rename<'a>; 2], replaces: bool) -> Vec<Step<'a>> {
    let [first, rest @ ..] = files else { return Vec::new() };
    let sidecars_end = sidecars.map(|s| Step::Remove(s.to));
    let sidecars_come = sidecars.map(Step::Name);
    let first_comes = [Step::Name(*first), Step::Sync];
    if replaces && rest.is_empty() {
        return [&sidecars_end[..], &[Step::Sync], &first_comes, &sidecars_come, &[Step::Sync]].concat();
    }
    let rest_comes: Vec<Step> = rest.iter().rev().copied().map(Step::Name).collect();
    [&[Step::Remove(first.to), Step::Sync], &sidecars_come[..], &rest_comes, &[Step::Sync], &first_comes].concat()
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
pub(super) fn folder_of(path: &Path) -> &Path {
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

    /// A kill between any two steps leaves no model beside another's checksums, and no first part beside another's parts.
    #[test]
    fn names_are_given_in_an_order_that_may_be_cut() {
        for (parts, old) in [(1, false), (1, true), (3, false), (3, true)] {
            for taken in 0.. {
                let dir = tempfile::tempdir().unwrap();
                let at = |name: &str| dir.path().join(name);
                let finals: Vec<PathBuf> = (0..parts).map(|i| at(&format!("{i}"))).collect();
                let partials: Vec<PathBuf> = finals.iter().map(|f| with_suffix(f, ".partial")).collect();
                let sidecars = [at("json"), at("sha256")];
                let sidecar_partials = sidecars.each_ref().map(|s| with_suffix(s, ".partial"));
                for path in partials.iter().chain(&sidecar_partials) {
                    fs::write(path, "new").unwrap();
                }
                if old {
                    finals.iter().chain(&sidecars).for_each(|path| fs::write(path, "old").unwrap());
                }
                let files: Vec<Rename> = partials.iter().zip(&finals).map(|(from, to)| Rename { from, to }).collect();
                let beside = [0, 1].map(|i| Rename { from: &sidecar_partials[i], to: &sidecars[i] });
                let steps = naming_steps(&files, beside, old);
                let folder = File::open(dir.path()).unwrap();
                steps.iter().take(taken).for_each(|step| step.take(&folder).unwrap());

                let read = |path: &PathBuf| fs::read_to_string(path).ok();
                let model = read(&finals[0]);
                let agrees = |path: &PathBuf, may_lack: bool| read(path).map_or(may_lack, |text| Some(text) == model);
                let what = format!("{parts} parts, {taken} of {steps:?}");
                assert!(model.is_none() || finals.iter().all(|path| agrees(path, false)), "{what}");
                assert!(model.is_none() || sidecars.iter().all(|path| agrees(path, true)), "{what}");
                // One file that stood there is there at any time.
                assert!(model.is_some() || parts > 1 || !old, "{what}");
                if taken == steps.len() {
                    let all = finals.iter().chain(&sidecars).all(|path| read(path).as_deref() == Some("new"));
                    assert!(all && names(dir.path()).len() == parts + 2, "{what}");
                    break;
                }
            }
        }
    }
}
