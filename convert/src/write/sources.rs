//! The first stage: hands out the jobs and hashes the files that they read.
//!
//! Each source file is hashed front to back, in step with the work that reads it: when a third of its weights were handed
//! out, a third of it is hashed. Its bytes are then in the page cache for both, so that the disk is read once, and hashing
//! costs no time of its own beside reading and quantizing. (Reading the tensors in the order of the source instead would make
//! the output's order depend on how a checkpoint was sharded, and the output's own hash would need a second pass over it.)
//! Only where tensors lie far from the order of their layers and memory holds less than that distance is a part of a file
//! read twice. Files whose hash the journal has are not read for it again.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use qwren_quant::manifest::{Digest, Source};
use sha2::{Digest as _, Sha256};

use super::chunks::Job;
use super::journal::{Hashed, Record};
use super::output::Output;
use crate::checkpoint::Stamp;
use crate::error::{Error, Problem};
use crate::plan::Plan;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// A file that is being hashed.
struct Hashing<'a> {
    path: &'a Path,
    file: &'a File,
    bytes: u64,
    sha: Sha256,
    /// Bytes that went in.
    at: u64,
    /// The journal's digest: then nothing more goes in.
    known: Option<Digest>,
    /// Weights that all jobs take from it.
    weights: u64,
    /// Weights of the jobs handed out.
    taken: u64,
}

/// Hands out all jobs, until the end, an error, or nobody listens, and hashes the sources meanwhile.
pub(super) fn hand_out(
    plan: &Plan,
    jobs: impl Iterator<Item = Job> + Clone,
    queue: SyncSender<Job>,
    hashed: &HashMap<String, Digest>,
    output: &Output,
    interrupt: &AtomicBool,
) -> Result<Vec<Source>, Error> {
    let go_on = || {
        let stop = interrupt.load(Ordering::Relaxed);
        if stop { Err(Problem::Interrupted.of(output.path())) } else { Ok(()) }
    };
    let mut files: Vec<Hashing> = plan.checkpoint.weight_files().map(|f| Hashing::new(f, hashed)).collect();
    for job in jobs.clone() {
        files[file_of(plan, job)].weights += weights(plan, job);
    }
    let mut piece = vec![0; PIECE];
    for job in jobs {
        if queue.send(job).is_err() {
            return Ok(Vec::new());
        }
        let file = &mut files[file_of(plan, job)];
        file.taken += weights(plan, job);
        let share = u128::from(file.bytes) * u128::from(file.taken) / u128::from(file.weights.max(1));
        file.hash_up_to(share as u64, &mut piece, &go_on)?;
        if file.at == file.bytes {
            file.finish(output)?;
        }
    }
    // Nobody waits for jobs that will not come.
    drop(queue);
    files.iter_mut().try_for_each(|file| file.hash_up_to(file.bytes, &mut piece, &go_on))?;
    files.iter_mut().map(|file| file.finish(output)).collect()
}

/// Which of the checkpoint's files the weights of a job are in.
fn file_of(plan: &Plan, job: Job) -> usize {
    let part = &plan.tensors[job.tensor].0.parts[job.part];
    plan.checkpoint.file_number(&plan.checkpoint.tensors()[part.tensor])
}

fn weights(plan: &Plan, job: Job) -> u64 {
    job.rows * plan.tensors[job.tensor].0.cols()
}

impl<'a> Hashing<'a> {
    fn new((path, file, stamp): (&'a Path, &'a File, &Stamp), hashed: &HashMap<String, Digest>) -> Hashing<'a> {
        let known = hashed.get(&name_of(path)).copied();
        Hashing { path, file, bytes: stamp.len, sha: Sha256::new(), at: 0, known, weights: 0, taken: 0 }
    }

    /// Hashes the next bytes, up to `end`; `go_on` is asked before each piece.
    fn hash_up_to(&mut self, end: u64, piece: &mut [u8], go_on: &impl Fn() -> Result<(), Error>) -> Result<(), Error> {
        while self.known.is_none() && self.at < end {
            go_on()?;
            let len = (end - self.at).min(piece.len() as u64) as usize;
            let piece = &mut piece[..len];
            self.file.read_exact_at(piece, self.at).map_err(|e| Problem::read_weights(e).of(self.path))?;
            self.sha.update(&*piece);
            self.at += len as u64;
        }
        Ok(())
    }

    /// The digest; the journal learns of it when it is new.
    fn finish(&mut self, output: &Output) -> Result<Source, Error> {
        let (name, bytes) = (name_of(self.path), self.bytes);
        let sha256 = match self.known {
            Some(known) => known,
            None => {
                let sha256 = Digest(self.sha.finalize_reset().into());
                let record = Record::Source(Hashed { name: name.clone(), sha256 });
                output.journal().append(&record).map_err(|e| output.write_error(e))?;
                *self.known.insert(sha256)
            }
        };
        Ok(Source { name, bytes, sha256 })
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
