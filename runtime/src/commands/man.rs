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
    // The commands have no pages of their own to refer to.
    let page = String::from_utf8_lossy(&page);
    let own = regex::Regex::new(r"qwren\\-([a-z]+)\(1\)").expect("a sound pattern");
    std::io::stdout().write_all(own.replace_all(&page, "qwren $1").as_bytes())?;
    Ok(Exit::Done)
}
