//! The pipeline: one thread hands out jobs and hashes the sources, one reads, all quantize, one writes and hashes the output.
//! Queues are short and buffers go round, so that memory does not grow with the model.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use qwren_quant::block;
use qwren_quant::manifest::Digest;
use sha2::{Digest as _, Sha256};

use super::chunks::{self, Chunk, Job};
use super::encode::{Findings, encode};
use super::journal::{Done, Record};
use super::output::Output;
use super::resume::{FileHash, Start, pad};
use super::{Finished, Progress, Settings, sources};
use crate::error::{Error, Problem};
use crate::importance::Columns;
use crate::plan::Plan;

/// Chunks that wait between two stages.
pub(super) const QUEUE: usize = 2;
/// Jobs that wait for the reader: the hashing of sources may fall so far behind before it holds anybody up.
const JOBS: usize = 16;

pub(super) struct Stream<'a> {
    pub plan: &'a Plan,
    pub settings: &'a Settings<'a>,
    pub threads: &'a rayon::ThreadPool,
    pub output: &'a Output,
    /// Sources that an earlier run hashed.
    pub hashed: &'a HashMap<String, Digest>,
}

/// Blocks on their way to the file.
struct Encoded {
    job: Job,
    bytes: Vec<u8>,
    squares: f64,
    note: Option<String>,
}

