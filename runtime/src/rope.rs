//! Rotary position embedding: angles computed in f64, so that they are right at any position, with linear and YaRN scaling.
use std::f64::consts::PI;

/// How the model's positions are stretched beyond its training context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All positions divided by `factor`.
    Linear {
        /// How many times longer the context becomes.
        factor: f64,
    },
    /// YaRN (arXiv 2309.00071): slow dimensions are stretched, fast ones kept, a ramp between.
    Yarn {
        /// How many times longer the context becomes.
        factor: f64,
        /// The context before stretching.
        original_ctx: usize,
        /// Dimensions that turn more often than this in `original_ctx` are kept.
        beta_fast: f64,
        /// Dimensions that turn less often than this are stretched in full.
        beta_slow: f64,
        /// How much of the kept frequencies is mixed in at most: 1 unless the file says otherwise.
        ext_factor: f64,
        /// What queries and keys are multiplied by; `0.1 ln(factor) + 1` unless the file says otherwise.
        attention_factor: f64,
    },
}

/// Which elements of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `i` with `i + head_dim / 2`, called NeoX in ggml: Qwen3.
    Halves,
    /// `2 i` with `2 i + 1`: Llama in GGUF files.
    Neighbours,
}

/// The rotary embedding of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// Pairs.
    pub pairing: Pairing,
    /// Stretching.
    pub scaling: Scaling,
}

impl Rope {
    /// The angle per position of each pair of dimensions, `[head_dim / 2]`.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        let half = head_dim / 2;
        let plain = |i: usize| self.theta.powf(-(i as f64) / half as f64);
        match self.scaling {
            Scaling::None => (0..half).map(plain).collect(),
            Scaling::Linear { factor } => (0..half).map(|i| plain(i) / factor).collect(),
            Scaling::Yarn { factor, original_ctx, beta_fast, beta_slow, ext_factor, .. } => {
                // The pair that makes `turns` full turns in the original context.
                let pair = |turns: f64| half as f64 * (original_ctx as f64 / (turns * 2.0 * PI)).ln() / self.theta.ln();
                let low = pair(beta_fast).floor().max(0.0);
                let high = pair(beta_slow).ceil().min(head_dim as f64 - 1.0);
                (0..half)
                    .map(|i| {
                        let stretched = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                        let kept = (1.0 - stretched) * ext_factor;
                        plain(i) / factor * (1.0 - kept) + plain(i) * kept
                    })
                    .collect()
            }
        }
    }

    /// What the sines and cosines are multiplied by.
    pub fn magnitude(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }
}

/// Cosines and sines for the positions of one batch, reused by all its layers.
pub struct Angles {
    frequencies: Vec<f64>,
    magnitude: f64,
    pairing: Pairing,
    /// `[n, head_dim / 2]` each.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// For heads of `head_dim` elements.
    pub fn new(rope: &Rope, head_dim: usize) -> Angles {
        let (cos, sin) = (Vec::new(), Vec::new());
        Angles { frequencies: rope.frequencies(head_dim), magnitude: rope.magnitude(), pairing: rope.pairing, cos, sin }
    }

    /// Computes the rows for the positions `start..start + n`.
    pub fn set(&mut self, start: usize, n: usize) {
        self.cos.clear();
        self.sin.clear();
        for pos in start..start + n {
            for f in &self.frequencies {
                let (sin, cos) = (pos as f64 * f).sin_cos();
                self.cos.push((cos * self.magnitude) as f32);
                self.sin.push((sin * self.magnitude) as f32);
            }
        }
    }

    /// Turns a head `x` `[head_dim]` of the batch's `t`-th token.
    ///
    /// # Panics
    /// When the batch has no such token or the head another size.
    pub fn turn(&self, t: usize, x: &mut [f32]) {
        let half = self.frequencies.len();
        let (cos, sin) = (&self.cos[t * half..][..half], &self.sin[t * half..][..half]);
        let turn = |a: &mut f32, b: &mut f32, cos, sin| (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        match self.pairing {
            Pairing::Halves => {
                let (a, b) = x.split_at_mut(half);
                for (((a, b), cos), sin) in a.iter_mut().zip(&mut b[..half]).zip(cos).zip(sin) {
                    turn(a, b, cos, sin);
                }
            }
            Pairing::Neighbours => {
                for (([a, b], cos), sin) in x.as_chunks_mut().0[..half].iter_mut().zip(cos).zip(sin) {
                    turn(a, b, cos, sin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_positions_are_exact() {
        let mut angles = Angles::new(&Rope { theta: 1e6, pairing: Pairing::Halves, scaling: Scaling::None }, 128);
        angles.set(40_000, 1);
        let mut x = vec![0f32; 128];
        x[1] = 1.0;
        angles.turn(0, &mut x);
        let angle = 40_000f64 * 1e6f64.powf(-1.0 / 64.0);
        assert!((x[1] as f64 - angle.cos()).abs() < 1e-7 && (x[65] as f64 - angle.sin()).abs() < 1e-7);
    }

    #[test]
    fn neighbours_turn_as_halves_do() {
        let angles = |pairing| {
            let mut angles = Angles::new(&Rope { theta: 1e4, pairing, scaling: Scaling::None }, 8);
            angles.set(5, 1);
            angles
        };
        let mut halves = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut neighbours = [1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0];
        angles(Pairing::Halves).turn(0, &mut halves);
        angles(Pairing::Neighbours).turn(0, &mut neighbours);
        for i in 0..4 {
            assert_eq!((halves[i], halves[i + 4]), (neighbours[2 * i], neighbours[2 * i + 1]));
        }
    }

    #[test]
    fn linear_divides_positions() {
        let rope = Rope { theta: 1e4, pairing: Pairing::Halves, scaling: Scaling::Linear { factor: 4.0 } };
        let plain = Rope { theta: 1e4, pairing: Pairing::Halves, scaling: Scaling::None };
        let (mut a, mut b) = (Angles::new(&rope, 64), Angles::new(&plain, 64));
        a.set(4 * 77, 1);
        b.set(77, 1);
        assert_eq!((&a.cos, &a.sin), (&b.cos, &b.sin));
    }

    /// Values of the published formula for Qwen3's documented setting: factor 4 over 32,768 positions.
    #[test]
    fn yarn_keeps_fast_and_stretches_slow_dimensions() {
        let attention_factor = 0.1 * 4f64.ln() + 1.0;
        let rope = Rope {
            theta: 1e6,
            pairing: Pairing::Halves,
            scaling: Scaling::Yarn {
                factor: 4.0,
                original_ctx: 32_768,
                beta_fast: 32.0,
                beta_slow: 1.0,
                ext_factor: 1.0,
                attention_factor,
            },
        };
        let f = rope.frequencies(128);
        let plain = |i: usize| 1e6f64.powf(-(i as f64) / 64.0);
        // Pairs 23 (32 turns) and 40 (1 turn) bound the ramp.
        assert!((0..=23).all(|i| f[i] == plain(i)));
        assert!((40..64).all(|i| f[i] == plain(i) / 4.0));
        let ramp = (30.0 - 23.0) / (40.0 - 23.0);
        assert!((f[30] - (plain(30) / 4.0 * ramp + plain(30) * (1.0 - ramp))).abs() < 1e-15);
        assert_eq!(rope.magnitude(), attention_factor);
    }
}
