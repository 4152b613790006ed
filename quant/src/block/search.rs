//! The searches for a block's scale: candidates around the obvious one, each refitted by least squares.
//!
//! Loops run over eight independent lanes, so that the compiler turns them into vector code without being allowed to
//! reorder a sum.

/// Adding and subtracting 1.5·2^23 leaves the nearest integer (ties to even), for |x| < 2^22.
const ROUNDER: f32 = 12_582_912.0;

#[inline(always)]
pub(super) fn nearest(x: f32) -> f32 {
    (x + ROUNDER) - ROUNDER
}

/// `x` within [low, high]; a NaN becomes `low`. Compiles to a maximum and a minimum.
#[inline(always)]
fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// Sum of `S` terms per element, in eight lanes that are added at the end.
#[inline(always)]
fn sums<const N: usize, const S: usize>(term: impl Fn(usize) -> [f32; S]) -> [f32; S] {
    let mut lanes = [[0.0f32; 8]; S];
    for i in (0..N).step_by(8) {
        for l in 0..8 {
            let t = term(i + l);
            for s in 0..S {
                lanes[s][l] += t[s];
            }
        }
    }
    lanes.map(|l| ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7])))
}

/// (least, greatest).
#[inline(always)]
fn extent<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    let (mut low, mut high) = ([x[0]; 8], [x[0]; 8]);
    for i in (0..N).step_by(8) {
        for l in 0..8 {
            let v = x[i + l];
            low[l] = if v < low[l] { v } else { low[l] };
            high[l] = if v > high[l] { v } else { high[l] };
        }
    }
    (low.into_iter().fold(x[0], f32::min), high.into_iter().fold(x[0], f32::max))
}

/// The search weights under an importance matrix: `importance · √(sigma2 + x²)`, where sigma2 is the mean square of
/// the surroundings.
pub(super) fn importance_weights<const N: usize>(x: &[f32; N], importance: &[f32], sigma2: f32) -> [f32; N] {
    let importance = &importance[..N];
    std::array::from_fn(|i| importance[i] * (sigma2 + x[i] * x[i]).sqrt())
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
    let (min, max) = extent(x);
    let min = min.min(0.0);
    let range = max - min;
    // An overflowing range can't be searched; a finite one can, and so can no NaN.
    if !(range > 0.0 && range.is_finite()) {
        return if min.is_finite() { Affine { scale: 0.0, min: -min } } else { Affine { scale: 0.0, min: 0.0 } };
    }
    let [sum_w, sum_x] = sums::<N, 2>(|i| [w[i], w[i] * x[i]]);
    let levels_of = |per_unit: f32| -> [f32; N] {
        let mut q = [0.0; N];
        for i in 0..N {
            q[i] = nearest(within(per_unit * (x[i] - min), 0.0, levels));
        }
        q
    };
    let error_of = |q: &[f32; N], scale: f32, offset: f32| -> f32 {
        let [error] = sums::<N, 1>(|i| {
            let diff = scale * q[i] + offset - x[i];
            [w[i] * (diff * diff)]
        });
        error
    };
    let mut best = Affine { scale: range / levels, min: -min };
    let mut least = error_of(&levels_of(levels / range), best.scale, min);
    for step in 0..steps.count {
        let q = levels_of((steps.first + steps.step * step as f32 + levels) / range);
        let [sum_q, sum_q2, sum_xq] = sums::<N, 3>(|i| {
            let wq = w[i] * q[i];
            [wq, wq * q[i], wq * x[i]]
        });
        let determinant = sum_w * sum_q2 - sum_q * sum_q;
        // Of equal levels no line can be fitted (nor of NaN).
        if determinant <= 0.0 || determinant.is_nan() {
            continue;
        }
        let mut scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
        let mut offset = (sum_q2 * sum_x - sum_q * sum_xq) / determinant;
        if offset > 0.0 {
            offset = 0.0;
            scale = sum_xq / sum_q2;
        }
        let error = error_of(&q, scale, offset);
        if error < least {
            least = error;
            best = Affine { scale, min: -offset };
        }
    }
    best
}

/// The scale with the least weighted squared error for `x ≈ scale·q`, q in −levels … levels − 1.
pub(super) fn fit_symmetric<const N: usize>(x: &[f32; N], w: &[f32; N], levels: f32) -> f32 {
    let max = super::signed_max(x);
    if !(max.abs() >= 1e-30 && max.is_finite()) {
        return 0.0;
    }
    // (Σ w·x·q, Σ w·q²) for levels of the given density.
    let products = |per_unit: f32| {
        let [sum_xq, sum_q2] = sums::<N, 2>(|i| {
            let q = nearest(within(per_unit * x[i], -levels, levels - 1.0));
            let wq = w[i] * q;
            [wq * x[i], wq * q]
        });
        (sum_xq, sum_q2)
    };
    let mut scale = max / -levels;
    // Least squares leaves an error of Σ w·x² − (Σ w·x·q)² / Σ w·q²: the largest last term wins.
    let mut gain = 0.0;
    for step in [0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9] {
        let (sum_xq, sum_q2) = products(-(levels + 0.1 * step as f32) / max);
        if sum_q2 > 0.0 && sum_xq * sum_xq > gain * sum_q2 {
            scale = sum_xq / sum_q2;
            gain = scale * sum_xq;
        }
    }
    if scale.is_finite() { scale } else { 0.0 }
}

/// The nearest levels to `x / step`, within −levels … levels − 1.
pub(super) fn quantize_symmetric<const N: usize>(x: &[f32; N], step: f32, levels: f32) -> [i8; N] {
    let per_unit = super::inverse(step);
    x.map(|x| nearest(within(x * per_unit, -levels, levels - 1.0)) as i8)
}

/// The nearest levels to `(x + min) / step`, within 0 … levels.
pub(super) fn quantize_affine<const N: usize>(x: &[f32; N], step: f32, min: f32, levels: f32) -> [u8; N] {
    let per_unit = super::inverse(step);
    x.map(|x| nearest(within((x + min) * per_unit, 0.0, levels)) as u8)
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
    /// No worse in either sense, and better in one. So a refinement never trades one for the other.
    pub(super) fn better_than(&self, other: &Errors) -> bool {
        self.plain <= other.plain
            && self.weighted <= other.weighted
            && (self.plain < other.plain || self.weighted < other.weighted)
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
        let per_unit = super::inverse(step);
        let [plain, weighted] = sums::<N, 2>(|i| {
            let diff = step * nearest(within(x[i] * per_unit, -levels, levels - 1.0)) - x[i];
            [plain[i] * (diff * diff), weights[i] * (diff * diff)]
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
        let per_unit = super::inverse(step);
        let [plain, weighted] = sums::<N, 2>(|i| {
            let diff = step * nearest(within((x[i] + min) * per_unit, 0.0, levels)) - min - x[i];
            [plain[i] * (diff * diff), weights[i] * (diff * diff)]
        });
        Errors { plain, weighted }
    }
}
