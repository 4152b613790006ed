//! Matrix products of weights in the file with activations. An input is quantized once for all matrices that meet it.
use super::State;
use super::crew::{Crew, sized};
use crate::ggml::{Fault, Io, Op, Tiles};
use crate::model::{Model, Weight, WeightCopy};
use qwren_quant::act::{ActKind, ActView, Acts};
use qwren_quant::kernel::{GROUP, Kernel, Level, RowLayout, select, select_interleaved};
use std::ops::Range;
use std::sync::atomic::AtomicBool;

/// A matrix `[rows, cols]` and what multiplies it.
#[derive(Clone, Copy)]
pub struct Mat<'m> {
    /// In the file.
    bytes: &'m [u8],
    row_bytes: usize,
    /// Rows: the width of the product.
    pub rows: usize,
    /// Columns: the width of the input.
    pub cols: usize,
    /// The kernel for its type on this CPU.
    pub kernel: &'static Kernel,
    /// That for interleaved rows, where there is one.
    interleaved: Option<&'static Kernel>,
    /// The copy of its weight, and its number there.
    copy: (&'m WeightCopy, usize),
}

impl<'m> Mat<'m> {
    /// All matrices of a weight: one, or one an expert.
    ///
    /// # Panics
    /// When the type has no kernel: [`Model::open`] has checked that it has.
    pub fn all(model: &'m Model, weight: &'m Weight, level: Level) -> Vec<Mat<'m>> {
        let bytes = model.bytes(weight);
        let kernel = select(level, weight.info.dtype).expect("a weight's type has a kernel");
        let interleaved = select_interleaved(level, weight.info.dtype);
        let (rows, cols) = (weight.rows, weight.cols);
        let each = bytes.len() / weight.count;
        let mat = |(i, bytes)| Mat {
            bytes,
            row_bytes: each / rows,
            rows,
            cols,
            kernel,
            interleaved,
            copy: (&*weight.copy, i),
        };
        bytes.chunks_exact(each).enumerate().map(mat).collect()
    }

    /// The only matrix of a weight.
    ///
    /// # Panics
    /// As [`Mat::all`].
    pub fn one(model: &'m Model, weight: &'m Weight, level: Level) -> Mat<'m> {
        Mat::all(model, weight, level)[0]
    }

    /// Its rows as they lie in the file.
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// `out[t, r] = ⟨row r, token t⟩` for the rows `r` in `range`; `out` is `[tokens, range]`.
    pub fn multiply(&self, range: Range<usize>, acts: ActView<'_>, out: &mut [f32]) {
        let (n, width) = (acts.tokens(), range.len());
        let mut done = 0;
        while done < width {
            let rest = range.start + done..range.end;
            let (len, kernel, bytes) = self.place(rest);
            if len == width || n == 1 {
                kernel.mul_mat(bytes, acts, &mut out[n * done..n * (done + len)]);
            } else {
                // Rows in several places, which is rare: their results are not in one piece.
                let mut part = vec![0.0; n * len];
                kernel.mul_mat(bytes, acts, &mut part);
                for (out, part) in out.chunks_exact_mut(width).zip(part.chunks_exact(len)) {
                    out[done..done + len].copy_from_slice(part);
                }
            }
            done += len;
        }
    }

    /// How many of the rows `range`, from the first one on, lie in one place, their bytes there, and what multiplies them.
    fn place(&self, range: Range<usize>) -> (usize, &'static Kernel, &'m [u8]) {
        let (copy, matrix) = self.copy;
        let (len, found) = copy.find(matrix, range.clone());
        let in_bytes = |rows: Range<usize>| rows.start * self.row_bytes..rows.end * self.row_bytes;
        let groups = |rows: &Range<usize>| rows.start.is_multiple_of(GROUP) && rows.end.is_multiple_of(GROUP);
        match (found, self.interleaved) {
            (Some((piece, rows)), _) if piece.layout == RowLayout::Plain => {
                (len, self.kernel, &piece.bytes[in_bytes(rows)])
            }
            (Some((piece, rows)), Some(kernel)) if groups(&rows) => (len, kernel, &piece.bytes[in_bytes(rows)]),
            _ => (len, self.kernel, &self.bytes[in_bytes(range.start..range.start + len)]),
        }
    }
}

/// One input in each form that kernels want it in.
#[derive(Default)]
pub struct ActSets {
    sets: Vec<(ActKind, Acts)>,
}

