//! Activations as the kernels eat them: float32, or int8 with a scale per 32 or 256 values.
//!
//! Quantized rows are symmetric, `x ≈ d·q` with q in −127 … 127, and carry the sums of their int8 values, so that a
//! weight format with an offset pays for it once per block instead of once per value. The rounding is defined by
//! operations that every CPU does exactly: each level writes the same bits.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::kernel::{Level, vec_ops};

/// The form of the activations that a weight format wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ActKind {
    /// As they are, for F32, F16 and BF16 weights.
    F32,
    /// int8 with a scale and a sum per 32 values, for formats in blocks of 32.
    Q8x32,
    /// int8 with a scale per 256 values and sums per 16, for the K formats.
    Q8x256,
}

impl ActKind {
    /// Values that share a scale; rows are whole multiples of it.
    pub const fn block_len(self) -> usize {
        match self {
            ActKind::F32 => 1,
            ActKind::Q8x32 => 32,
            ActKind::Q8x256 => 256,
        }
    }

    /// Values that share a sum.
    const fn sum_len(self) -> usize {
        match self {
            ActKind::F32 => 1,
            ActKind::Q8x32 => 32,
            ActKind::Q8x256 => 16,
        }
    }

    /// Sums of 32 values in a row of `cols`, beside those of [`ActKind::sum_len`].
    const fn wide_sums(self, cols: usize) -> usize {
        match self {
            ActKind::Q8x256 if cfg!(target_arch = "x86_64") => cols / 32,
            _ => 0,
        }
    }
}

/// 32 int8 values on a boundary of 32 bytes, so that no vector load of a row crosses a cache line.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(32))]
struct Lane([i8; 32]);

const EMPTY_LANE: Lane = Lane([0; 32]);

/// Token rows of one kind, `[tokens, cols]`. Buffers are kept from batch to batch.
pub struct Acts {
    kind: ActKind,
    tokens: usize,
    cols: usize,
    floats: Vec<f32>,
    quants: Vec<Lane>,
    scales: Vec<f32>,
    sums: Vec<i16>,
    /// Of Q8x256 the sums of 32 values too, as x86-64's panels want them.
    wide_sums: Vec<i16>,
}

impl Default for Acts {
    fn default() -> Self {
        Acts::new()
    }
}

impl Acts {
    /// No rows.
    pub fn new() -> Acts {
        Acts {
            kind: ActKind::F32,
            tokens: 0,
            cols: 0,
            floats: Vec::new(),
            quants: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
            wide_sums: Vec::new(),
        }
    }

    /// Makes room for `tokens` rows of `cols` values. What the rows hold is unspecified until they are set.
    ///
    /// # Panics
    /// If `cols` is no multiple of the kind's block.
    pub fn reset(&mut self, kind: ActKind, tokens: usize, cols: usize) {
        assert!(cols.is_multiple_of(kind.block_len()), "{cols} columns are no whole blocks of {kind:?}");
        (self.kind, self.tokens, self.cols) = (kind, tokens, cols);
        let values = tokens * cols;
        match kind {
            ActKind::F32 => self.floats.resize(values, 0.0),
            ActKind::Q8x32 | ActKind::Q8x256 => {
                self.quants.resize(values / 32, EMPTY_LANE);
                self.scales.resize(values / kind.block_len(), 0.0);
                self.sums.resize(values / kind.sum_len(), 0);
                self.wide_sums.resize(tokens * kind.wide_sums(cols), 0);
            }
        }
    }

    /// Sets the row of token `t`.
    ///
    /// # Panics
    /// If there is no such row or `x` is not as long as the columns.
    pub fn set_row(&mut self, level: Level, t: usize, x: &[f32]) {
        self.rows_mut().nth(t).expect("a row of the batch").set(level, x);
    }

