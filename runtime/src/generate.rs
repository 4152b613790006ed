//! One engine for `complete` and `chat`: read the prompt, then choose tokens until something ends it.
//!
//! A token passes: end of the answer? → bytes to whole characters, thought or answer → stop strings → the caller's sink.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qwren::sampler::Sampler;
use qwren::session::{EvalError, Session};
use qwren::stream::{FinishReason, StopStrings, Utf8Stream};
use qwren::thinking::{Part, Thoughts};
use qwren::vocab::Vocab;

use crate::console::Console;
use crate::progress::PromptProgress;
use crate::units::rate;

/// Takes the model's words as they come.
pub type Sink<'a> = dyn FnMut(Part) -> io::Result<()> + 'a;

/// When to end.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Tokens at most; None: until another reason.
    pub tokens: Option<usize>,
    /// Text that ends the answer and isn't shown; thoughts may contain it.
    pub stops: StopStrings,
    /// Tokens that end answers are never chosen.
    pub ignore_eos: bool,
}

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
    /// Tokens evaluated one by one.
    pub decoded: usize,
    /// Time for these, choosing included.
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

/// What an answer is made with.
pub struct Engine<'e, 'm> {
    /// The cache, and the model behind it.
    pub session: &'e mut Session<'m>,
    /// The tokenizer.
    pub vocab: &'e Vocab,
    /// Set by Ctrl-C.
    pub interrupt: &'e AtomicBool,
    /// Hears of slow prompts.
    pub console: Console,
}

/// How tokens become text.
enum Text {
    /// All of it is the answer.
    Raw(Utf8Stream),
    /// Thoughts are told apart.
    Thinking(Thoughts),
}

/// One answer in the making. When the context was full it can go on after another, shorter prompt.
pub struct Answer {
    /// Tokens chosen so far, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Counts and times so far.
    pub timings: Timings,
    limits: Limits,
    sampler: Sampler,
    text: Text,
    /// Logits without the tokens that may not be chosen.
    allowed: Vec<f32>,
}

impl Answer {
    /// Raw text.
    pub fn raw(limits: Limits, sampler: Sampler) -> Answer {
        Answer::new(limits, sampler, Text::Raw(Utf8Stream::new()))
    }

    /// An answer in a chat. `open`: the prompt ends inside a thought.
    pub fn thinking(limits: Limits, sampler: Sampler, vocab: &Vocab, open: bool) -> Answer {
        Answer::new(limits, sampler, Text::Thinking(Thoughts::new(vocab, open)))
    }

    fn new(limits: Limits, sampler: Sampler, text: Text) -> Answer {
        Answer { tokens: Vec::new(), timings: Timings::default(), limits, sampler, text, allowed: Vec::new() }
    }

    /// Reads `prompt` and what was said so far, as far as the cache doesn't hold it already, and goes on from there.
    ///
    /// # Errors
    /// A prompt that doesn't fit the context, a fault of the evaluation, or the sink's.
    pub fn run(
        &mut self,
        engine: &mut Engine<'_, '_>,
        prompt: &[u32],
        sink: &mut Sink<'_>,
    ) -> anyhow::Result<FinishReason> {
        if self.is_long_enough() {
            return Ok(FinishReason::Length);
        }
        let mut chosen = match self.read(engine, prompt) {
            Err(EvalError::Interrupted) => return Ok(FinishReason::Interrupt),
            other => other?,
        };
        let start = Instant::now();
        let reason = loop {
            if engine.vocab.ends_answer(chosen) && !self.limits.ignore_eos {
                break FinishReason::Eos;
            }
            self.take(chosen, engine.vocab, sink)?;
            if self.limits.stops.hit().is_some() {
                break FinishReason::Stop;
            }
            if self.is_long_enough() {
                break FinishReason::Length;
            }
            if engine.session.len() == engine.session.ctx() {
                break FinishReason::Context;
            }
            let logits = match engine.session.eval(&[chosen], engine.interrupt, &mut |_, _| ()) {
                Err(EvalError::Interrupted) => break FinishReason::Interrupt,
                other => other?,
            };
            chosen = choose(&mut self.sampler, &mut self.allowed, self.limits.ignore_eos, engine.vocab, logits);
            self.timings.decoded += 1;
            if engine.interrupt.load(Ordering::Relaxed) {
                break FinishReason::Interrupt;
            }
        };
        self.timings.decode_time += start.elapsed();
        Ok(reason)
    }

