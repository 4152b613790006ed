//! Vector operations between the matrix products: norms, softmax, SwiGLU, attention.
use half::f16;

#[cfg(target_arch = "aarch64")]
use super::aarch64;
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{Ahead, Level, Q8_BLOCK, Q8Rows, Q8RowsMut, scalar_vec};

/// The operations of one level. Lengths are checked here, once for all levels.
pub struct VecOps {
    /// The instructions that they need.
    pub level: Level,
    /// Name of the level.
    pub name: &'static str,
    table: Table,
}

/// Functions that rely on lengths checked by [`VecOps`] and need the instructions of its level.
pub(super) struct Table {
    pub(super) scale: unsafe fn(&mut [f32], f32),
    pub(super) rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    pub(super) max: unsafe fn(&[f32]) -> f32,
    pub(super) exp_sum: unsafe fn(&mut [f32], f32) -> f32,
    pub(super) silu_mul: unsafe fn(&mut [f32], &[f32]),
    pub(super) f32_to_f16: unsafe fn(&[f32], &mut [f16]),
    pub(super) quantize_32: Quantize,
    pub(super) quantize_256: Quantize,
    pub(super) dots_f32: Rows<f32>,
    pub(super) dots_f16: Rows<f16>,
    pub(super) weighted_rows_f32: Rows<f32>,
    pub(super) weighted_rows_f16: Rows<f16>,
    pub(super) multiply_adds: unsafe fn(usize) -> u64,
    pub(super) dots_q8: RowsQ8,
    pub(super) weighted_rows_q8: RowsQ8,
}

/// Over rows and their stride, with vectors or weights and the elements of a row; what comes next is asked for.
type Rows<E> = unsafe fn(&[E], usize, &[f32], usize, &mut [f32], Option<Ahead>);

/// The same over int8 rows.
type RowsQ8 = unsafe fn(Q8Rows<'_>, &[f32], usize, &mut [f32], Option<Ahead>);

/// Out of values: levels, scales and sums.
type Quantize = unsafe fn(&[f32], &mut [i8], &mut [f32], &mut [i16]);

/// The vector operations of a level.
pub fn vec_ops(level: Level) -> &'static VecOps {
    match level {
        Level::Scalar => &scalar_vec::OPS,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(token) => x86::avx2::vec_ops(token),
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni(token) => x86::avxvnni::vec_ops(token),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni(token) => x86::avx512::vec_ops(token),
        #[cfg(target_arch = "aarch64")]
        Level::Neon(token) => aarch64::vec::neon(token),
        #[cfg(target_arch = "aarch64")]
        Level::Dotprod(token) => aarch64::vec::dotprod(token),
        #[cfg(target_arch = "aarch64")]
        Level::I8mm(token) => aarch64::vec::i8mm(token),
    }
}

/// Calls a function of the table.
macro_rules! call {
    ($self:ident.$op:ident($($arg:expr),*)) => {
        // SAFETY: the function needs the instructions of `self.level`, and a level exists only on a CPU that has them.
        unsafe { ($self.table.$op)($($arg),*) }
    };
}

impl VecOps {
    pub(super) const fn new(level: Level, table: Table) -> VecOps {
        VecOps { level, name: level.name(), table }
    }

    /// y *= a.
    pub fn scale(&self, y: &mut [f32], a: f32) {
        call!(self.scale(y, a));
    }

    /// out = x / √(mean(x²) + eps) · w.
    pub fn rms_norm(&self, x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
        assert_eq!(x.len(), w.len());
        assert_eq!(x.len(), out.len());
        if !x.is_empty() {
            call!(self.rms_norm(x, w, eps, out));
        }
    }

    /// The largest element, −∞ of none. A NaN is passed over.
    pub fn max(&self, x: &[f32]) -> f32 {
        call!(self.max(x))
    }

    /// x = exp(x − max); returns their sum. With the running maximum of a row this is a step of a block-wise softmax.
    pub fn exp_sum(&self, x: &mut [f32], max: f32) -> f32 {
        call!(self.exp_sum(x, max))
    }

    /// x = exp(x) / Σ exp(x). Elements of −∞ become 0; a row of nothing else becomes zeros.
    pub fn softmax(&self, x: &mut [f32]) {
        let max = self.max(x);
        if max == f32::NEG_INFINITY && !x.iter().any(|x| x.is_nan()) {
            x.fill(0.0);
        } else {
            let sum = self.exp_sum(x, max);
            self.scale(x, 1.0 / sum);
        }
    }

