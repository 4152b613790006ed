//! The work in pieces: a few rows of one stored tensor at a time, in file order.

use crate::decode::{self, Decoder};
use crate::error::Error;
use crate::plan::Plan;

/// Elements in a chunk, but never less than a row: 4 MiB as f32. Large enough that reading and handing over cost
/// nothing, small enough that the chunks in flight are.
pub(super) const ELEMENTS: u64 = 1 << 20;

/// Consecutive rows of one part of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    /// Index in the plan's tensors.
    pub tensor: usize,
    /// Index in its parts.
    pub part: usize,
    /// The first row, counted within the part.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// Whether these are the last rows of the part.
    pub ends_part: bool,
    /// Whether these are the last rows of the tensor.
    pub ends_tensor: bool,
}

/// A job with the bytes that it needs.
pub(super) struct Chunk {
    pub job: Job,
    /// The rows' bytes as stored.
    pub raw: Vec<u8>,
    /// What turns them into values.
    pub decoder: Decoder,
}

/// All jobs in the order in which the file is written.
pub(super) fn jobs(plan: &Plan) -> impl Iterator<Item = Job> + Clone {
    plan.tensors.iter().enumerate().flat_map(|(tensor, (target, _))| {
        let step = (ELEMENTS / target.cols()).max(1);
        let last = target.parts.len() - 1;
        target.parts.iter().enumerate().flat_map(move |(part, p)| {
            let total = p.rows;
            (0..total).step_by(step as usize).map(move |first_row| {
                let rows = step.min(total - first_row);
                let ends_part = first_row + rows == total;
                Job { tensor, part, first_row, rows, ends_part, ends_tensor: ends_part && part == last }
            })
        })
    })
}

/// Reads what `job` needs into `raw`, a buffer that is used again and again.
pub(super) fn read(plan: &Plan, job: Job, mut raw: Vec<u8>) -> Result<Chunk, Error> {
    let (target, _) = &plan.tensors[job.tensor];
    let part = &target.parts[job.part];
    let decoder = decode::read(&plan.checkpoint, part, target.cols(), job.first_row, job.rows, &mut raw)?;
    Ok(Chunk { job, raw, decoder })
}
