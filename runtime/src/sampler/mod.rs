//! From logits to the next token.
//!
//! The chain, in llama.cpp's order: penalties → top-k → top-p → min-p → temperature → draw. Each step is off at its
//! neutral value. Top-p and min-p look at probabilities before the temperature.
//!
//! - Penalties count the last `repeat_last_n` tokens that were accepted, **the prompt's included**: a logit above zero
//!   is divided by `repeat_penalty`, one below multiplied; then `frequency_penalty` for each occurrence and
//!   `presence_penalty` once are subtracted.
//! - At temperature 0 the most likely token is taken whatever the other values are: no truncation can drop it. Penalties
//!   hold there too, as in llama.cpp: they change which token is the most likely.
//! - Of equal logits the lower id comes first. A logit that is not a number is never chosen.

mod candidates;
mod params;
mod penalties;
mod rng;

pub use candidates::{Candidate, logprob, top_logprobs};
pub use params::{FileSampling, Flags, Purpose, Resolved, SamplingError, Source, Sourced, resolve};

use candidates::Candidates;
use penalties::Penalties;
use rng::Rng;

/// Values of the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0: greedy.
    pub temp: f32,
    /// Keep so many of the most likely tokens; 0: all.
    pub top_k: usize,
    /// Keep the fewest tokens that have this share of the probability; 1: all.
    pub top_p: f32,
    /// Keep tokens with at least this share of the most likely token's probability; 0: all.
    pub min_p: f32,
    /// Above 1: tokens of the window become less likely; 1: off.
    pub repeat_penalty: f32,
    /// The window of the penalties, in tokens; 0: no penalties.
    pub repeat_last_n: usize,
    /// Subtracted once from the logits of tokens in the window.
    pub presence_penalty: f32,
    /// Subtracted for each occurrence.
    pub frequency_penalty: f32,
    /// The same seed gives the same text.
    pub seed: u64,
}

/// A token that was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The token.
    pub id: u32,
    /// Its probability among the tokens that it was drawn from.
    pub p: f32,
}

/// The chain with its state: the window of the penalties and the random numbers.
pub struct Sampler {
    sampling: Sampling,
    penalties: Penalties,
    /// Room for logits after the penalties.
    penalized: Vec<f32>,
    candidates: Candidates,
    rng: Rng,
}

impl Sampler {
    /// A chain that has seen no token yet.
    pub fn new(sampling: Sampling) -> Sampler {
        Sampler {
            sampling,
            penalties: Penalties::new(&sampling),
            penalized: Vec::new(),
            candidates: Candidates::default(),
            rng: Rng::new(sampling.seed),
        }
    }

    /// Its values.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Takes a token, of the prompt or one that was drawn, into the window of the penalties.
    pub fn accept(&mut self, id: u32) {
        self.penalties.accept(id);
    }

    /// Forgets the tokens and starts the random numbers anew.
    pub fn reset(&mut self) {
        self.penalties.clear();
        self.rng = Rng::new(self.sampling.seed);
    }

    /// Draws a token by `logits` `[vocab]`. One random number is used a token, none when greedy.
    ///
    /// # Panics
    /// If `logits` is empty.
    pub fn sample(&mut self, logits: &[f32]) -> Choice {
        assert!(!logits.is_empty(), "a model has a vocabulary");
        let Sampling { temp, top_k, top_p, min_p, .. } = self.sampling;
        let logits = self.penalties.apply(logits, &mut self.penalized);
        if temp <= 0.0 {
            let best = self.candidates.greedy(logits);
            return Choice { id: best.id, p: best.p };
        }
        self.candidates.select(logits, top_k, top_p, min_p);
        self.candidates.heat(temp);
        let drawn = self.candidates.draw(self.rng.unit());
        Choice { id: drawn.id, p: drawn.p }
    }

    /// The tokens that the last one was drawn from and their probabilities, which sum to 1. The most likely comes first
    /// if anything was cut off; with every step of the chain off they come by id.
    pub fn candidates(&self) -> &[Candidate] {
        self.candidates.all()
    }
}

#[cfg(test)]
mod tests;
