//! The quantization that the K formats without minimums share: a signed scale per 16 values, in a unit common to 256.
use super::lanes::{Tile, in_units, inverse, nearest_within, tile, total, untile};
use super::search::{Errors, fit_symmetric};
use super::{Half, SUPER, signed_max};
use crate::kernel::Floats;

/// Further values for the scale of largest magnitude, beside the lowest one. More would gain little for their time.
const UNITS: [f32; 2] = [1.0, 3.0];

/// What a format offers: levels −`levels` … `levels` − 1, and scales in the same manner.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) levels: f32,
    pub(super) scales: f32,
}

/// A super-block before packing.
pub(super) struct Quantized {
    pub(super) d: Half,
    pub(super) scales: [i8; 16],
    pub(super) q: [i8; SUPER],
}

/// Quantizes 256 values. Each sub-block is fitted alone; then the unit is set by the scale of largest magnitude, and around
/// each rounded scale the neighbours are tried with the values requantized.
#[inline(always)]
pub(super) fn quantize_super<F: Floats>(
    token: F::Token,
    x: &[f32; SUPER],
    importance: Option<&[f32; SUPER]>,
    grid: Grid,
) -> Quantized {
    let halves =
        [SubBlocks::<F>::new(token, x, importance, 0, grid), SubBlocks::<F>::new(token, x, importance, 1, grid)];
    let block = SuperBlock { fits: [halves[0].fit(), halves[1].fit()], halves };
    // The scale of largest magnitude becomes the lowest, the end of the range that reaches further.
    let max = signed_max([block.fits[0].get(), block.fits[1].get()].as_flattened());
    let unit = max / -grid.scales;
    let mut best = block.with_unit(Half::saturating(unit), unit);
    let start = best.errors;
    // Nearby units round the other scales in other ways, and reach the lowest where the halves are too coarse to.
    for less in UNITS {
        let d = Half::saturating(max / (less - grid.scales));
        let other = block.with_unit(d, d.get());
        if other.errors.improves(&best.errors, &start) {
            best = other;
        }
    }
    block.finish(&best)
}

struct SuperBlock<F: Floats> {
    halves: [SubBlocks<F>; 2],
    fits: [F; 2],
}

/// A unit and scales in it.
struct Candidate<F> {
    d: Half,
    scales: [F; 2],
    errors: Errors<f32>,
}

impl<F: Floats> SuperBlock<F> {
    /// The best scales in the unit `d`, which was `unit` before it was rounded.
    #[inline(always)]
    fn with_unit(&self, d: Half, unit: f32) -> Candidate<F> {
        let mut scales = self.fits;
        let mut sum = Errors { plain: 0.0, weighted: 0.0 };
        for h in 0..2 {
            let errors;
            (scales[h], errors) = self.halves[h].best_scales(self.fits[h], d.get(), unit);
            sum.plain += total(errors.plain);
            sum.weighted += total(errors.weighted);
        }
        Candidate { d, scales, errors: sum }
    }

    /// The candidate with its levels.
    #[inline(always)]
    fn finish(&self, block: &Candidate<F>) -> Quantized {
        let mut out = Quantized { d: block.d, scales: [0; 16], q: [0; SUPER] };
        for h in 0..2 {
            out.scales.as_chunks_mut().0[h] = block.scales[h].get().map(|x| x as i8);
            let levels = self.halves[h].levels(block.scales[h], block.d.get());
            untile(&levels, &mut out.q.as_chunks_mut::<16>().0[8 * h..8 * (h + 1)], |q| q as i8);
        }
        out
    }
}

/// Eight sub-blocks.
struct SubBlocks<F: Floats> {
    token: F::Token,
    x: Tile<F, 16>,
    /// What an error in each column counts.
    plain: Tile<F, 16>,
    weights: Tile<F, 16>,
    grid: Grid,
}

impl<F: Floats> SubBlocks<F> {
    /// The sub-blocks from `8 * h` on of a super-block.
    #[inline(always)]
    fn new(token: F::Token, x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, h: usize, grid: Grid) -> Self {
        let x: Tile<F, 16> = eight(token, x, h);
        let mut plain = [F::all(token, 1.0); 16];
        let mut weights = x;
        if let Some(importance) = importance {
            plain = eight(token, importance, h);
            weights = plain;
        } else {
            // Big values count more: their errors hurt a dot product most.
            for w in &mut weights {
                *w = *w * *w;
            }
        }
        SubBlocks { token, x, plain, weights, grid }
    }

    #[inline(always)]
    fn fit(&self) -> F {
        fit_symmetric(self.token, &self.x, &self.plain, &self.weights, self.grid.levels)
    }

    /// The scales near the fitted ones with the least errors once the values are requantized with them; never worse than
    /// those that the unrounded unit gives.
    #[inline(always)]
    fn best_scales(&self, fit: F, d: f32, unit: f32) -> (F, Errors<F>) {
        let (token, low, high) = (self.token, -self.grid.scales, self.grid.scales - 1.0);
        let mut best = in_units(token, fit, unit, low, high);
        let start = self.errors(best, d);
        let mut least = start;
        let centre = in_units(token, fit, d, low, high);
        for step in [0.0, -2.0, -1.0, 1.0, 2.0] {
            // Beyond the range it is a scale that has been or will be tried.
            let scale = (centre + F::all(token, step)).max(F::all(token, low)).min(F::all(token, high));
            let errors = self.errors(scale, d);
            let better = errors.improves(&least, &start);
            best = F::select(better, scale, best);
            least = errors.where_or(better, least);
        }
        (best, least)
    }

    #[inline(always)]
    fn errors(&self, scale: F, d: f32) -> Errors<F> {
        let step = F::all(self.token, d) * scale;
        Errors::of_symmetric(self.token, &self.x, &self.plain, &self.weights, step, self.grid.levels)
    }

    /// The nearest levels.
    #[inline(always)]
    fn levels(&self, scale: F, d: f32) -> Tile<F, 16> {
        let per_unit = inverse(self.token, F::all(self.token, d) * scale);
        let levels = self.grid.levels;
        let mut q = self.x;
        for q in &mut q {
            *q = nearest_within(self.token, *q * per_unit, -levels, levels - 1.0);
        }
        q
    }
}

/// Sub-blocks 8·h … 8·h + 7.
#[inline(always)]
fn eight<F: Floats>(token: F::Token, x: &[f32; SUPER], h: usize) -> Tile<F, 16> {
    tile(token, &x.as_chunks().0[8 * h..8 * (h + 1)])
}
