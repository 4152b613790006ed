//! Conversations on disk: one file each, a record a line (JSONL), written before what it says is shown.
//!
//! Everything lies in the state folder, `$XDG_STATE_HOME/qwren` or `~/.local/state/qwren`, readable by its owner alone.

mod journal;
mod list;
mod reader;
mod record;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::history::History;
use crate::exit::Failure;

pub use journal::Journal;
pub use list::list;
pub use reader::{Loaded, load};
pub use record::Record;

/// The folder that outlives a run; None where there is no home.
pub fn state_folder() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    Some(var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")))?.join("qwren"))
}

/// Where conversations lie.
pub fn folder() -> anyhow::Result<PathBuf> {
    let state = state_folder().ok_or_else(|| {
        Failure::usage(
            "neither XDG_STATE_HOME nor HOME is set, so there is no place for conversations; set one, or use --private",
        )
    })?;
    Ok(state.join("conversations"))
}

/// Makes a folder and those above it, for the owner alone.
pub fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Options of a file that is appended to and that nobody else may read.
pub fn appending() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options
}

/// Where a conversation goes that is saved to `path`: links are followed, and only a regular file may be replaced.
///
/// # Errors
/// A folder, a device, a pipe, or a place that can't be looked at.
pub fn target(path: &Path) -> io::Result<PathBuf> {
    match path.metadata() {
        Ok(meta) if meta.is_file() => path.canonicalize(),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
        Err(err) if err.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => Ok(path.to_owned()),
        Err(err) => Err(err),
    }
}

/// Writes a conversation to a [`target`], which is replaced when all is written.
///
/// # Errors
/// When it can't be written.
pub fn save(path: &Path, history: &History, model: &str) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Temporary files are their owner's alone, and so stays this one. Their names are nothing to tell.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|err| io::Error::from(err.kind()))?;
    file.write_all(&journal::whole(history, model)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|err| err.error)?;
    Ok(())
}

/// The file of conversation `id`: its whole name, the beginning of one, or, if None, the one that was written to last.
///
/// # Errors
/// No such conversation, or several.
pub fn find(id: Option<&str>) -> anyhow::Result<PathBuf> {
    let folder = folder()?;
    let all = list::entries(&folder)?;
    let Some(id) = id else {
        let newest = all.into_iter().max_by_key(|e| (e.modified, e.id.clone()));
        let text = || format!("{}: there is no conversation to resume yet", folder.display());
        return Ok(newest.ok_or_else(|| Failure::usage(text()))?.path);
    };
    if let Some(entry) = all.iter().find(|e| e.id == id) {
        return Ok(entry.path.clone());
    }
    let mut beginning = all.iter().filter(|e| e.id.starts_with(id));
    match (beginning.next(), beginning.next()) {
        (Some(entry), None) => Ok(entry.path.clone()),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("several conversations begin with {id:?}; `qwren chat --list` shows them"))
                .into())
        }
        (None, _) => {
            Err(Failure::usage(format!("there is no conversation {id:?}; `qwren chat --list` shows them")).into())
        }
    }
}
