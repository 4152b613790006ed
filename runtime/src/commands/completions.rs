//! `qwren completions SHELL`: a completion script.

use std::io::Write;

use clap_complete::Shell;

use crate::args;
use crate::exit::Exit;

/// Options of `qwren completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell that will read the script
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics when its writer fails, and a closed stdout is no fault.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::tree(), "qwren", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}
