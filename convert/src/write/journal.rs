//! `OUT.partial.journal`: what an unfinished output already holds, so that another run need not do it again; and the lock
//! that keeps a second converter away from the same output.
//!
//! A line a fact, appended when it has become true. Each begins with a check over the plan's identity and the rest of the
//! line: what was cut, damaged, or written for another plan does not pass, and what follows it does not count. Nothing is
//! forced to the disk on the way, since that would cost seconds on slow disks: after a power cut the journal may know more
//! or less than the disk holds. That does no harm: a tensor counts as done only if its bytes still have the digest that
//! stands here.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use qwren_quant::manifest::Digest;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::TOOL;
use super::output::with_suffix;
use crate::error::{Error, Problem};

/// Longest journal that is read; a line has some 200 bytes.
const CAP: u64 = 16 << 20;
/// Hexadecimal digits of a line's check.
const CHECK: usize = 16;

/// A line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line. For people: the check already binds it to the plan.
    Start {
        /// Who writes.
        tool: String,
    },
    /// A tensor is written.
    Tensor(Done),
    /// A source file is hashed.
    Source(Hashed),
    /// All is written; files get their names from here on.
    Commit,
}

/// A tensor that is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    /// Its name.
    pub name: String,
    /// Of its bytes.
    pub sha256: Digest,
    /// Sum of the squared differences to the source; the bits of an f64, for JSON has no exact floats.
    pub squares: u64,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

/// A source file that is hashed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Hashed {
    /// Its name in the checkpoint's folder.
    pub name: String,
    /// Of the whole file.
    pub sha256: Digest,
}

/// What a journal tells of earlier runs.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Past {
    /// Tensors by name.
    pub tensors: HashMap<String, Done>,
    /// Source files by name.
    pub sources: HashMap<String, Digest>,
    /// Some files may have their final names.
    pub committing: bool,
    /// There was a journal, but of another plan.
    pub foreign: bool,
}

/// The journal of one output, locked.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    identity: Digest,
    file: Mutex<File>,
    done: AtomicUsize,
}

impl Journal {
    /// Opens the journal of the output `out`, or begins one, for the plan of that identity.
    ///
    /// # Errors
    /// Another process has it, or it can't be written.
    pub fn open(out: &Path, identity: Digest) -> Result<(Journal, Past), Error> {
        let path = path_of(out);
        let fail = |e: io::Error| Problem::Write(e).of(out);
        // No link is followed: in a folder that others write to, it could lead anywhere. Nor is a pipe waited for.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new().read(true).append(true).create(true).custom_flags(flags).open(&path);
        let file = file.map_err(fail)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Problem::Busy.of(out)),
            Err(e) => return Err(fail(e.into())),
        }
        let ours = file.metadata().map_err(fail)?;
        if !ours.is_file() {
            return Err(Problem::NotAFile.of(&path));
        }
        // Between open and lock another run may have finished and removed this very file.
        if !fs::symlink_metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino())) {
            return Err(Problem::Busy.of(out));
        }
        let (past, good) = read(&file, identity).map_err(fail)?;
        file.set_len(good).map_err(fail)?;
        let journal = Journal { path, identity, file: Mutex::new(file), done: AtomicUsize::new(0) };
        if good == 0 {
            journal.append(&Record::Start { tool: TOOL.to_owned() }).map_err(fail)?;
        }
        Ok((journal, past))
    }

    /// Adds a line.
    pub fn append(&self, record: &Record) -> io::Result<()> {
        let line = line(self.identity, record)?;
        // A panic under the lock would have been a failed write.
        let mut file = self.file.lock().map_err(|_| io::Error::other("the journal's writer failed"))?;
        file.write_all(&line)?;
        if matches!(record, Record::Tensor(_)) {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts tensors of an earlier run as done.
    pub fn count(&self, tensors: usize) {
        self.done.fetch_add(tensors, Ordering::Relaxed);
    }

    /// Tensors that are done.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until all lines are on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.lock().map_err(|_| io::Error::other("the journal's writer failed"))?.sync_all()
    }

    /// Removes the file. The lock holds until the end of `self`.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Where the journal of an output lies.
pub(super) fn path_of(out: &Path) -> PathBuf {
    with_suffix(out, ".partial.journal")
}

/// What the journal of `out` tells, without a lock.
pub(super) fn peek(out: &Path, identity: Digest) -> Past {
    let path = path_of(out);
    let regular = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
    let past = if regular { File::open(path).and_then(|file| read(&file, identity)) } else { return Past::default() };
    past.map(|(past, _)| past).unwrap_or_default()
}

/// Reads all lines up to the first that does not pass; tells where it begins.
fn read(file: &File, identity: Digest) -> io::Result<(Past, u64)> {
    let mut bytes = Vec::new();
    file.take(CAP).read_to_end(&mut bytes)?;
    Ok(parse(&bytes, identity))
}

fn parse(bytes: &[u8], identity: Digest) -> (Past, u64) {
    let mut past = Past::default();
    let mut good = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let Some(record) = parse_line(line, identity) else { break };
        match record {
            Record::Start { .. } => {}
            Record::Tensor(done) => drop(past.tensors.insert(done.name.clone(), done)),
            Record::Source(Hashed { name, sha256 }) => drop(past.sources.insert(name, sha256)),
            Record::Commit => past.committing = true,
        }
        good += line.len() as u64;
    }
    past.foreign = good == 0 && !bytes.is_empty();
    (past, good)
}

fn parse_line(line: &[u8], identity: Digest) -> Option<Record> {
    let (check, json) = line.strip_suffix(b"\n")?.split_at_checked(CHECK)?;
    let json = json.strip_prefix(b" ")?;
    if check != check_of(identity, json).as_bytes() { None } else { serde_json::from_slice(json).ok() }
}

