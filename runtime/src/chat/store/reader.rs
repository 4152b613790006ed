//! Reading a conversation. The file may come from anybody: sizes are bounded, and a line that is no record is an error
//! that names it. Only the last line may be broken: a power cut can do that.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::record::{Head, Record, VERSION};
use crate::chat::history::History;
use crate::exit::Failure;

/// The largest file that is read: far more than any context holds.
const MAX_BYTES: u64 = 64 << 20;

/// What a file holds.
#[derive(Debug)]
pub struct Loaded {
    /// Its first line.
    pub head: Head,
    /// What was said.
    pub history: History,
    /// Answers that were given, those that were put aside too.
    pub answers: u64,
    /// Bytes of the file up to where its records end: what comes after is the beginning of one that was never written.
    pub sound_bytes: u64,
    /// Whether the last record's line has an end.
    pub line_ends: bool,
}

/// Reads a whole conversation.
///
/// # Errors
/// A file that can't be read, is no conversation, or is too large.
pub fn load(path: &Path) -> anyhow::Result<Loaded> {
    let name = path.display();
    let unreadable = |err| Failure::usage(format!("{name}: cannot be read: {err}"));
    // A pipe or a device would keep us waiting.
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(Failure::usage(format!("{name}: is no file")).into());
    }
    let file = File::open(path).map_err(unreadable)?;
    parse(BufReader::new(file)).map_err(|fault| Failure::usage(format!("{name}: {fault}")).into())
}

fn parse(input: impl BufRead) -> Result<Loaded, String> {
    // One byte more than is allowed, to see that there is more.
    let mut input = input.take(MAX_BYTES + 1);
    let mut line = Vec::new();
    let mut loaded: Option<Loaded> = None;
    let mut at = 0;
    for number in 1.. {
        line.clear();
        let n = input.read_until(b'\n', &mut line).map_err(|err| format!("cannot be read: {err}"))?;
        if n == 0 {
            break;
        }
        if input.limit() == 0 {
            return Err(format!("is larger than the {} MiB that a conversation may have", MAX_BYTES >> 20));
        }
        let line_ends = line.last() == Some(&b'\n');
        let record = match serde_json::from_slice(&line) {
            Ok(record) => record,
            Err(_) if !line_ends && loaded.is_some() => break,
            Err(err) if number == 1 => return Err(format!("is no conversation of qwren ({err})")),
            Err(err) => return Err(format!("line {number}: is no record of a conversation ({err})")),
        };
        match (&mut loaded, record) {
            (None, Record::Conversation(head)) if head.version > VERSION => {
                return Err(format!("was written by a newer qwren (format {}); update", head.version));
            }
            (None, Record::Conversation(head)) => {
                let history = History::default();
                loaded = Some(Loaded { head, history, answers: 0, sound_bytes: 0, line_ends });
            }
            (None, _) => return Err("is no conversation of qwren: the first line doesn't say so".to_owned()),
            (Some(loaded), record) => {
                loaded.answers += u64::from(matches!(record, Record::End(_)));
                loaded.history.apply(&record);
            }
        }
        at += n as u64;
        if let Some(loaded) = &mut loaded {
            (loaded.sound_bytes, loaded.line_ends) = (at, line_ends);
        }
    }
    loaded.ok_or_else(|| "is empty; a conversation has a line at least".to_owned())
}

/// The head and the first message, from the beginning of a file; None if it is no conversation.
pub(super) fn glance(path: &Path) -> Option<(Head, String)> {
    const GLANCE: u64 = 256 << 10;
    let mut input = BufReader::new(File::open(path).ok()?.take(GLANCE));
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).ok()?;
    let Ok(Record::Conversation(head)) = serde_json::from_slice(&line) else { return None };
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).ok()? == 0 {
            return Some((head, String::new()));
        }
        match serde_json::from_slice(&line) {
            Ok(Record::User(text)) => return Some((head, text)),
            Ok(_) => {}
            // A first message longer than the glance.
            Err(_) => return Some((head, String::new())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::history::Asked;

    const HEAD: &str = r#"{"conversation":{"version":1,"created":"2026-11-25T18:30:00Z","model":"Demo"}}"#;

    #[test]
    fn records_become_turns() {
        let text = format!(
            "{HEAD}\n{{\"system\":\"S\"}}\n{{\"user\":\"q\"}}\n{{\"thought\":\"t\"}}\n{{\"answer\":\"a\"}}\n{{\"answer\":\"b\"}}\n{{\"end\":\"eos\"}}\n\"regen\"\n{{\"answer\":\"c\"}}\n"
        );
        let loaded = parse(text.as_bytes()).unwrap();
        assert_eq!((loaded.head.model.as_str(), loaded.answers), ("Demo", 1));
        assert_eq!((loaded.sound_bytes, loaded.line_ends), (text.len() as u64, true));
        let turn = loaded.history.last().unwrap();
        assert_eq!((&turn.asked, turn.earlier.len()), (&Asked::User("q".into()), 1));
        assert_eq!(turn.reply.as_ref().unwrap().text, "c", "an answer without an end was cut off, and is kept");
        assert_eq!(loaded.history.system(), Some("S"));
    }

    #[test]
    fn a_torn_last_line_is_left_out() {
        for tail in ["{\"ans", "{\"answer\":\"x\"", "{\"answer\":\"\u{e9}"] {
            let text = format!("{HEAD}\n{{\"user\":\"q\"}}\n{{\"answer\":\"a\"}}\n");
            let loaded = parse((text.clone() + tail).as_bytes()).unwrap();
            assert_eq!((loaded.sound_bytes, loaded.line_ends), (text.len() as u64, true));
            assert_eq!(loaded.history.last().unwrap().reply.as_ref().unwrap().text, "a");
        }
        // Whole but for the line's end.
        let loaded = parse(format!("{HEAD}\n{{\"user\":\"q\"}}").as_bytes()).unwrap();
        assert!(!loaded.line_ends && loaded.history.last().is_some());
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        for (text, words) in [
            (String::new(), "is empty"),
            ("{}".into(), "is no conversation"),
            ("{\"user\":\"q\"}\n".into(), "the first line"),
            ("\0\0\0".into(), "is no conversation"),
            (format!("{HEAD}\n{{\"user\":3}}\n{{\"user\":\"q\"}}\n"), "line 2"),
            (format!("{HEAD}\n{{\"format\":\"disk\"}}\n"), "line 2"),
            (HEAD.replace("\"version\":1", "\"version\":99"), "newer qwren"),
            (format!("{HEAD}\n{}\n", "[".repeat(100_000)), "line 2"),
        ] {
            let fault = parse(text.as_bytes()).unwrap_err();
            assert!(fault.contains(words), "{fault}");
        }
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let endless = std::io::repeat(b'x');
        let fault = parse(BufReader::new(HEAD.as_bytes().chain(&b"\n"[..]).chain(endless))).unwrap_err();
        assert!(fault.contains("larger than"), "{fault}");
    }
}
