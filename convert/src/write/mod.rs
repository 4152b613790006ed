//! Writing a planned output: weights stream through in chunks, and the files appear under their names only when they are
//! whole, synced and checked. A run that ends early leaves what another one continues.
//!
//! ```text
//! sources (order, hash) → chunks (read) → encode (decode, check, quantize, measure) → stream (write, hash, journal)
//! ```

mod check;
mod chunks;
mod encode;
mod guard;
mod identity;
mod journal;
mod memory;
mod output;
mod resume;
mod sidecar;
mod sources;
mod stream;
mod verify;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use qwren_quant::manifest::{Digest, FileEntry, Manifest, Recipe, Source, TensorEntry};

use crate::error::{Error, Problem};
use crate::plan::Plan;
use journal::{Done, Journal};
pub use memory::memory_bytes;
use output::Output;
pub use output::{free_bytes, taken_bytes};
use stream::Stream;

/// Who writes.
const TOOL: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// How to write.
pub struct Settings<'a> {
    /// Threads that quantize.
    pub threads: usize,
    /// Replace an existing output.
    pub force: bool,
    /// Take weights that are not finite as they are.
    pub allow_nonfinite: bool,
    /// Hears of every chunk that is done.
    pub progress: &'a dyn Fn(Progress),
    /// Set from outside: stop, and leave what another run can continue.
    pub interrupt: &'a AtomicBool,
}

/// A step of the work.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Bytes of the output that are done since the last step.
    pub bytes: u64,
    /// The tensor that they belong to.
    pub tensor: &'a str,
    /// Were they there already?
    pub kept: bool,
}

/// A finished output.
#[derive(Debug)]
pub struct Written {
    /// What was made of what.
    pub manifest: Manifest,
    /// For each file `HASH  NAME` and a newline, as sha256sum prints it.
    pub sum_lines: Vec<u8>,
    /// Remarks for the user.
    pub notes: Vec<String>,
    /// Tensors that an earlier run had done.
    pub resumed: usize,
}

impl Settings<'_> {
    fn check_interrupt(&self) -> Result<(), Problem> {
        if self.interrupt.load(Ordering::Relaxed) { Err(Problem::Interrupted) } else { Ok(()) }
    }
}

/// Converts: writes `out` or its parts, and beside the first file `.sha256` and the manifest. Where an earlier run of the
/// same plan ended early, its tensors are kept. `begun` hears whether, before any work.
///
/// # Errors
/// See [`Problem`]. An older output stays as it was then. Partial files and their journal stay if they can be continued.
pub fn write(plan: &Plan, out: &Path, settings: &Settings, begun: impl Fn(&str)) -> Result<Written, Error> {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(settings.threads).build();
    let threads = threads.map_err(|e| Problem::Threads(e.to_string()).of(out))?;
    let identity = identity::of(plan, settings.allow_nonfinite);
    guard::check(plan, out, settings.force, || journal::peek(out, identity).committing)?;
    let (journal, mut past) = Journal::open(out, identity)?;
    let sizes: Vec<u64> = plan.files.iter().map(|file| file.layout.file_bytes).collect();
    let mut output = Output::open(out, &sizes, journal, &past)?;

    let result = (|| -> Result<_, Error> {
        let start = resume::survey(plan, &output, &mut past, settings)?;
        output.reserve()?;
        let resumed = start.done.iter().flatten().count();
        if past.foreign {
            begun("an unfinished conversion is there, but of another recipe or checkpoint: it begins afresh");
        } else if resumed > 0 {
            begun(&format!("continuing: {resumed} of {} tensors are done", plan.tensors.len()));
        }
        let stream = Stream { plan, settings, threads: &threads, output: &output, hashed: &past.sources };
        let finished = stream.run(start)?;
        plan.checkpoint.check_unchanged()?;
        output.sync()?;
        for (i, file) in output.files().iter().enumerate() {
            verify::verify(plan, i, file.partial()).map_err(|e| e.of(file.path()))?;
        }
        settings.check_interrupt().map_err(|e| e.of(out))?;
        Ok((finished, resumed))
    })();
    let written = result.and_then(|(finished, resumed)| {
        let manifest = manifest(plan, &output, settings, &finished);
        let sum_lines = output.commit(&manifest)?;
        let notes = finished.done.into_iter().flat_map(|done| done.notes).collect();
        Ok(Written { manifest, sum_lines, notes, resumed })
    });
    written.map_err(|e| {
        let kept = if e.problem.may_pass() { output.keep(plan.tensors.len()) } else { None };
        Error { kept: kept.map(Box::new), ..e }
    })
}

/// What is known when all is written.
struct Finished {
    /// One a tensor.
    done: Vec<Done>,
    /// One a file.
    files: Vec<Digest>,
    sources: Vec<Source>,
}

fn manifest(plan: &Plan, output: &Output, settings: &Settings, finished: &Finished) -> Manifest {
    let options = &plan.options;
    let recipe = Recipe {
        file_type: options.file_type.name().to_owned(),
        tensor_types: options.overrides.iter().map(|o| format!("{}={}", o.glob, o.dtype.name())).collect(),
        tie_embeddings: options.tie_embeddings,
        allow_nonfinite: settings.allow_nonfinite,
        imatrix: plan.importances.as_ref().and_then(|i| Digest::try_from(i.sha256().to_owned()).ok()),
    };
    let tensor = |i: usize| {
        let (_, t) = plan.place(i);
        let &Done { sha256, squares, .. } = &finished.done[i];
        let rmse = (f64::from_bits(squares) / plan.tensors[i].0.elements() as f64).sqrt();
        TensorEntry {
            name: t.name.clone(),
            dtype: t.dtype.name().to_owned(),
            shape: t.shape.clone(),
            offset: t.offset,
            bytes: t.bytes,
            sha256,
            rmse: rmse.is_finite().then_some(rmse),
        }
    };
    let files =
        plan.files.iter().zip(output.files()).zip(&finished.files).map(|((planned, file), &sha256)| FileEntry {
            name: file.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            bytes: planned.layout.file_bytes,
            sha256,
            tensors: planned.tensors.clone().map(tensor).collect(),
        });
    Manifest::new(TOOL.to_owned(), recipe, finished.sources.clone(), files.collect())
}
