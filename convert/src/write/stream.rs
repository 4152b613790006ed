//! The pipeline: one thread reads ahead, all quantize, one writes and hashes behind. Queues are short and buffers go
//! round, so that memory does not grow with the model.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use qwren_quant::block;
use qwren_quant::gguf::{WriteError, Writer};
use sha2::{Digest, Sha256};

use super::Settings;
use super::check::Faults;
use super::chunks::{self, Chunk, Job};
use super::encode::encode;
use super::output::Output;
use crate::error::{Error, Problem};
use crate::importance::Columns;
use crate::plan::Plan;

/// Chunks that wait between two stages.
const QUEUE: usize = 2;

pub(super) struct Stream<'a> {
    pub plan: &'a Plan,
    pub settings: &'a Settings<'a>,
    pub threads: &'a rayon::ThreadPool,
}

impl Stream<'_> {
    /// Writes all tensors. The file's SHA-256, and remarks.
    pub fn run(&self, output: &Output) -> Result<(String, Vec<String>), Error> {
        thread::scope(|scope| {
            let (read, chunks) = sync_channel(QUEUE);
            let (encoded, blocks) = sync_channel(QUEUE);
            let (return_raw, raw) = channel();
            let (return_out, out) = channel();
            let (plan, file) = (self.plan, output.file());
            scope.spawn(move || read_ahead(plan, &read, &raw));
            let writer = scope.spawn(move || write_behind(plan, file, &blocks, &return_out));

            let encoded = self.encode_all(chunks, encoded, &return_raw, &out);
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let notes = match encoded {
                // The writer has hung up: it knows why.
                Ok(None) => Vec::new(),
                Ok(Some(notes)) => notes,
                Err(e) => return Err(e),
            };
            match written {
                Ok(sha256) => Ok((sha256, notes)),
                Err(WriteError::Io(e)) => Err(output.write_error(e, self.plan.layout.file_bytes)),
                Err(e) => Err(Problem::Layout(e.to_string()).of(output.path())),
            }
        })
    }

    /// The middle stage. `None` when the writer has hung up.
    fn encode_all(
        &self,
        chunks: Receiver<Result<Chunk, Error>>,
        encoded: SyncSender<(Job, Vec<u8>)>,
        return_raw: &Sender<Vec<u8>>,
        buffers: &Receiver<Vec<u8>>,
    ) -> Result<Option<Vec<String>>, Error> {
        let mut notes = Vec::new();
        let mut faults = Faults::default();
        let mut columns = Tagged { tensor: usize::MAX, columns: None };
        for chunk in chunks {
            if self.settings.interrupt.load(Ordering::Relaxed) {
                return Err(Problem::Interrupted.of(self.plan.checkpoint.dir()));
            }
            let chunk = chunk?;
            let job = chunk.job;
            let (target, choice) = &self.plan.tensors[job.tensor];
            let Some(codec) = block::codec(choice.dtype) else {
                return Err(
                    Problem::Layout(format!("{} cannot be written", choice.dtype)).of(self.plan.checkpoint.dir())
                );
            };
            if columns.tensor != job.tensor {
                let found = self.plan.importances.as_ref().map(|all| all.columns(target, choice.dtype)).transpose()?;
                columns = Tagged { tensor: job.tensor, columns: found.flatten() };
            }
            let mut out = buffers.try_recv().unwrap_or_default();
            let found = self.threads.install(|| encode(self.plan, &chunk, codec, columns.columns.as_ref(), &mut out));
            faults = faults.join(found);
            if job.ends_part {
                let stored = &self.plan.checkpoint.tensors()[target.parts[job.part].tensor];
                let faults = std::mem::take(&mut faults);
                match faults.problem(&stored.name, choice.dtype) {
                    Some(_) if self.settings.allow_nonfinite => {
                        notes.push(format!(
                            "{} values of {} are not finite or too large: kept",
                            faults.count(),
                            stored.name
                        ));
                    }
                    Some(problem) => return Err(problem.of(self.plan.checkpoint.file_of(stored))),
                    None => {}
                }
            }
            (self.settings.progress)(job.rows * target.cols());
            // The reader may have gone: then nobody needs the buffer.
            let _ = return_raw.send(chunk.raw);
            if encoded.send((job, out)).is_err() {
                return Ok(None);
            }
        }
        Ok(Some(notes))
    }
}

/// The importance of the columns of a tensor in the plan.
struct Tagged {
    tensor: usize,
    columns: Option<Columns>,
}

/// Reads all chunks, until the end, an error, or nobody listens.
fn read_ahead(plan: &Plan, chunks: &SyncSender<Result<Chunk, Error>>, buffers: &Receiver<Vec<u8>>) {
    for job in chunks::jobs(plan) {
        let chunk = chunks::read(plan, job, buffers.try_recv().unwrap_or_default());
        let failed = chunk.is_err();
        if chunks.send(chunk).is_err() || failed {
            return;
        }
    }
}

/// Writes and hashes all that comes. When the other side stops early the file is short, which is an error that nobody
/// looks at.
fn write_behind(
    plan: &Plan,
    file: &File,
    blocks: &Receiver<(Job, Vec<u8>)>,
    return_out: &Sender<Vec<u8>>,
) -> Result<String, WriteError> {
    let hashing = Hashing { inner: io::BufWriter::with_capacity(1 << 20, file), sha: Sha256::new() };
    let mut writer = Writer::new(hashing, &plan.layout)?;
    for (job, bytes) in blocks {
        writer.write(&bytes)?;
        if job.ends_tensor {
            writer.end_tensor()?;
        }
        let _ = return_out.send(bytes);
    }
    let digest = writer.finish()?.sha.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Passes bytes on and hashes them.
struct Hashing<W> {
    inner: W,
    sha: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sha.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
