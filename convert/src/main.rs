//! `qwren-convert`: arguments → conversion → exit code.

mod args;
mod bar;
mod pages;
mod report;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use qwren_convert::error::Error;
use qwren_convert::plan::Plan;
use qwren_convert::write::{self, Settings};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use args::{HiArgs, LowArgs, Report, Task};
use bar::Bar;
use report::Room;

fn main() -> ExitCode {
    // A panic is a fault of ours, exit code 1; it unwinds, so that no unfinished file stays.
    let result = std::panic::catch_unwind(|| match LowArgs::try_parse() {
        Ok(LowArgs { generate: Some(page), .. }) => Ok(pages::print(page)?),
        Ok(args) => run(&args.resolve()),
        Err(wrong) if wrong.use_stderr() => wrong.exit(),
        Err(help) => Ok(help.print()?),
    });
    let Ok(result) = result else { return ExitCode::from(1) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            let known = e.downcast_ref::<Error>();
            let full = |e: &io::Error| {
                use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
                matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge)
            };
            let full = e.downcast_ref().is_some_and(full);
            // Our errors tell their cause themselves; of others the whole chain is shown.
            let text = known.map_or_else(|| format!("{e:#}"), Error::to_string);
            let _ = writeln!(io::stderr(), "qwren-convert: {}", report::printable(&text, false));
            ExitCode::from(known.map_or(if full { 4 } else { 1 }, Error::exit_code))
        }
    }
}

fn run(args: &HiArgs) -> anyhow::Result<()> {
    let start = Instant::now();
    let interrupt = catch_signals()?;
    let plan = Plan::new(&args.dir, &args.options)?;
    match &args.task {
        Task::DryRun { output, threads } => {
            let output = output.as_deref().unwrap_or(Path::new("x.gguf"));
            let room = Room {
                free_bytes: write::free_bytes(output)?,
                taken_bytes: write::taken_bytes(output, plan.files.len()),
                convert_bytes: write::memory_bytes(&plan, *threads),
            };
            notes(args, &plan.notes);
            let text = match args.report {
                Report::Json => report::plan_object(&plan, output, &room).to_string(),
                _ => report::printable(&report::table(&plan, output, &room), true),
            };
            writeln!(io::stdout(), "{text}")?;
        }
        Task::Write { output, force, allow_nonfinite, threads } => {
            notes(args, &plan.notes);
            let bar = Bar::new(args.report == Report::Text, plan.infos().map(|t| t.bytes).sum());
            let settings = Settings {
                threads: *threads,
                force: *force,
                allow_nonfinite: *allow_nonfinite,
                progress: &|step| bar.step(step),
                interrupt: &interrupt,
            };
            let written = write::write(&plan, output, &settings, |note| notes(args, &[note.to_owned()]));
            bar.end();
            let written = written?;
            notes(args, &written.notes);
            let seconds = start.elapsed().as_secs_f64();
            if args.report == Report::Text {
                let _ =
                    writeln!(io::stderr(), "{} in {seconds:.1} s", report::printable(&report::summary(&plan), true));
            }
            let result = match args.report {
                Report::Json => format!("{}\n", report::result_object(&plan, output, &written, seconds)).into_bytes(),
                _ => written.sum_lines,
            };
            let mut stdout = io::stdout().lock();
            // Else a full stdout would read like a full disk.
            stdout
                .write_all(&result)
                .and_then(|()| stdout.flush())
                .with_context(|| format!("{} is whole, but stdout can't take the result", output.display()))?;
        }
    }
    Ok(())
}

/// The first signal asks for an orderly end, the second one ends at once. What `nohup` had ignored stays ignored.
fn catch_signals() -> io::Result<Arc<AtomicBool>> {
    let interrupt = Arc::new(AtomicBool::new(false));
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupt))?;
        flag::register(signal, Arc::clone(&interrupt))?;
    }
    // Caught, so that a write beyond `ulimit -f` is an error and not the end.
    flag::register(SIGXFSZ, Arc::default())?;
    Ok(interrupt)
}

/// Says whether this process was started with the signal ignored, where the system tells.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn notes(args: &HiArgs, notes: &[String]) {
    if args.report == Report::Text {
        for note in notes {
            let _ = writeln!(io::stderr(), "note: {}", report::printable(note, false));
        }
    }
}
