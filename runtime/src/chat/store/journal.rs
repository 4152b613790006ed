//! Writing a conversation as it happens.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use qwren::date::Utc;
use rustix::fs::{FlockOperation, flock};

use super::record::{Head, Record, VERSION};
use super::{Loaded, appending, make_folder};
use crate::chat::history::History;
use crate::exit::Failure;

/// Where a conversation is kept.
enum Place {
    /// Nowhere: private, or writing failed.
    Nowhere,
    /// In a new file of this folder, once there is something to keep.
    New(PathBuf),
    /// In this file.
    File { path: PathBuf, file: File },
}

/// Appends records to a conversation's file. Each is one write, so that a kill at any time loses none that was made before.
pub struct Journal {
    place: Place,
    model: String,
}

impl Journal {
    /// Keeps nothing of what is said with `model`.
    pub fn none(model: String) -> Journal {
        Journal { place: Place::Nowhere, model }
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Will keep a new conversation with `model` in `folder`.
    pub fn new(folder: PathBuf, model: String) -> Journal {
        Journal { place: Place::New(folder), model }
    }

    /// Goes on with a file that was read.
    ///
    /// # Errors
    /// A file that can't be written, or that another process writes to.
    pub fn resume(path: PathBuf, read: &Loaded, model: String) -> anyhow::Result<Journal> {
        let failed =
            |err: io::Error| Failure::usage(format!("{}: cannot be written: {err}; use --private", path.display()));
        let mut file = appending().open(&path).map_err(failed)?;
        lock(&file, &path)?;
        // What a power cut left of a record is no record.
        file.set_len(read.sound_bytes).map_err(failed)?;
        if !read.line_ends {
            file.write_all(b"\n").map_err(failed)?;
        }
        Ok(Journal { place: Place::File { path, file }, model })
    }

    /// The conversation's file, once it has one.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::File { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The conversation's name, once it has a file.
    pub fn id(&self) -> Option<&str> {
        self.path()?.file_stem()?.to_str()
    }

    /// From now on another conversation is kept, in a file of its own.
    pub fn start_anew(&mut self) {
        if let Place::File { path, .. } = &self.place
            && let Some(folder) = path.parent()
        {
            self.place = Place::New(folder.to_owned());
        }
    }

    /// Keeps `record`, which has happened to `history` already. The first message begins the file.
    ///
    /// # Errors
    /// When it can't be written; nothing is kept from then on.
    pub fn write(&mut self, record: &Record, history: &History) -> io::Result<()> {
        let result = self.try_write(record, history);
        if result.is_err() {
            self.place = Place::Nowhere;
        }
        result
    }

    fn try_write(&mut self, record: &Record, history: &History) -> io::Result<()> {
        match &mut self.place {
            Place::Nowhere => Ok(()),
            Place::File { file, .. } => {
                file.write_all(&line(record)?)?;
                // The system may lose power too; once an answer is enough.
                if matches!(record, Record::End(_)) { file.sync_data() } else { Ok(()) }
            }
            Place::New(folder) if history.last().is_some() => {
                let (path, mut file) = create(folder)?;
                file.write_all(&whole(history, &self.model)?)?;
                self.place = Place::File { path, file };
                Ok(())
            }
            Place::New(_) => Ok(()),
        }
    }
}

/// A conversation as the bytes of a new file.
pub(super) fn whole(history: &History, model: &str) -> io::Result<Vec<u8>> {
    let now = Utc::now();
    let created = format!("{}T{}Z", now.date("-"), now.time(":"));
    let head = Record::Conversation(Head { version: VERSION, created, model: model.to_owned() });
    let mut bytes = line(&head)?;
    for record in history.records() {
        bytes.extend(line(&record)?);
    }
    Ok(bytes)
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(record)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn lock(file: &File, path: &Path) -> anyhow::Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let text = format!("{}: another qwren has this conversation open; leave that one first", path.display());
            Err(Failure::usage(text).into())
        }
        // A file system without locks: then nobody is kept out.
        _ => Ok(()),
    }
}

/// A new file, named after the time; a letter is added where two start in the same second.
fn create(folder: &Path) -> io::Result<(PathBuf, File)> {
    make_folder(folder)?;
    let now = Utc::now();
    let name = format!("{}-{}", now.date(""), now.time(""));
    let mut options = appending();
    options.create_new(true);
    for suffix in std::iter::once(String::new()).chain((b'b'..=b'z').map(|c| char::from(c).to_string())) {
        let path = folder.join(format!("{name}{suffix}.jsonl"));
        match options.open(&path) {
            Ok(file) => {
                let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
                return Ok((path, file));
            }
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(err),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many conversations began in this second"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::store::load;

    fn happen(journal: &mut Journal, history: &mut History, record: Record) {
        history.apply(&record);
        journal.write(&record, history).unwrap();
    }

    #[test]
    fn a_conversation_comes_back_as_it_was() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let mut journal = Journal::new(folder.clone(), "Demo".into());
        let mut history = History::new(Some("S".into()));
        happen(&mut journal, &mut history, Record::System(Some("S2".into())));
        assert!(!folder.exists(), "nothing is written before the first message");
        for record in [Record::User("q\n\"1\"".into()), Record::Answer("é".into()), Record::End("eos".into())] {
            happen(&mut journal, &mut history, record);
        }
        let path = folder.join(format!("{}.jsonl", journal.id().unwrap()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        assert_eq!(load(&path).unwrap().history, history);

        let loaded = load(&path).unwrap();
        assert!(Journal::resume(path.clone(), &loaded, String::new()).is_err(), "two may not write to one file");
        journal.start_anew();
        history = History::new(Some("S2".into()));
        happen(&mut journal, &mut history, Record::User("q2".into()));
        let second = folder.join(format!("{}.jsonl", journal.id().unwrap()));
        assert_ne!(second, path);
        assert_eq!(load(&second).unwrap().history, history);
    }

    #[test]
    fn a_file_that_was_cut_off_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        for tail in ["{\"ans", "{\"answer\":\"a\"}", ""] {
            let path = dir.path().join("x.jsonl");
            let mut history = History::default();
            history.apply(&Record::User("q".into()));
            let mut bytes = whole(&history, "Demo").unwrap();
            bytes.extend(tail.as_bytes());
            std::fs::write(&path, &bytes).unwrap();
            let loaded = load(&path).unwrap();
            let mut history = loaded.history.clone();
            let mut journal = Journal::resume(path.clone(), &loaded, String::new()).unwrap();
            happen(&mut journal, &mut history, Record::User("q2".into()));
            assert_eq!(load(&path).unwrap().history, history, "after {tail:?}");
            assert_eq!(history.turns()[0].reply.is_some(), tail.ends_with('}'));
        }
    }
}
