//! `qwren verify`: is a file whole and sound?

mod digest;
mod finite;
mod model;

use std::path::PathBuf;
use std::{io, io::Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qwren::terminal::shown;
use qwren_quant::gguf::{GgufFile, GgufPart, Quoted};

use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Options of `qwren verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// GGUF file; its SHA-256 is compared with FILE.sha256 where there is one
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Checks structure, model, digest and values, in this order, and says what was found.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    let path = &args.file;
    let file = GgufFile::open(path)?;
    let header = file.header();
    say(&format!("structure  sound: {} keys, {} tensors", header.metadata().len(), header.tensors().len()))?;
    say(&format!("model      {}", model::check(&file)?))?;

    for part in file.parts() {
        let said = compare_digest(part, console)?;
        let which = match file.parts().len() {
            1 => String::new(),
            _ => format!("{}: ", Quoted::new(&part.path().file_name().unwrap_or_default().to_string_lossy())),
        };
        say(&format!("sha256     {which}{said}"))?;
    }

    let bar = progress(console, "values", header.tensors().iter().map(|t| t.bytes).sum());
    let survey = finite::survey(&file, |n| bar.inc(n));
    bar.finish_and_clear();
    for t in &survey.bad {
        let (name, value) = (Quoted::new(&t.name), t.value);
        say(&format!("values     {name} has {value} at index {}, and {} such values in all", t.index, t.count))?;
    }
    if survey.skipped > 0 {
        say(&format!("values     not looked at in {} tensors of types that can't be read here", survey.skipped))?;
    }
    if let Some(first) = survey.bad.first() {
        let more = match survey.bad.len() - 1 {
            0 => String::new(),
            n => format!(" (and so {n} more tensors)"),
        };
        let text = format!(
            "{}: has {} values that are not finite in tensor {}, the first at index {}{more}; download or convert it again",
            path.display(),
            first.count,
            Quoted::new(&first.name),
            first.index
        );
        return Err(Failure::usage(text).into());
    }
    say(&format!("values     finite in {} tensors", survey.sound))?;
    Ok(Exit::Done)
}

/// Compares a file's SHA-256 with the one beside it, if there is one, and tells the outcome.
fn compare_digest(file: &GgufPart, console: Console) -> anyhow::Result<String> {
    let path = file.path();
    let Some(expected) = digest::beside(path)? else {
        return Ok("not compared: there is no .sha256 file beside it".into());
    };
    let bar = progress(console, "sha256", file.bytes().len() as u64);
    let found = digest::of(file.bytes(), |n| bar.inc(n));
    bar.finish_and_clear();
    if found != expected {
        let text = format!(
            "{}: has the SHA-256 {found}, but the file beside it says {expected}; download or convert it again",
            path.display()
        );
        return Err(Failure::usage(text).into());
    }
    Ok(format!("{found}, as the file beside it says"))
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let to_terminal = io::IsTerminal::is_terminal(&out);
    writeln!(out, "{}", shown(line, to_terminal))
}

/// A bar for people who wait; nothing where nobody looks.
fn progress(console: Console, what: &'static str, bytes: u64) -> ProgressBar {
    let target = match console.shows_progress() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(bytes), target).with_prefix(what);
    match ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
