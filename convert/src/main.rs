//! `qwren-convert`: arguments → conversion → exit code.

mod args;
mod report;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qwren_convert::error::Error;
use qwren_convert::plan::Plan;
use qwren_convert::write::{self, Settings};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use args::{HiArgs, LowArgs, Report, Task};

fn main() -> ExitCode {
    let args = LowArgs::parse().resolve();
    // A panic is a fault of ours, exit code 1; it unwinds, so that no unfinished file stays.
    let Ok(result) = std::panic::catch_unwind(|| run(&args)) else { return ExitCode::from(1) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            let known = e.downcast_ref::<Error>();
            // Our errors tell their cause themselves; of others the whole chain is shown.
            let text = known.map_or_else(|| format!("{e:#}"), Error::to_string);
            let _ = writeln!(io::stderr(), "qwren-convert: {}", report::printable(&text, false));
            ExitCode::from(known.map_or(1, Error::exit_code))
        }
    }
}

fn run(args: &HiArgs) -> anyhow::Result<()> {
    let start = Instant::now();
    let interrupt = catch_signals()?;
    let plan = Plan::new(&args.dir, &args.options)?;
    match &args.task {
        Task::DryRun { output } => {
            let free = write::free_bytes(output.as_deref().unwrap_or(Path::new("x.gguf")))?;
            notes(args, &plan.notes);
            let text = match args.report {
                Report::Json => report::plan_object(&plan, free).to_string(),
                _ => report::printable(&report::table(&plan, free), true),
            };
            writeln!(io::stdout(), "{text}")?;
        }
        Task::Write { output, force, allow_nonfinite, threads } => {
            write::check_output(&plan, output, *force)?;
            notes(args, &plan.notes);
            let bar = progress_bar(args, plan.parameters());
            let settings = Settings {
                threads: *threads,
                force: *force,
                allow_nonfinite: *allow_nonfinite,
                progress: &|elements| bar.inc(elements),
                interrupt: &interrupt,
            };
            let written = write::write(&plan, output, &settings);
            bar.finish_and_clear();
            let written = written?;
            notes(args, &written.notes);
            let seconds = start.elapsed().as_secs_f64();
            if args.report == Report::Text {
                let _ =
                    writeln!(io::stderr(), "{} in {seconds:.1} s", report::printable(&report::summary(&plan), true));
            }
            let mut stdout = io::stdout().lock();
            if args.report == Report::Json {
                let object = report::result_object(&plan, output, &written.sha256, seconds, &written.notes);
                writeln!(stdout, "{object}")?;
            } else {
                stdout.write_all(&written.sum_line)?;
            }
            stdout.flush()?;
        }
    }
    Ok(())
}

/// The first signal asks for an orderly end, the second one ends at once.
fn catch_signals() -> io::Result<Arc<AtomicBool>> {
    let interrupt = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupt))?;
        flag::register(signal, Arc::clone(&interrupt))?;
    }
    Ok(interrupt)
}

fn notes(args: &HiArgs, notes: &[String]) {
    if args.report == Report::Text {
        for note in notes {
            let _ = writeln!(io::stderr(), "note: {}", report::printable(note, false));
        }
    }
}

/// Drawn on standard error if that is a terminal, else not at all.
fn progress_bar(args: &HiArgs, weights: u64) -> ProgressBar {
    if args.report != Report::Text {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(weights), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{bar:40} {percent:>3} %  {elapsed}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
