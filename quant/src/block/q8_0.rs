//! Q8_0: 32 values as int8 with one scale, `x = d·q`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Block, Half, clamp_to_half, inverse};
use crate::kernel::Floats;

/// 32 values, 34 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: Half,
    /// Values in order.
    pub qs: [i8; 32],
}

impl Block for BlockQ8_0 {
    const LEN: usize = 32;

    #[inline(always)]
    fn quantize_row<F: Floats>(_: F::Token, x: &[f32], _importance: Option<&[f32]>, row: &mut [Self]) {
        for (x, block) in x.chunks_exact(32).zip(row) {
            let amax = x.iter().fold(0.0f32, |m, v| if v.abs() > m { v.abs() } else { m });
            let d = clamp_to_half(amax / 127.0);
            let id = inverse(d);
            block.d = Half::saturating(d);
            for (q, x) in block.qs.iter_mut().zip(x) {
                *q = round_half_away(x * id) as i8;
            }
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let d = self.d.get();
        for (y, &q) in y.iter_mut().zip(&self.qs) {
            *y = f32::from(q) * d;
        }
    }
}

/// `f32::round` for |x| < 2^22, in operations that every instruction set has. The addend is the number below one half:
/// with it 0.49999997 does not reach 1, and a sum that ends in exactly one half still rounds up to the next integer.
#[inline(always)]
fn round_half_away(x: f32) -> i32 {
    const BELOW_HALF: f32 = 0.5f32.next_down();
    (x + BELOW_HALF.copysign(x)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_round_does() {
        for i in -1300..=1300 {
            let tie = i as f32 / 10.0;
            for x in [tie, tie.next_up(), tie.next_down(), i as f32 + 0.5, (i as f32 + 0.5).next_down()] {
                assert_eq!(round_half_away(x), x.round() as i32, "{x:?}");
            }
        }
    }
}
