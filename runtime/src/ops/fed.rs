//! What matrices are fed: sums of squares of each column of their inputs, for importance matrices. Nodes that sum are put into
//! a graph only when somebody asks for it.
use super::State;
use super::crew::Crew;
use crate::ggml::{Fault, Io, Op};
use crate::model::{Ffn, Model, Weight};
use std::sync::atomic::AtomicBool;

/// Adding is never left half done: it takes no time beside the products.
static NEVER: AtomicBool = AtomicBool::new(false);

/// Sums over one input, and the matrices that share it.
#[derive(Debug)]
pub struct Entry {
    /// The names of their tensors.
    pub names: Vec<String>,
    /// Sums of squares, `[experts, cols]`; 1 expert but for those of a mixture. In f64, so that hours of text lose nothing.
    pub squares: Vec<f64>,
    /// Rows that were summed, `[experts]`.
    pub rows: Vec<u64>,
}

/// The sums of all inputs of a model. A column's rows are added in the order of the tokens, so they are the same bits for any
/// number of threads and any batch size.
#[derive(Debug)]
pub struct Fed {
    entries: Vec<Entry>,
}

/// Columns that one thread sums at a time.
const COLS: usize = 256;

impl Fed {
    /// Nothing summed yet, for the matrices of all layers, and the output's if `output`.
    pub fn new(model: &Model, output: bool) -> Fed {
        let mut entries = Vec::new();
        let mut push = |weights: &[&Weight]| {
            let (cols, experts) = (weights[0].cols, weights[0].count);
            let names = weights.iter().map(|w| w.info.name.clone()).collect();
            entries.push(Entry { names, squares: vec![0.0; experts * cols], rows: vec![0; experts] });
        };
        for l in model.layers() {
            push(&[&l.q, &l.k, &l.v]);
            push(&[&l.o]);
            match &l.ffn {
                Ffn::Dense { gate, up, down } => {
                    push(&[gate, up]);
                    push(&[down]);
                }
                Ffn::Experts { router, gate, up, down } => {
                    push(&[router]);
                    push(&[gate, up]);
                    push(&[down]);
                }
            }
        }
        if output {
            push(&[model.output()]);
        }
        Fed { entries }
    }

    /// The entries, layer by layer.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of the entry for `weight`; none where it isn't asked for.
    pub fn find(&self, weight: &Weight) -> Option<usize> {
        self.entries.iter().position(|e| e.names.contains(&weight.info.name))
    }

    /// Adds `rows`, each of `cols` values, to what `expert` of entry `entry` was fed.
    ///
    /// # Errors
    /// A fault of the crew.
    pub fn add<'x>(
        &mut self,
        crew: &mut Crew,
        (entry, expert): (usize, usize),
        cols: usize,
        rows: impl ExactSizeIterator<Item = &'x [f32]> + Clone + Sync,
    ) -> Result<(), Fault> {
        let entry = &mut self.entries[entry];
        entry.rows[expert] += rows.len() as u64;
        let strips = entry.squares[expert * cols..][..cols].chunks_mut(COLS).enumerate();
        crew.items(&NEVER, strips, |_, (i, strip)| {
            let first = i * COLS;
            for row in rows.clone() {
                let x = &row[first..][..strip.len()];
                strip.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
            }
        })
    }
}

/// A node without a result of its own: sums what entry `entry` of [`State::fed`] is fed, `[n, cols]`.
pub struct Watch {
    /// The entry's number.
    pub entry: usize,
    /// Columns.
    pub cols: usize,
}

impl Op<State> for Watch {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        io.dst.fill(0.0);
        match &mut st.fed {
            Some(fed) => fed.add(&mut st.crew, (self.entry, 0), self.cols, io.src(0).chunks_exact(self.cols)),
            None => Ok(()),
        }
    }
}
