//! Sums over predictions: negative log-likelihood, and divergence from a base model.

use std::fmt;

use serde::Serialize;

/// Log-probabilities of a row of logits.
pub fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
    let log_sum = f64::from(max) + sum.ln();
    logits.iter().map(|&l| (f64::from(l) - log_sum) as f32).collect()
}

/// Mean and its standard error, from sums.
#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    n: u64,
    sum: f64,
    squares: f64,
}

impl Mean {
    fn add(&mut self, x: f64) {
        self.n += 1;
        self.sum += x;
        self.squares += x * x;
    }

    fn mean(&self) -> f64 {
        self.sum / self.n as f64
    }

    fn error(&self) -> f64 {
        let variance = self.squares / self.n as f64 - self.mean().powi(2);
        if self.n > 1 { (variance.max(0.0) / (self.n - 1) as f64).sqrt() } else { 0.0 }
    }
}

/// What the predictions of a run add up to.
#[derive(Debug, Default)]
pub struct Score {
    nll: Mean,
    divergence: Mean,
    worst_divergence: f64,
    same_top: u64,
}

/// The results.
#[derive(Debug, Serialize)]
pub struct Summary {
    tokens: u64,
    perplexity: f64,
    perplexity_error: f64,
    nll: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kl: Option<Divergence>,
}

#[derive(Debug, Serialize)]
struct Divergence {
    mean: f64,
    error: f64,
    max: f64,
    same_top: f64,
}

impl Score {
    /// One prediction, `row` of log-probabilities `[vocab]`, and the token that came.
    pub fn add(&mut self, row: &[f32], next: u32) {
        self.nll.add(-f64::from(row[next as usize]));
    }

    /// The same prediction by the base model and by this one: Σ p_base · (log p_base − log p).
    pub fn compare(&mut self, base: &[f32], row: &[f32]) {
        let term = |(&b, &r): (&f32, &f32)| {
            let (b, r) = (f64::from(b), f64::from(r));
            // What the base model rules out adds nothing.
            if b == f64::NEG_INFINITY { 0.0 } else { b.exp() * (b - r) }
        };
        // Rounding may leave a little less than nothing.
        let divergence = base.iter().zip(row).map(term).sum::<f64>().max(0.0);
        self.divergence.add(divergence);
        self.worst_divergence = self.worst_divergence.max(divergence);
        self.same_top += u64::from(top(base) == top(row));
    }

    /// exp of the mean negative log-likelihood.
    pub fn perplexity(&self) -> f64 {
        self.nll.mean().exp()
    }

    /// The results.
    pub fn summary(&self) -> Summary {
        let kl = (self.divergence.n > 0).then(|| Divergence {
            mean: self.divergence.mean(),
            error: self.divergence.error(),
            max: self.worst_divergence,
            same_top: self.same_top as f64 / self.divergence.n as f64,
        });
        let perplexity = self.perplexity();
        let perplexity_error = perplexity * self.nll.error();
        Summary { tokens: self.nll.n, perplexity, perplexity_error, nll: self.nll.mean(), kl }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.summary();
        write!(f, "perplexity {:.4} ± {:.4} over {} tokens", s.perplexity, s.perplexity_error, s.tokens)?;
        if let Some(kl) = s.kl {
            let same = kl.same_top * 100.0;
            write!(
                f,
                "\nKL divergence {:.6} ± {:.6}, at most {:.6}; same top token {same:.2} %",
                kl.mean, kl.error, kl.max
            )?;
        }
        Ok(())
    }
}

/// The first of the largest values.
fn top(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_softmax_sums_to_one() {
        let row = log_softmax(&[1000.0, 999.0, -1000.0]);
        let sum: f32 = row.iter().map(|x| x.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6 && (row[0] - row[1] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn perplexity_of_a_coin_is_two() {
        let mut score = Score::default();
        (0..10).for_each(|_| score.add(&[0.5f32.ln(); 2], 1));
        let s = score.summary();
        assert!((s.perplexity - 2.0).abs() < 1e-6 && s.perplexity_error < 1e-4 && s.tokens == 10 && s.kl.is_none());
    }

    #[test]
    fn divergence_is_nothing_from_itself_and_known_from_another() {
        let (fair, biased) = ([0.5f32.ln(); 2], [0.9f32.ln(), 0.1f32.ln()]);
        let mut score = Score::default();
        score.compare(&biased, &biased);
        assert_eq!(score.summary().kl.unwrap().mean, 0.0);
        score.compare(&biased, &fair);
        let kl = score.summary().kl.unwrap();
        let wanted = 0.9 * (0.9f64 / 0.5).ln() + 0.1 * (0.1f64 / 0.5).ln();
        assert!((kl.max - wanted).abs() < 1e-6 && (kl.mean - wanted / 2.0).abs() < 1e-6 && kl.same_top == 1.0);
    }
}
