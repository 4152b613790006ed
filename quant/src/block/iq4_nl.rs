//! IQ4_NL: 32 values of 4 bits with one scale, `x = d·level[q]`; the levels lie closer together near zero.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::lanes::{Tile, inverse, tile, untile};
use super::levels::{Levels, NON_LINEAR, NonLinear, non_linear_index};
use super::q4_0::{pack_4_bits, unpack_4_bits};
use super::search::{fit_symmetric, importance_weights};
use super::{Block, Half, mean_square};
use crate::kernel::Floats;

/// 32 values, 18 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockIq4Nl {
    /// Scale.
    pub d: Half,
    /// Byte i holds value i in its low half and value i + 16 in its high half.
    pub qs: [u8; 16],
}

impl Block for BlockIq4Nl {
    const LEN: usize = 32;

    #[inline(always)]
    fn quantize_row<F: Floats>(token: F::Token, x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        for (i, (x, blocks)) in x.as_chunks::<32>().0.chunks(8).zip(row.chunks_mut(8)).enumerate() {
            let sigma2 = 2.0 * mean_square(x.as_flattened());
            let x: Tile<F, 32> = tile(token, x);
            let (mut plain, mut weights) = ([F::all(token, 1.0); 32], x);
            if let Some(importance) = importance {
                let importance = importance.as_chunks::<32>().0;
                plain = tile(token, &importance[8 * i..][..blocks.len()]);
                weights = importance_weights(token, &x, &plain, sigma2);
            } else {
                for w in &mut weights {
                    *w = *w * *w;
                }
            }
            let fits = fit_symmetric::<F, NonLinear, 32>(token, &x, &plain, &weights);
            let d = fits.get().map(Half::saturating);
            let per_unit = inverse(token, F::load(token, &d.map(Half::get)));
            let mut levels = x;
            for x in &mut levels {
                *x = NonLinear::nearest(token, *x * per_unit);
            }
            let mut q = [[0; 32]; 8];
            untile(&levels, &mut q, non_linear_index);
            for (j, block) in blocks.iter_mut().enumerate() {
                block.d = d[j];
                block.qs = pack_4_bits(&q[j]);
            }
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let d = self.d.get();
        for (y, q) in y.iter_mut().zip(self.unpack()) {
            *y = d * f32::from(q);
        }
    }
}

impl BlockIq4Nl {
    /// The 32 values as integers, -127 … 113.
    pub fn unpack(&self) -> [i8; 32] {
        unpack_4_bits(&self.qs).map(|q| NON_LINEAR[q as usize])
    }
}
