//! Writing a planned file: weights stream through in chunks, and the file appears under its name only when it is whole,
//! synced and checked.

mod check;
mod chunks;
mod encode;
mod output;
mod stream;
mod verify;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Problem};
use crate::plan::Plan;
use output::Output;
pub use output::free_bytes;
use stream::Stream;

/// How to write.
pub struct Settings<'a> {
    /// Threads that quantize.
    pub threads: usize,
    /// Replace an existing output.
    pub force: bool,
    /// Take weights that are not finite as they are.
    pub allow_nonfinite: bool,
    /// Called with the number of elements done since the last call.
    pub progress: &'a dyn Fn(u64),
    /// Set from outside: stop, and leave nothing behind.
    pub interrupt: &'a AtomicBool,
}

/// A finished file.
#[derive(Debug)]
pub struct Written {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// `HASH  NAME` and a newline, as sha256sum prints it.
    pub sum_line: Vec<u8>,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

/// Says whether `out` may be written, before any work.
///
/// # Errors
/// It exists and `force` is not given, it is no regular file, its folder does not exist, or it is one of the
/// checkpoint's own files.
pub fn check_output(plan: &Plan, out: &Path, force: bool) -> Result<(), Error> {
    output::check(plan, out, force)
}

/// Converts: writes `out` and `out.sha256`.
///
/// # Errors
/// See [`Problem`]. Nothing is left behind then; an older `out` stays as it was.
pub fn write(plan: &Plan, out: &Path, settings: &Settings) -> Result<Written, Error> {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(settings.threads).build();
    let threads = threads.map_err(|e| Problem::Threads(e.to_string()).of(out))?;
    check_output(plan, out, settings.force)?;
    let output = Output::create(out)?;
    output.reserve(plan.layout.file_bytes)?;
    let stream = Stream { plan, settings, threads: &threads };
    let (sha256, notes) = stream.run(&output)?;
    output.sync()?;
    verify::verify(plan, output.partial()).map_err(|e| e.of(out))?;
    if settings.interrupt.load(Ordering::Relaxed) {
        return Err(Problem::Interrupted.of(out));
    }
    let sum_line = output.commit(&sha256)?;
    Ok(Written { sha256, sum_line, notes })
}
