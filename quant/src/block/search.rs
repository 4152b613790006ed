//! The searches for a block's scale: candidates around the obvious one, each refitted by least squares.
use super::lanes::{Lanes, sums};
use super::{inverse, signed_max};

/// (least, greatest).
fn extent<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    let (mut low, mut high) = (x[0], x[0]);
    for &v in x {
        low = if v < low { v } else { low };
        high = if v > high { v } else { high };
    }
    (low, high)
}

/// The search weights under an importance matrix: `importance · √(sigma2 + x²)`, where sigma2 is the mean square of
/// the surroundings.
pub(super) fn importance_weights<const N: usize>(x: &[f32; N], importance: &[f32], sigma2: f32) -> [f32; N] {
    let importance = &importance[..N];
    let mut w = [0.0; N];
    for i in 0..N {
        w[i] = importance[i] * (sigma2 + x[i] * x[i]).sqrt();
    }
    w
}

/// The candidate ranges of [`fit_affine`]: `count` steps of `step` levels, starting `first` levels beside the full range.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    first: f32,
    step: f32,
    count: u32,
}

impl Steps {
    /// 4 bits, no importance: the range shrinks or grows by up to a level.
    pub(super) const Q4_K: Steps = Steps { first: -1.0, step: 0.1, count: 21 };
    /// 5 bits, no importance.
    pub(super) const Q5_K: Steps = Steps { first: -0.5, step: 0.1, count: 16 };
    /// Under an importance matrix, where the best range is further off.
    pub(super) const FINE: Steps = Steps { first: -0.9, step: 0.05, count: 37 };
}

/// `x ≈ scale·q − min` with q in 0 … levels and both ≥ 0.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) min: f32,
}

/// The scale and minimum with the least weighted squared error among the candidates.
pub(super) fn fit_affine<const N: usize>(x: &[f32; N], w: &[f32; N], levels: f32, steps: Steps) -> Affine {
    let (low, max) = extent(x);
    let low = low.min(0.0);
    // An overflowing range can't be searched, nor can NaN.
    if !(max - low).is_finite() || max <= low {
        return Affine { scale: 0.0, min: if low.is_finite() { -low } else { 0.0 } };
    }
    let [sum_w, sum_x, sum_x2] = sums::<N, 3>(|i| {
        let (x, w) = (Lanes::load(x, i), Lanes::load(w, i));
        [w, w * x, w * x * x]
    });
    // Levels of a candidate: `per_unit·(x − offset)`.
    let q_of = |i: usize, per_unit: f32, offset: f32| {
        ((Lanes::load(x, i) - Lanes::all(offset)) * Lanes::all(per_unit)).nearest_within(0.0, levels)
    };
    let error_of = |per_unit: f32, from: f32, scale: f32, offset: f32| {
        let [error] = sums::<N, 1>(|i| {
            let diff = Lanes::all(scale) * q_of(i, per_unit, from) + Lanes::all(offset) - Lanes::load(x, i);
            [Lanes::load(w, i) * (diff * diff)]
        });
        error
    };
    let mut scale = (max - low) / levels;
    let mut offset = low;
    let mut least = error_of(levels / (max - low), low, scale, low);
    for step in 0..steps.count {
        // A better offset found on the way is where the next candidates start from.
        let per_unit = (steps.first + steps.step * step as f32 + levels) / (max - offset);
        let [sum_q, sum_q2, sum_xq] = sums::<N, 3>(|i| {
            let q = q_of(i, per_unit, offset);
            let wq = Lanes::load(w, i) * q;
            [wq, wq * q, wq * Lanes::load(x, i)]
        });
        let determinant = sum_w * sum_q2 - sum_q * sum_q;
        // Of equal levels no line can be fitted (nor of NaN).
        if determinant <= 0.0 || determinant.is_nan() {
            continue;
        }
        let mut fit = (sum_w * sum_xq - sum_x * sum_q) / determinant;
        let mut at = (sum_q2 * sum_x - sum_q * sum_xq) / determinant;
        if at > 0.0 {
            (fit, at) = (sum_xq / sum_q2, 0.0);
        }
        // The error by the sums alone is exact to a few units of rounding of Σ w·x²: what it rules out need not be summed.
        let explained = 2.0 * (fit * sum_xq + at * sum_x) - fit * (fit * sum_q2 + 2.0 * at * sum_q) - at * at * sum_w;
        if sum_x2 - explained > least + 1e-5 * sum_x2 {
            continue;
        }
        let error = error_of(per_unit, offset, fit, at);
        if error < least {
            (scale, offset, least) = (fit, at, error);
        }
    }
    Affine { scale, min: -offset }
}

