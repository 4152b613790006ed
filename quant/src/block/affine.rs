//! The quantization that Q4_K and Q5_K share: a scale and a minimum per 32 values, in units common to 256.
use super::lanes::{Lanes, nearest, sums};
use super::search::{Affine, Errors, Steps, fit_affine, importance_weights, quantize_affine};
use super::{Half, SUPER, mean_square};

/// Scales and minimums have 6 bits.
const MAX_SCALE: f32 = 63.0;
/// Times that the units are fitted anew to the levels: one takes most of the gain, a tenth of the error of 4 bits.
const ROUNDS: usize = 1;

/// A super-block before packing.
#[derive(Clone, Copy)]
pub(super) struct Quantized {
    pub(super) d: Half,
    pub(super) dmin: Half,
    pub(super) scales: [u8; 8],
    pub(super) mins: [u8; 8],
    pub(super) q: [u8; SUPER],
}

/// Quantizes 256 values to levels 0 … `levels`. Each sub-block is fitted alone; then the units are set by the largest
/// scale and minimum, and around each rounded pair the neighbours are tried with the values requantized. With these
/// levels the units are fitted by least squares, and the pairs once more to the units.
pub(super) fn quantize_super(x: &[f32; SUPER], importance: Option<&[f32]>, levels: f32, steps: Steps) -> Quantized {
    let steps = if importance.is_some() { Steps::FINE } else { steps };
    let block = SuperBlock { x, plain: plain_weights(importance), weights: search_weights(x, importance), levels };
    let subs = x.as_chunks::<32>().0;
    let weights = block.weights.as_chunks::<32>().0;
    let mut fits = [Affine { scale: 0.0, min: 0.0 }; 8];
    let (mut max_scale, mut max_min) = (0.0f32, 0.0f32);
    for j in 0..8 {
        fits[j] = fit_affine(&subs[j], &weights[j], levels, steps);
        max_scale = max_scale.max(fits[j].scale);
        max_min = max_min.max(fits[j].min);
    }
    let (mut best, start) =
        block.quantize(&fits, Half::saturating(max_scale / MAX_SCALE), Half::saturating(max_min / MAX_SCALE));
    let mut least = start;
    for _ in 0..ROUNDS {
        let Some((d, dmin)) = block.fit_units(&best) else { break };
        let (next, errors) = block.quantize(&fits, d, dmin);
        if !errors.improves(&least, &start) {
            break;
        }
        (best, least) = (next, errors);
    }
    best
}

/// What an error in each column counts.
fn plain_weights(importance: Option<&[f32]>) -> [f32; SUPER] {
    let mut plain = [1.0; SUPER];
    if let Some(importance) = importance {
        plain.copy_from_slice(&importance[..SUPER]);
    }
    plain
}

/// Weights of the squared errors in the search: an error counts more where the value is large.
fn search_weights(x: &[f32; SUPER], importance: Option<&[f32]>) -> [f32; SUPER] {
    if let Some(importance) = importance {
        return importance_weights(x, importance, 2.0 * mean_square(x));
    }
    let mut weights = [0.0; SUPER];
    for (w, x) in weights.chunks_exact_mut(32).zip(x.chunks_exact(32)) {
        let level = mean_square(x).sqrt();
        for l in 0..32 {
            w[l] = level + x[l].abs();
        }
    }
    weights
}

struct SuperBlock<'a> {
    x: &'a [f32; SUPER],
    plain: [f32; SUPER],
    weights: [f32; SUPER],
    levels: f32,
}

impl SuperBlock<'_> {
    /// The best pairs near the fitted ones in the given units, with their levels and errors.
    fn quantize(&self, fits: &[Affine; 8], d: Half, dmin: Half) -> (Quantized, Errors) {
        let mut out = Quantized { d, dmin, scales: [0; 8], mins: [0; 8], q: [0; SUPER] };
        let mut total = Errors::default();
        for j in 0..8 {
            let sub = SubBlock {
                x: &self.x.as_chunks().0[j],
                plain: &self.plain.as_chunks().0[j],
                weights: &self.weights.as_chunks().0[j],
                levels: self.levels,
                d: d.get(),
                dmin: dmin.get(),
            };
            let ((scale, min), errors) = sub.best_pair(fits[j]);
            (out.scales[j], out.mins[j]) = (scale as u8, min as u8);
            out.q.as_chunks_mut::<32>().0[j] = quantize_affine(sub.x, sub.d * scale, sub.dmin * min, self.levels);
            total += errors;
        }
        (out, total)
    }

    /// The units with the least weighted squared error for these levels, scales and minimums.
    fn fit_units(&self, block: &Quantized) -> Option<(Half, Half)> {
        // x ≈ d·a − dmin·b with a = scale·q, b = min.
        let (mut a, mut b) = ([0.0; SUPER], [0.0; SUPER]);
        for j in 0..8 {
            for i in 32 * j..32 * (j + 1) {
                a[i] = f32::from(block.scales[j]) * f32::from(block.q[i]);
                b[i] = f32::from(block.mins[j]);
            }
        }
        let [aa, ab, bb, ax, bx] = sums::<SUPER, 5>(|i| {
            let (a, b) = (Lanes::load(&a, i), Lanes::load(&b, i));
            let (x, w) = (Lanes::load(self.x, i), Lanes::load(&self.weights, i));
            let (wa, wb) = (w * a, w * b);
            [wa * a, wa * b, wb * b, wa * x, wb * x]
        });
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
}

struct SubBlock<'a> {
    x: &'a [f32; 32],
    plain: &'a [f32; 32],
    weights: &'a [f32; 32],
    levels: f32,
    d: f32,
    dmin: f32,
}

impl SubBlock<'_> {
    /// (scale, minimum) in units, 0 … 63 each, and their errors.
    fn best_pair(&self, fit: Affine) -> ((f32, f32), Errors) {
        let centre = (in_units(fit.scale, self.d), in_units(fit.min, self.dmin));
        let mut best = centre;
        let start = self.errors(best);
        let mut least = start;
        for scale_step in [0.0, -1.0, 1.0] {
            for min_step in [0.0, -1.0, 1.0] {
                let pair = (centre.0 + scale_step, centre.1 + min_step);
                let valid = 0.0..=MAX_SCALE;
                if pair != centre && valid.contains(&pair.0) && valid.contains(&pair.1) {
                    let errors = self.errors(pair);
                    if errors.improves(&least, &start) {
                        (best, least) = (pair, errors);
                    }
                }
            }
        }
        (best, least)
    }

    fn errors(&self, (scale, min): (f32, f32)) -> Errors {
        Errors::of_affine(self.x, self.plain, self.weights, self.d * scale, self.dmin * min, self.levels)
    }
}

/// The nearest multiple of a unit, 0 … 63; 0 of no unit.
fn in_units(x: f32, unit: f32) -> f32 {
    if unit > 0.0 { nearest((x / unit).clamp(0.0, MAX_SCALE)) } else { 0.0 }
}