fn line(identity: Digest, record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    Ok([check_of(identity, &json).as_bytes(), b" ", &json, b"\n"].concat())
}

fn check_of(identity: Digest, json: &[u8]) -> String {
    let mut check = Digest(Sha256::new().chain_update(identity.0).chain_update(json).finalize().into()).to_string();
    check.truncate(CHECK);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Digest = Digest([7; 32]);
    const OTHER: Digest = Digest([8; 32]);

    fn tensor(name: &str, byte: u8) -> Record {
        Record::Tensor(Done {
            name: name.into(),
            sha256: Digest([byte; 32]),
            squares: f64::NAN.to_bits(),
            notes: vec!["3 values of w\n are kept".into()],
        })
    }

    fn records() -> Vec<Record> {
        let source = Record::Source(Hashed { name: "model.safetensors".into(), sha256: Digest([3; 32]) });
        vec![Record::Start { tool: "t".into() }, tensor("a", 1), source, tensor("b", 2), tensor("a", 9), Record::Commit]
    }

    fn text() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for record in records() {
            bytes.extend(line(PLAN, &record).unwrap());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn what_was_told_is_known() {
        let (past, good) = parse(&text().0, PLAN);
        assert_eq!(good, text().0.len() as u64);
        assert_eq!(past.tensors["a"].sha256, Digest([9; 32]));
        assert_eq!(past.tensors["b"].squares, f64::NAN.to_bits());
        assert_eq!(past.tensors["b"].notes, ["3 values of w\n are kept"]);
        assert_eq!(past.sources["model.safetensors"], Digest([3; 32]));
        assert!(past.committing && !past.foreign);
    }

    #[test]
    fn a_journal_cut_at_any_byte_tells_its_whole_lines() {
        let (bytes, ends) = text();
        for cut in 0..=bytes.len() {
            let (past, good) = parse(&bytes[..cut], PLAN);
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            assert_eq!(good, if whole == 0 { 0 } else { ends[whole - 1] } as u64, "{cut}");
            assert_eq!(past.foreign, whole == 0 && cut > 0);
            let names = records()[..whole].iter().filter(|r| matches!(r, Record::Tensor(d) if d.name == "b")).count();
            assert_eq!(past.tensors.contains_key("b"), names > 0);
        }
    }

    #[test]
    fn any_flipped_bit_ends_what_is_believed() {
        let (bytes, ends) = text();
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[i] ^= 1 << bit;
                let before = ends.iter().filter(|&&end| end <= i).count();
                let believed = if before == 0 { 0 } else { ends[before - 1] };
                assert_eq!(parse(&bad, PLAN).1, believed as u64, "byte {i} bit {bit}");
            }
        }
    }

    #[test]
    fn other_plans_and_other_files_begin_afresh() {
        let foreign = Past { foreign: true, ..Past::default() };
        assert_eq!(parse(&text().0, OTHER), (foreign, 0));
        for bytes in [&b"\n\n\n"[..], b"{}", &[0; 4096], "\u{1b}]0;x\u{7} ü\n".as_bytes(), &[0xff; 100]] {
            let (past, good) = parse(bytes, PLAN);
            assert!(good == 0 && past.foreign && past.tensors.is_empty());
        }
        assert_eq!(parse(b"", PLAN), (Past::default(), 0));
        // A right check over what is no record.
        let json = b"{\"tensor\":{}}";
        let bytes = [check_of(PLAN, json).as_bytes(), b" ", json, b"\n"].concat();
        assert_eq!(parse(&bytes, PLAN).1, 0);
    }

    #[test]
    fn a_journal_is_taken_up_after_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("x.gguf");
        let (bytes, ends) = text();
        fs::write(path_of(&out), &bytes[..ends[1] + 5]).unwrap();
        assert!(peek(&out, PLAN).tensors.contains_key("a"));
        let (journal, past) = Journal::open(&out, PLAN).unwrap();
        assert_eq!((past.tensors.len(), past.sources.len()), (1, 0));
        journal.append(&tensor("c", 4)).unwrap();
        assert_eq!(journal.done(), 1);
        assert!(matches!(Journal::open(&out, PLAN).unwrap_err().problem, Problem::Busy));
        drop(journal);
        let (journal, past) = Journal::open(&out, PLAN).unwrap();
        assert_eq!(past.tensors.len(), 2);
        drop(journal);
        let (journal, past) = Journal::open(&out, OTHER).unwrap();
        assert!(past.foreign && past.tensors.is_empty());
        journal.remove();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_pipes_and_folders_are_no_journals() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("x.gguf");
        let precious = dir.path().join("precious");
        fs::write(&precious, "data").unwrap();
        std::os::unix::fs::symlink(&precious, path_of(&out)).unwrap();
        assert!(matches!(Journal::open(&out, PLAN).unwrap_err().problem, Problem::Write(_)));
        assert_eq!(peek(&out, PLAN), Past::default());
        assert_eq!(fs::read(&precious).unwrap(), b"data");
        fs::remove_file(path_of(&out)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path_of(&out), rustix::fs::Mode::from(0o600)).unwrap();
        assert!(matches!(Journal::open(&out, PLAN).unwrap_err().problem, Problem::NotAFile));
        assert_eq!(peek(&out, PLAN), Past::default());
        fs::remove_file(path_of(&out)).unwrap();
        fs::create_dir(path_of(&out)).unwrap();
        assert!(matches!(Journal::open(&out, PLAN).unwrap_err().problem, Problem::Write(_)));
    }
}