/// The scale of least error for `x ≈ scale·q`, q in −levels … levels − 1, among the candidates.
pub(super) fn fit_symmetric<const N: usize>(x: &[f32; N], plain: &[f32; N], w: &[f32; N], levels: f32) -> f32 {
    let max = signed_max(x);
    if max.abs() < 1e-30 || !max.is_finite() {
        return 0.0;
    }
    let mut best = max / -levels;
    let mut least = Errors::of_symmetric(x, plain, w, best, levels);
    for step in -9..=9 {
        let per_unit = Lanes::all(-(levels + 0.1 * step as f32) / max);
        let [sum_xq, sum_q2] = sums::<N, 2>(|i| {
            let x = Lanes::load(x, i);
            let q = (x * per_unit).nearest_within(-levels, levels - 1.0);
            let wq = Lanes::load(w, i) * q;
            [wq * x, wq * q]
        });
        if sum_q2 > 0.0 {
            let scale = sum_xq / sum_q2;
            let errors = Errors::of_symmetric(x, plain, w, scale, levels);
            if errors.better_than(&least) {
                (best, least) = (scale, errors);
            }
        }
    }
    best
}

/// The nearest levels to `x / step`, within −levels … levels − 1.
pub(super) fn quantize_symmetric<const N: usize>(x: &[f32; N], step: f32, levels: f32) -> [i8; N] {
    let per_unit = Lanes::all(inverse(step));
    let mut q = [0; N];
    for (i, q) in q.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let levels = (Lanes::load(x, i) * per_unit).nearest_within(-levels, levels - 1.0).get();
        for l in 0..8 {
            q[l] = levels[l] as i8;
        }
    }
    q
}

/// The nearest levels to `(x + min) / step`, within 0 … levels.
pub(super) fn quantize_affine<const N: usize>(x: &[f32; N], step: f32, min: f32, levels: f32) -> [u8; N] {
    let per_unit = Lanes::all(inverse(step));
    let mut q = [0; N];
    for (i, q) in q.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let levels = ((Lanes::load(x, i) + Lanes::all(min)) * per_unit).nearest_within(0.0, levels).get();
        for l in 0..8 {
            q[l] = levels[l] as u8;
        }
    }
    q
}

/// Squared errors of a candidate: plain, and with the weights of the search.
#[derive(Clone, Copy, Default)]
pub(super) struct Errors {
    plain: f32,
    weighted: f32,
}

impl std::ops::AddAssign for Errors {
    fn add_assign(&mut self, other: Errors) {
        self.plain += other.plain;
        self.weighted += other.weighted;
    }
}

impl Errors {
    /// Less in one sense by a larger share than it is more in the other.
    pub(super) fn better_than(&self, other: &Errors) -> bool {
        self.plain * other.weighted + self.weighted * other.plain < 2.0 * other.plain * other.weighted
    }

    /// Better, and in the plain sense no worse than a starting point.
    pub(super) fn improves(&self, other: &Errors, start: &Errors) -> bool {
        self.plain <= start.plain && self.better_than(other)
    }

    /// Errors of `x` quantized in steps of `step`.
    #[inline(always)]
    pub(super) fn of_symmetric<const N: usize>(
        x: &[f32; N],
        plain: &[f32; N],
        weights: &[f32; N],
        step: f32,
        levels: f32,
    ) -> Errors {
        let per_unit = Lanes::all(inverse(step));
        let [plain, weighted] = sums::<N, 2>(|i| {
            let x = Lanes::load(x, i);
            let diff = Lanes::all(step) * (x * per_unit).nearest_within(-levels, levels - 1.0) - x;
            let square = diff * diff;
            [Lanes::load(plain, i) * square, Lanes::load(weights, i) * square]
        });
        Errors { plain, weighted }
    }

    /// Errors of `x` quantized in steps of `step` from `-min` up.
    #[inline(always)]
    pub(super) fn of_affine<const N: usize>(
        x: &[f32; N],
        plain: &[f32; N],
        weights: &[f32; N],
        step: f32,
        min: f32,
        levels: f32,
    ) -> Errors {
        let per_unit = Lanes::all(inverse(step));
        let [plain, weighted] = sums::<N, 2>(|i| {
            let x = Lanes::load(x, i);
            let q = ((x + Lanes::all(min)) * per_unit).nearest_within(0.0, levels);
            let diff = Lanes::all(step) * q - Lanes::all(min) - x;
            let square = diff * diff;
            [Lanes::load(plain, i) * square, Lanes::load(weights, i) * square]
        });
        Errors { plain, weighted }
    }
}
