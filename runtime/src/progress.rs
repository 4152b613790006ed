//! How far a long prompt has been read, once it takes long enough to wonder.

use std::time::{Duration, Instant};

use crate::console::Console;

/// Silence is fine for so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two states: often enough to look alive.
const INTERVAL: Duration = Duration::from_millis(200);

/// The state of one prompt.
pub struct PromptProgress {
    console: Console,
    start: Instant,
    shown: Option<Instant>,
}

impl PromptProgress {
    /// Starts the clock.
    pub fn new(console: Console) -> PromptProgress {
        PromptProgress { console, start: Instant::now(), shown: None }
    }

    /// `done` of `total` tokens are read.
    pub fn update(&mut self, done: usize, total: usize) {
        let elapsed = self.start.elapsed();
        let due = self.shown.map_or(elapsed >= PATIENCE, |at| at.elapsed() >= INTERVAL);
        if due && done < total {
            self.shown = Some(Instant::now());
            let left = elapsed.as_secs_f64() / done.max(1) as f64 * (total - done) as f64;
            self.console.progress(format_args!("reading the prompt: {done} of {total} tokens, {left:.0} s left"));
        }
    }
}

impl Drop for PromptProgress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            self.console.end_progress();
        }
    }
}