    /// gate = silu(gate)·up, silu(x) = x / (1 + exp(−x)).
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        call!(self.silu_mul(gate, up));
    }

    /// Rounds to nearest, ties to even.
    pub fn f32_to_f16(&self, src: &[f32], dst: &mut [f16]) {
        assert_eq!(src.len(), dst.len());
        call!(self.f32_to_f16(src, dst));
    }

    /// Activations of the form `ActKind::Q8x32`; the same bits at each level.
    pub(crate) fn quantize_32(&self, x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i16]) {
        assert!(x.len() == q.len() && x.len() == 32 * scales.len() && x.len() == 32 * sums.len());
        call!(self.quantize_32(x, q, scales, sums));
    }

    /// Activations of the form `ActKind::Q8x256`; the same bits at each level.
    pub(crate) fn quantize_256(&self, x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i16]) {
        assert!(x.len() == q.len() && x.len() == 256 * scales.len() && x.len() == 16 * sums.len());
        call!(self.quantize_256(x, q, scales, sums));
    }

    /// `out[j * n + i]` = K row i · query j. `k`: n rows that start `stride` elements apart; `q`: `[queries, dim]`;
    /// `out`: `[queries, n]`. A result has the same bits whatever else is in the call.
    /// What lies `ahead` is asked for meanwhile, worth it when few queries meet each row: then memory takes longer than the
    /// arithmetic.
    pub fn dots_f32(&self, k: &[f32], stride: usize, q: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
        if check_rows(k.len(), stride, q.len(), dim, out.len()) {
            call!(self.dots_f32(k, stride, q, dim, out, ahead));
        }
    }

    /// As [`VecOps::dots_f32`], with half-precision rows.
    pub fn dots_f16(&self, k: &[f16], stride: usize, q: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
        if check_rows(k.len(), stride, q.len(), dim, out.len()) {
            call!(self.dots_f16(k, stride, q, dim, out, ahead));
        }
    }

    /// `out[j * dim + c] += Σ p[j * n + i] · V[i][c]`, positions i ascending. `v`: n rows that start `stride` elements
    /// apart; `p`: `[queries, n]`; `out`: `[queries, dim]`. Splitting the positions over several calls in order gives
    /// the same bits.
    pub fn weighted_rows_f32(
        &self,
        v: &[f32],
        stride: usize,
        p: &[f32],
        dim: usize,
        out: &mut [f32],
        ahead: Option<Ahead>,
    ) {
        if check_rows(v.len(), stride, out.len(), dim, p.len()) {
            call!(self.weighted_rows_f32(v, stride, p, dim, out, ahead));
        }
    }

    /// As [`VecOps::weighted_rows_f32`], with half-precision rows.
    pub fn weighted_rows_f16(
        &self,
        v: &[f16],
        stride: usize,
        p: &[f32],
        dim: usize,
        out: &mut [f32],
        ahead: Option<Ahead>,
    ) {
        if check_rows(v.len(), stride, out.len(), dim, p.len()) {
            call!(self.weighted_rows_f16(v, stride, p, dim, out, ahead));
        }
    }

    /// As [`VecOps::dots_f32`], with int8 rows of `dim`, a multiple of 32.
    pub fn dots_q8(&self, k: Q8Rows<'_>, q: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
        check_q8(k, dim);
        if check_rows(k.q.len(), dim, q.len(), dim, out.len()) {
            call!(self.dots_q8(k, q, dim, out, ahead));
        }
    }

    /// As [`VecOps::weighted_rows_f32`], with int8 rows of `dim`, a multiple of 32.
    pub fn weighted_rows_q8(&self, v: Q8Rows<'_>, p: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
        check_q8(v, dim);
        if check_rows(v.q.len(), dim, out.len(), dim, p.len()) {
            call!(self.weighted_rows_q8(v, p, dim, out, ahead));
        }
    }

    /// Does some int8 multiply-adds a round, on registers alone, and gives their number: the most that a matrix product at
    /// this level could do in that time.
    pub fn multiply_adds(&self, rounds: usize) -> u64 {
        call!(self.multiply_adds(rounds))
    }

    /// Rounds whole blocks of 32 values to int8, the largest magnitude to 127; the same bits at each level. A block with a
    /// NaN or an infinity gets a NaN for scale.
    pub fn f32_to_q8(&self, x: &[f32], out: Q8RowsMut<'_>) {
        assert!(x.len() == out.q.len() && x.len() == Q8_BLOCK * out.scales.len());
        let blocks = x.chunks_exact(Q8_BLOCK).zip(out.q.chunks_exact_mut(Q8_BLOCK));
        for ((x, q), scale) in blocks.zip(out.scales) {
            let mut exact = [0.0];
            self.quantize_32(x, q, &mut exact, &mut [0]);
            *scale = f16::from_f32(exact[0]);
        }
    }
}

fn check_q8(rows: Q8Rows<'_>, dim: usize) {
    assert!(dim.is_multiple_of(Q8_BLOCK) && rows.q.len() == Q8_BLOCK * rows.scales.len(), "scales for other rows");
}

/// Checks `rows` against `[queries, dim]` vectors and a `[queries, n]` matrix; false when there is nothing to do.
fn check_rows(rows: usize, stride: usize, vectors: usize, dim: usize, matrix: usize) -> bool {
    assert!(dim > 0 && vectors.is_multiple_of(dim), "{vectors} elements are no vectors of {dim}");
    let queries = vectors / dim;
    if queries == 0 || matrix == 0 {
        assert_eq!(matrix, 0, "positions for no query");
        return false;
    }
    assert!(matrix.is_multiple_of(queries), "{matrix} elements are no rows for {queries} queries");
    let last = (matrix / queries - 1).checked_mul(stride).and_then(|start| start.checked_add(dim));
    assert!(last.is_some_and(|end| end <= rows), "positions end beyond the rows");
    true
}
