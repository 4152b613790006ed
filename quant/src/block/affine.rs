//! The quantization that the K formats with minimums share: a scale and a minimum per sub-block, in units common to 256.
use super::lanes::{Tile, add, greatest, in_units, inverse, magnitude, nearest_within, tile, total, untile};
use super::search::{Affine, Errors, Steps, fit_affine, importance_weights};
use super::{Half, SUPER, mean_square};
use crate::kernel::Floats;

/// Times that the units are fitted anew to the levels: one takes most of the gain, a tenth of the error of 4 bits.
const ROUNDS: usize = 1;

/// What a format offers: levels 0 … `levels`, scales and minimums 0 … `max_scale`.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) levels: f32,
    pub(super) max_scale: f32,
    /// Candidates of the search without importance.
    pub(super) steps: Steps,
}

/// A super-block of `8 * H` sub-blocks before packing.
pub(super) struct Quantized<const H: usize> {
    pub(super) d: Half,
    pub(super) dmin: Half,
    pub(super) scales: [[u8; 8]; H],
    pub(super) mins: [[u8; 8]; H],
    pub(super) q: [u8; SUPER],
}

/// Quantizes 256 values in `8 * H` sub-blocks of `N`. Each sub-block is fitted alone; then the units are set by the
/// largest scale and minimum, and around each rounded pair the neighbours are tried with the values requantized. With
/// these levels the units are fitted by least squares, and the pairs once more to the units.
#[inline(always)]
pub(super) fn quantize_super<F: Floats, const H: usize, const N: usize>(
    token: F::Token,
    x: &[f32; SUPER],
    importance: Option<&[f32; SUPER]>,
    grid: Grid,
) -> Quantized<H> {
    let steps = if importance.is_some() { Steps::FINE } else { grid.steps };
    let mut block = SuperBlock::<F, H, N>::new(token, x, importance, grid);
    for h in 0..H {
        let half = &block.halves[h];
        block.fits[h] = fit_affine(token, &half.x, &half.weights, grid.levels, steps);
    }
    let (mut max_scale, mut max_min) = (block.fits[0].scale, block.fits[0].min);
    for fit in &block.fits[1..] {
        (max_scale, max_min) = (max_scale.max(fit.scale), max_min.max(fit.min));
    }
    let unit = |max| Half::saturating(greatest(max) / grid.max_scale);
    let (mut best, start) = block.quantize(unit(max_scale), unit(max_min));
    let mut least = start;
    for _ in 0..ROUNDS {
        let Some((d, dmin)) = block.fit_units(&best) else { break };
        let (next, errors) = block.quantize(d, dmin);
        if !errors.improves(&least, &start) {
            break;
        }
        (best, least) = (next, errors);
    }
    block.finish(&best)
}

/// Weights of the squared errors in the search without importance: an error counts more where the value is large.
#[inline(always)]
fn search_weights<F: Floats, const N: usize>(token: F::Token, x: &Tile<F, N>) -> Tile<F, N> {
    let mut sum = [F::all(token, 0.0)];
    for i in 0..N {
        add(&mut sum, [x[i] * x[i]]);
    }
    let level = (sum[0] / F::all(token, N as f32)).sqrt();
    let mut weights = *x;
    for w in &mut weights {
        *w = level + magnitude(token, *w);
    }
    weights
}

struct SuperBlock<F: Floats, const H: usize, const N: usize> {
    token: F::Token,
    halves: [SubBlocks<F, N>; H],
    fits: [Affine<F>; H],
}

/// Units, and scales and minimums in them.
struct Candidate<F, const H: usize> {
    d: Half,
    dmin: Half,
    pairs: [Affine<F>; H],
}

impl<F: Floats, const H: usize, const N: usize> SuperBlock<F, H, N> {
    #[inline(always)]
    fn new(token: F::Token, x: &[f32; SUPER], importance: Option<&[f32; SUPER]>, grid: Grid) -> Self {
        let zero = F::all(token, 0.0);
        let empty = SubBlocks { token, x: [zero; N], plain: [zero; N], weights: [zero; N], grid };
        let mut block = SuperBlock { token, halves: [empty; H], fits: [Affine { scale: zero, min: zero }; H] };
        for h in 0..H {
            let half = &mut block.halves[h];
            half.x = tile(token, &x.as_chunks::<N>().0[8 * h..8 * (h + 1)]);
            if let Some(importance) = importance {
                half.plain = tile(token, &importance.as_chunks::<N>().0[8 * h..8 * (h + 1)]);
                half.weights = importance_weights(token, &half.x, &half.plain, 2.0 * mean_square(x));
            } else {
                half.plain = [F::all(token, 1.0); N];
                half.weights = search_weights(token, &half.x);
            }
        }
        block
    }

