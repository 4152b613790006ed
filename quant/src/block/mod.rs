//! The block formats, one file each: layout, quantize, dequantize. [`codec`] is the table of contents.
//!
//! A row of a tensor is a whole number of blocks. Layouts are ggml's, little-endian and without padding, so a row is
//! viewed where it lies, at any alignment.
mod affine;
mod float;
mod iq4_nl;
mod iq4_xs;
mod lanes;
mod levels;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod scales;
mod search;
mod small;
mod symmetric;
#[cfg(test)]
mod tests;

pub use iq4_nl::BlockIq4Nl;
pub use iq4_xs::BlockIq4Xs;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use levels::NON_LINEAR;
pub use q2_k::BlockQ2K;
pub use q3_k::BlockQ3K;
pub use q4_0::BlockQ4_0;
pub use q4_1::BlockQ4_1;
pub use q4_k::BlockQ4K;
pub use q5_0::BlockQ5_0;
pub use q5_1::BlockQ5_1;
pub use q5_k::BlockQ5K;
pub use q6_k::BlockQ6K;
pub use q8_0::BlockQ8_0;
pub(crate) use scales::unpack as unpack_scales;

use half::f16;
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::dtype::DType;
use crate::kernel::{Floats, Level, Work, run};

/// Elements in a super-block of the K formats.
pub const SUPER: usize = 256;

/// Quantize and dequantize of one format.
pub struct Codec {
    /// The format.
    pub dtype: DType,
    quantize: Quantize,
    dequantize: fn(&[u8], &mut [f32]),
}

/// Out of values, with an importance of each column: blocks.
type Quantize = fn(Level, &[f32], &mut [u8], Option<&[f32]>);

/// The codec of a format, or `None` for a format that is known but can't be computed with.
pub fn codec(dtype: DType) -> Option<&'static Codec> {
    CODECS.iter().find(|codec| codec.dtype == dtype)
}

/// Every format that can be quantized, dequantized and multiplied.
pub fn codecs() -> &'static [Codec] {
    &CODECS
}

static CODECS: [Codec; 15] = [
    Codec { dtype: DType::F32, quantize: float::quantize_f32, dequantize: float::dequantize_f32 },
    Codec { dtype: DType::F16, quantize: float::quantize_f16, dequantize: float::dequantize_f16 },
    Codec { dtype: DType::BF16, quantize: float::quantize_bf16, dequantize: float::dequantize_bf16 },
    Codec::of::<BlockQ8_0>(DType::Q8_0),
    Codec::of::<BlockQ4_0>(DType::Q4_0),
    Codec::of::<BlockQ4_1>(DType::Q4_1),
    Codec::of::<BlockQ5_0>(DType::Q5_0),
    Codec::of::<BlockQ5_1>(DType::Q5_1),
    Codec::of::<BlockIq4Nl>(DType::IQ4NL),
    Codec::of::<BlockQ2K>(DType::Q2K),
    Codec::of::<BlockQ3K>(DType::Q3K),
    Codec::of::<BlockIq4Xs>(DType::IQ4XS),
    Codec::of::<BlockQ4K>(DType::Q4K),
    Codec::of::<BlockQ5K>(DType::Q5K),
    Codec::of::<BlockQ6K>(DType::Q6K),
];

impl Codec {
    const fn of<B: Block>(dtype: DType) -> Codec {
        Codec { dtype, quantize: quantize::<B>, dequantize: dequantize::<B> }
    }

    /// Quantizes whole rows. `importance` holds one weight per column and is repeated for each row: errors in a column
    /// of weight 2 count twice. F32, F16, BF16 and Q8_0 have nothing to search and ignore it.
    ///
    /// Non-finite input gives some block without a panic; values beyond the format's range saturate.
    ///
    /// # Panics
    /// If `src` is no whole number of blocks or rows of `importance`, or `dst` has another length than its blocks.
    pub fn quantize(&self, src: &[f32], dst: &mut [u8], importance: Option<&[f32]>) {
        self.quantize_at(Level::best(), src, dst, importance);
    }

    /// As [`Codec::quantize`], with the instructions of a level. The bytes are the same at each.
    ///
    /// # Panics
    /// As [`Codec::quantize`].
    pub fn quantize_at(&self, level: Level, src: &[f32], dst: &mut [u8], importance: Option<&[f32]>) {
        self.check(src.len(), dst.len());
        if let Some(importance) = importance {
            let cols = importance.len();
            assert!(
                src.is_empty() || cols > 0 && src.len().is_multiple_of(cols) && cols % self.dtype.block_len() == 0,
                "{} values are not rows of {cols} columns",
                src.len()
            );
        }
        (self.quantize)(level, src, dst, importance);
    }

