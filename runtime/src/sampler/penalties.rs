//! Repeat, presence and frequency penalties over a window of accepted tokens.

use super::Sampling;
use std::collections::{HashMap, VecDeque};

/// The window and how often each token stands in it.
#[derive(Debug)]
pub(super) struct Penalties {
    repeat: f32,
    presence: f32,
    frequency: f32,
    /// Tokens that count; 0 if nothing would change.
    size: usize,
    window: VecDeque<u32>,
    counts: HashMap<u32, u32>,
}

impl Penalties {
    pub(super) fn new(s: &Sampling) -> Penalties {
        let off = s.repeat_penalty == 1.0 && s.presence_penalty == 0.0 && s.frequency_penalty == 0.0;
        Penalties {
            repeat: s.repeat_penalty,
            presence: s.presence_penalty,
            frequency: s.frequency_penalty,
            size: if off { 0 } else { s.repeat_last_n },
            window: VecDeque::new(),
            counts: HashMap::new(),
        }
    }

    pub(super) fn accept(&mut self, id: u32) {
        if self.size == 0 {
            return;
        }
        if self.window.len() == self.size
            && let Some(old) = self.window.pop_front()
            && let Some(count) = self.counts.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&old);
            }
        }
        self.window.push_back(id);
        *self.counts.entry(id).or_insert(0) += 1;
    }

    pub(super) fn clear(&mut self) {
        self.window.clear();
        self.counts.clear();
    }

    /// The logits after the penalties: `logits` itself if there are none, else a copy in `room`.
    pub(super) fn apply<'a>(&self, logits: &'a [f32], room: &'a mut Vec<f32>) -> &'a [f32] {
        if self.counts.is_empty() {
            return logits;
        }
        room.clear();
        room.extend_from_slice(logits);
        for (&id, &count) in &self.counts {
            if let Some(logit) = room.get_mut(id as usize) {
                *logit = if *logit <= 0.0 { *logit * self.repeat } else { *logit / self.repeat };
                *logit -= count as f32 * self.frequency + self.presence;
            }
        }
        room
    }
}
