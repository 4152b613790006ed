//! JSON values, one a line: stdin in, stdout out.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{self, Failure};

/// The longest line: a value takes several times as much memory.
const MOST_BYTES: usize = 64 << 20;

/// Answers are held back for more of them no longer than this.
const PATIENCE: Duration = Duration::from_millis(50);

/// Answers each line of stdin, a value of type `I` (`wanted` says which in words), with a line of JSON on stdout.
///
/// # Errors
/// A line that is no such value, or that `f` refuses: the text names the line. The answers before it are written.
pub fn map<I: DeserializeOwned, O: Serialize>(
    wanted: &str,
    mut f: impl FnMut(I) -> anyhow::Result<O>,
) -> anyhow::Result<()> {
    map_until(wanted, |value| f(value).map(ControlFlow::Continue)).map(drop)
}

/// As [`map`], until an answer that is the last one. Says whether there was one.
///
/// # Errors
/// As [`map`].
pub fn map_until<I: DeserializeOwned, O: Serialize>(
    wanted: &str,
    f: impl FnMut(I) -> anyhow::Result<ControlFlow<O, O>>,
) -> anyhow::Result<ControlFlow<()>> {
    map_between(io::stdin().lock(), io::stdout().lock(), wanted, f)
}

fn map_between<I: DeserializeOwned, O: Serialize>(
    input: impl Read,
    output: impl Write,
    wanted: &str,
    mut f: impl FnMut(I) -> anyhow::Result<ControlFlow<O, O>>,
) -> anyhow::Result<ControlFlow<()>> {
    let (mut input, mut output) = (BufReader::new(input), BufWriter::new(output));
    let mut line = Vec::new();
    let mut flushed = Instant::now();
    for number in 1.. {
        // A program at the other end may wait for an answer before it writes the next line.
        if flushed.elapsed() > PATIENCE || !input.buffer().contains(&b'\n') {
            output.flush()?;
            flushed = Instant::now();
        }
        line.clear();
        let read = input.by_ref().take(MOST_BYTES as u64 + 1).read_until(b'\n', &mut line);
        if read.map_err(|err| unread(err, number))? == 0 {
            break;
        }
        if line.len() > MOST_BYTES {
            output.flush()?;
            let text = format!("stdin, line {number}: is longer than {} MiB; send less at once", MOST_BYTES >> 20);
            return Err(Failure::usage(text).into());
        }
        // What editors leave behind.
        let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&line);
        if text.trim_ascii().is_empty() {
            continue;
        }
        let value = serde_json::from_slice(text).map_err(|err| {
            // Of a value that may have several forms the library has nothing to tell.
            let why = match err.to_string() {
                why if why.contains("untagged enum") => String::new(),
                why => format!(" ({why})"),
            };
            anyhow::Error::from(Failure::usage(format!("stdin, line {number}: is not {wanted}{why}; write one a line")))
        });
        let answer = match value.and_then(|value| f(value).map_err(|err| located(number, err))) {
            Ok(answer) => answer,
            Err(err) => {
                output.flush()?;
                return Err(err);
            }
        };
        let (ControlFlow::Continue(said) | ControlFlow::Break(said)) = &answer;
        serde_json::to_writer(&mut output, said).map_err(io::Error::from)?;
        output.write_all(b"\n")?;
        if answer.is_break() {
            output.flush()?;
            return Ok(ControlFlow::Break(()));
        }
    }
    output.flush()?;
    Ok(ControlFlow::Continue(()))
}

fn unread(err: io::Error, number: usize) -> anyhow::Error {
    let text = format!("stdin, line {number}: cannot be read: {err}");
    exit::reword(err.into(), text)
}