impl ActSets {
    /// Quantizes rows of `cols` values to `kind`.
    pub fn fill<'x>(
        &mut self,
        crew: &mut Crew,
        level: Level,
        stop: &AtomicBool,
        kind: ActKind,
        cols: usize,
        rows: impl ExactSizeIterator<Item = &'x [f32]> + Send,
    ) -> Result<(), Fault> {
        let at = self.sets.iter().position(|(k, _)| *k == kind).unwrap_or_else(|| {
            self.sets.push((kind, Acts::new()));
            self.sets.len() - 1
        });
        let acts = &mut self.sets[at].1;
        acts.reset(kind, rows.len(), cols);
        crew.items(stop, rows.zip(acts.rows_mut()), |_, (x, mut row)| row.set(level, x))
    }

    /// What [`ActSets::fill`] left.
    ///
    /// # Panics
    /// When it was never called for `kind`.
    pub fn view(&self, kind: ActKind) -> ActView<'_> {
        let set = self.sets.iter().find(|(k, _)| *k == kind);
        set.expect("activations were quantized").1.view()
    }
}

/// Rows of a matrix that make a piece of work. With one token a piece is a GEMV over memory: large enough to be worth
/// being taken, small enough that all workers end together. With many, a piece's rows are unpacked once and meet all tokens,
/// whose results go through the worker's scratch: that must stay in its cache.
pub fn strip(rows: usize, tokens: usize, workers: usize) -> usize {
    if tokens > 1 { 32 } else { (rows / (workers * 8)).next_multiple_of(16).clamp(16, 64) }
}

/// Quantizes `x` `[n, cols]` for `mats` and fills `outs`, each `[n, rows]` of its matrix; `add` `[n, rows]` is added to the
/// first.
pub fn multiply(
    st: &mut State,
    stop: &AtomicBool,
    mats: &[Mat<'_>],
    x: &[f32],
    outs: Vec<&mut [f32]>,
    add: Option<&[f32]>,
) -> Result<(), Fault> {
    let cols = mats[0].cols;
    let n = x.len() / cols;
    for (i, m) in mats.iter().enumerate() {
        if mats[..i].iter().all(|earlier| earlier.kernel.act != m.kernel.act) {
            st.acts.fill(&mut st.crew, st.level, stop, m.kernel.act, cols, x.chunks_exact(cols))?;
        }
    }
    let workers = st.crew.active();
    let tile = |(m, out): (&Mat<'_>, _)| Tiles::new(out, m.rows, vec![0, n], strip(m.rows, n, workers));
    let mut tiles: Vec<Tiles<'_>> = mats.iter().zip(outs).map(tile).collect();
    let acts = &st.acts;
    st.crew.tiles(stop, &mut tiles, |scratch, i, mut tile| {
        let (m, range) = (&mats[i], tile.cols());
        let view = acts.view(m.kernel.act);
        if n == 1 {
            m.multiply(range.clone(), view, tile.row_mut(0));
        } else {
            let out = sized(&mut scratch.a, n * range.len());
            m.multiply(range.clone(), view, out);
            out.chunks_exact(range.len()).enumerate().for_each(|(t, row)| tile.row_mut(t).copy_from_slice(row));
        }
        if let Some(add) = add.filter(|_| i == 0) {
            for (t, add) in add.chunks_exact(m.rows).enumerate() {
                tile.row_mut(t).iter_mut().zip(&add[range.clone()]).for_each(|(y, a)| *y += a);
            }
        }
    })
}

/// Products of several matrices with one input `[n, cols]`. The output holds them one after the other:
/// `[n, rows of the first]`, `[n, rows of the second]`, …
pub struct Project<'m> {
    /// The matrices.
    pub mats: Vec<Mat<'m>>,
}

impl Op<State> for Project<'_> {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        let (x, n) = (io.src(0), io.src(0).len() / self.mats[0].cols);
        let mut rest = io.dst;
        let mut outs = Vec::with_capacity(self.mats.len());
        for m in &self.mats {
            let (out, tail) = rest.split_at_mut(n * m.rows);
            outs.push(out);
            rest = tail;
        }
        multiply(st, io.stop, &self.mats, x, outs, None)
    }
}

/// The product of a matrix with the first source `[n, cols]`, plus the second source `[n, rows]`: the residual.
pub struct ProjectAdd<'m> {
    /// The matrix.
    pub mat: Mat<'m>,
}

impl Op<State> for ProjectAdd<'_> {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        let (x, residual) = (io.src(0), io.src(1));
        multiply(st, io.stop, &[self.mat], x, vec![io.dst], Some(residual))
    }
}
