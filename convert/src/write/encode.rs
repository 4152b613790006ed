//! One chunk: stored bytes → f32 → checked → the target's blocks, by all threads.

use qwren_quant::block::Codec;
use rayon::prelude::*;

use super::check::{Faults, limit};
use super::chunks::Chunk;
use crate::importance::Columns;
use crate::plan::Plan;

/// Elements that a thread takes at once, but never less than a row: their f32 form fits into a core's own cache.
const PIECE: usize = 1 << 15;

/// Encodes `chunk` into `out` (whose contents don't matter) by the importance of its columns, and tells what is wrong with its
/// values.
///
/// Rows are encoded one by one, so that the bytes don't depend on chunks or threads.
pub(super) fn encode(
    plan: &Plan,
    chunk: &Chunk,
    codec: &Codec,
    columns: Option<&Columns>,
    out: &mut Vec<u8>,
) -> Faults {
    let (target, choice) = &plan.tensors[chunk.job.tensor];
    let part = &target.parts[chunk.job.part];
    let cols = target.cols() as usize;
    let out_row = cols / choice.dtype.block_len() * choice.dtype.block_bytes();
    let limit = limit(choice.dtype);
    // Flat index of the chunk's first element within the stored tensor.
    let start = (part.first_row + chunk.job.first_row) * target.cols();

    // Its first row within the whole tensor.
    let row = target.parts[..chunk.job.part].iter().map(|p| p.rows).sum::<u64>() + chunk.job.first_row;

    out.resize(chunk.job.rows as usize * out_row, 0);
    let rows = (PIECE / cols).max(1);
    out.par_chunks_mut(rows * out_row)
        .enumerate()
        .map_init(Vec::new, |values: &mut Vec<f32>, (i, out)| {
            values.resize(out.len() / out_row * cols, 0.0);
            chunk.decoder.rows(&chunk.raw, cols, i * rows, values);
            match columns {
                Some(columns) => columns.quantize(codec, row + (i * rows) as u64, values, out),
                None => codec.quantize(values, out, None),
            }
            Faults::scan(values, start + (i * rows * cols) as u64, limit)
        })
        .reduce(Faults::default, Faults::join)
}
