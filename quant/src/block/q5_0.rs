//! Q5_0: 32 values of 5 bits with one scale, `x = d·(q − 16)`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::levels::Uniform;
use super::small::important_scales;
use super::{Block, Half, clamp_to_half, inverse, signed_max};
use crate::kernel::Floats;

/// 32 values, 22 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// Scale.
    pub d: Half,
    /// Bit i is the fifth bit of value i (little-endian).
    pub qh: [u8; 4],
    /// Byte i holds the low bits of value i in its low half and of value i + 16 in its high half.
    pub qs: [u8; 16],
}

impl Block for BlockQ5_0 {
    const LEN: usize = 32;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        let x = x.as_chunks::<32>().0;
        let scales = importance.map(|importance| important_scales::<F, Uniform<16>>(token, x, importance));
        for (i, (x, block)) in x.iter().zip(row).enumerate() {
            let d = match &scales {
                // The value of largest magnitude becomes -16, the end of the range that reaches further.
                None => signed_max(x) / -16.0,
                Some(scales) => scales[i],
            };
            let d = clamp_to_half(d);
            let id = inverse(d);
            block.d = Half::saturating(d);
            // Truncation after + 16.5 rounds to nearest, since nothing falls below -16.
            let q = x.map(|x| ((x * id + 16.5) as i8).clamp(0, 31) as u8);
            (block.qs, block.qh) = pack_5_bits(&q);
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let d = self.d.get();
        for (y, q) in y.iter_mut().zip(self.unpack()) {
            *y = f32::from(q) * d;
        }
    }
}

impl BlockQ5_0 {
    /// The 32 values as integers, -16 … 15.
    pub fn unpack(&self) -> [i8; 32] {
        unpack_5_bits(&self.qs, self.qh).map(|q| q as i8 - 16)
    }
}

/// (low halves, fifth bits) of 32 values below 32.
pub(super) fn pack_5_bits(q: &[u8; 32]) -> ([u8; 16], [u8; 4]) {
    let mut low = [0; 16];
    let mut high = 0u32;
    for i in 0..16 {
        low[i] = q[i] & 15 | (q[i + 16] & 15) << 4;
    }
    for (i, &q) in q.iter().enumerate() {
        high |= u32::from(q >> 4) << i;
    }
    (low, high.to_le_bytes())
}

/// The 32 values from their low halves and fifth bits.
pub(super) fn unpack_5_bits(low: &[u8; 16], high: [u8; 4]) -> [u8; 32] {
    let high = u32::from_le_bytes(high);
    let mut q = [0; 32];
    for i in 0..16 {
        q[i] = low[i] & 15 | ((high >> i & 1) << 4) as u8;
        q[i + 16] = low[i] >> 4 | ((high >> (i + 16) & 1) << 4) as u8;
    }
    q
}
