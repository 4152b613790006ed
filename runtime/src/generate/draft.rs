//! Drafts by prompt lookup: the next tokens are guessed to be those that followed the last few when these stood in the context
//! before. Text that repeats its prompt (code, quotes, corrections) is guessed right often. Guesses are evaluated in one batch
//! with the token before them, and a guess is of use where the same token is then chosen. Logits are the same bits in any
//! batch, and tokens are chosen one by one as ever, so drafts change nothing but the time.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use qwren::session::{EvalError, Session};

use super::Timings;

/// Tokens at the end that must have stood there before: many first, since a longer match guesses better.
const MATCHES: [usize; 3] = [4, 3, 2];

/// Guesses tokens and remembers what came of them.
pub(super) struct Drafter {
    /// Guesses at once at most; 0: none.
    most: usize,
    /// As many are made next time: follows what became of the last ones.
    length: usize,
    /// Guesses in the last batch.
    made: usize,
    /// Those of them that were not chosen yet, which are the end of what the cache holds, each with the logits after it.
    waiting: VecDeque<(u32, Vec<f32>)>,
}

impl Drafter {
    pub fn new(most: usize) -> Drafter {
        Drafter { most, length: most, made: 0, waiting: VecDeque::new() }
    }

    /// Positions that the cache holds without the guesses that were not chosen yet.
    pub fn settled(&self, session: &Session<'_>) -> usize {
        session.len() - self.waiting.len()
    }

    /// Takes what was not chosen out of the cache.
    pub fn forget(&mut self, session: &mut Session<'_>) {
        session.truncate(self.settled(session));
        self.waiting.clear();
    }

    /// Evaluates `next`, a token at least, as far as it was not guessed, and gives the logits after its last token, `[vocab]`.
    /// `wanted`: tokens that may still be chosen.
    ///
    /// # Errors
    /// As [`Session::eval`]. The cache then holds no guesses.
    pub fn eval(
        &mut self,
        session: &mut Session<'_>,
        interrupt: &AtomicBool,
        next: &[u32],
        wanted: usize,
        timings: &mut Timings,
    ) -> Result<Vec<f32>, EvalError> {
        let mut rest = next;
        while let [id, later @ ..] = rest
            && self.waiting.front().is_some_and(|(guess, _)| guess == id)
            && let Some((_, logits)) = self.waiting.pop_front()
        {
            timings.accepted += 1;
            rest = later;
            if rest.is_empty() {
                return Ok(logits);
            }
        }
        if self.most == 0 {
            return Ok(session.eval(rest, interrupt, &mut |_, _| ())?.to_vec());
        }
        self.learn();
        self.forget(session);
        let context = [session.tokens(), rest].concat();
        // The last token that is chosen is not evaluated.
        let room = session.ctx().saturating_sub(context.len()).min(wanted.saturating_sub(1));
        let guesses = lookup(&context, self.length.min(room));
        self.made = guesses.len();
        if guesses.is_empty() {
            return Ok(session.eval(rest, interrupt, &mut |_, _| ())?.to_vec());
        }
        timings.drafted += guesses.len();
        let mut rows = Vec::with_capacity(1 + guesses.len());
        let mut keep = |_: usize, logits: &[f32]| rows.push(logits.to_vec());
        let batch = [rest, guesses].concat();
        if let Err(err) = session.eval_each(&batch, 1 + guesses.len(), interrupt, &mut keep) {
            session.truncate(context.len());
            return Err(err);
        }
        let mut rows = rows.into_iter();
        let first = rows.next().ok_or(EvalError::Empty)?;
        self.waiting = guesses.iter().copied().zip(rows).collect();
        Ok(first)
    }

    /// After guesses that were all right more are worth trying; else one more than were right.
    fn learn(&mut self) {
        let right = self.made - self.waiting.len();
        if self.made > 0 {
            self.length = if self.waiting.is_empty() { 2 * self.length } else { right + 1 }.min(self.most);
        }
    }
}

/// The tokens, `most` at most, that followed the latest earlier place of the last ones.
fn lookup(tokens: &[u32], most: usize) -> &[u32] {
    for n in MATCHES.into_iter().filter(|_| most > 0) {
        let Some(start) = tokens.len().checked_sub(n) else { continue };
        let tail = &tokens[start..];
        if let Some(at) = tokens[..tokens.len() - 1].windows(n).rposition(|window| window == tail) {
            return &tokens[at + n..(at + n + most).min(tokens.len())];
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_and_latest_match_guesses() {
        assert_eq!(lookup(&[1, 2, 3, 9, 8, 2, 3], 7), [9, 8, 2, 3]);
        assert_eq!(lookup(&[1, 2, 3, 9, 8, 2, 3], 2), [9, 8]);
        // 2, 3 stands closer, but 1, 2, 3 is longer.
        assert_eq!(lookup(&[1, 2, 3, 5, 2, 3, 6, 1, 2, 3], 1), [5]);
        assert_eq!(lookup(&[2, 3, 5, 2, 3, 6, 2, 3], 1), [6]);
        // A run continues itself.
        assert_eq!(lookup(&[7, 7, 7, 7, 7], 7), [7]);
        for none in [&[][..], &[1], &[1, 1], &[1, 2, 3, 4]] {
            assert!(lookup(none, 7).is_empty(), "{none:?}");
        }
        assert!(lookup(&[1, 2, 1, 2], 0).is_empty());
    }

    #[test]
    fn the_length_follows_the_luck() {
        let mut drafter = Drafter::new(8);
        let mut after = |made: usize, right: usize| {
            drafter.made = made;
            drafter.waiting = (right..made).map(|id| (id as u32, Vec::new())).collect();
            drafter.learn();
            drafter.length
        };
        assert_eq!(
            [after(8, 0), after(1, 1), after(2, 2), after(0, 0), after(4, 3), after(4, 4), after(8, 8)],
            [1, 2, 4, 4, 4, 8, 8]
        );
    }
}
