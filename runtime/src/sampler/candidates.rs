//! The tokens that may come next, cut down to the likely ones without sorting the vocabulary.

use std::cmp::Ordering;

/// A token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit, after penalties and temperature.
    pub logit: f32,
    /// Its probability among the candidates.
    pub p: f32,
}

impl Candidate {
    fn new(id: u32, logit: f32) -> Candidate {
        Candidate { id, logit, p: 0.0 }
    }
}

/// The more likely first; of equal ones the lower id.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// A logit that sums and compares: NaN never wins, +∞ is the largest float, and −0 is 0.
fn tame(logit: f32) -> f32 {
    match logit.is_nan() {
        true => f32::NEG_INFINITY,
        false => logit.min(f32::MAX) + 0.0,
    }
}

/// exp(a − b) in double precision; 0 for a = −∞, whatever b is.
fn exp_difference(a: f32, b: f32) -> f64 {
    match a == f32::NEG_INFINITY {
        true => 0.0,
        false => (f64::from(a) - f64::from(b)).exp(),
    }
}

/// Candidates of the present token, and room for more.
#[derive(Default)]
pub(super) struct Candidates {
    /// Sorted if anything was cut off.
    found: Vec<Candidate>,
    /// The highest logit among them.
    best: f32,
}

impl Candidates {
    pub(super) fn all(&self) -> &[Candidate] {
        &self.found
    }

    /// The most likely token alone.
    pub(super) fn greedy(&mut self, logits: &[f32]) -> Candidate {
        let mut best = Candidate { id: 0, logit: f32::NEG_INFINITY, p: 1.0 };
        for (id, &logit) in logits.iter().enumerate() {
            // A comparison with NaN is false.
            if logit > best.logit {
                best = Candidate { id: id as u32, logit, p: 1.0 };
            }
        }
        self.found.clear();
        self.found.push(best);
        best
    }

    /// The tokens that top-k, top-p and min-p leave, at least one.
    pub(super) fn select(&mut self, logits: &[f32], top_k: usize, top_p: f32, min_p: f32) {
        let found = &mut self.found;
        found.clear();
        let all = logits.iter().enumerate().map(|(id, &l)| Candidate::new(id as u32, tame(l)));
        if top_k == 0 || top_k >= logits.len() {
            found.extend(all);
        } else {
            keep_best(found, all, top_k);
        }
        let best = found.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max);
        self.best = best;
        // top-p's share is of what top-k left, so it is summed before min-p drops any.
        let total: f64 = match top_p < 1.0 {
            true => found.iter().map(|c| exp_difference(c.logit, best)).sum(),
            false => 0.0,
        };
        // Both keep a beginning of the sorted list, so the cheaper min-p may go first.
        if min_p > 0.0 {
            let least = f64::from(best) + f64::from(min_p).ln();
            found.retain(|c| f64::from(c.logit) >= least);
        }
        // Impossible tokens are none, unless all are.
        if best > f32::NEG_INFINITY {
            found.retain(|c| c.logit > f32::NEG_INFINITY);
        }
        if top_p < 1.0 {
            keep_share(found, best, f64::from(top_p) * total);
        } else if found.len() < logits.len() {
            found.sort_unstable_by(order);
        }
    }

    /// Divides the logits by `temp` and sets the probabilities.
    pub(super) fn heat(&mut self, temp: f32) {
        let best = f64::from(self.best);
        let weight = |c: &Candidate| match c.logit == self.best {
            true => 1.0,
            false => ((f64::from(c.logit) - best) / f64::from(temp)).exp(),
        };
        let mut total = 0.0;
        for c in &mut self.found {
            let w = weight(c);
            total += w;
            c.p = w as f32;
        }
        for c in &mut self.found {
            c.p = (f64::from(c.p) / total) as f32;
            c.logit /= temp;
        }
    }

    /// The token at `u` in [0, 1) of the distribution.
    pub(super) fn draw(&self, u: f64) -> Candidate {
        let total: f64 = self.found.iter().map(|c| f64::from(c.p)).sum();
        let mut left = u * total;
        for c in &self.found {
            left -= f64::from(c.p);
            if left < 0.0 {
                return *c;
            }
        }
        // Rounding may leave a rest: then it is the last one that has a share.
        *self.found.iter().rfind(|c| c.p > 0.0).unwrap_or(&self.found[0])
    }
}

/// Keeps the `k` best of `all` in `found`, in any order. A threshold turns away nearly all of a vocabulary at one
/// comparison each; what passes is collected and thinned out when it has doubled, so time is linear for any order.
fn keep_best(found: &mut Vec<Candidate>, all: impl Iterator<Item = Candidate>, k: usize) {
    let mut worst: Option<Candidate> = None;
    for c in all {
        if worst.is_some_and(|w| order(&c, &w).is_gt()) {
            continue;
        }
        found.push(c);
        if found.len() >= 2 * k {
            worst = Some(*found.select_nth_unstable_by(k - 1, order).1);
            found.truncate(k);
        }
    }
    if found.len() > k {
        found.select_nth_unstable_by(k - 1, order);
        found.truncate(k);
    }
}

/// Sorts `found` and keeps the fewest that weigh at least `wanted`, where a token weighs exp(logit − best). The one
/// that crosses the line stays. Only as much is sorted as is needed, in steps that grow eightfold.
fn keep_share(found: &mut Vec<Candidate>, best: f32, wanted: f64) {
    let mut weight = 0.0;
    let mut sorted = 0;
    let mut step = 128;
    while sorted < found.len() {
        let rest = &mut found[sorted..];
        let n = step.min(rest.len());
        if n < rest.len() {
            rest.select_nth_unstable_by(n - 1, order);
        }
        rest[..n].sort_unstable_by(order);
        for i in sorted..sorted + n {
            weight += exp_difference(found[i].logit, best);
            if weight >= wanted {
                found.truncate(i + 1);
                return;
            }
        }
        sorted += n;
        step *= 8;
    }
}

/// The `k` most likely tokens by the model's own logits `[vocab]`, the most likely first, with the natural logarithms
/// of their probabilities.
pub fn top_logprobs(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    if k == 0 || logits.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let all = logits.iter().enumerate().map(|(id, &l)| Candidate::new(id as u32, tame(l)));
    keep_best(&mut found, all, k.min(logits.len()));
    found.sort_unstable_by(order);
    let total = log_total(logits);
    found.iter().map(|c| (c.id, relative(c.logit, total))).collect()
}

/// The natural logarithm of one token's probability by the model's own logits `[vocab]`; −∞ for an id out of range.
pub fn logprob(logits: &[f32], id: u32) -> f32 {
    logits.get(id as usize).map_or(f32::NEG_INFINITY, |&logit| relative(tame(logit), log_total(logits)))
}

/// The logarithm of the sum of all weights.
fn log_total(logits: &[f32]) -> f64 {
    let best = logits.iter().map(|&l| tame(l)).fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&l| exp_difference(tame(l), best)).sum();
    f64::from(best) + total.ln()
}

fn relative(logit: f32, total: f64) -> f32 {
    if logit == f32::NEG_INFINITY { f32::NEG_INFINITY } else { (f64::from(logit) - total) as f32 }
}
