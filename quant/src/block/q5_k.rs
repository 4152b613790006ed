//! Q5_K: 256 values of 5 bits in eight sub-blocks, `x = d·scale·q − dmin·min`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::affine::{Grid, quantize_super};
use super::q4_k::{pack_nibbles, unpack_nibbles};
use super::search::Steps;
use super::{Block, Half, SUPER, scales, super_importance};
use crate::kernel::Floats;

/// 256 values, 176 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ5K {
    /// Unit of the scales.
    pub d: Half,
    /// Unit of the minimums.
    pub dmin: Half,
    /// Scales and minimums of the eight sub-blocks of 32, packed.
    pub scales: [u8; 12],
    /// Bit j of byte l is the fifth bit of value 32·j + l.
    pub qh: [u8; 32],
    /// The low bits: byte 32·i + l holds value 64·i + l in its low half and value 64·i + 32 + l in its high half.
    pub qs: [u8; 128],
}

impl Block for BlockQ5K {
    const LEN: usize = SUPER;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        let grid = Grid { levels: 31.0, max_scale: 63.0, steps: Steps::Q5_K };
        for (i, (x, block)) in x.as_chunks().0.iter().zip(row).enumerate() {
            let fit = quantize_super::<F, 1, 32>(token, x, super_importance(importance, i), grid);
            block.d = fit.d;
            block.dmin = fit.dmin;
            block.scales = scales::pack(&fit.scales[0], &fit.mins[0]);
            block.qs = pack_nibbles(&fit.q);
            block.qh = [0; 32];
            for (j, q) in fit.q.chunks_exact(32).enumerate() {
                for (h, &q) in block.qh.iter_mut().zip(q) {
                    *h |= q >> 4 << j;
                }
            }
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let (d, dmin) = (self.d.get(), self.dmin.get());
        let (scales, mins) = scales::unpack(&self.scales);
        let q = self.unpack();
        for (j, (y, q)) in y.chunks_exact_mut(32).zip(q.chunks_exact(32)).enumerate() {
            let (step, min) = (d * f32::from(scales[j]), dmin * f32::from(mins[j]));
            for (y, &q) in y.iter_mut().zip(q) {
                *y = step * f32::from(q) - min;
            }
        }
    }
}

impl BlockQ5K {
    /// The 256 values as integers, 0 … 31.
    pub fn unpack(&self) -> [u8; SUPER] {
        let mut q = unpack_nibbles(&self.qs);
        for (j, q) in q.chunks_exact_mut(32).enumerate() {
            for (q, &h) in q.iter_mut().zip(&self.qh) {
                *q |= (h >> j & 1) << 4;
            }
        }
        q
    }
}
