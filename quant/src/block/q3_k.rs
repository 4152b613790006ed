//! Q3_K: 256 values of 3 bits in sixteen sub-blocks, `x = d·scale·(q − 4)`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::levels::Uniform;
use super::q2_k::{pack_2_bits, unpack_2_bits};
use super::symmetric::quantize_super;
use super::{Block, Half, SUPER, super_importance};
use crate::kernel::Floats;

/// 256 values, 110 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ3K {
    /// Bit j of byte l is the third bit of value 32·j + l.
    pub hmask: [u8; 32],
    /// Byte 32·n + l holds the low bits of values 128·n + l, + 32, + 64, + 96 from the lowest pair up.
    pub qs: [u8; 64],
    /// Scales of the sixteen sub-blocks of 16 with 32 added, packed: see [`BlockQ3K::unpack_scales`].
    pub scales: [u8; 12],
    /// Unit of the scales.
    pub d: Half,
}

impl Block for BlockQ3K {
    const LEN: usize = SUPER;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        for (i, (x, block)) in x.as_chunks().0.iter().zip(row).enumerate() {
            let fit = quantize_super::<F, Uniform<4>, 2, 16>(token, x, super_importance(importance, i), 32.0);
            block.d = fit.d;
            block.scales = pack_scales(fit.scales.as_flattened());
            let q = fit.q.map(|q| (q + 4) as u8);
            block.qs = pack_2_bits(&q);
            block.hmask = [0; 32];
            for (j, q) in q.chunks_exact(32).enumerate() {
                for (h, &q) in block.hmask.iter_mut().zip(q) {
                    *h |= q >> 2 << j;
                }
            }
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let d = self.d.get();
        let (scales, q) = (self.unpack_scales(), self.unpack());
        for (j, (y, q)) in y.chunks_exact_mut(16).zip(q.chunks_exact(16)).enumerate() {
            let step = d * f32::from(scales[j]);
            for (y, &q) in y.iter_mut().zip(q) {
                *y = step * f32::from(q);
            }
        }
    }
}

impl BlockQ3K {
    /// The 256 values as integers, -4 … 3.
    pub fn unpack(&self) -> [i8; SUPER] {
        let mut q = unpack_2_bits(&self.qs).map(|q| q as i8 - 4);
        for (j, q) in q.chunks_exact_mut(32).enumerate() {
            for (q, &h) in q.iter_mut().zip(&self.hmask) {
                *q += ((h >> j & 1) << 2) as i8;
            }
        }
        q
    }

    /// The sixteen scales, -32 … 31. Bytes 0–7 hold the low 4 bits of scales 0–7 (low half) and 8–15 (high half); bytes
    /// 8–11 the upper 2 bits of scales j, j + 4, j + 8, j + 12 from the lowest pair up.
    pub fn unpack_scales(&self) -> [i8; 16] {
        std::array::from_fn(|j| {
            let low = self.scales[j % 8] >> (4 * (j / 8)) & 15;
            let high = self.scales[8 + j % 4] >> (2 * (j / 4)) & 3;
            (low | high << 4) as i8 - 32
        })
    }
}

/// Inverse of [`BlockQ3K::unpack_scales`].
fn pack_scales(scales: &[i8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for (j, &scale) in scales.iter().enumerate() {
        let scale = (scale + 32) as u8;
        packed[j % 8] |= (scale & 15) << (4 * (j / 8));
        packed[8 + j % 4] |= scale >> 4 << (2 * (j / 4));
    }
    packed
}
