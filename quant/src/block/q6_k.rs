//! Q6_K: 256 values of 6 bits in sixteen sub-blocks, `x = d·scale·(q − 32)`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::levels::Uniform;
use super::symmetric::quantize_super;
use super::{Block, Half, SUPER, super_importance};
use crate::kernel::Floats;

/// 256 values, 210 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ6K {
    /// Low 4 bits. Each 128 values take 64 bytes: byte l holds values l (low half) and l + 64, byte 32 + l values
    /// l + 32 and l + 96, for l in 0 … 31.
    pub ql: [u8; 128],
    /// High 2 bits. Each 128 values take 32 bytes: byte l holds those of values l, l + 32, l + 64, l + 96 from the
    /// lowest pair up.
    pub qh: [u8; 64],
    /// Scales of the sixteen sub-blocks of 16.
    pub scales: [i8; 16],
    /// Unit of the scales.
    pub d: Half,
}

impl Block for BlockQ6K {
    const LEN: usize = SUPER;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        for (i, (x, block)) in x.as_chunks().0.iter().zip(row).enumerate() {
            let fit = quantize_super::<F, Uniform<32>, 2, 16>(token, x, super_importance(importance, i), 128.0);
            block.d = fit.d;
            block.scales.as_chunks_mut().0.copy_from_slice(&fit.scales);
            block.pack(&fit.q);
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let d = self.d.get();
        let q = self.unpack();
        for (j, (y, q)) in y.chunks_exact_mut(16).zip(q.chunks_exact(16)).enumerate() {
            let step = d * f32::from(self.scales[j]);
            for (y, &q) in y.iter_mut().zip(q) {
                *y = step * f32::from(q);
            }
        }
    }
}

impl BlockQ6K {
    /// The 256 values as integers, -32 … 31.
    pub fn unpack(&self) -> [i8; SUPER] {
        let mut q = [0; SUPER];
        for (n, q) in q.chunks_exact_mut(128).enumerate() {
            let (ql, qh) = (&self.ql[64 * n..][..64], &self.qh[32 * n..][..32]);
            for l in 0..32 {
                q[l] = (ql[l] & 15 | (qh[l] & 3) << 4) as i8 - 32;
                q[l + 32] = (ql[l + 32] & 15 | (qh[l] >> 2 & 3) << 4) as i8 - 32;
                q[l + 64] = (ql[l] >> 4 | (qh[l] >> 4 & 3) << 4) as i8 - 32;
                q[l + 96] = (ql[l + 32] >> 4 | qh[l] >> 6 << 4) as i8 - 32;
            }
        }
        q
    }

    /// Levels are stored with 32 added.
    fn pack(&mut self, q: &[i8; SUPER]) {
        let q = q.map(|q| (q + 32) as u8);
        for (n, q) in q.chunks_exact(128).enumerate() {
            let (ql, qh) = (&mut self.ql[64 * n..][..64], &mut self.qh[32 * n..][..32]);
            for l in 0..32 {
                let [a, b, c, e] = [q[l], q[l + 32], q[l + 64], q[l + 96]];
                ql[l] = a & 15 | c << 4;
                ql[l + 32] = b & 15 | e << 4;
                qh[l] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | e >> 4 << 6;
            }
        }
    }
}
