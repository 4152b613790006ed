//! The work in pieces: a few rows of one stored tensor at a time, in file order.

use crate::arch::Part;
use crate::checkpoint::Checkpoint;
use crate::decode::{self, Scales};
use crate::error::Error;
use crate::plan::Plan;

/// Elements in a chunk, but never less than a row: 4 MiB as f32. Large enough that reading and handing over cost
/// nothing, small enough that the chunks in flight are.
const ELEMENTS: u64 = 1 << 20;

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
#[derive(Debug)]
pub(super) struct Chunk {
    pub job: Job,
    /// Rows as stored.
    pub raw: Vec<u8>,
    pub scales: Option<Scales>,
}

/// All jobs in the order in which the file is written.
pub(super) fn jobs(plan: &Plan) -> impl Iterator<Item = Job> {
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
    let stored = &plan.checkpoint.tensors()[part.tensor];
    // Spans were checked against shapes, so that these products are inside the tensor.
    let row_bytes = target.cols() * (stored.dtype.bitsize() as u64 / 8);
    let first = part.first_row + job.first_row;
    raw.resize((job.rows * row_bytes) as usize, 0);
    plan.checkpoint.read_at(stored, first * row_bytes, &mut raw)?;
    let scales = read_scales(&plan.checkpoint, part, first, job.rows, target.cols())?;
    Ok(Chunk { job, raw, scales })
}

/// The block scales of `rows` rows from `first` on.
fn read_scales(
    checkpoint: &Checkpoint,
    part: &Part,
    first: u64,
    rows: u64,
    cols: u64,
) -> Result<Option<Scales>, Error> {
    let Some(scale) = part.scale else { return Ok(None) };
    let stored = &checkpoint.tensors()[scale.tensor];
    let [block_rows, block_width] = scale.block;
    let block_cols = cols.div_ceil(block_width);
    let (top, bottom) = (first / block_rows, (first + rows).div_ceil(block_rows));
    let row_bytes = block_cols * (stored.dtype.bitsize() as u64 / 8);
    let mut raw = vec![0; ((bottom - top) * row_bytes) as usize];
    checkpoint.read_at(stored, top * row_bytes, &mut raw)?;
    Ok(Some(Scales {
        values: decode::scales(stored.dtype, &raw),
        block_cols: block_cols as usize,
        block: scale.block.map(|n| n as usize),
        skip: (first - top * block_rows) as usize,
    }))
}