fn located(number: usize, err: anyhow::Error) -> anyhow::Error {
    let text = format!("stdin, line {number}: {err}");
    exit::reword(err, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn lengths(input: &str) -> (String, anyhow::Result<()>) {
        let mut out = Vec::new();
        let result = map_between(input.as_bytes(), &mut out, "a JSON string", |s: String| {
            anyhow::ensure!(!s.is_empty(), Failure::new(Exit::Unsupported, "empty"));
            Ok(if s == "last" { ControlFlow::Break(s.len()) } else { ControlFlow::Continue(s.len()) })
        });
        (String::from_utf8(out).unwrap(), result.map(drop))
    }

    #[test]
    fn each_line_is_answered() {
        let (out, result) = lengths("\"ab\"\n  \"\\u00e9\" \n\"abc\"");
        assert_eq!(out, "2\n2\n3\n");
        result.unwrap();
        let (out, result) = lengths("\u{feff}\"ab\"\r\n\n \t\r\n\"abc\"\n\n");
        assert_eq!(out, "2\n3\n");
        result.unwrap();
    }

    #[test]
    fn a_wrong_line_is_named_and_those_before_it_answered() {
        let (out, result) = lengths("\"ab\"\n[1]\n\"c\"\n");
        assert_eq!(out, "2\n");
        let err = result.unwrap_err();
        assert_eq!(exit::code(&err), Exit::Usage);
        assert!(err.to_string().starts_with("stdin, line 2: is not a JSON string (invalid type"), "{err}");
        // A mark of the byte order stands at the beginning of a text alone.
        let err = lengths("\n\u{feff}\"ab\"\n").1.unwrap_err();
        assert!(err.to_string().starts_with("stdin, line 2: is not a JSON string (expected value"), "{err}");
    }

    #[test]
    fn nothing_is_read_after_the_last_answer() {
        let (out, result) = lengths("\"ab\"\n\"last\"\nno JSON\n");
        assert_eq!(out, "2\n4\n");
        result.unwrap();
    }

    /// Counts what reached the other end while the next line was already there.
    #[test]
    fn an_answer_that_took_long_is_not_held_back() {
        let (mut other_end, output) = io::pipe().unwrap();
        let mut before = Vec::new();
        let ended = map_between("1\n2\n".as_bytes(), output, "a number", |n: u32| {
            if n > 1 {
                let mut heard = [0; 8];
                before.push(other_end.read(&mut heard).unwrap());
            }
            std::thread::sleep(2 * PATIENCE);
            Ok(ControlFlow::Continue(n))
        })
        .unwrap();
        assert_eq!((before, ended), (vec![2], ControlFlow::Continue(())));
    }

    #[test]
    fn empty_lines_hold_no_answer_back() {
        let (mut other_end, output) = io::pipe().unwrap();
        let (input, mut lines) = io::pipe().unwrap();
        let answers =
            std::thread::spawn(|| map_between(input, output, "a number", |n: u32| Ok(ControlFlow::Continue(n))));
        lines.write_all(b"7\n\n").unwrap();
        let mut heard = [0; 2];
        other_end.read_exact(&mut heard).unwrap();
        drop(lines);
        assert_eq!((&heard, answers.join().unwrap().unwrap()), (b"7\n", ControlFlow::Continue(())));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let input = io::repeat(b' ').take(1 << 40);
        let result = map_between(input, io::sink(), "a number", |n: u32| Ok(ControlFlow::Continue(n)));
        let err = result.unwrap_err();
        assert_eq!(exit::code(&err), Exit::Usage);
        assert_eq!(err.to_string(), "stdin, line 1: is longer than 64 MiB; send less at once");
    }

    #[test]
    fn stdin_that_cannot_be_read_is_named() {
        let err = unread(io::Error::from(io::ErrorKind::IsADirectory), 1);
        assert_eq!(
            (exit::code(&err), err.to_string()),
            (Exit::Usage, "stdin, line 1: cannot be read: is a directory".into())
        );
    }

    #[test]
    fn a_refused_line_keeps_its_exit_code() {
        let err = lengths("\"ab\"\n\"\"\n").1.unwrap_err();
        assert_eq!((exit::code(&err), err.to_string()), (Exit::Unsupported, "stdin, line 2: empty".into()));
    }
}