    /// Lets go of what was held back: the rest of a broken character, the beginning of a stop string.
    pub fn finish(&mut self, sink: &mut Sink<'_>) -> io::Result<()> {
        let parts = match &mut self.text {
            Text::Raw(utf8) => vec![Part::Answer(utf8.finish().to_owned())],
            Text::Thinking(thoughts) => thoughts.finish(),
        };
        self.show(parts, sink)?;
        give(Part::Answer(self.limits.stops.finish()), sink)
    }

    /// The stop string that ended it.
    pub fn stop(&self) -> Option<&str> {
        self.limits.stops.hit()
    }

    fn is_long_enough(&self) -> bool {
        self.limits.tokens.is_some_and(|most| self.tokens.len() >= most)
    }

    /// Brings the cache to the end of the prompt and of what was said, and chooses the next token.
    fn read(&mut self, engine: &mut Engine<'_, '_>, prompt: &[u32]) -> Result<u32, EvalError> {
        if self.tokens.is_empty() {
            // Penalties count the prompt too.
            prompt.iter().for_each(|&id| self.sampler.accept(id));
        }
        let ids = [prompt, &self.tokens].concat();
        // The last token is evaluated in any case: its logits are wanted.
        let reused = common_prefix(engine.session.tokens(), &ids).min(ids.len().saturating_sub(1));
        engine.session.truncate(reused);
        let start = Instant::now();
        let mut progress = PromptProgress::new(engine.console);
        let mut report = |done, all| progress.update(done, all);
        let evaluated = engine.session.eval(&ids[reused..], engine.interrupt, &mut report);
        let chosen = evaluated
            .map(|logits| choose(&mut self.sampler, &mut self.allowed, self.limits.ignore_eos, engine.vocab, logits));
        // After an interrupt too: what was read is told.
        self.timings.reused += reused;
        self.timings.prompt += engine.session.len() - reused;
        self.timings.prompt_time += start.elapsed();
        chosen
    }

    /// Makes a chosen token part of the answer.
    fn take(&mut self, id: u32, vocab: &Vocab, sink: &mut Sink<'_>) -> io::Result<()> {
        self.tokens.push(id);
        self.timings.chosen += 1;
        self.sampler.accept(id);
        // Structure such as <|im_start|> is no text.
        let piece = if vocab.is_control(id) { &[] } else { vocab.piece(id) };
        let parts = match &mut self.text {
            Text::Raw(utf8) => vec![Part::Answer(utf8.push(piece).to_owned())],
            Text::Thinking(thoughts) => thoughts.push(id, piece),
        };
        self.show(parts, sink)
    }

    fn show(&mut self, parts: Vec<Part>, sink: &mut Sink<'_>) -> io::Result<()> {
        for part in parts {
            match part {
                Part::Answer(text) => give(Part::Answer(self.limits.stops.push(&text)), sink)?,
                other => give(other, sink)?,
            }
        }
        Ok(())
    }
}

/// Passes on what has something to say.
fn give(part: Part, sink: &mut Sink<'_>) -> io::Result<()> {
    match &part {
        Part::Thought(text) | Part::Answer(text) if text.is_empty() => Ok(()),
        _ => sink(part),
    }
}

/// Draws a token; `allowed` is room for the logits without the tokens that end answers.
fn choose(sampler: &mut Sampler, allowed: &mut Vec<f32>, ignore_eos: bool, vocab: &Vocab, logits: &[f32]) -> u32 {
    if !ignore_eos {
        return sampler.sample(logits).id;
    }
    allowed.clear();
    allowed.extend_from_slice(logits);
    for &id in vocab.end_ids() {
        if let Some(logit) = allowed.get_mut(id as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    sampler.sample(allowed).id
}

/// How many tokens two sequences begin with in common.
fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
