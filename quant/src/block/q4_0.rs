//! Q4_0: 32 values of 4 bits with one scale, `x = d·(q − 8)`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::levels::Uniform;
use super::small::important_scales;
use super::{Block, Half, clamp_to_half, inverse, signed_max};
use crate::kernel::Floats;

/// 32 values, 18 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Scale.
    pub d: Half,
    /// Byte i holds value i in its low half and value i + 16 in its high half.
    pub qs: [u8; 16],
}

impl Block for BlockQ4_0 {
    const LEN: usize = 32;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        let x = x.as_chunks::<32>().0;
        let scales = importance.map(|importance| important_scales::<F, Uniform<8>>(token, x, importance));
        for (i, (x, block)) in x.iter().zip(row).enumerate() {
            let d = match &scales {
                // The value of largest magnitude becomes -8, the end of the range that reaches further.
                None => signed_max(x) / -8.0,
                Some(scales) => scales[i],
            };
            block.set(x, clamp_to_half(d));
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let d = self.d.get();
        for (y, q) in y.iter_mut().zip(self.unpack()) {
            *y = f32::from(q) * d;
        }
    }
}

impl BlockQ4_0 {
    #[inline(always)]
    fn set(&mut self, x: &[f32; 32], d: f32) {
        let id = inverse(d);
        self.d = Half::saturating(d);
        // Truncation after + 8.5 rounds to nearest, since nothing falls below -8.
        self.qs = pack_4_bits(&x.map(|x| ((x * id + 8.5) as i8).clamp(0, 15) as u8));
    }

    /// The 32 values as integers, -8 … 7.
    pub fn unpack(&self) -> [i8; 32] {
        unpack_4_bits(&self.qs).map(|q| q as i8 - 8)
    }
}

/// 32 values below 16, the first half in the low halves of the bytes.
pub(super) fn pack_4_bits(q: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| q[i] | q[i + 16] << 4)
}

/// The 32 values in order.
pub(super) fn unpack_4_bits(bytes: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}
