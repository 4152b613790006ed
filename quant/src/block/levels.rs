//! The levels that a value of a sub-block can have, in units of the sub-block's scale.
use super::lanes::nearest_within;
use crate::kernel::Floats;

/// Levels from −`-LOWEST` up, of which the lowest has the largest magnitude.
pub(super) trait Levels {
    /// The lowest level.
    const LOWEST: f32;
    /// Where the value of largest magnitude may be put.
    const ENDS: &[f32];
    /// Distance, in units, between the candidates around an end.
    const STEP: f32;

    /// The nearest levels; the lowest of a NaN.
    fn nearest<F: Floats>(token: F::Token, x: F) -> F;
}

/// The integers −`N` … `N` − 1.
pub(super) struct Uniform<const N: u8>;

impl<const N: u8> Levels for Uniform<N> {
    const LOWEST: f32 = -(N as f32);
    const ENDS: &[f32] = &[Self::LOWEST];
    const STEP: f32 = 0.1;

    #[inline(always)]
    fn nearest<F: Floats>(token: F::Token, x: F) -> F {
        nearest_within(token, x, Self::LOWEST, -Self::LOWEST - 1.0)
    }
}

/// The sixteen levels of IQ4_NL and IQ4_XS, closer together near zero.
pub(super) struct NonLinear;

/// What the 4 bits of an IQ4_NL or IQ4_XS value stand for.
pub(crate) const NON_LINEAR: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

impl Levels for NonLinear {
    const LOWEST: f32 = NON_LINEAR[0] as f32;
    // The gaps between levels are unlike on the two sides, so that either sign of the scale can be the better one.
    const ENDS: &[f32] = &[Self::LOWEST, NON_LINEAR[15] as f32];
    // The last levels are 23 apart: candidates cover most of that.
    const STEP: f32 = 1.0;

    #[inline(always)]
    fn nearest<F: Floats>(token: F::Token, x: F) -> F {
        let mut nearest = F::all(token, Self::LOWEST);
        for pair in NON_LINEAR.windows(2) {
            let (low, high) = (f32::from(pair[0]), f32::from(pair[1]));
            let above = F::all(token, (low + high) / 2.0).less(x);
            nearest = F::select(above, F::all(token, high), nearest);
        }
        nearest
    }
}

/// Which of [`NON_LINEAR`] a level is.
pub(super) fn non_linear_index(level: f32) -> u8 {
    NON_LINEAR.iter().position(|&l| f32::from(l) == level).expect("one of the levels") as u8
}
