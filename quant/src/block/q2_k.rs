//! Q2_K: 256 values of 2 bits in sixteen sub-blocks, `x = d·scale·q − dmin·min`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::affine::{Grid, quantize_super};
use super::search::Steps;
use super::{Block, Half, SUPER, super_importance};
use crate::kernel::Floats;

/// 256 values, 84 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ2K {
    /// Of each sub-block of 16 the scale (low half) and the minimum (high half).
    pub scales: [u8; 16],
    /// Byte 32·n + l holds values 128·n + l, + 32, + 64, + 96 from the lowest pair of bits up.
    pub qs: [u8; 64],
    /// Unit of the scales.
    pub d: Half,
    /// Unit of the minimums.
    pub dmin: Half,
}

impl Block for BlockQ2K {
    const LEN: usize = SUPER;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        let grid = Grid { levels: 3.0, max_scale: 15.0, steps: Steps::Q4_K };
        for (i, (x, block)) in x.as_chunks().0.iter().zip(row).enumerate() {
            let fit = quantize_super::<F, 2, 16>(token, x, super_importance(importance, i), grid);
            block.d = fit.d;
            block.dmin = fit.dmin;
            for (j, scale) in block.scales.iter_mut().enumerate() {
                *scale = fit.scales[j / 8][j % 8] | fit.mins[j / 8][j % 8] << 4;
            }
            block.qs = pack_2_bits(&fit.q);
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let (d, dmin) = (self.d.get(), self.dmin.get());
        let q = self.unpack();
        for (j, (y, q)) in y.chunks_exact_mut(16).zip(q.chunks_exact(16)).enumerate() {
            let (step, min) = (d * f32::from(self.scales[j] & 15), dmin * f32::from(self.scales[j] >> 4));
            for (y, &q) in y.iter_mut().zip(q) {
                *y = step * f32::from(q) - min;
            }
        }
    }
}

impl BlockQ2K {
    /// The 256 values as integers, 0 … 3.
    pub fn unpack(&self) -> [u8; SUPER] {
        unpack_2_bits(&self.qs)
    }
}

/// The low pairs of bits of 256 values, 128 at a time: byte l holds those of values l, l + 32, l + 64, l + 96.
pub(super) fn pack_2_bits(q: &[u8; SUPER]) -> [u8; 64] {
    let mut qs = [0; 64];
    for (qs, q) in qs.chunks_exact_mut(32).zip(q.chunks_exact(128)) {
        for l in 0..32 {
            qs[l] = q[l] & 3 | (q[l + 32] & 3) << 2 | (q[l + 64] & 3) << 4 | (q[l + 96] & 3) << 6;
        }
    }
    qs
}

/// Inverse of [`pack_2_bits`].
pub(super) fn unpack_2_bits(qs: &[u8; 64]) -> [u8; SUPER] {
    let mut q = [0; SUPER];
    for (q, qs) in q.chunks_exact_mut(128).zip(qs.chunks_exact(32)) {
        for l in 0..32 {
            for k in 0..4 {
                q[l + 32 * k] = qs[l] >> (2 * k) & 3;
            }
        }
    }
    q
}
