//! IQ4_XS: 256 values of 4 bits in eight sub-blocks, `x = d·scale·level[q]`, with the levels of IQ4_NL.
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::levels::{NON_LINEAR, NonLinear, non_linear_index};
use super::q4_0::{pack_4_bits, unpack_4_bits};
use super::symmetric::quantize_super;
use super::{Block, Half, SUPER, super_importance};
use crate::kernel::Floats;

/// 256 values, 136 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockIq4Xs {
    /// Unit of the scales.
    pub d: Half,
    /// The upper 2 bits of the scales, from the lowest pair up.
    pub scales_h: U16,
    /// The low 4 bits of the scales with 32 added, the even ones in the low halves.
    pub scales_l: [u8; 4],
    /// Of each sub-block of 32: byte i holds value i in its low half and value i + 16 in its high half.
    pub qs: [[u8; 16]; 8],
}

impl Block for BlockIq4Xs {
    const LEN: usize = SUPER;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        for (i, (x, block)) in x.as_chunks().0.iter().zip(row).enumerate() {
            let fit = quantize_super::<F, NonLinear, 1, 32>(token, x, super_importance(importance, i), 32.0);
            block.d = fit.d;
            let mut high = 0;
            block.scales_l = [0; 4];
            for (j, scale) in fit.scales[0].iter().enumerate() {
                let scale = (scale + 32) as u8;
                block.scales_l[j / 2] |= (scale & 15) << (4 * (j % 2));
                high |= u16::from(scale >> 4) << (2 * j);
            }
            block.scales_h = high.into();
            for (qs, q) in block.qs.iter_mut().zip(fit.q.as_chunks::<32>().0) {
                *qs = pack_4_bits(&q.map(|q| non_linear_index(q.into())));
            }
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let d = self.d.get();
        let (scales, q) = (self.unpack_scales(), self.unpack());
        for (j, (y, q)) in y.chunks_exact_mut(32).zip(q.chunks_exact(32)).enumerate() {
            let step = d * f32::from(scales[j]);
            for (y, &q) in y.iter_mut().zip(q) {
                *y = step * f32::from(q);
            }
        }
    }
}

impl BlockIq4Xs {
    /// The 256 values as integers, -127 … 113.
    pub fn unpack(&self) -> [i8; SUPER] {
        let mut q = [0; SUPER];
        for (q, qs) in q.as_chunks_mut::<32>().0.iter_mut().zip(&self.qs) {
            *q = unpack_4_bits(qs).map(|q| NON_LINEAR[q as usize]);
        }
        q
    }

    /// The eight scales, -32 … 31.
    pub fn unpack_scales(&self) -> [i8; 8] {
        std::array::from_fn(|j| {
            let low = self.scales_l[j / 2] >> (4 * (j % 2)) & 15;
            let high = self.scales_h.get() >> (2 * j) & 3;
            (low | (high << 4) as u8) as i8 - 32
        })
    }
}
