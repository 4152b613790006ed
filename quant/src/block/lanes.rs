//! Eight sub-blocks side by side: a search runs in all of them at once, one a lane, and no sum crosses lanes.
//!
//! Loops and functions that are always inlined, no closures over `F`: those would be compiled without the level's
//! instructions, and then not be inlined for their many calls.
use crate::kernel::Floats;

/// Values of eight sub-blocks: element i holds value i of each.
pub(super) type Tile<F, const N: usize> = [F; N];

/// Sub-block j becomes lane j; lanes without one are zeros.
#[inline(always)]
pub(super) fn tile<F: Floats, const N: usize>(token: F::Token, subs: &[[f32; N]]) -> Tile<F, N> {
    let mut rows = [[0.0; 8]; N];
    for (j, sub) in subs.iter().take(8).enumerate() {
        for i in 0..N {
            rows[i][j] = sub[i];
        }
    }
    let mut tile = [F::all(token, 0.0); N];
    for i in 0..N {
        tile[i] = F::load(token, &rows[i]);
    }
    tile
}

/// Inverse of [`tile`], with each float made a level.
#[inline(always)]
pub(super) fn untile<F: Floats, T: Copy, const N: usize>(
    levels: &Tile<F, N>,
    subs: &mut [[T; N]],
    level: impl Fn(f32) -> T,
) {
    for i in 0..N {
        let lanes = levels[i].get();
        for (sub, x) in subs.iter_mut().zip(lanes) {
            sub[i] = level(x);
        }
    }
}

/// Adds to each sum its term.
#[inline(always)]
pub(super) fn add<F: Floats, const S: usize>(sums: &mut [F; S], terms: [F; S]) {
    for s in 0..S {
        sums[s] = sums[s] + terms[s];
    }
}

/// The sum of the lanes.
#[inline(always)]
pub(super) fn total<F: Floats>(x: F) -> f32 {
    let l = x.get();
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

/// The greatest lane; a NaN is passed over.
#[inline(always)]
pub(super) fn greatest<F: Floats>(x: F) -> f32 {
    x.get().into_iter().fold(f32::NEG_INFINITY, |max, x| if x > max { x } else { max })
}

/// The magnitudes.
#[inline(always)]
pub(super) fn magnitude<F: Floats>(token: F::Token, x: F) -> F {
    x.max(F::all(token, 0.0) - x)
}

/// Adding and subtracting 1.5·2^23 leaves the nearest integer, ties to even, of |x| < 2^22.
const ROUNDER: f32 = 12_582_912.0;

/// The nearest integers within [low, high], ties to even; low of a NaN. The bounds are below 2^22.
#[inline(always)]
pub(super) fn nearest_within<F: Floats>(token: F::Token, x: F, low: f32, high: f32) -> F {
    let rounder = F::all(token, ROUNDER);
    x.max(F::all(token, low)).min(F::all(token, high)) + rounder - rounder
}

/// `x / unit` rounded to an integer within [low, high]; 0 of no unit.
#[inline(always)]
pub(super) fn in_units<F: Floats>(token: F::Token, x: F, unit: f32, low: f32, high: f32) -> F {
    if unit == 0.0 { F::all(token, 0.0) } else { nearest_within(token, x / F::all(token, unit), low, high) }
}

/// `1 / x`, or 0 where x is 0.
#[inline(always)]
pub(super) fn inverse<F: Floats>(token: F::Token, x: F) -> F {
    let zero = F::all(token, 0.0);
    F::select(zero.less(magnitude(token, x)), F::all(token, 1.0) / x, zero)
}
