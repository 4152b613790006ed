//! What Tab offers: commands, names of settings, files.

use std::path::{MAIN_SEPARATOR, Path};

use qwren::terminal::escape;
use rustyline::completion::Pair;

use crate::chat::commands::{Command, SPECS};
use crate::chat::files::expand_home;
use crate::chat::settings;

/// Where the word before the cursor begins, and what it could become. `before`: the line up to the cursor.
pub fn candidates(before: &str) -> (usize, Vec<Pair>) {
    if !before.starts_with('/') || before.contains('\n') {
        return (before.len(), Vec::new());
    }
    let Some((word, rest)) = before.split_once(char::is_whitespace) else {
        let names = SPECS.iter().flat_map(|spec| spec.names).copied();
        return (0, beginning_with(before, names));
    };
    let Some(spec) = SPECS.iter().find(|spec| spec.names.contains(&word)) else { return (before.len(), Vec::new()) };
    let rest = rest.trim_start();
    let start = before.len() - rest.len();
    match spec.command {
        Command::Set => match rest.split_once(char::is_whitespace) {
            None => (start, beginning_with(rest, settings::names())),
            Some((name, value)) => {
                let value = value.trim_start();
                (before.len() - value.len(), beginning_with(value, settings::values(name).iter().copied()))
            }
        },
        Command::Markdown => (start, beginning_with(rest, ["on", "off"].into_iter())),
        Command::Read | Command::Glob | Command::Save | Command::Load => files(rest, start),
        _ => (before.len(), Vec::new()),
    }
}

fn beginning_with<'a>(word: &str, all: impl Iterator<Item = &'a str>) -> Vec<Pair> {
    let fitting = all.filter(|name| name.starts_with(word));
    fitting.map(|name| Pair { display: name.to_owned(), replacement: name.to_owned() }).collect()
}

/// Files whose path begins with `typed`, the rest of the line. A name with control characters is never offered: typed or
/// shown it would not be what it is.
fn files(typed: &str, start: usize) -> (usize, Vec<Pair>) {
    let name_at = typed.rfind(MAIN_SEPARATOR).map_or(0, |i| i + 1);
    let (folder, beginning) = typed.split_at(name_at);
    let read = std::fs::read_dir(if folder.is_empty() { Path::new(".").to_owned() } else { expand_home(folder) });
    let mut found: Vec<Pair> = read
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let hidden = name.starts_with('.') && !beginning.starts_with('.');
            if !name.starts_with(beginning) || hidden || escape(&name) != name || name.contains('\n') {
                return None;
            }
            let slash = if entry.path().is_dir() { "/" } else { "" };
            let name = format!("{name}{slash}");
            Some(Pair { display: name.clone(), replacement: name })
        })
        .collect();
    found.sort_by(|a, b| a.display.cmp(&b.display));
    (start + name_at, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(before: &str) -> (usize, Vec<String>) {
        let (start, pairs) = candidates(before);
        (start, pairs.into_iter().map(|pair| pair.replacement).collect())
    }

    #[test]
    fn commands_and_settings_are_completed() {
        assert_eq!(offered("/re"), (0, vec!["/regen".to_owned(), "/read".to_owned()]));
        assert_eq!(offered("/set top"), (5, vec!["top-k".to_owned(), "top-p".to_owned()]));
        assert_eq!(offered("/set thoughts d"), (14, vec!["dim".to_owned()]));
        assert_eq!(offered("/markdown o"), (10, vec!["on".to_owned(), "off".to_owned()]));
        assert_eq!(offered("Hello /re").1, Vec::<String>::new());
        assert_eq!(offered("/nothing x").1, Vec::<String>::new());
    }

    #[test]
    fn files_are_completed_in_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a b.txt", "ab.txt", "c.txt", ".hidden", "a\u{1b}c"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("adir")).unwrap();
        let line = format!("/read {}/a", dir.path().display());
        assert_eq!(offered(&line), (line.len() - 1, vec!["a b.txt".into(), "ab.txt".into(), "adir/".into()]));
        assert!(offered("/read /no/such/folder/").1.is_empty());
    }
}
