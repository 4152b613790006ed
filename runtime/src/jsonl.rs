//! JSON values, one a line: stdin in, stdout out.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{self, Failure};

/// Answers each line of stdin, a value of type `I` (`wanted` says which in words), with a line of JSON on stdout.
///
/// # Errors
/// A line that is no such value, or that `f` refuses: the text names the line. The answers before it are written.
pub fn map<I: DeserializeOwned, O: Serialize>(
    wanted: &str,
    f: impl FnMut(I) -> anyhow::Result<O>,
) -> anyhow::Result<()> {
    map_between(io::stdin().lock(), io::stdout().lock(), wanted, f)
}

fn map_between<I: DeserializeOwned, O: Serialize>(
    input: impl Read,
    output: impl Write,
    wanted: &str,
    mut f: impl FnMut(I) -> anyhow::Result<O>,
) -> anyhow::Result<()> {
    let (mut input, mut output) = (BufReader::new(input), BufWriter::new(output));
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let value = serde_json::from_slice(&line).map_err(|err| {
            // Of a value that may have several forms the library has nothing to tell.
            let why = match err.to_string() {
                why if why.contains("untagged enum") => String::new(),
                why => format!(" ({why})"),
            };
            anyhow::Error::from(Failure::usage(format!("stdin, line {number}: is not {wanted}{why}; write one a line")))
        });
        let answer = value.and_then(|value| f(value).map_err(|err| located(number, err)));
        match answer {
            Ok(answer) => serde_json::to_writer(&mut output, &answer).map_err(io::Error::from)?,
            Err(err) => {
                output.flush()?;
                return Err(err);
            }
        }
        output.write_all(b"\n")?;
        // A program at the other end may wait for this answer before it writes the next line.
        if !input.buffer().contains(&b'\n') {
            output.flush()?;
        }
    }
    output.flush()?;
    Ok(())
}

fn located(number: usize, err: anyhow::Error) -> anyhow::Error {
    let failure = Failure::new(exit::code(&err), format!("stdin, line {number}: {err}"));
    err.context(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn lengths(input: &str) -> (String, anyhow::Result<()>) {
        let mut out = Vec::new();
        let result = map_between(input.as_bytes(), &mut out, "a JSON string", |s: String| {
            anyhow::ensure!(!s.is_empty(), Failure::new(Exit::Unsupported, "empty"));
            Ok(s.len())
        });
        (String::from_utf8(out).unwrap(), result)
    }

    #[test]
    fn each_line_is_answered() {
        let (out, result) = lengths("\"ab\"\n  \"\\u00e9\" \n\"abc\"");
        assert_eq!(out, "2\n2\n3\n");
        result.unwrap();
    }

    #[test]
    fn a_wrong_line_is_named_and_those_before_it_answered() {
        let (out, result) = lengths("\"ab\"\n[1]\n\"c\"\n");
        assert_eq!(out, "2\n");
        let err = result.unwrap_err();
        assert_eq!(exit::code(&err), Exit::Usage);
        assert!(err.to_string().starts_with("stdin, line 2: is not a JSON string (invalid type"), "{err}");
    }

    #[test]
    fn a_refused_line_keeps_its_exit_code() {
        let err = lengths("\"ab\"\n\"\"\n").1.unwrap_err();
        assert_eq!((exit::code(&err), err.to_string()), (Exit::Unsupported, "stdin, line 2: empty".into()));
    }
}