impl Stream<'_> {
    /// Writes all tensors that `start` lacks.
    pub fn run(&self, start: Start) -> Result<Finished, Error> {
        let missing: Vec<bool> = start.done.iter().map(Option::is_none).collect();
        let jobs = chunks::jobs(self.plan).filter(|job| missing[job.tensor]);
        let Stream { plan, output, hashed, .. } = *self;
        let interrupt = self.settings.interrupt;
        thread::scope(|scope| {
            let (queue, queued) = sync_channel(JOBS);
            let (read, chunks) = sync_channel(QUEUE);
            let (encoded, blocks) = sync_channel(QUEUE);
            let (return_raw, raw) = channel();
            let (return_out, out) = channel();
            let sources = scope.spawn(move || sources::hand_out(plan, jobs, queue, hashed, output, interrupt));
            scope.spawn(move || read_ahead(plan, queued, &read, &raw));
            let writer = scope.spawn(move || write_behind(plan, output, start, &blocks, &return_out));

            let encoded = self.encode_all(chunks, encoded, &return_raw, &out);
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let sources = sources.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // Who failed first made the others end early: the middle stage, which hears of the reader, knows best.
            encoded?;
            let sources = sources?;
            let (done, files) = written?;
            let done: Option<Vec<Done>> = done.into_iter().collect();
            let done = done.ok_or_else(|| Problem::Layout("tensors are missing".to_owned()).of(output.path()))?;
            Ok(Finished { done, files, sources })
        })
    }

    /// The middle stage. Ends early, without an error, when the writer has hung up.
    fn encode_all(
        &self,
        chunks: Receiver<Result<Chunk, Error>>,
        encoded: SyncSender<Encoded>,
        return_raw: &Sender<Vec<u8>>,
        buffers: &Receiver<Vec<u8>>,
    ) -> Result<(), Error> {
        let mut faults = super::check::Faults::default();
        let mut columns = Tagged { tensor: usize::MAX, columns: None };
        for chunk in chunks {
            self.settings.check_interrupt().map_err(|e| e.of(self.output.path()))?;
            let chunk = chunk?;
            let job = chunk.job;
            let (target, choice) = &self.plan.tensors[job.tensor];
            let Some(codec) = block::codec(choice.dtype) else {
                return Err(Problem::Layout(format!("{} cannot be written", choice.dtype)).of(self.output.path()));
            };
            if columns.tensor != job.tensor {
                let found = self.plan.importances.as_ref().map(|all| all.columns(target, choice.dtype)).transpose()?;
                columns = Tagged { tensor: job.tensor, columns: found.flatten() };
            }
            let mut bytes = buffers.try_recv().unwrap_or_default();
            let found = self.threads.install(|| encode(self.plan, &chunk, codec, columns.columns.as_ref(), &mut bytes));
            let Findings { faults: more, squares } = found;
            faults = faults.join(more);
            let mut note = None;
            if job.ends_part {
                let stored = &self.plan.checkpoint.tensors()[target.parts[job.part].tensor];
                let faults = std::mem::take(&mut faults);
                match faults.problem(&stored.name, choice.dtype) {
                    Some(_) if self.settings.allow_nonfinite => {
                        let count = faults.count();
                        note = Some(format!("{count} values of {} are not finite or too large: kept", stored.name));
                    }
                    Some(problem) => return Err(problem.of(self.plan.checkpoint.file_of(stored))),
                    None => {}
                }
            }
            (self.settings.progress)(Progress { bytes: bytes.len() as u64, tensor: &target.name, kept: false });
            // The reader may have gone: then nobody needs the buffer.
            let _ = return_raw.send(chunk.raw);
            if encoded.send(Encoded { job, bytes, squares, note }).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The importance of the columns of a tensor in the plan.
struct Tagged {
    tensor: usize,
    columns: Option<Columns>,
}

/// Reads all chunks, until the end, an error, or nobody listens.
fn read_ahead(
    plan: &Plan,
    jobs: Receiver<Job>,
    chunks: &SyncSender<Result<Chunk, Error>>,
    buffers: &Receiver<Vec<u8>>,
) {
    for job in jobs {
        let chunk = chunks::read(plan, job, buffers.try_recv().unwrap_or_default());
        let failed = chunk.is_err();
        if chunks.send(chunk).is_err() || failed {
            return;
        }
    }
}

/// Writes and hashes all that comes, and tells the journal of every tensor that is whole. Returns what is known of the
/// tensors, and the files' digests; when the other side stops early some are missing.
fn write_behind(
    plan: &Plan,
    output: &Output,
    start: Start,
    blocks: &Receiver<Encoded>,
    return_out: &Sender<Vec<u8>>,
) -> Result<(Vec<Option<Done>>, Vec<Digest>), Error> {
    let Start { mut done, mut hashes } = start;
    let mut tensor = InWriting::default();
    for Encoded { job, bytes, squares, note } in blocks {
        let (i, t) = plan.place(job.tensor);
        let (planned, file, hash) = (&plan.files[i], output.files()[i].file(), &mut hashes[i]);
        let at = planned.layout.data_offset + t.offset + tensor.bytes;
        let mut write = || {
            hash.catch_up(file, at)?;
            file.write_all_at(&bytes, at)?;
            hash.offer(at, &bytes);
            if job.ends_tensor { pad(file, &planned.layout, job.tensor - planned.tensors.start, hash) } else { Ok(()) }
        };
        write().map_err(|e| output.write_error(e))?;
        tensor.add(&bytes, squares, note);
        let _ = return_out.send(bytes);
        if job.ends_tensor {
            if tensor.bytes != t.bytes {
                let text = format!("{} has {} bytes instead of {}", t.name, tensor.bytes, t.bytes);
                return Err(Problem::Layout(text).of(output.path()));
            }
            let record = Record::Tensor(std::mem::take(&mut tensor).finish(&t.name));
            output.journal().append(&record).map_err(|e| output.write_error(e))?;
            if let Record::Tensor(now) = record {
                done[job.tensor] = Some(now);
            }
        }
    }
    if done.iter().all(Option::is_some) {
        for (hash, file) in hashes.iter_mut().zip(output.files()) {
            hash.catch_up(file.file(), file.bytes()).map_err(|e| output.write_error(e))?;
        }
    }
    Ok((done, hashes.into_iter().map(FileHash::finish).collect()))
}

/// A tensor of which some rows are written.
#[derive(Default)]
struct InWriting {
    sha: Sha256,
    bytes: u64,
    squares: f64,
    notes: Vec<String>,
}

impl InWriting {
    fn add(&mut self, bytes: &[u8], squares: f64, note: Option<String>) {
        self.sha.update(bytes);
        self.bytes += bytes.len() as u64;
        self.squares += squares;
        self.notes.extend(note);
    }

    fn finish(self, name: &str) -> Done {
        let sha256 = Digest(self.sha.finalize().into());
        Done { name: name.to_owned(), sha256, squares: self.squares.to_bits(), notes: self.notes }
    }
}
