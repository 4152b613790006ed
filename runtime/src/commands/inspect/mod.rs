//! `qwren inspect`: what is in a file, and what it takes to run it.

mod memory;
mod report;
mod table;
mod value;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use qwren::terminal::shown;
use qwren_quant::gguf::GgufFile;

use crate::args::count;
use crate::exit::Exit;
use report::Report;

/// Options of `qwren inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// GGUF file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Tokens of context to tell the memory for; 0: as many as the model was trained for [default: 4096 or the model's limit]
    #[arg(short = 'c', long, value_name = "N", value_parser = count)]
    ctx_size: Option<usize>,

    /// One line of JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Prints metadata, tensors, types and the memory that a run needs.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let file = GgufFile::open(&args.file)?;
    let report = Report::new(&file, args.ctx_size);
    let text = match args.json {
        true => serde_json::to_string(&report)? + "\n",
        false => table::render(&report),
    };
    let mut out = io::stdout().lock();
    let to_terminal = out.is_terminal();
    out.write_all(shown(&text, to_terminal).as_bytes())?;
    Ok(Exit::Done)
}
