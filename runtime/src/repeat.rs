//! Notices a model that says the same thing over and over.

/// Tokens that are looked back upon. A loop longer than a third of this goes unnoticed.
const WINDOW: usize = 768;
/// How often the unit must stand in a row…
const REPEATS: usize = 3;
/// …and how many tokens that must be at least: short runs ("ha ha ha", a row of dashes, a table's rule) are honest.
const LEAST: usize = 192;
/// Looking costs some microseconds, so it is done now and then.
const EVERY: usize = 16;

/// Watches the tokens of an answer.
#[derive(Clone, Debug, Default)]
pub struct LoopGuard {
    tokens: Vec<u32>,
    since: usize,
}

impl LoopGuard {
    /// A guard that has seen nothing.
    pub fn new() -> LoopGuard {
        LoopGuard::default()
    }

    /// Takes a token; true if the last tokens, [`LEAST`] or more, are one unit [`REPEATS`] times or more.
    pub fn push(&mut self, id: u32) -> bool {
        self.tokens.push(id);
        self.since += 1;
        if self.since < EVERY {
            return false;
        }
        self.since = 0;
        if self.tokens.len() > WINDOW {
            self.tokens.drain(..self.tokens.len() - WINDOW);
        }
        repeated(&self.tokens) >= LEAST
    }

    /// Forgets the tokens, as for a new answer.
    pub fn clear(&mut self) {
        *self = LoopGuard::default();
    }
}

/// Length of the longest end of `tokens` that is one unit [`REPEATS`] times or more; 0 if there is none.
/// Knuth, Morris and Pratt's table over the reversed tokens: a beginning of n tokens whose longest border has b tokens
/// repeats with period n − b.
fn repeated(tokens: &[u32]) -> usize {
    let at = |i: usize| tokens[tokens.len() - 1 - i];
    let mut border = vec![0; tokens.len()];
    let mut longest = 0;
    for n in 1..tokens.len() {
        let mut b: usize = border[n - 1];
        while b > 0 && at(n) != at(b) {
            b = border[b - 1];
        }
        b += usize::from(at(n) == at(b));
        border[n] = b;
        if (n + 1 - b) * REPEATS <= n + 1 {
            longest = n + 1;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens until the guard speaks.
    fn until(tokens: impl Iterator<Item = u32>) -> Option<usize> {
        let mut guard = LoopGuard::new();
        tokens.take(4000).position(|id| guard.push(id))
    }

    #[test]
    fn q5_loops_are_noticed() {
        for unit in [1, 2, 7, 50, 250] {
            let said = until((0..100).chain((0..unit).map(|i| 1000 + i).cycle()));
            let noticed = said.unwrap_or_else(|| panic!("a loop of {unit} went unnoticed")) - 100;
            let due = LEAST.max(REPEATS * unit as usize);
            assert!((due - 1..due + EVERY).contains(&noticed), "{unit}: after {noticed}");
        }
    }

    #[test]
    fn honest_text_is_left_alone() {
        assert_eq!(until(0..4000), None);
        // Lines that differ in one number.
        assert_eq!(until((0..4000).map(|i| if i % 10 == 5 { 100 + i } else { i % 10 })), None);
        // A row of dashes, then text.
        assert_eq!(until(std::iter::repeat_n(7, 150).chain(0..4000)), None);
        let mut guard = LoopGuard::new();
        let half = |g: &mut LoopGuard| (0..150).any(|_| g.push(7));
        assert!(!half(&mut guard));
        guard.clear();
        assert!(!half(&mut guard));
    }
}
