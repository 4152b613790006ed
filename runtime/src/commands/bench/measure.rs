//! The clockwork: repetitions and medians.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use qwren::gpu::Placement;
use qwren::session::Session;

use crate::exit::{Exit, Failure};

/// Enough to read every weight once and to wake every thread.
const WARM_UP_TOKENS: usize = 64;

/// Runs a session against the clock.
pub struct Bench<'s, 'm> {
    session: &'s mut Session<'m>,
    interrupt: &'s AtomicBool,
    repetitions: u32,
    vocab: u32,
    /// There are layers on a GPU.
    offloaded: bool,
}

impl<'s, 'm> Bench<'s, 'm> {
    /// Measures on `session`, whose context must be long enough for all that is asked.
    pub fn new(session: &'s mut Session<'m>, interrupt: &'s AtomicBool, repetitions: u32) -> Bench<'s, 'm> {
        let vocab = session.model().hparams().vocab as u32;
        let offloaded = session.placement().is_some();
        Bench { session, interrupt, repetitions, vocab, offloaded }
    }

    /// Where the layers are, when not all are here.
    pub fn placement(&self) -> Option<&Placement> {
        self.session.placement()
    }

    /// Brings the file into memory and the processor up to its clock rate.
    pub fn warm_up(&mut self) -> anyhow::Result<()> {
        let prompt = self.tokens(WARM_UP_TOKENS.min(self.session.ctx() - 1));
        self.session.truncate(0);
        self.eval(&prompt)?;
        let next = self.tokens(1);
        self.eval(&next)
    }

    /// Median time to read `n` tokens into an empty context.
    pub fn prefill(&mut self, n: usize) -> anyhow::Result<Duration> {
        let prompt = self.tokens(n);
        self.median(|bench| {
            bench.session.truncate(0);
            let start = Instant::now();
            bench.eval(&prompt)?;
            Ok(start.elapsed())
        })
    }

    /// Median time to evaluate `n` tokens one by one after `depth` others.
    pub fn decode(&mut self, depth: usize, n: usize) -> anyhow::Result<Duration> {
        let tokens = self.tokens(depth + n);
        self.session.truncate(0);
        if depth > 0 {
            self.eval(&tokens[..depth])?;
        }
        self.median(|bench| {
            bench.session.truncate(depth);
            let start = Instant::now();
            tokens[depth..].chunks(1).try_for_each(|token| bench.eval(token))?;
            Ok(start.elapsed())
        })
    }

    /// Evaluates `tokens`, where the layers were at the start: with a device that is lost the figures would be of a mixture.
    fn eval(&mut self, tokens: &[u32]) -> anyhow::Result<()> {
        self.session.eval(tokens, self.interrupt, &mut |_, _| ())?;
        if self.offloaded && self.session.placement().is_none() {
            let text = "the GPU was lost while it was measured; try again, or measure the processor with -ngl 0";
            return Err(Failure::new(Exit::Fault, text).into());
        }
        Ok(())
    }

    fn median(&mut self, mut run: impl FnMut(&mut Self) -> anyhow::Result<Duration>) -> anyhow::Result<Duration> {
        let mut times = (0..self.repetitions).map(|_| run(self)).collect::<Result<Vec<_>, _>>()?;
        times.sort_unstable();
        let middle = times.len() / 2;
        // Of an even number the mean of the two in the middle.
        Ok(if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2 })
    }

    /// Tokens spread over the vocabulary, the same in every run: experts are chosen as variedly as by real text.
    fn tokens(&self, n: usize) -> Vec<u32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % self.vocab
        };
        (0..n).map(|_| next()).collect()
    }
}
