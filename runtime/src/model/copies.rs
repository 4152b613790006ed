//! Copies of the weights in memory of the process: in huge pages, and with their rows interleaved where there is a kernel for
//! that. They take the place of the mapped file piece by piece, while it is used; the results are the same bits.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use qwren_quant::dtype::DType;
use qwren_quant::gguf::PartReader;
use qwren_quant::huge_pages::{Arena, Region};
use qwren_quant::kernel::{GROUP, Level, RowLayout, interleave, select_interleaved};

use super::{Model, Weight};

/// What a piece takes, about: little memory on top of the file's while it is made.
const PIECE_BYTES: usize = 1 << 20;

/// Rows of a piece are a multiple of this, so that those of a piece of work are seldom of two.
const PIECE_ROWS: usize = 64;

/// Rows in memory of the process.
pub struct Piece {
    /// How they lie there.
    pub layout: RowLayout,
    /// Their bytes: as many as in the file.
    pub bytes: Region,
}

/// The copy of a weight, as far as it is made.
pub struct WeightCopy {
    /// Rows of a matrix.
    matrix_rows: usize,
    /// Rows of a piece.
    rows: usize,
    /// Pieces of a matrix; rows beyond its whole groups are in none.
    per_matrix: usize,
    /// Those of all matrices.
    pieces: Box<[OnceLock<Piece>]>,
}

impl WeightCopy {
    /// Nothing yet, of `count` matrices of `rows` rows of `row_bytes`.
    pub(super) fn new(count: usize, rows: usize, row_bytes: usize) -> WeightCopy {
        let of_piece = (PIECE_BYTES / row_bytes / PIECE_ROWS * PIECE_ROWS).max(PIECE_ROWS);
        let per_matrix = (rows / GROUP * GROUP).div_ceil(of_piece);
        WeightCopy {
            matrix_rows: rows,
            rows: of_piece,
            per_matrix,
            pieces: (0..count * per_matrix).map(|_| OnceLock::new()).collect(),
        }
    }

    /// All rows that are copied at all were.
    pub fn is_whole(&self) -> bool {
        self.pieces.iter().all(|piece| piece.get().is_some())
    }

    /// How many of the rows `range` of a matrix, from the first one on, lie in one place, and the piece that they are in, with
    /// their numbers there, if they were copied.
    pub fn find(&self, matrix: usize, range: Range<usize>) -> (usize, Option<(&Piece, Range<usize>)>) {
        let (no, whole) = (range.start / self.rows, self.matrix_rows / GROUP * GROUP);
        let Some(end) = (range.start < whole).then(|| range.end.min(whole).min((no + 1) * self.rows)) else {
            return (range.len(), None);
        };
        let first = no * self.rows;
        let piece = self.pieces[matrix * self.per_matrix + no].get();
        (end - range.start, piece.map(|piece| (piece, range.start - first..end - first)))
    }
}

impl std::fmt::Debug for WeightCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let made = self.pieces.iter().filter(|piece| piece.get().is_some()).count();
        write!(f, "{made} of {} pieces", self.pieces.len())
    }
}

/// Makes the copies of a model's weights.
pub struct Copier {
    readers: Vec<PartReader>,
    /// In the order of the file.
    jobs: Vec<Job>,
}

/// One weight.
struct Job {
    part: usize,
    /// Where it lies in the part.
    span: Range<usize>,
    dtype: DType,
    layout: RowLayout,
    count: usize,
    rows: usize,
    cols: usize,
    copy: Arc<WeightCopy>,
}

impl Copier {
    /// One for the `weights` of a model that sessions at `level` multiply with.
    ///
    /// # Errors
    /// No more files can be opened.
    pub fn new<'m>(
        model: &'m Model,
        level: Level,
        weights: impl IntoIterator<Item = &'m Weight>,
    ) -> io::Result<Copier> {
        let readers = model.gguf().parts().iter().map(|part| part.reader()).collect::<io::Result<_>>()?;
        let job = |weight: &Weight| Job {
            part: weight.info.part,
            span: model.gguf().span(&weight.info),
            dtype: weight.info.dtype,
            layout: select_interleaved(level, weight.info.dtype).map_or(RowLayout::Plain, |kernel| kernel.layout),
            count: weight.count,
            rows: weight.rows,
            cols: weight.cols,
            copy: weight.copy.clone(),
        };
        let mut jobs: Vec<Job> = weights.into_iter().map(job).collect();
        jobs.sort_by_key(|job| (job.part, job.span.start));
        Ok(Copier { readers, jobs })
    }

    /// Copies all weights, piece by piece, each of which is in use as soon as it is whole; the file's map of its bytes is let go,
    /// so that memory never holds much more than the file. `progress` hears how many bytes were copied. Ends early when `stop` is
    /// set.
    ///
    /// # Errors
    /// A file can't be read any more, or there is no memory; what was not copied is used where it is mapped.
    pub fn run(self, stop: &AtomicBool, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let (mut arena, mut read, mut done) = (Arena::default(), Vec::new(), 0);
        for job in &self.jobs {
            let reader = &self.readers[job.part];
            let row_bytes = job.span.len() / (job.count * job.rows);
            let mut held = job.span.start;
            for (no, place) in job.copy.pieces.iter().enumerate().filter(|(_, place)| place.get().is_none()) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let (matrix, first) = (no / job.copy.per_matrix, no % job.copy.per_matrix * job.copy.rows);
                let rows = job.copy.rows.min(job.rows / GROUP * GROUP - first);
                let start = job.span.start + (matrix * job.rows + first) * row_bytes;
                let mut bytes = arena.take(rows * row_bytes)?;
                match job.layout {
                    RowLayout::Plain => reader.read(start, bytes.bytes_mut())?,
                    RowLayout::Interleaved => {
                        read.resize(rows * row_bytes, 0);
                        reader.read(start, &mut read)?;
                        interleave(job.dtype, job.cols, &read, bytes.bytes_mut());
                    }
                }
                done += bytes.len() as u64;
                // Should two copy at once, the first one's piece stays.
                let _ = place.set(Piece { layout: job.layout, bytes });
                reader.let_go(held..start + rows * row_bytes);
                held = start;
                progress(done);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_in_parts() {
        // Pieces of 64 rows; the last 5 of 149 are in none.
        let copy = WeightCopy::new(2, 149, PIECE_BYTES);
        assert_eq!((copy.rows, copy.per_matrix, copy.pieces.len()), (64, 3, 6));
        let mut arena = Arena::default();
        for no in [1, 2, 3] {
            let mut bytes = arena.take(1).unwrap();
            bytes.bytes_mut().fill(no as u8);
            assert!(copy.pieces[no].set(Piece { layout: RowLayout::Plain, bytes }).is_ok());
        }
        let find = |matrix, range| {
            let (len, found) = copy.find(matrix, range);
            (len, found.map(|(piece, rows)| (piece.bytes[0], rows)))
        };
        assert_eq!(find(0, 16..40), (24, None));
        assert_eq!(find(0, 48..80), (16, None));
        assert_eq!(find(0, 64..80), (16, Some((1, 0..16))));
        assert_eq!(find(0, 120..136), (8, Some((1, 56..64))));
        assert_eq!(find(0, 128..144), (16, Some((2, 0..16))));
        assert_eq!(find(0, 136..149), (8, Some((2, 8..16))));
        assert_eq!(find(0, 144..149), (5, None));
        assert_eq!(find(1, 10..20), (10, Some((3, 10..20))));
        assert_eq!(find(1, 70..71), (1, None));
    }
}
