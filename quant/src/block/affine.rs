//! The quantization that Q4_K and Q5_K share: a scale and a minimum per 32 values, in units common to 256.
use super::search::{Affine, Errors, Steps, fit_affine, importance_weights, nearest, quantize_affine};
use super::{Half, SUPER, mean_square};

/// Scales and minimums have 6 bits.
const MAX_SCALE: f32 = 63.0;

/// A super-block before packing.
pub(super) struct Quantized {
    pub(super) d: Half,
    pub(super) dmin: Half,
    pub(super) scales: [u8; 8],
    pub(super) mins: [u8; 8],
    pub(super) q: [u8; SUPER],
}

/// Quantizes 256 values to levels 0 … `levels`. Each sub-block is fitted alone; then the units are set by the largest
/// scale and minimum, and around each rounded pair the neighbours are tried with the values requantized.
pub(super) fn quantize_super(x: &[f32; SUPER], importance: Option<&[f32]>, levels: f32, steps: Steps) -> Quantized {
    let subs = x.as_chunks::<32>().0;
    let steps = if importance.is_some() { Steps::FINE } else { steps };
    let weights = sub_weights(x, importance);
    let fits: [Affine; 8] = std::array::from_fn(|j| fit_affine(&subs[j], &weights[j], levels, steps));
    let unit = |part: fn(&Affine) -> f32| Half::saturating(fits.iter().map(part).fold(0.0, f32::max) / MAX_SCALE);
    let (d, dmin) = (unit(|fit| fit.scale), unit(|fit| fit.min));

    let mut out = Quantized { d, dmin, scales: [0; 8], mins: [0; 8], q: [0; SUPER] };
    for (j, q) in out.q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let plain: [f32; 32] = match importance {
            Some(w) => std::array::from_fn(|l| w[32 * j + l]),
            None => [1.0; 32],
        };
        let sub = SubBlock { x: &subs[j], plain: &plain, weights: &weights[j], levels, d: d.get(), dmin: dmin.get() };
        let (scale, min) = sub.best_pair(fits[j]);
        (out.scales[j], out.mins[j]) = (scale as u8, min as u8);
        *q = quantize_affine(sub.x, sub.d * scale, sub.dmin * min, levels);
    }
    out
}

/// Weights of the squared errors in the search: with |x| an error counts more where the value is large.
fn sub_weights(x: &[f32; SUPER], importance: Option<&[f32]>) -> [[f32; 32]; 8] {
    let subs = x.as_chunks::<32>().0;
    let sigma2 = 2.0 * mean_square(x);
    std::array::from_fn(|j| match importance {
        Some(w) => importance_weights(&subs[j], &w[32 * j..], sigma2),
        None => {
            let level = mean_square(&subs[j]).sqrt();
            subs[j].map(|x| level + x.abs())
        }
    })
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
    /// (scale, minimum) in units, 0 … 63 each.
    fn best_pair(&self, fit: Affine) -> (f32, f32) {
        let units = |x: f32, unit: f32| if unit > 0.0 { nearest((x / unit).clamp(0.0, MAX_SCALE)) } else { 0.0 };
        let centre = (units(fit.scale, self.d), units(fit.min, self.dmin));
        let mut best = centre;
        let mut least = self.errors(best);
        for scale_step in [0.0, -1.0, 1.0] {
            for min_step in [0.0, -1.0, 1.0] {
                let pair = (centre.0 + scale_step, centre.1 + min_step);
                let valid = 0.0..=MAX_SCALE;
                if pair != centre && valid.contains(&pair.0) && valid.contains(&pair.1) {
                    let errors = self.errors(pair);
                    if errors.better_than(&least) {
                        (best, least) = (pair, errors);
                    }
                }
            }
        }
        best
    }

    fn errors(&self, (scale, min): (f32, f32)) -> Errors {
        Errors::of_affine(self.x, self.plain, self.weights, self.d * scale, self.dmin * min, self.levels)
    }
}
