//! Q5_K: 256 values of 5 bits in eight sub-blocks, `x = d·scale·q − dmin·min`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::affine::quantize_super;
use super::q4_k::{pack_nibbles, unpack_nibbles};
use super::search::Steps;
use super::{Block, Half, SUPER, scales};

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

    fn quantize_row(x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        for (i, (x, block)) in x.as_chunks().0.iter().zip(row).enumerate() {
            let fit = quantize_super(x, importance.map(|w| &w[SUPER * i..]), 31.0, Steps::Q5_K);
            block.d = fit.d;
            block.dmin = fit.dmin;
            block.scales = scales::pack(&fit.scales, &fit.mins);
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
