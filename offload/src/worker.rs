//! The worker's side: greets, then answers until its input ends.
use crate::line;
use crate::message::{Device, Layer, Matrix, Open, Refusal, Reply, Request, Rows};
use crate::shared::{Shared, WORD};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;

/// What computes.
pub trait Worker {
    /// All devices.
    ///
    /// # Errors
    /// They can't be listed.
    fn devices(&mut self) -> Result<Vec<Device>, Refusal>;

    /// See [`Request::Open`].
    ///
    /// # Errors
    /// No such device, or it is unfit.
    fn open(&mut self, open: Open) -> Result<Device, Refusal>;

    /// See [`Request::Load`]; `norms` are the layer's norms.
    ///
    /// # Errors
    /// There is no room, the device can't compute with it, or a file can't be read.
    fn load(&mut self, layer: &Layer, norms: &[f32], files: &[File]) -> Result<(), Refusal>;

    /// See [`Request::Output`]; `norm` is the final norm, `[hidden]`.
    ///
    /// # Errors
    /// As [`Worker::load`].
    fn output(&mut self, matrix: &Matrix, norm: &[f32], files: &[File]) -> Result<(), Refusal>;

    /// See [`Request::Prepare`].
    ///
    /// # Errors
    /// There is no room, or the device can't compute it.
    fn prepare(&mut self) -> Result<(), Refusal>;

    /// Runs `layers` on `x` `[n, hidden]` at positions from `start` on.
    ///
    /// # Errors
    /// They can't be computed.
    fn eval(&mut self, layers: Range<usize>, start: usize, x: &mut [f32]) -> Result<(), Refusal>;

    /// Sets `logits` `[n, vocab]` to those of `x` `[n, hidden]`.
    ///
    /// # Errors
    /// The output isn't there, or can't be computed.
    fn logits(&mut self, x: &[f32], logits: &mut Vec<f32>) -> Result<(), Refusal>;

    /// See [`Request::Experts`].
    ///
    /// # Errors
    /// They can't be told.
    fn experts(&mut self) -> Result<Vec<u32>, Refusal>;

    /// Sets `bytes` to those of some rows of the cache.
    ///
    /// # Errors
    /// There are no such rows.
    fn fetch(&mut self, rows: Rows, bytes: &mut Vec<u8>) -> Result<(), Refusal>;

    /// Replaces some rows of the cache.
    ///
    /// # Errors
    /// There are no such rows, or these are not their bytes.
    fn store(&mut self, rows: Rows, bytes: &[u8]) -> Result<(), Refusal>;
}

/// Answers on standard output until standard input ends. If the process that started this one dies, this one dies with it,
/// whatever it does.
///
/// # Errors
/// Pipes that break.
pub fn serve(worker: &mut impl Worker, memory: File, files: &[File]) -> io::Result<()> {
    // If it died before this, standard input has ended.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let shared = Shared::open(memory)?;
    let (mut input, mut output) = (BufReader::new(io::stdin()), io::stdout());
    line::write(&mut output, &Reply::Hello { version: crate::VERSION })?;
    let (mut x, mut logits, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let mut hidden = 0;
    while let Some(request) = line::read::<Request>(&mut input)? {
        let reply = match request {
            Request::Devices => worker.devices().map(Reply::Devices),
            Request::Open(open) => {
                hidden = open.shape.hidden;
                worker.open(open).map(Reply::Opened)
            }
            Request::Load(layer) => {
                x.resize(layer.norms.min(shared.len()), 0.0);
                shared.read(&mut x);
                worker.load(&layer, &x, files).map(|()| Reply::Done)
            }
            Request::Output(matrix) => {
                x.resize(hidden.min(shared.len()), 0.0);
                shared.read(&mut x);
                worker.output(&matrix, &x, files).map(|()| Reply::Done)
            }
            Request::Prepare => worker.prepare().map(|()| Reply::Done),
            Request::Eval { first, end, start, n } => {
                x.resize(n.saturating_mul(hidden).min(shared.len()), 0.0);
                shared.read(&mut x);
                worker.eval(first..end, start, &mut x).map(|()| {
                    shared.write(&x);
                    Reply::Done
                })
            }
            Request::Logits { n } => {
                x.resize(n.saturating_mul(hidden).min(shared.len()), 0.0);
                shared.read(&mut x);
                worker.logits(&x, &mut logits).and_then(|()| {
                    if logits.len() > shared.len() {
                        return Err(Refusal::new("there is no room for so many logits"));
                    }
                    shared.write(&logits);
                    Ok(Reply::Done)
                })
            }
            Request::Experts => worker.experts().map(Reply::Experts),
            Request::Fetch(rows) => worker.fetch(rows, &mut bytes).and_then(|()| {
                if bytes.len() != rows.bytes || bytes.len() > shared.len() * WORD {
                    return Err(Refusal::new("rows of the cache are of another size"));
                }
                shared.write_bytes(&bytes);
                Ok(Reply::Done)
            }),
            Request::Store(rows) => {
                bytes.resize(rows.bytes.min(shared.len() * WORD), 0);
                shared.read_bytes(&mut bytes);
                worker.store(rows, &bytes).map(|()| Reply::Done)
            }
        };
        line::write(&mut output, &reply.unwrap_or_else(Reply::Refused))?;
    }
    Ok(())
}

/// Opens what a worker was given: the numbers of descriptors that it inherited, the shared memory's first, then the files'.
///
/// # Errors
/// They aren't that.
pub fn descriptors(mut numbers: impl Iterator<Item = String>) -> io::Result<(File, Vec<File>)> {
    // Opened anew, which makes no assumption about who owns the inherited descriptor.
    let open = |number: String, write: bool| {
        let number: u32 = number.parse().map_err(|_| io::Error::other(format!("{number} is no descriptor")))?;
        File::options().read(true).write(write).open(format!("/proc/self/fd/{number}"))
    };
    let memory = numbers.next().ok_or_else(|| io::Error::other("shared memory is missing"))?;
    Ok((open(memory, true)?, numbers.map(|number| open(number, false)).collect::<io::Result<_>>()?))
}
