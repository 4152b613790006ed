//! One file a command: its options as typed, and what it does.

pub mod completions;
mod man;

use crate::args::Command;
use crate::console::Console;
use crate::exit::Exit;

/// Runs one command to its end.
pub fn run(command: Command, _console: Console) -> anyhow::Result<Exit> {
    match command {
        Command::Man => man::run(),
        Command::Completions(args) => completions::run(&args),
    }
}
