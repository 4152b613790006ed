//! The searches for the scales of eight sub-blocks at once: candidates around the obvious scale, each refitted by least
//! squares.
use super::lanes::{Tile, add, inverse, magnitude, nearest_within};
use super::levels::Levels;
use crate::kernel::Floats;

/// The search weights under an importance matrix: `importance · √(sigma2 + x²)`, where sigma2 is the mean square of
/// the surroundings.
#[inline(always)]
pub(super) fn importance_weights<F: Floats, const N: usize>(
    token: F::Token,
    x: &Tile<F, N>,
    importance: &Tile<F, N>,
    sigma2: f32,
) -> Tile<F, N> {
    let mut w = *importance;
    for i in 0..N {
        w[i] = w[i] * (F::all(token, sigma2) + x[i] * x[i]).sqrt();
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
    /// 2 and 4 bits, no importance: the range shrinks or grows by up to a level.
    pub(super) const Q4_K: Steps = Steps { first: -1.0, step: 0.1, count: 21 };
    /// 5 bits, no importance.
    pub(super) const Q5_K: Steps = Steps { first: -0.5, step: 0.1, count: 16 };
    /// Under an importance matrix, where the best range is further off.
    pub(super) const FINE: Steps = Steps { first: -0.9, step: 0.05, count: 37 };
}

/// `x ≈ scale·q − min` with q in 0 … levels and both ≥ 0.
#[derive(Clone, Copy)]
pub(super) struct Affine<F> {
    pub(super) scale: F,
    pub(super) min: F,
}

/// The scale and minimum with the least weighted squared error among the candidates.
#[inline(always)]
pub(super) fn fit_affine<F: Floats, const N: usize>(
    token: F::Token,
    x: &Tile<F, N>,
    w: &Tile<F, N>,
    levels: f32,
    steps: Steps,
) -> Affine<F> {
    let zero = F::all(token, 0.0);
    let (mut low, mut high) = (zero, x[0]);
    for &x in x {
        (low, high) = (x.min(low), x.max(high));
    }
    let range = high - low;
    // From the lowest value up: large values of little difference keep their precision.
    let mut y = *x;
    for y in &mut y {
        *y = *y - low;
    }
    let mut scale = range / F::all(token, levels);
    let mut offset = zero;
    let per_unit = F::all(token, levels) / range;
    let mut sums = [zero; 2];
    for i in 0..N {
        let diff = scale * nearest_within(token, y[i] * per_unit, 0.0, levels) - y[i];
        add(&mut sums, [w[i], w[i] * (diff * diff)]);
    }
    let [sum_w, mut least] = sums;
    for step in 0..steps.count {
        // A better offset found on the way is where the next candidates start from.
        let range = range - offset;
        let count = F::all(token, steps.first + steps.step * step as f32 + levels);
        let (unit, per_unit) = (range / count, count / range);
        // In units: y − offset = q + e, where e ≈ a·q + b. Errors from the sums of e are exact, since e is small.
        let mut sums = [zero; 5];
        for i in 0..N {
            let t = (y[i] - offset) * per_unit;
            let q = nearest_within(token, t, 0.0, levels);
            let e = t - q;
            let (wq, we) = (w[i] * q, w[i] * e);
            add(&mut sums, [wq, we, wq * q, wq * e, we * e]);
        }
        let [sum_q, sum_e, sum_q2, sum_qe, sum_e2] = sums;
        // Of equal levels no line can be fitted (nor of NaN).
        let determinant = sum_w * sum_q2 - sum_q * sum_q;
        // The lowest level may not lie above 0, which is at −low.
        let highest = (zero - low - offset) * per_unit;
        let b = ((sum_q2 * sum_e - sum_q * sum_qe) / determinant).min(highest);
        let a = (sum_qe - b * sum_q) / sum_q2;
        let fitted = a * (sum_qe + sum_qe - a * sum_q2) + b * (sum_e + sum_e - b * sum_w - (a + a) * sum_q);
        let error = (sum_e2 - fitted) * (unit * unit);
        let better = zero.less(determinant) & error.less(least);
        scale = F::select(better, unit + a * unit, scale);
        offset = F::select(better, offset + b * unit, offset);
        least = F::select(better, error, least);
    }
    // An overflowing range can't be searched, nor can NaN.
    let infinity = F::all(token, f32::INFINITY);
    let valid = zero.less(range) & range.less(infinity);
    let min = zero - low - F::select(valid, offset, zero);
    Affine { scale: F::select(valid, scale, zero), min: F::select(magnitude(token, low).less(infinity), min, zero) }
}

/// The scale of least error for `x ≈ scale·q`, q among the levels, of the candidates.
#[inline(always)]
pub(super) fn fit_symmetric<F: Floats, L: Levels, const N: usize>(
    token: F::Token,
    x: &Tile<F, N>,
    plain: &Tile<F, N>,
    w: &Tile<F, N>,
) -> F {
    let zero = F::all(token, 0.0);
    // The value of largest magnitude, the first of equals.
    let mut max = zero;
    for &x in x {
        max = F::select(magnitude(token, max).less(magnitude(token, x)), x, max);
    }
    let mut best = max / F::all(token, L::LOWEST);
    let mut least = Errors::of_symmetric::<L, N>(token, x, plain, w, best);
    for candidate in 0..19 * L::ENDS.len() {
        let (end, step) = (L::ENDS[candidate / 19], (candidate % 19) as f32 - 9.0);
        let per_unit = F::all(token, end + L::STEP * step) / max;
        let mut sums = [zero; 2];
        for i in 0..N {
            let q = L::nearest(token, x[i] * per_unit);
            let wq = w[i] * q;
            add(&mut sums, [wq * x[i], wq * q]);
        }
        let [sum_xq, sum_q2] = sums;
        let scale = sum_xq / sum_q2;
        let errors = Errors::of_symmetric::<L, N>(token, x, plain, w, scale);
        let better = zero.less(sum_q2) & errors.better_than(&least);
        best = F::select(better, scale, best);
        least = errors.where_or(better, least);
    }
    let magnitude = magnitude(token, max);
    let valid = F::all(token, 1e-30).less(magnitude) & magnitude.less(F::all(token, f32::INFINITY));
    F::select(valid, best, zero)
}

/// Squared errors of a candidate: plain, and with the weights of the search.
#[derive(Clone, Copy)]
pub(super) struct Errors<F> {
    pub(super) plain: F,
    pub(super) weighted: F,
}

impl Errors<f32> {
    /// Less in one sense by a larger share than it is more in the other, and in the plain sense no worse than a
    /// starting point.
    pub(super) fn improves(&self, other: &Self, start: &Self) -> bool {
        let better = self.plain * other.weighted + self.weighted * other.plain < 2.0 * other.plain * other.weighted;
        self.plain <= start.plain && better
    }
}

impl<F: Floats> Errors<F> {
    /// Less in one sense by a larger share than it is more in the other.
    #[inline(always)]
    pub(super) fn better_than(&self, other: &Self) -> F::Mask {
        let product = other.plain * other.weighted;
        (self.plain * other.weighted + self.weighted * other.plain).less(product + product)
    }

    /// Better, and in the plain sense no worse than a starting point.
    #[inline(always)]
    pub(super) fn improves(&self, other: &Self, start: &Self) -> F::Mask {
        self.plain.less(start.plain) & self.better_than(other)
    }

    /// These where the mask is true, else the others.
    #[inline(always)]
    pub(super) fn where_or(self, mask: F::Mask, other: Self) -> Self {
        Errors {
            plain: F::select(mask, self.plain, other.plain),
            weighted: F::select(mask, self.weighted, other.weighted),
        }
    }

    /// Errors of `x` quantized to multiples of `step`.
    #[inline(always)]
    pub(super) fn of_symmetric<L: Levels, const N: usize>(
        token: F::Token,
        x: &Tile<F, N>,
        plain: &Tile<F, N>,
        weights: &Tile<F, N>,
        step: F,
    ) -> Self {
        let per_unit = inverse(token, step);
        let mut sums = [F::all(token, 0.0); 2];
        for i in 0..N {
            let diff = step * L::nearest(token, x[i] * per_unit) - x[i];
            let square = diff * diff;
            add(&mut sums, [plain[i] * square, weights[i] * square]);
        }
        Errors { plain: sums[0], weighted: sums[1] }
    }

    /// Errors of `x` quantized in steps of `step` from `-min` up.
    #[inline(always)]
    pub(super) fn of_affine<const N: usize>(
        token: F::Token,
        x: &Tile<F, N>,
        plain: &Tile<F, N>,
        weights: &Tile<F, N>,
        step: F,
        min: F,
        levels: f32,
    ) -> Self {
        let per_unit = inverse(token, step);
        let mut sums = [F::all(token, 0.0); 2];
        for i in 0..N {
            let y = x[i] + min;
            let diff = step * nearest_within(token, y * per_unit, 0.0, levels) - y;
            let square = diff * diff;
            add(&mut sums, [plain[i] * square, weights[i] * square]);
        }
        Errors { plain: sums[0], weighted: sums[1] }
    }
}
