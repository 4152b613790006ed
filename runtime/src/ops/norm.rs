//! RMS norm of rows, and of heads followed by the rotary embedding; that embedding alone.
use super::State;
use crate::ggml::{Fault, Io, Op};

/// `x` `[n, width]`: each row over the root of its mean square, times `weight` `[width]`.
pub struct RmsNorm<'m> {
    /// `[width]`
    pub weight: &'m [f32],
    /// Added to the mean square.
    pub eps: f32,
}

impl Op<State> for RmsNorm<'_> {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        let width = self.weight.len();
        let rows = io.src(0).chunks_exact(width).zip(io.dst.chunks_exact_mut(width));
        st.crew.items(io.stop, rows, |_, (x, y)| st.vec.rms_norm(x, self.weight, self.eps, y))
    }
}

/// `x` `[n, heads * head_dim]`: the norm over each head, then its rotation to the token's position.
pub struct NormRope<'m> {
    /// `[head_dim]`
    pub weight: &'m [f32],
    /// Added to the mean square.
    pub eps: f32,
    /// Heads in a row.
    pub heads: usize,
}

impl Op<State> for NormRope<'_> {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        let head_dim = self.weight.len();
        let width = self.heads * head_dim;
        let rows = io.src(0).chunks_exact(width).zip(io.dst.chunks_exact_mut(width)).enumerate();
        st.crew.items(io.stop, rows, |_, (t, (x, y))| {
            for (x, y) in x.chunks_exact(head_dim).zip(y.chunks_exact_mut(head_dim)) {
                st.vec.rms_norm(x, self.weight, self.eps, y);
                st.angles.turn(t, y);
            }
        })
    }
}

/// `x` `[n, width]`: each head's rotation to the token's position.
pub struct Rotate {
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of all heads.
    pub width: usize,
}

impl Op<State> for Rotate {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        let rows = io.src(0).chunks_exact(self.width).zip(io.dst.chunks_exact_mut(self.width)).enumerate();
        st.crew.items(io.stop, rows, |_, (t, (x, y))| {
            y.copy_from_slice(x);
            y.chunks_exact_mut(self.head_dim).for_each(|head| st.angles.turn(t, head));
        })
    }
}
