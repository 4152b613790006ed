//! Q4_K: 256 values of 4 bits in eight sub-blocks, `x = d·scale·q − dmin·min`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::affine::{Grid, quantize_super};
use super::search::Steps;
use super::{Block, Half, SUPER, scales, super_importance};
use crate::kernel::Floats;

/// 256 values, 144 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ4K {
    /// Unit of the scales.
    pub d: Half,
    /// Unit of the minimums.
    pub dmin: Half,
    /// Scales and minimums of the eight sub-blocks of 32, packed.
    pub scales: [u8; 12],
    /// Byte 32·i + l holds value 64·i + l in its low half and value 64·i + 32 + l in its high half.
    pub qs: [u8; 128],
}

impl Block for BlockQ4K {
    const LEN: usize = SUPER;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        let grid = Grid { levels: 15.0, max_scale: 63.0, steps: Steps::Q4_K };
        for (i, (x, block)) in x.as_chunks().0.iter().zip(row).enumerate() {
            let fit = quantize_super::<F, 1, 32>(token, x, super_importance(importance, i), grid);
            block.d = fit.d;
            block.dmin = fit.dmin;
            block.scales = scales::pack(&fit.scales[0], &fit.mins[0]);
            block.qs = pack_nibbles(&fit.q);
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

impl BlockQ4K {
    /// The 256 values as integers, 0 … 15.
    pub fn unpack(&self) -> [u8; SUPER] {
        unpack_nibbles(&self.qs)
    }
}

/// Low halves of 256 values, 64 at a time: the first 32 in the low nibbles of 32 bytes, the others in the high ones.
pub(super) fn pack_nibbles(q: &[u8; SUPER]) -> [u8; 128] {
    let mut qs = [0; 128];
    for (qs, q) in qs.chunks_exact_mut(32).zip(q.chunks_exact(64)) {
        for l in 0..32 {
            qs[l] = q[l] & 15 | (q[l + 32] & 15) << 4;
        }
    }
    qs
}

/// Inverse of [`pack_nibbles`].
pub(super) fn unpack_nibbles(qs: &[u8; 128]) -> [u8; SUPER] {
    let mut q = [0; SUPER];
    for (q, qs) in q.chunks_exact_mut(64).zip(qs.chunks_exact(32)) {
        for l in 0..32 {
            q[l] = qs[l] & 15;
            q[l + 32] = qs[l] >> 4;
        }
    }
    q
}
