//! One chunk: stored bytes → f32 → checked → the target's blocks → measured, by all threads.

use qwren_quant::block::Codec;
use rayon::prelude::*;

use super::check::{Faults, limit};
use super::chunks::Chunk;
use crate::importance::Columns;
use crate::plan::Plan;

/// Elements that a thread takes at once, but never less than a row: their f32 form fits into a core's own cache.
pub(super) const PIECE: usize = 1 << 15;

/// What is known of a chunk's values.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is wrong with them.
    pub faults: Faults,
    /// Sum of the squared differences between them and what the blocks hold.
    pub squares: f64,
}

/// Encodes `chunk` into `out` (whose contents don't matter) by the importance of its columns, and tells what
/// was found.
///
/// Rows are encoded one by one, so that the bytes don't depend on chunks or threads; sums are taken in one order.
pub(super) fn encode(
    plan: &Plan,
    chunk: &Chunk,
    codec: &Codec,
    columns: Option<&Columns>,
    out: &mut Vec<u8>,
) -> Findings {
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
    let pieces = out.par_chunks_mut(rows * out_row).enumerate();
    let findings = pieces.map_init(Buffers::default, |buffers, (i, out)| {
        let Buffers { values, stored } = buffers;
        values.resize(out.len() / out_row * cols, 0.0);
        stored.resize(values.len(), 0.0);
        chunk.decoder.rows(&chunk.raw, cols, i * rows, values);
        match columns {
            Some(columns) => columns.quantize(codec, row + (i * rows) as u64, values, out),
            None => codec.quantize(values, out, None),
        }
        codec.dequantize(out, stored);
        let faults = Faults::scan(values, start + (i * rows * cols) as u64, limit);
        Findings { faults, squares: squares(values, stored) }
    });
    findings.collect::<Vec<_>>().into_iter().fold(Findings::default(), Findings::join)
}

/// A thread's own, `[rows, cols]` of a piece.
#[derive(Default)]
struct Buffers {
    /// The source's values.
    values: Vec<f32>,
    /// What their blocks hold.
    stored: Vec<f32>,
}

impl Findings {
    /// Of these values and those that follow.
    pub fn join(self, later: Findings) -> Findings {
        Findings { faults: self.faults.join(later.faults), squares: self.squares + later.squares }
    }
}

/// `Σ (a - b)²`. Differences of neighbours are exact or nearly so in f32, their squares and sums need f64. Eight sums in
/// fixed lanes: the compiler makes vectors of them.
fn squares(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (a, rest_a) = a.as_chunks::<8>();
    let (b, rest_b) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            let d = f64::from(a[i] - b[i]);
            sums[i] += d * d;
        }
    }
    let rest = rest_a.iter().zip(rest_b).map(|(a, b)| f64::from(a - b).powi(2));
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_summed() {
        let a: Vec<f32> = (0..21).map(|i| i as f32).collect();
        let b: Vec<f32> = a.iter().map(|x| x + 0.5).collect();
        for n in 0..=21 {
            assert_eq!(squares(&a[..n], &b[..n]), 0.25 * n as f64);
        }
        assert!(squares(&[f32::NAN], &[0.0]).is_nan());
    }
}
