//! Q5_1: 32 values of 5 bits with a scale and an offset, `x = d·q + m`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::q5_0::{pack_5_bits, unpack_5_bits};
use super::small::{important_pairs, span};
use super::{Block, Half, clamp_to_half, inverse};
use crate::kernel::Floats;

/// 32 values, 24 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// Scale.
    pub d: Half,
    /// Offset.
    pub m: Half,
    /// Bit i is the fifth bit of value i (little-endian).
    pub qh: [u8; 4],
    /// Byte i holds the low bits of value i in its low half and of value i + 16 in its high half.
    pub qs: [u8; 16],
}

impl Block for BlockQ5_1 {
    const LEN: usize = 32;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        let x = x.as_chunks::<32>().0;
        let pairs = importance.map(|importance| important_pairs::<F>(token, x, importance, 31.0));
        for (i, (x, block)) in x.iter().zip(row).enumerate() {
            let (d, m) = pairs.as_ref().map_or_else(|| span(x, 31.0), |pairs| pairs[i]);
            let (d, m) = (clamp_to_half(d), clamp_to_half(m));
            let id = inverse(d);
            block.d = Half::saturating(d);
            block.m = Half::saturating(m);
            let q = x.map(|x| (((x - m) * id + 0.5) as u8).min(31));
            (block.qs, block.qh) = pack_5_bits(&q);
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let (d, m) = (self.d.get(), self.m.get());
        for (y, q) in y.iter_mut().zip(self.unpack()) {
            *y = f32::from(q) * d + m;
        }
    }
}

impl BlockQ5_1 {
    /// The 32 values as integers, 0 … 31.
    pub fn unpack(&self) -> [u8; 32] {
        unpack_5_bits(&self.qs, self.qh)
    }
}
