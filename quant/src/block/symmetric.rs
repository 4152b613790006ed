//! The quantization that the K formats without minimums and IQ4_XS share: a signed scale per sub-block, in a unit common to
//! 256 values.
use super::lanes::{Tile, in_units, inverse, tile, total, untile};
use super::levels::Levels;
use super::search::{Errors, fit_symmetric};
use super::{Half, SUPER, signed_max};
use crate::kernel::Floats;

/// Further values for the scale of largest magnitude, beside the lowest one. More would gain little for their time.
const UNITS: [f32; 2] = [1.0, 3.0];

/// A super-block of `8 * H` sub-blocks before packing.
pub(super) struct Quantized<const H: usize> {
    pub(super) d: Half,
    pub(super) scales: [[i8; 8]; H],
    pub(super) q: [i8; SUPER],
}

/// Quantizes 256 values in `8 * H` sub-blocks of `N`, with scales −`scales` … `scales` − 1. Each sub-block is fitted alone; then the unit is set by the scale of largest magnitude, and around
/// each rounded scale the neighbours are tried with the values requantized.
#[inline(always)]
pub(super) fn quantize_super<F: Floats, L: Levels, const H: usize, const N: usize>(
    token: F::Token,
    x: &[f32; SUPER],
    importance: Option<&[f32; SUPER]>,
    scales: f32,
) -> Quantized<H> {
    let block = SuperBlock::<F, H, N>::new::<L>(token, x, importance, scales);
    let mut fits = [[0.0; 8]; H];
    for h in 0..H {
        fits[h] = block.fits[h].get();
    }
    // The scale of largest magnitude becomes the lowest, the end of the range that reaches further.
    let max = signed_max(fits.as_flattened());
    let unit = max / -scales;
    let mut best = block.with_unit::<L>(Half::saturating(unit), unit);
    let start = best.errors;
    // Nearby units round the other scales in other ways, and reach the lowest where the halves are too coarse to.
    for less in UNITS {
        let d = Half::saturating(max / (less - scales));
        let other = block.with_unit::<L>(d, d.get());
        if other.errors.improves(&best.errors, &start) {
            best = other;
        }
    }
    block.finish::<L>(&best)
}

struct SuperBlock<F: Floats, const H: usize, const N: usize> {
    halves: [SubBlocks<F, N>; H],
    fits: [F; H],
}

/// A unit and scales in it.
struct Candidate<F, const H: usize> {
    d: Half,
    scales: [F; H],
    errors: Errors<f32>,
}

impl<F: Floats, const H: usize, const N: usize> SuperBlock<F, H, N> {
    #[inline(always)]
    fn new<L: Levels>(token: F::Token, x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, scales: f32) -> Self {
        let zero = F::all(token, 0.0);
        let empty = SubBlocks { token, x: [zero; N], plain: [zero; N], weights: [zero; N], scales };
        let mut block = SuperBlock { halves: [empty; H], fits: [zero; H] };
        for h in 0..H {
            let half = &mut block.halves[h];
            half.x = tile(token, &x.as_chunks::<N>().0[8 * h..8 * (h + 1)]);
            if let Some(importance) = importance {
                half.plain = tile(token, &importance.as_chunks::<N>().0[8 * h..8 * (h + 1)]);
                half.weights = half.plain;
            } else {
                half.plain = [F::all(token, 1.0); N];
                // Big values count more: their errors hurt a dot product most.
                for i in 0..N {
                    half.weights[i] = half.x[i] * half.x[i];
                }
            }
            block.fits[h] = fit_symmetric::<F, L, N>(token, &half.x, &half.plain, &half.weights);
        }
        block
    }

    /// The best scales in the unit `d`, which was `unit` before it was rounded.
    #[inline(always)]
    fn with_unit<L: Levels>(&self, d: Half, unit: f32) -> Candidate<F, H> {
        let mut scales = self.fits;
        let mut sum = Errors { plain: 0.0, weighted: 0.0 };
        for h in 0..H {
            let errors;
            (scales[h], errors) = self.halves[h].best_scales::<L>(self.fits[h], d.get(), unit);
            sum.plain += total(errors.plain);
            sum.weighted += total(errors.weighted);
        }
        Candidate { d, scales, errors: sum }
    }

    /// The candidate with its levels.
    #[inline(always)]
    fn finish<L: Levels>(&self, block: &Candidate<F, H>) -> Quantized<H> {
        let mut out = Quantized { d: block.d, scales: [[0; 8]; H], q: [0; SUPER] };
        for h in 0..H {
            out.scales[h] = block.scales[h].get().map(|x| x as i8);
            let levels = self.halves[h].levels::<L>(block.scales[h], block.d.get());
            untile(&levels, &mut out.q.as_chunks_mut::<N>().0[8 * h..8 * (h + 1)], |q| q as i8);
        }
        out
    }
}

/// Eight sub-blocks.
#[derive(Clone, Copy)]
struct SubBlocks<F: Floats, const N: usize> {
    token: F::Token,
    x: Tile<F, N>,
    /// What an error in each column counts.
    plain: Tile<F, N>,
    weights: Tile<F, N>,
    scales: f32,
}

impl<F: Floats, const N: usize> SubBlocks<F, N> {
    /// The scales near the fitted ones with the least errors once the values are requantized with them; never worse than
    /// those that the unrounded unit gives.
    #[inline(always)]
    fn best_scales<L: Levels>(&self, fit: F, d: f32, unit: f32) -> (F, Errors<F>) {
        let (token, low, high) = (self.token, -self.scales, self.scales - 1.0);
        let mut best = in_units(token, fit, unit, low, high);
        let start = self.errors::<L>(best, d);
        let mut least = start;
        let centre = in_units(token, fit, d, low, high);
        for step in [0.0, -2.0, -1.0, 1.0, 2.0] {
            // Beyond the range it is a scale that has been or will be tried.
            let scale = (centre + F::all(token, step)).max(F::all(token, low)).min(F::all(token, high));
            let errors = self.errors::<L>(scale, d);
            let better = errors.improves(&least, &start);
            best = F::select(better, scale, best);
            least = errors.where_or(better, least);
        }
        (best, least)
    }

    #[inline(always)]
    fn errors<L: Levels>(&self, scale: F, d: f32) -> Errors<F> {
        let step = F::all(self.token, d) * scale;
        Errors::of_symmetric::<L, N>(self.token, &self.x, &self.plain, &self.weights, step)
    }

    /// The nearest levels.
    #[inline(always)]
    fn levels<L: Levels>(&self, scale: F, d: f32) -> Tile<F, N> {
        let per_unit = inverse(self.token, F::all(self.token, d) * scale);
        let mut q = self.x;
        for q in &mut q {
            *q = L::nearest(self.token, *q * per_unit);
        }
        q
    }
}
