//! The output: the final norm, and the matrix that makes logits of what the last layer gives.
use crate::ggml::{self, Arena, Backend, Buffer, Context, Graph, Kept};
use crate::layers::read;
use qwren_offload::message::{Matrix, Open, Refusal};
use std::fs::File;

/// Graphs that are kept: for one token, and for several.
const KEPT: usize = 2;

/// It, on the device.
pub struct Output {
    /// `[hidden]`
    norm: Kept,
    /// `[hidden, vocab]`
    matrix: Kept,
    rms_eps: f32,
    hidden: usize,
    vocab: usize,
    built: Vec<Built>,
    arena: Arena,
    _buffer: Buffer,
    // Last, since the tensors live in it.
    _context: Context,
}

/// A graph for `n` tokens.
struct Built {
    n: usize,
    graph: Graph,
    /// `[hidden, n]`
    x: Kept,
    /// `[vocab, n]`
    logits: Kept,
    // Last, since the others live in it.
    _context: Context,
}

impl Output {
    /// Reads it; `norm` is the final norm's weights.
    ///
    /// # Errors
    /// There is no room, the device can't compute with it, or a file can't be read or is of another shape.
    pub fn load(backend: &Backend, open: &Open, m: &Matrix, norm: &[f32], files: &[File]) -> Result<Output, Refusal> {
        let hidden = open.shape.hidden;
        if (m.count, m.cols, norm.len()) != (1, hidden, hidden) || m.rows == 0 || !ggml::is_type(m.dtype) {
            return Err(Refusal::new("the output is of another shape"));
        }
        let context = Context::new(2);
        let weights = context.new_tensor(ggml::F32, [hidden, 1, 1]).keep();
        let matrix = context.new_tensor(m.dtype, [m.cols, m.rows, 1]).keep();
        let (rms_eps, vocab) = (open.shape.rms_eps, m.rows);
        // Before it is read.
        if let Some(what) = backend.unsupported(&build(weights, matrix, rms_eps, 1).graph) {
            return Err(Refusal::new(format!("the device can't compute {what}")));
        }
        let buffer =
            context.allot(backend).ok_or_else(|| Refusal::memory("the device has no memory for the output"))?;
        weights.set_floats(norm);
        read(matrix, m, files)?;
        let (built, arena) = (Vec::new(), Arena::new(backend));
        Ok(Output { norm: weights, matrix, rms_eps, hidden, vocab, built, arena, _buffer: buffer, _context: context })
    }

    /// The logits `[n, vocab]` of `x` `[n, hidden]`.
    ///
    /// # Errors
    /// There is no room, or the device fails.
    pub fn logits(&mut self, backend: &Backend, x: &[f32], logits: &mut Vec<f32>) -> Result<(), Refusal> {
        let n = x.len() / self.hidden;
        if n == 0 {
            return Err(Refusal::new("there are no such rows"));
        }
        match self.built.iter().position(|built| built.n == n) {
            Some(i) => self.built[i..].rotate_left(1),
            None => {
                if self.built.len() == KEPT {
                    self.built.remove(0);
                }
                self.built.push(build(self.norm, self.matrix, self.rms_eps, n));
            }
        }
        let Some(built) = self.built.last() else { return Err(Refusal::new("no graph")) };
        if let Some(what) = backend.unsupported(&built.graph) {
            return Err(Refusal::new(format!("the device can't compute {what}")));
        }
        if !self.arena.allot(&built.graph) {
            return Err(Refusal::memory(format!("the device has no memory for the output of {n} tokens")));
        }
        built.x.set_floats(x);
        if !backend.compute(&built.graph) {
            return Err(Refusal::new("the device failed to compute the output"));
        }
        logits.resize(n * self.vocab, 0.0);
        built.logits.get_floats(logits);
        Ok(())
    }
}

fn build(norm: Kept, matrix: Kept, rms_eps: f32, n: usize) -> Built {
    let c = Context::new(8);
    let graph = c.graph(8);
    let x = c.input(ggml::F32, [norm.bytes() / size_of::<f32>(), n, 1]);
    let logits = c.mul_mat(matrix, c.rms_norm(x, norm, rms_eps));
    graph.output(logits);
    let [x, logits] = [x, logits].map(|t| t.keep());
    Built { n, graph, x, logits, _context: c }
}