    /// Dequantizes whole blocks. Any bytes are valid blocks; a NaN scale gives NaN values.
    ///
    /// # Panics
    /// If `dst` is no whole number of blocks or `src` has another length than these blocks.
    pub fn dequantize(&self, src: &[u8], dst: &mut [f32]) {
        self.check(dst.len(), src.len());
        (self.dequantize)(src, dst);
    }

    fn check(&self, elements: usize, bytes: usize) {
        let (len, size) = (self.dtype.block_len(), self.dtype.block_bytes());
        assert!(
            elements.is_multiple_of(len) && bytes.is_multiple_of(size) && elements / len == bytes / size,
            "{elements} values don't fill {bytes} bytes of {}",
            self.dtype.name()
        );
    }
}

/// A block of `LEN` elements, viewed in place over bytes of any alignment.
pub(crate) trait Block: Sized + FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {
    /// Elements in a block.
    const LEN: usize;

    /// Quantizes one row `x` of `row.len() * LEN` elements.
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]);

    /// Writes the block's `LEN` values.
    fn dequantize(&self, y: &mut [f32]);
}

/// Views bytes as blocks.
///
/// # Panics
/// If `bytes` is no whole number of blocks.
pub(crate) fn blocks<B: Block>(bytes: &[u8]) -> &[B] {
    <[B]>::ref_from_bytes(bytes).expect("whole blocks")
}

fn quantize<B: Block>(level: Level, src: &[f32], dst: &mut [u8], importance: Option<&[f32]>) {
    let dst = <[B]>::mut_from_bytes(dst).expect("length checked by the caller");
    run(level, Rows { src, dst, importance });
}

/// Rows to quantize.
struct Rows<'a, B> {
    src: &'a [f32],
    dst: &'a mut [B],
    importance: Option<&'a [f32]>,
}

impl<B: Block> Work for Rows<'_, B> {
    #[inline(always)]
    fn run<F: Floats>(self, token: F::Token) {
        let cols = self.importance.map_or(self.src.len(), <[f32]>::len).max(B::LEN);
        for (x, row) in self.src.chunks_exact(cols).zip(self.dst.chunks_exact_mut(cols / B::LEN)) {
            B::quantize_row::<F>(token, x, self.importance, row);
        }
    }
}

/// The weights of super-block `i` of a row.
#[inline(always)]
fn super_importance(importance: Option<&[f32]>, i: usize) -> Option<&[f32; SUPER]> {
    importance.map(|importance| &importance.as_chunks().0[i])
}

fn dequantize<B: Block>(src: &[u8], dst: &mut [f32]) {
    for (block, y) in blocks::<B>(src).iter().zip(dst.chunks_exact_mut(B::LEN)) {
        block.dequantize(y);
    }
}

/// A half-precision number inside a block.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct Half(U16);

impl Half {
    /// Nearest half (ties to even); beyond the range the largest finite half, since an infinite scale would turn every
    /// value of the block into NaN or infinity.
    pub fn saturating(x: f32) -> Half {
        Half(f16::from_f32(clamp_to_half(x)).to_bits().into())
    }

    /// The number.
    pub fn get(self) -> f32 {
        f16::from_bits(self.0.get()).to_f32()
    }

    /// The number's sixteen bits.
    pub fn bits(self) -> u16 {
        self.0.get()
    }
}

/// `x`, or the largest finite half where `x` would round to infinity.
#[inline(always)]
fn clamp_to_half(x: f32) -> f32 {
    const MAX: f32 = 65504.0;
    // Halfway to the next step above MAX: from here on conversion rounds to infinity.
    const OVERFLOW: f32 = 65520.0;
    if x.abs() >= OVERFLOW { MAX.copysign(x) } else { x }
}

/// `1 / d`, or 0 where the block has no scale.
#[inline(always)]
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The value of largest magnitude with its sign, the first of equals.
#[inline(always)]
fn signed_max(x: &[f32]) -> f32 {
    let mut max = 0.0f32;
    for &v in x {
        if max.abs() < v.abs() {
            max = v;
        }
    }
    max
}

/// Mean of the squares of whole blocks.
#[inline(always)]
fn mean_square(x: &[f32]) -> f32 {
    // Eight sums: one alone would wait for each addition.
    let mut lanes = [0.0; 8];
    for x in x.as_chunks::<8>().0 {
        for l in 0..8 {
            lanes[l] += x[l] * x[l];
        }
    }
    lanes.iter().sum::<f32>() / x.len() as f32
}
