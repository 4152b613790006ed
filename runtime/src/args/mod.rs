//! The command line as typed. What it means is worked out once, by each command, before anything is loaded.

mod argv;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands;

/// Everything that was typed.
#[derive(Debug, Parser)]
#[command(name = "qwren", version, about = "Runs Qwen3 GGUF files in a terminal", infer_subcommands = false)]
#[command(
    after_help = "Exit codes: 0 done, 1 a fault of qwren, 2 wrong usage or a wrong file, 3 sound but unsupported, \
                        4 not enough memory or disk, 130 interrupted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Say nothing on stderr but errors
    #[arg(long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more on stderr, and the whole chain of causes of an error
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// One variant a command; its options lie in the command's own file.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a file: structure, digest, finite values
    Verify(commands::verify::Args),
    /// Print the manual page (roff)
    Man,
    /// Print a completion script for a shell
    Completions(commands::completions::Args),
}

/// Parses the process's arguments. Wrong usage ends the process with 2, `--help` and `--version` with 0.
pub fn parse() -> Cli {
    Cli::parse_from(argv::expand(std::env::args_os()))
}

/// The command tree, for the manual page and the completions.
pub fn tree() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_tree_is_consistent() {
        super::tree().debug_assert();
    }
}
