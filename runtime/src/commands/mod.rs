//! One file a command: its options as typed, and what it does.

pub mod completions;
mod man;
pub mod verify;

use crate::args::Command;
use crate::console::Console;
use crate::exit::Exit;

/// Runs one command to its end.
pub fn run(command: Command, console: Console) -> anyhow::Result<Exit> {
    match command {
        Command::Man => man::run(),
        Command::Completions(args) => completions::run(&args),
        Command::Verify(args) => verify::run(&args, console),
    }
}
