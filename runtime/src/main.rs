//! `qwren`: runs Qwen3 GGUF files in a terminal.

mod args;
mod chat;
mod commands;
mod console;
mod exit;
mod generate;
mod jsonl;
mod load;
mod map_fault;
mod npy;
mod output_file;
mod progress;
mod report;
mod signals;
mod units;
mod warm;

use std::process::ExitCode;

fn main() -> ExitCode {
    exit::silence_panics();
    map_fault::explain();
    signals::outlive_file_limits();
    let args = match args::parse() {
        Ok(args) => args,
        Err(said) => return exit::tell(&said).into(),
    };
    let console = console::Console::new(args.quiet, args.verbose);
    match exit::catch(|| commands::run(args.command, console)) {
        Ok(code) => code,
        Err(err) => exit::report(&err, console),
    }
    .into()
}
