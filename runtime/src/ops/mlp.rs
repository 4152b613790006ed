//! The gated half of SwiGLU: `silu(gate · x) * (up · x)`, with an exact silu.
use super::State;
use super::crew::sized;
use super::linear::{Mat, strip};
use crate::ggml::{Fault, Io, Op, Tiles};

/// From `x` `[n, hidden]` to `[n, ff]`.
pub struct SwiGlu<'m> {
    /// `[ff, hidden]`
    pub gate: Mat<'m>,
    /// `[ff, hidden]`
    pub up: Mat<'m>,
}

impl Op<State> for SwiGlu<'_> {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        let (gate, up, cols) = (&self.gate, &self.up, self.gate.cols);
        let n = io.src(0).len() / cols;
        for kind in [gate.kernel.act, up.kernel.act].into_iter().take(1 + (gate.kernel.act != up.kernel.act) as usize) {
            st.acts.fill(&mut st.crew, st.level, io.stop, kind, cols, io.src(0).chunks_exact(cols))?;
        }
        let tiles = Tiles::new(io.dst, gate.rows, vec![0, n], strip(gate.rows, n, st.crew.active()));
        let (acts, vec) = (&st.acts, st.vec);
        st.crew.tiles(io.stop, &mut [tiles], |scratch, _, mut tile| {
            let range = tile.cols();
            let g = sized(&mut scratch.a, n * range.len());
            let u = sized(&mut scratch.b, n * range.len());
            gate.multiply(range.clone(), acts.view(gate.kernel.act), g);
            up.multiply(range.clone(), acts.view(up.kernel.act), u);
            vec.silu_mul(g, u);
            g.chunks_exact(range.len()).enumerate().for_each(|(t, row)| tile.row_mut(t).copy_from_slice(row));
        })
    }
}