    /// A writer for each token's row, in order. Writers are independent, so threads can fill rows at once.
    pub fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = ActRow<'_>> + Send {
        let (kind, tokens, cols) = (self.kind, self.tokens, self.cols);
        let mut floats = &mut self.floats[..];
        let mut quants = <[i8]>::mut_from_bytes(self.quants.as_mut_bytes()).expect("bytes of whole lanes");
        let mut scales = &mut self.scales[..];
        let mut sums = &mut self.sums[..];
        let mut wide_sums = &mut self.wide_sums[..];
        (0..tokens).map(move |_| match kind {
            ActKind::F32 => ActRow {
                kind,
                floats: split(&mut floats, cols),
                quants: &mut [],
                scales: &mut [],
                sums: &mut [],
                wide_sums: &mut [],
            },
            ActKind::Q8x32 | ActKind::Q8x256 => ActRow {
                kind,
                floats: &mut [],
                quants: split(&mut quants, cols),
                scales: split(&mut scales, cols / kind.block_len()),
                sums: split(&mut sums, cols / kind.sum_len()),
                wide_sums: split(&mut wide_sums, kind.wide_sums(cols)),
            },
        })
    }

    /// All rows, to multiply with.
    pub fn view(&self) -> ActView<'_> {
        let quants = <[i8]>::ref_from_bytes(self.quants.as_bytes()).expect("bytes of whole lanes");
        let (tokens, cols) = (self.tokens, self.cols);
        ActView {
            kind: self.kind,
            cols,
            first: 0,
            tokens,
            floats: &self.floats,
            quants,
            scales: &self.scales,
            sums: &self.sums,
            wide_sums: &self.wide_sums,
        }
    }
}

/// Takes the first `n` elements off `rest`.
fn split<'a, T>(rest: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let (head, tail) = std::mem::take(rest).split_at_mut(n);
    *rest = tail;
    head
}

/// The row of one token, to be set.
pub struct ActRow<'a> {
    kind: ActKind,
    floats: &'a mut [f32],
    quants: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [i16],
    wide_sums: &'a mut [i16],
}

impl ActRow<'_> {
    /// Copies or quantizes the values into the row.
    ///
    /// # Panics
    /// If `x` is not as long as the row.
    pub fn set(&mut self, level: Level, x: &[f32]) {
        match self.kind {
            ActKind::F32 => self.floats.copy_from_slice(x),
            ActKind::Q8x32 => vec_ops(level).quantize_32(x, self.quants, self.scales, self.sums),
            ActKind::Q8x256 => {
                vec_ops(level).quantize_256(x, self.quants, self.scales, self.sums);
                for (wide, [low, high]) in self.wide_sums.iter_mut().zip(self.sums.as_chunks().0) {
                    *wide = low + high;
                }
            }
        }
    }
}

/// (scale, levels per unit) of a block whose largest magnitude is `largest`. A block with a NaN or an infinity has a
/// NaN for scale and so makes every result that it touches a NaN; a block too small for its scale's inverse is zero.
/// Where there are no levels per unit, all levels are zero.
pub(crate) fn scale_of_largest(largest: f32) -> (f32, f32) {
    let per_unit = 127.0 / largest;
    if !largest.is_finite() {
        (f32::NAN, 0.0)
    } else if !per_unit.is_finite() {
        (0.0, 0.0)
    } else {
        (largest / 127.0, per_unit)
    }
}

/// Rows of some tokens, to be read by a kernel.
#[derive(Clone, Copy)]
pub struct ActView<'a> {
    kind: ActKind,
    cols: usize,
    first: usize,
    tokens: usize,
    floats: &'a [f32],
    quants: &'a [i8],
    scales: &'a [f32],
    sums: &'a [i16],
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "there are none"))]
    wide_sums: &'a [i16],
}

/// A quantized row.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct TokenRow<'a> {
    /// int8 values.
    pub quants: &'a [i8],
    /// Scales, one a block.
    pub scales: &'a [f32],
    /// Sums of 16 values (Q8x256 alone).
    pub sums_16: &'a [i16],
    /// Sums of 32 values.
    pub sums_32: &'a [i16],
}

impl<'a> ActView<'a> {
    /// The form of the rows.
    pub fn kind(&self) -> ActKind {
        self.kind
    }

