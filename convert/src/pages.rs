//! `--generate`: the manual page and the shells' completions, from the definitions of the command line.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::{LowArgs, Page};

/// Prints a page.
pub fn print(page: Page) -> io::Result<()> {
    // Into memory first: the generators panic when their writer fails.
    let mut text = Vec::new();
    let mut command = LowArgs::command();
    let shell = match page {
        Page::Man => None,
        Page::Bash => Some(Shell::Bash),
        Page::Zsh => Some(Shell::Zsh),
        Page::Fish => Some(Shell::Fish),
    };
    match shell {
        None => clap_mangen::Man::new(command).render(&mut text)?,
        Some(shell) => clap_complete::generate(shell, &mut command, "qwren-convert", &mut text),
    }
    io::stdout().write_all(&text)
}
