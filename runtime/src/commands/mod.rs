//! One file a command: its options as typed, and what it does.

pub mod bench;
pub mod complete;
pub mod completions;
pub mod devices;
pub mod imatrix;
pub mod inspect;
pub mod logits;
mod man;
pub mod perplexity;
pub mod template;
pub mod tokens;
pub mod verify;

use crate::args::Command;
use crate::chat;
use crate::console::Console;
use crate::exit::Exit;

/// Runs one command to its end.
pub fn run(command: Command, console: Console) -> anyhow::Result<Exit> {
    match command {
        Command::Complete(args) => complete::run(&args, console),
        Command::Chat(args) => chat::run(&args, console),
        Command::Bench(args) => bench::run(&args, console),
        Command::Perplexity(args) => perplexity::run(&args, console),
        Command::Imatrix(args) => imatrix::run(&args, console),
        Command::Tokenize(args) => tokens::tokenize(&args, console),
        Command::Detokenize(args) => tokens::detokenize(&args),
        Command::Template(args) => template::run(&args),
        Command::Logits(args) => logits::run(&args, console),
        Command::Devices(args) => devices::run(&args),
        Command::Man => man::run(),
        Command::Completions(args) => completions::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args, console),
    }
}
