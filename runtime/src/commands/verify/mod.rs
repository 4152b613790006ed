//! `qwren verify`: is a file whole and sound?

mod digest;
mod finite;
mod manifest;
mod model;

use std::path::PathBuf;
use std::{io, io::Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qwren::terminal::shown;
use qwren_quant::gguf::{GgufFile, Quoted};
use qwren_quant::manifest::FileEntry;

use crate::console::Console;
use crate::exit::{Exit, Failure};

/// Options of `qwren verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// GGUF file, or a part of a split model; its SHA-256 is compared with FILE.sha256 and its tensors with the manifest
    /// FILE.json where these are there
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Checks structure, model, manifest, digests and values, in this order, and says what was found.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    let path = &args.file;
    let file = GgufFile::open(path)?;
    let header = file.header();
    say(&format!("structure  sound: {} keys, {} tensors", header.metadata().len(), header.tensors().len()))?;
    say(&format!("model      {}", model::check(&file)?))?;

    let manifest = manifest::read(&file)?;
    match &manifest {
        Some(manifest) => say(&format!("manifest   {}", manifest::origin(manifest)))?,
        None => say("manifest   not compared: there is no .json file beside it")?,
    }
    for (i, part) in file.parts().iter().enumerate() {
        let said = compare_digests(&file, i, manifest.as_ref().map(|m| &m.files[i]), console)?;
        let which = match file.parts().len() {
            1 => String::new(),
            _ => format!("{}: ", manifest::file_name(part.path())),
        };
        for line in said {
            say(&format!("sha256     {which}{line}"))?;
        }
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

/// Compares the digests of part `i` and its tensors with those beside it, where there are any, and tells the outcome.
fn compare_digests(
    file: &GgufFile,
    i: usize,
    entry: Option<&FileEntry>,
    console: Console,
) -> anyhow::Result<Vec<String>> {
    let path = file.parts()[i].path();
    let listed = digest::beside(path, file.parts()[0].path())?;
    if listed.is_none() && entry.is_none() {
        return Ok(vec!["not compared: there is no .sha256 file beside it".into()]);
    }
    let bar = progress(console, "sha256", file.parts()[i].bytes().len() as u64);
    let digests = digest::of(file, i, |n| bar.inc(n));
    bar.finish_and_clear();

    let fail =
        |what: String| Err(Failure::usage(format!("{}: {what}; download or convert it again", path.display())).into());
    // First what says most: which tensor is damaged.
    let damaged = entry.map_or_else(Vec::new, |entry| manifest::damaged(&digests, entry));
    if let Some(first) = damaged.first() {
        for t in &damaged {
            say(&format!("damaged    {} has another SHA-256 than the manifest says", Quoted::new(&t.name)))?;
        }
        let more = match damaged.len() - 1 {
            0 => String::new(),
            n => format!(" (and so are {n} more tensors)"),
        };
        return fail(format!("is damaged in tensor {}{more}", Quoted::new(&first.name)));
    }
    let found = digests.file.to_string();
    if let Some(expected) = listed.as_ref().filter(|expected| **expected != found) {
        return fail(format!("has the SHA-256 {found}, but the file beside it says {expected}"));
    }
    if let Some(entry) = entry.filter(|entry| entry.sha256 != digests.file) {
        return fail(format!(
            "is damaged outside of its tensors: has the SHA-256 {found}, but the manifest says {}",
            entry.sha256
        ));
    }
    let mut said = Vec::new();
    if listed.is_some() {
        said.push(format!("{found}, as the file beside it says"));
    }
    if entry.is_some() {
        said.push(format!("{} tensors are as the manifest says", digests.tensors.len()));
    }
    Ok(said)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let to_terminal = io::IsTerminal::is_terminal(&out);
    match writeln!(out, "{}", shown(line, to_terminal)) {
        // The exit code is an answer too, for whoever has read enough.
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => said,
    }
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