    /// Rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Values in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The rows of some of the tokens.
    ///
    /// # Panics
    /// If the range is not within the tokens.
    pub fn slice(self, tokens: std::ops::Range<usize>) -> ActView<'a> {
        assert!(tokens.start <= tokens.end && tokens.end <= self.tokens, "no such tokens");
        ActView { first: self.first + tokens.start, tokens: tokens.len(), ..self }
    }

    /// float32 values of token `t`, `[cols]`.
    pub(crate) fn floats(&self, t: usize) -> &'a [f32] {
        self.row(self.floats, t, self.cols)
    }

    /// int8 values of token `t`, `[cols]`.
    pub(crate) fn quants(&self, t: usize) -> &'a [i8] {
        self.row(self.quants, t, self.cols)
    }

    /// Scales of token `t`, one a block.
    pub(crate) fn scales(&self, t: usize) -> &'a [f32] {
        self.row(self.scales, t, self.cols / self.kind.block_len())
    }

    /// Sums of the int8 values of token `t`, each over 32 (Q8x32) or 16 (Q8x256).
    pub(crate) fn sums(&self, t: usize) -> &'a [i16] {
        self.row(self.sums, t, self.cols / self.kind.sum_len())
    }

    /// What belongs to token `t`.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn token(&self, t: usize) -> TokenRow<'a> {
        let (sums_16, sums_32): (&[i16], _) = match self.kind {
            ActKind::Q8x256 => (self.sums(t), self.row(self.wide_sums, t, self.cols / 32)),
            ActKind::F32 | ActKind::Q8x32 => (&[], self.sums(t)),
        };
        TokenRow { quants: self.quants(t), scales: self.scales(t), sums_16, sums_32 }
    }

    /// int8 values of the `T` tokens from `t` on: `[token][block][group of 4]`, `G` groups a block.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn quant_blocks<const T: usize, const G: usize>(&self, t: usize) -> [&'a [[[i8; 4]; G]]; T] {
        std::array::from_fn(|i| self.quants(t + i).as_chunks().0.as_chunks().0)
    }

    /// Scales of the `T` tokens from `t` on.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn scale_rows<const T: usize>(&self, t: usize) -> [&'a [f32]; T] {
        std::array::from_fn(|i| self.scales(t + i))
    }

    /// Sums of the `T` tokens from `t` on.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn sum_rows<const T: usize>(&self, t: usize) -> [&'a [i16]; T] {
        std::array::from_fn(|i| self.sums(t + i))
    }

    #[inline]
    fn row<T>(&self, rows: &'a [T], t: usize, len: usize) -> &'a [T] {
        assert!(t < self.tokens, "no such token");
        &rows[(self.first + t) * len..][..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(kind: ActKind, level: Level, x: &[f32]) -> (Vec<i8>, Vec<f32>, Vec<i16>) {
        let mut acts = Acts::new();
        acts.reset(kind, 2, x.len());
        acts.set_row(level, 1, x);
        let view = acts.view().slice(1..2);
        (view.quants(0).to_vec(), view.scales(0).to_vec(), view.sums(0).to_vec())
    }

    #[test]
    fn levels_scales_and_sums() {
        let mut x = vec![0.0; 256];
        x[..4].copy_from_slice(&[254.0, -127.0, 1.0, 3.0]);
        let (q, d, sums) = quantized(ActKind::Q8x256, Level::Scalar, &x);
        // 0.5 and 1.5 are ties and go to the even neighbour.
        assert_eq!(q[..5], [127, -64, 0, 2, 0]);
        assert_eq!(d, [2.0]);
        assert_eq!(sums[..2], [65, 0]);
        let (q, d, sums) = quantized(ActKind::Q8x32, Level::Scalar, &x);
        assert_eq!((q[0], d[0], d[1], sums[0], sums.len()), (127, 2.0, 0.0, 65, 8));
    }

    #[test]
    fn non_finite_values_poison_their_block_only() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 64];
            x[40] = bad;
            let (q, d, _) = quantized(ActKind::Q8x32, Level::Scalar, &x);
            assert!(d[1].is_nan() && q[32..].iter().all(|&q| q == 0), "{bad}");
            assert_eq!((q[0], d[0]), (127, 1.0 / 127.0));
        }
        let (q, d, _) = quantized(ActKind::Q8x32, Level::Scalar, &[1e-44; 32]);
        assert_eq!((q[0], d[0]), (0, 0.0));
    }

    #[test]
    fn every_level_writes_the_same_bits() {
        let mut x: Vec<f32> = (0..512).map(|i| ((i * 7919 % 1024) as f32 - 512.0) / 97.0).collect();
        x[300] = 1e-30;
        x[301] = -33.3;
        for kind in [ActKind::Q8x32, ActKind::Q8x256] {
            let want = quantized(kind, Level::Scalar, &x);
            for level in Level::available() {
                assert_eq!(quantized(kind, level, &x), want, "{}", level.name());
            }
        }
    }

    #[test]
    fn float_rows_are_copies_and_buffers_are_reused() {
        let mut acts = Acts::new();
        acts.reset(ActKind::Q8x32, 3, 64);
        acts.reset(ActKind::F32, 2, 3);
        for (t, mut row) in acts.rows_mut().enumerate() {
            row.set(Level::Scalar, &[t as f32, 2.0, 3.0]);
        }
        assert_eq!(acts.view().floats(1), [1.0, 2.0, 3.0]);
        assert_eq!((acts.view().tokens(), acts.view().cols()), (2, 3));
    }
}
