//! A grammar on the answer alone: thoughts before it are the model's own.

use qwren::constraint::{Constraint, ConstraintError};

/// Where in an answer the grammar is.
pub struct Gate {
    constraint: Constraint,
    /// The token that may open a thought before the first token of the answer.
    may_open: Option<u32>,
    started: bool,
}

impl Gate {
    /// A gate at the beginning of an answer, before which `may_open` may open a thought.
    pub fn new(constraint: Constraint, may_open: Option<u32>) -> Gate {
        Gate { constraint, may_open, started: false }
    }

    /// Tokens that the grammar leaves no choice about, now that a token of the answer is due.
    pub fn forced(&mut self) -> Vec<u32> {
        // While a thought may open there is a choice.
        if self.may_open.is_some() { Vec::new() } else { self.constraint.forced() }
    }

    /// Copies the logits `[vocab]` of the tokens that may come to `allowed`; the others are −∞ there.
    pub fn allow(&mut self, logits: &[f32], allowed: &mut Vec<f32>) -> Result<(), ConstraintError> {
        self.constraint.allow(logits, allowed)?;
        if let Some(open) = self.may_open {
            allowed[open as usize] = logits[open as usize];
        }
        Ok(())
    }

    /// A thought has opened: it will not do so again.
    pub fn thought(&mut self) {
        self.may_open = None;
    }

    /// `id` was taken as a token of the answer.
    pub fn accept(&mut self, id: u32) -> Result<(), ConstraintError> {
        self.may_open = None;
        self.started = true;
        self.constraint.accept(id)
    }

    /// Whether nothing can follow.
    pub fn is_over(&self) -> bool {
        self.started && self.constraint.is_over()
    }
}
