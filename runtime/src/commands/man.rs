//! `qwren man`: the manual page.

use std::io::Write;

use crate::args;
use crate::exit::Exit;

/// Prints the page of the program and, after it, the options of every command.
pub fn run() -> anyhow::Result<Exit> {
    let mut page = Vec::new();
    let tree = args::tree();
    clap_mangen::Man::new(tree.clone()).render(&mut page)?;
    for command in tree.get_subcommands().filter(|c| !c.is_hide_set()) {
        let heading = format!("COMMAND {}", command.get_name().to_uppercase());
        writeln!(page, ".SH \"{heading}\"")?;
        let man = clap_mangen::Man::new(command.clone().bin_name(format!("qwren {}", command.get_name())));
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    std::io::stdout().write_all(&page)?;
    Ok(Exit::Done)
}
