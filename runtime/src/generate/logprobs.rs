//! What the model itself thought of the tokens that were taken.

use qwren::sampler::{logprob, top_logprobs};

/// One token's natural logarithms of probabilities, before penalties and every other step of sampling.
#[derive(Debug, Clone)]
pub struct Logprobs {
    /// Of the token that was taken.
    pub chosen: f32,
    /// The most likely tokens with theirs, the most likely first.
    pub top: Vec<(u32, f32)>,
}

/// Collects them for the tokens of an answer, in order.
#[derive(Debug, Default)]
pub struct Recorder {
    /// How many of the most likely tokens are kept; None: nothing is recorded.
    top: Option<usize>,
    /// One for each token, as far as they are known.
    pub entries: Vec<Logprobs>,
}

impl Recorder {
    /// Records the token itself and the `top` most likely ones.
    pub fn new(top: Option<usize>) -> Recorder {
        Recorder { top, entries: Vec::new() }
    }

    /// Whether every token's logits are wanted.
    pub fn is_on(&self) -> bool {
        self.top.is_some()
    }

    /// `id` was taken where the model gave `logits` `[vocab]`.
    pub fn add(&mut self, logits: &[f32], id: u32) {
        if let Some(k) = self.top {
            self.entries.push(Logprobs { chosen: logprob(logits, id), top: top_logprobs(logits, k) });
        }
    }
}
