//! Scales of the formats in blocks of 32: the whole range, or searched under an importance matrix.
use super::lanes::tile;
use super::levels::Levels;
use super::mean_square;
use super::search::{Steps, fit_affine, fit_symmetric, importance_weights};
use crate::kernel::Floats;

/// (step, lowest) of the levels 0 … `levels` that span the values.
#[inline(always)]
pub(super) fn span(x: &[f32; 32], levels: f32) -> (f32, f32) {
    let (mut min, mut max) = (f32::MAX, -f32::MAX);
    for &v in x {
        min = if v < min { v } else { min };
        max = if v > max { v } else { max };
    }
    ((max - min) / levels, min)
}

/// Of each block of a row the scale of least error for the levels `L`.
#[inline(always)]
pub(super) fn important_scales<F: Floats, L: Levels>(token: F::Token, x: &[[f32; 32]], importance: &[f32]) -> Vec<f32> {
    let sigma2 = mean_square(x.as_flattened());
    let mut scales = Vec::with_capacity(x.len() + 7);
    for (x, importance) in x.chunks(8).zip(importance.as_chunks::<32>().0.chunks(8)) {
        let (x, plain) = (tile(token, x), tile(token, importance));
        let weights = importance_weights(token, &x, &plain, sigma2);
        scales.extend(fit_symmetric::<F, L, 32>(token, &x, &plain, &weights).get());
    }
    scales
}

/// Of each block of a row the (step, lowest) of least error for levels 0 … `levels`.
#[inline(always)]
pub(super) fn important_pairs<F: Floats>(
    token: F::Token,
    x: &[[f32; 32]],
    importance: &[f32],
    levels: f32,
) -> Vec<(f32, f32)> {
    let sigma2 = mean_square(x.as_flattened());
    let mut pairs = Vec::with_capacity(x.len() + 7);
    for (x, importance) in x.chunks(8).zip(importance.as_chunks::<32>().0.chunks(8)) {
        let (x, plain) = (tile(token, x), tile(token, importance));
        let weights = importance_weights(token, &x, &plain, sigma2);
        let fit = fit_affine::<F, 32>(token, &x, &weights, levels, Steps::FINE);
        pairs.extend(std::iter::zip(fit.scale.get(), fit.min.get()).map(|(scale, min)| (scale, -min)));
    }
    pairs
}