    /// The best pairs near the fitted ones in the given units, with their errors.
    #[inline(always)]
    fn quantize(&self, d: Half, dmin: Half) -> (Candidate<F, H>, Errors<f32>) {
        let mut pairs = self.fits;
        let mut sum = Errors { plain: 0.0, weighted: 0.0 };
        for h in 0..H {
            let errors;
            (pairs[h], errors) = self.halves[h].best_pairs(self.fits[h], d.get(), dmin.get());
            sum.plain += total(errors.plain);
            sum.weighted += total(errors.weighted);
        }
        (Candidate { d, dmin, pairs }, sum)
    }

    /// The units with the least weighted squared error for a candidate's levels, scales and minimums.
    #[inline(always)]
    fn fit_units(&self, block: &Candidate<F, H>) -> Option<(Half, Half)> {
        // x ≈ d·a − dmin·b with a = scale·q, b = min.
        let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for h in 0..H {
            let Affine { scale, min } = block.pairs[h];
            let half = &self.halves[h];
            let levels = half.levels(block.pairs[h], block.d.get(), block.dmin.get());
            let mut sums = [F::all(self.token, 0.0); 5];
            for i in 0..N {
                let (q, w) = (levels[i], half.weights[i]);
                let wq = w * q;
                add(&mut sums, [w, wq, wq * q, w * half.x[i], wq * half.x[i]]);
            }
            let [w, wq, wqq, wx, wqx] = sums;
            aa += total(scale * scale * wqq);
            ab += total(scale * min * wq);
            bb += total(min * min * w);
            ax += total(scale * wqx);
            bx += total(min * wx);
        }
        let determinant = aa * bb - ab * ab;
        let (d, dmin) = if determinant > 1e-6 * aa * bb {
            ((ax * bb - ab * bx) / determinant, (ab * ax - aa * bx) / determinant)
        } else {
            // No minimums, or as good as a multiple of the levels.
            ((ax + block.dmin.get() * ab) / aa, block.dmin.get())
        };
        (d > 0.0 && dmin >= 0.0 && d.is_finite() && dmin.is_finite())
            .then(|| (Half::saturating(d), Half::saturating(dmin)))
    }

    /// The candidate with its levels.
    #[inline(always)]
    fn finish(&self, block: &Candidate<F, H>) -> Quantized<H> {
        let mut out = Quantized { d: block.d, dmin: block.dmin, scales: [[0; 8]; H], mins: [[0; 8]; H], q: [0; SUPER] };
        for h in 0..H {
            let half = &self.halves[h];
            let pairs = block.pairs[h];
            out.scales[h] = pairs.scale.get().map(|x| x as u8);
            out.mins[h] = pairs.min.get().map(|x| x as u8);
            let levels = half.levels(pairs, block.d.get(), block.dmin.get());
            untile(&levels, &mut out.q.as_chunks_mut::<N>().0[8 * h..8 * (h + 1)], |q| q as u8);
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
    grid: Grid,
}

impl<F: Floats, const N: usize> SubBlocks<F, N> {
    /// Scales and minimums in units, and their errors.
    #[inline(always)]
    fn best_pairs(&self, fit: Affine<F>, d: f32, dmin: f32) -> (Affine<F>, Errors<F>) {
        let token = self.token;
        let (zero, max) = (F::all(token, 0.0), F::all(token, self.grid.max_scale));
        let centre = Affine {
            scale: in_units(token, fit.scale, d, 0.0, self.grid.max_scale),
            min: in_units(token, fit.min, dmin, 0.0, self.grid.max_scale),
        };
        let mut best = centre;
        let start = self.errors(centre, d, dmin);
        let mut least = start;
        for (scale_step, min_step) in NEIGHBOURS {
            let pair = Affine {
                // Beyond the range it is a pair that has been tried.
                scale: (centre.scale + F::all(token, scale_step)).max(zero).min(max),
                min: (centre.min + F::all(token, min_step)).max(zero).min(max),
            };
            let errors = self.errors(pair, d, dmin);
            let better = errors.improves(&least, &start);
            best.scale = F::select(better, pair.scale, best.scale);
            best.min = F::select(better, pair.min, best.min);
            least = errors.where_or(better, least);
        }
        (best, least)
    }

    #[inline(always)]
    fn errors(&self, pair: Affine<F>, d: f32, dmin: f32) -> Errors<F> {
        let (step, min) = (F::all(self.token, d) * pair.scale, F::all(self.token, dmin) * pair.min);
        Errors::of_affine(self.token, &self.x, &self.plain, &self.weights, step, min, self.grid.levels)
    }

    /// The nearest levels.
    #[inline(always)]
    fn levels(&self, pair: Affine<F>, d: f32, dmin: f32) -> Tile<F, N> {
        let token = self.token;
        let (step, min) = (F::all(token, d) * pair.scale, F::all(token, dmin) * pair.min);
        let per_unit = inverse(token, step);
        let mut levels = self.x;
        for q in &mut levels {
            *q = nearest_within(token, (*q + min) * per_unit, 0.0, self.grid.levels);
        }
        levels
    }
}

/// (scale, minimum) around a rounded pair, in units.
const NEIGHBOURS: [(f32, f32); 8] =
    [(0.0, -1.0), (0.0, 1.0), (-1.0, 0.0), (-1.0, -1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, 1.0)];
