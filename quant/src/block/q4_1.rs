//! Q4_1: 32 values of 4 bits with a scale and an offset, `x = d·q + m`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::q4_0::{pack_4_bits, unpack_4_bits};
use super::small::{important_pairs, span};
use super::{Block, Half, clamp_to_half, inverse};
use crate::kernel::Floats;

/// 32 values, 20 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: Half,
    /// Offset.
    pub m: Half,
    /// Byte i holds value i in its low half and value i + 16 in its high half.
    pub qs: [u8; 16],
}

impl Block for BlockQ4_1 {
    const LEN: usize = 32;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        let x = x.as_chunks::<32>().0;
        let pairs = importance.map(|importance| important_pairs::<F>(token, x, importance, 15.0));
        for (i, (x, block)) in x.iter().zip(row).enumerate() {
            let (d, m) = pairs.as_ref().map_or_else(|| span(x, 15.0), |pairs| pairs[i]);
            let (d, m) = (clamp_to_half(d), clamp_to_half(m));
            let id = inverse(d);
            block.d = Half::saturating(d);
            block.m = Half::saturating(m);
            block.qs = pack_4_bits(&x.map(|x| (((x - m) * id + 0.5) as u8).min(15)));
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let (d, m) = (self.d.get(), self.m.get());
        for (y, q) in y.iter_mut().zip(self.unpack()) {
            *y = f32::from(q) * d + m;
        }
    }
}

impl BlockQ4_1 {
    /// The 32 values as integers, 0 … 15.
    pub fn unpack(&self) -> [u8; 32] {
        unpack_4_bits(&self.qs)
    }
}
