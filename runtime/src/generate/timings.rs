//! Counts and times of one or more answers.

use std::time::Duration;

use crate::units::rate;

/// Counts and times of one or more answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Prompt tokens found in the cache.
    pub reused: usize,
    /// Prompt tokens evaluated.
    pub prompt: usize,
    /// Time for these.
    pub prompt_time: Duration,
    /// Tokens chosen.
    pub chosen: usize,
    /// Tokens evaluated while writing.
    pub decoded: usize,
    /// Tokens that were guessed and evaluated before they were chosen, or not.
    pub drafted: usize,
    /// Those of them that were chosen.
    pub accepted: usize,
    /// Time for writing, choosing included.
    pub decode_time: Duration,
}

impl Timings {
    /// Adds another answer's.
    pub fn add(&mut self, other: &Timings) {
        self.reused += other.reused;
        self.prompt += other.prompt;
        self.prompt_time += other.prompt_time;
        self.chosen += other.chosen;
        self.decoded += other.decoded;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.decode_time += other.decode_time;
    }

    /// Prompt tokens a second.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt, self.prompt_time)
    }

    /// Tokens a second while writing.
    pub fn decode_rate(&self) -> f64 {
        rate(self.decoded, self.decode_time)
    }
}
