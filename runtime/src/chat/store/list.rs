//! Which conversations there are.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use qwren::terminal::shown;

use super::reader::glance;
use crate::exit::Exit;

/// The longest piece of a first message that is shown, in characters.
const WORDS: usize = 60;

/// A file in the folder of conversations.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) path: PathBuf,
    pub(super) modified: SystemTime,
}

/// The files of `folder` that are called like conversations; none where there is no folder.
pub(super) fn entries(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(anyhow::Error::from(err).context(format!("{}: cannot be read", folder.display()))),
    };
    let entry = |file: io::Result<std::fs::DirEntry>| {
        let path = file.ok()?.path();
        let id = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.to_owned();
        // A pipe or a device would keep us waiting.
        let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let modified = meta.modified().ok()?;
        Some(Entry { id, path, modified })
    };
    Ok(files.filter_map(entry).collect())
}

/// Prints the conversations, a line each, the latest first.
pub fn list() -> anyhow::Result<Exit> {
    let mut all = entries(&super::folder()?)?;
    all.sort_by(|a, b| (b.modified, &b.id).cmp(&(a.modified, &a.id)));
    let mut out = io::stdout().lock();
    let terminal = out.is_terminal();
    for entry in all {
        let line = match glance(&entry.path) {
            Some((head, message)) => {
                let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
                format!("{}  {}  {}", entry.id, head.model, words.chars().take(WORDS).collect::<String>())
            }
            None => format!("{}  (can't be read as a conversation)", entry.id),
        };
        writeln!(out, "{}", shown(&line.replace(['\n', '\t'], " "), terminal))?;
    }
    Ok(Exit::Done)
}
