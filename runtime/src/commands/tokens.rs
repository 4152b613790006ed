//! `qwren tokenize` and `qwren detokenize`: text to ids and back.

use std::io::Write;

use qwren::vocab::{Specials, Vocab};

use crate::args::{ModelArgs, TextArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::{jsonl, load};

/// Options of `qwren tokenize`.
#[derive(Debug, clap::Args)]
pub struct TokenizeArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    text: TextArgs,

    /// Special tokens in the text, such as <|im_end|>, are parsed; without this they are text like any other
    #[arg(long)]
    special: bool,

    /// Each line of stdin is a JSON string; print an array of ids for each
    #[arg(long, conflicts_with_all = ["prompt", "file"])]
    jsonl: bool,
}

/// Options of `qwren detokenize`.
#[derive(Debug, clap::Args)]
pub struct DetokenizeArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Each line of stdin is an array of ids; print a JSON string for each, special tokens kept
    #[arg(long, required = true)]
    jsonl: bool,
}

/// Text → ids: a table for people, or JSON.
pub fn tokenize(args: &TokenizeArgs, console: Console) -> anyhow::Result<Exit> {
    let path = &args.model.model;
    let vocab = load::vocab(path, load::file(path)?.header())?;
    let specials = if args.special { Specials::Parse } else { Specials::Plain };
    if args.jsonl {
        jsonl::map("a JSON string", |text: String| Ok(vocab.encode(&text, specials)?))?;
    } else {
        let ids = vocab.encode(&args.text.read(console)?, specials)?;
        std::io::stdout().write_all(table(&vocab, &ids).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// One line a token: its id and its text, quoted.
fn table(vocab: &Vocab, ids: &[u32]) -> String {
    let line = |&id: &u32| format!("{id:>8}  \"{}\"\n", quoted(vocab.piece(id)));
    ids.iter().map(line).collect()
}

/// A token's bytes for people: whole characters as they are, control characters and broken UTF-8 escaped.
fn quoted(piece: &[u8]) -> String {
    let chunk = |c: std::str::Utf8Chunk<'_>| format!("{}{}", c.valid().escape_debug(), c.invalid().escape_ascii());
    piece.utf8_chunks().map(chunk).collect()
}

/// Ids → text, as JSON.
pub fn detokenize(args: &DetokenizeArgs) -> anyhow::Result<Exit> {
    let path = &args.model.model;
    let vocab = load::vocab(path, load::file(path)?.header())?;
    jsonl::map("an array of token ids", |ids: Vec<u32>| {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab.len()) {
            return Err(Failure::usage(format!("token {id} is not among the model's {}", vocab.len())).into());
        }
        Ok(vocab.decode(&ids))
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_shown_whole() {
        assert_eq!(quoted(" é\n".as_bytes()), " é\\n");
        assert_eq!(quoted(b"\x1b\xe2\x82"), "\\u{1b}\\xe2\\x82");
    }
}
