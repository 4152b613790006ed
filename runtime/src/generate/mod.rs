//! One engine for `complete` and `chat`: read the prompt, then choose tokens until something ends it.
//!
//! A token passes: end of the answer? → bytes to whole characters, thought or answer → stop strings → the caller's sink.
//! Tokens that nobody has to choose — what ends a thought, what a grammar leaves no choice about — are evaluated together.

mod draft;
mod gate;
mod logprobs;
mod prefill;
mod timings;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use qwren::repeat::LoopGuard;
use qwren::sampler::Sampler;
use qwren::session::{EvalError, Session};
use qwren::stream::{FinishReason, StopStrings, Utf8Stream};
use qwren::thinking::{self, Part, Thoughts};
use qwren::vocab::{Specials, Vocab};

pub use gate::Gate;
pub use logprobs::{Logprobs, Recorder};
pub use timings::Timings;

use crate::console::Console;
use crate::exit::Failure;
use crate::warm::Mover;
use draft::Drafter;

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
    /// End what only repeats itself.
    pub loop_guard: bool,
    /// How long a thought may get; None: as long as it likes.
    pub budget: Option<Budget>,
}

/// How long a thought may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Tokens of thoughts in an answer at most; 0: no thought.
    pub tokens: usize,
    /// What is put before the end of a thought that is cut short; may be empty.
    pub sentence: String,
}

/// Why a thought was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThoughtCut {
    /// Its budget was used up.
    Budget,
    /// It repeated itself.
    Loop,
}

/// What an answer is made with.
pub struct Engine<'e, 'm> {
    /// The cache, and the model behind it.
    pub session: &'e mut Session<'m>,
    /// The tokenizer.
    pub vocab: &'e Vocab,
    /// Set by Ctrl-C.
    pub interrupt: &'e AtomicBool,
    /// Tokens that are guessed at once at most, from what the context holds; 0: none.
    pub draft: usize,
    /// Begins to move the model when an answer turns out to be long.
    pub mover: &'e mut Mover,
    /// Hears of slow prompts.
    pub console: Console,
}

/// How tokens become text.
enum Text {
    /// All of it is shown as it is. `thought`: what closes the thought that the prompt ends in.
    Raw { chars: Utf8Stream, thought: Option<u32> },
    /// Thoughts are told apart.
    Thinking(Thoughts),
}

impl Text {
    /// Whether `id` begins a thought.
    fn opens_thought(&self, id: u32) -> bool {
        matches!(self, Text::Thinking(thoughts) if thoughts.tags().is_some_and(|(open, _)| open == id))
    }
}

/// Tokens after which the model may move: that costs the time of 20 to 40 of them, which the next 100 to 300 make good.
const MOVE_AFTER: usize = 256;

/// What Qwen3's template puts between a thought and the answer.
const AFTER_THOUGHT: &str = "\n\n";

/// One answer in the making. When the context was full it can go on after another, shorter prompt.
pub struct Answer {
    /// Tokens so far, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Counts and times so far.
    pub timings: Timings,
    /// Why a thought was ended from outside, if one was.
    pub thought_cut: Option<ThoughtCut>,
    /// The model's probabilities of the tokens, if they were asked for.
    pub recorder: Recorder,
    limits: Limits,
    sampler: Sampler,
    text: Text,
    gate: Option<Gate>,
    guard: LoopGuard,
    /// The sampler knows the prompt.
    primed: bool,
    /// Tokens to be taken next without choosing.
    forced: Vec<u32>,
    /// Logits without the tokens that may not be chosen.
    allowed: Vec<f32>,
}

impl Answer {
    /// Raw text after `prompt`.
    pub fn raw(limits: Limits, sampler: Sampler, vocab: &Vocab, prompt: &[u32]) -> Answer {
        let text = Text::Raw { chars: Utf8Stream::new(), thought: thinking::unclosed(vocab, prompt) };
        Answer::new(limits, sampler, text)
    }

    /// An answer in a chat. `open`: the prompt ends inside a thought.
    pub fn thinking(limits: Limits, sampler: Sampler, vocab: &Vocab, open: bool) -> Answer {
        Answer::new(limits, sampler, Text::Thinking(Thoughts::new(vocab, open)))
    }

    fn new(limits: Limits, sampler: Sampler, text: Text) -> Answer {
        Answer {
            tokens: Vec::new(),
            timings: Timings::default(),
            thought_cut: None,
            recorder: Recorder::default(),
            limits,
            sampler,
            text,
            gate: None,
            guard: LoopGuard::new(),
            primed: false,
            forced: Vec::new(),
            allowed: Vec::new(),
        }
    }

    /// Holds the answer, thoughts apart, to a grammar.
    pub fn constrain(&mut self, gate: Gate) {
        self.gate = Some(gate);
    }

    /// Takes `tokens` as the beginning of the answer to `prompt`, which was shown already: it goes on from there, and may
    /// get `limits.tokens` more of them.
    ///
    /// # Errors
    /// Tokens that the grammar doesn't allow.
    pub fn resume(&mut self, prompt: &[u32], tokens: &[u32], vocab: &Vocab) -> anyhow::Result<()> {
        self.prime(prompt);
        let breaks = vocab.encode(AFTER_THOUGHT, Specials::Plain)?;
        let mut rest = tokens;
        while let Some((&id, later)) = rest.split_first() {
            let (inside, closes) = (self.inside_thought(), self.closes_thought(id));
            self.take(id, vocab, &mut |_| Ok(()))?;
            rest = later;
            match &mut self.gate {
                Some(_) if closes && later.starts_with(&breaks) => {
                    breaks.iter().try_for_each(|&id| self.take(id, vocab, &mut |_| Ok(())))?;
                    rest = &later[breaks.len()..];
                }
                Some(gate) if self.text.opens_thought(id) => gate.thought(),
                Some(gate) if !inside && !closes => gate.accept(id)?,
                _ => {}
            }
        }
        self.limits.tokens = self.limits.tokens.map(|most| most.saturating_add(tokens.len()));
        self.timings.chosen = 0;
        Ok(())
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
        let logits = match self.read(engine, prompt) {
            Err(EvalError::Interrupted) => return Ok(FinishReason::Interrupt),
            other => other?,
        };
        if self.is_long_enough() {
            return Ok(FinishReason::Length);
        }
        let start = Instant::now();
        let mut drafter = Drafter::new(engine.draft);
        let reason = self.write(engine, &mut drafter, logits, sink);
        drafter.forget(engine.session);
        self.timings.decode_time += start.elapsed();
        reason
    }

    /// Chooses tokens, the first one by `logits`, until something ends it.
    fn write(
        &mut self,
        engine: &mut Engine<'_, '_>,
        drafter: &mut Drafter,
        mut logits: Vec<f32>,
        sink: &mut Sink<'_>,
    ) -> anyhow::Result<FinishReason> {
        loop {
            let next = self.next(&logits, engine.vocab)?;
            if let Some(reason) = self.take_all(&next, engine.vocab, sink)? {
                return Ok(reason);
            }
            if engine.interrupt.load(Ordering::Relaxed) {
                return Ok(FinishReason::Interrupt);
            }
            if drafter.settled(engine.session) + next.len() > engine.session.ctx() {
                return Ok(FinishReason::Context);
            }
            let wanted = self.limits.tokens.map_or(usize::MAX, |most| most.saturating_sub(self.tokens.len()));
            logits = match drafter.eval(engine.session, engine.interrupt, &next, wanted, &mut self.timings) {
                Err(EvalError::Interrupted) => return Ok(FinishReason::Interrupt),
                other => other?,
            };
            self.timings.decoded += next.len();
            if self.timings.decoded >= MOVE_AFTER {
                engine.mover.begin(engine.session);
            }
        }
    }

    /// Lets go of what was held back: the rest of a broken character, the beginning of a stop string.
    pub fn finish(&mut self, sink: &mut Sink<'_>) -> io::Result<()> {
        let parts = match &mut self.text {
            Text::Raw { chars, .. } => vec![Part::Answer(chars.finish().to_owned())],
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

    fn inside_thought(&self) -> bool {
        match &self.text {
            Text::Raw { thought, .. } => thought.is_some(),
            Text::Thinking(thoughts) => thoughts.inside(),
        }
    }

    /// Whether `id` ends the thought that the answer is in.
    fn closes_thought(&self, id: u32) -> bool {
        match &self.text {
            Text::Raw { thought, .. } => *thought == Some(id),
            Text::Thinking(thoughts) => thoughts.inside() && thoughts.tags().is_some_and(|(_, close)| close == id),
        }
    }

    /// Lets the penalties count the prompt too.
    fn prime(&mut self, prompt: &[u32]) {
        if !self.primed {
            self.primed = true;
            prompt.iter().for_each(|&id| self.sampler.accept(id));
        }
    }

    /// Brings the cache to the end of the prompt and of what was said; gives the last token's logits.
    fn read(&mut self, engine: &mut Engine<'_, '_>, prompt: &[u32]) -> Result<Vec<f32>, EvalError> {
        self.prime(prompt);
        let ids = [prompt, &self.tokens].concat();
        let start = Instant::now();
        let (logits, reused) = prefill::read(engine, &ids);
        // After an interrupt too: what was read is told.
        self.timings.reused += reused;
        self.timings.prompt += engine.session.len() - reused;
        self.timings.prompt_time += start.elapsed();
        logits
    }

    /// The tokens that come next: those that are settled, else one that is drawn by `logits`.
    fn next(&mut self, logits: &[f32], vocab: &Vocab) -> anyhow::Result<Vec<u32>> {
        self.end_long_thought(vocab)?;
        let inside = self.inside_thought();
        let mut next = std::mem::take(&mut self.forced);
        if let Some(gate) = self.gate.as_mut().filter(|_| !inside && next.is_empty()) {
            next = gate.forced();
            for &id in &next {
                gate.accept(id)?;
            }
        }
        if next.is_empty() {
            next.push(self.choose(logits, inside, vocab)?);
        }
        if self.recorder.is_on() {
            // Each token's own logits are wanted.
            self.forced = next.split_off(1);
        }
        self.recorder.add(logits, next[0]);
        Ok(next)
    }

    /// Draws a token, of an answer one that the grammar allows.
    fn choose(&mut self, logits: &[f32], inside_thought: bool, vocab: &Vocab) -> anyhow::Result<u32> {
        // As a rule the first is a number, and nothing is searched. Without one a model would write its first token for ever.
        if logits.iter().all(|logit| logit.is_nan()) {
            let text = "the model gives values that are not finite; check it with 'qwren verify'";
            return Err(Failure::usage(text).into());
        }
        let gate = self.gate.as_mut().filter(|_| !inside_thought);
        if gate.is_none() && !self.limits.ignore_eos {
            return Ok(self.sampler.sample(logits).id);
        }
        match gate {
            Some(gate) => gate.allow(logits, &mut self.allowed)?,
            None => {
                self.allowed.clear();
                self.allowed.extend_from_slice(logits);
            }
        }
        if self.limits.ignore_eos {
            for &id in vocab.end_ids() {
                if let Some(logit) = self.allowed.get_mut(id as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        let id = self.sampler.sample(&self.allowed).id;
        if let Some(gate) = self.gate.as_mut().filter(|_| !inside_thought) {
            if self.text.opens_thought(id) {
                gate.thought();
            } else if !vocab.ends_answer(id) {
                gate.accept(id)?;
            }
        }
        Ok(id)
    }

    /// Takes `next` one by one; gives the reason if one of them ends the answer.
    fn take_all(&mut self, next: &[u32], vocab: &Vocab, sink: &mut Sink<'_>) -> anyhow::Result<Option<FinishReason>> {
        for &id in next {
            if vocab.ends_answer(id) && !self.limits.ignore_eos {
                return Ok(Some(FinishReason::Eos));
            }
            let closes = self.closes_thought(id);
            self.take(id, vocab, sink)?;
            if self.limits.stops.hit().is_some() {
                return Ok(Some(FinishReason::Stop));
            }
            if self.is_long_enough() {
                return Ok(Some(FinishReason::Length));
            }
            if self.limits.loop_guard && self.guard.push(id) {
                if !self.inside_thought() {
                    return Ok(Some(FinishReason::Loop));
                }
                self.cut_thought(ThoughtCut::Loop, vocab)?;
            }
            // The line breaks after a thought are no part of the answer, so a grammar doesn't know them.
            if self.gate.is_some() && closes && next.last() == Some(&id) {
                self.forced = vocab.encode(AFTER_THOUGHT, Specials::Plain)?;
            }
        }
        let over = self.forced.is_empty() && self.gate.as_ref().is_some_and(Gate::is_over);
        Ok(over.then_some(FinishReason::Eos))
    }

    /// Ends a thought whose budget is used up.
    fn end_long_thought(&mut self, vocab: &Vocab) -> anyhow::Result<()> {
        let (Text::Thinking(thoughts), Some(budget)) = (&self.text, &self.limits.budget) else { return Ok(()) };
        if self.forced.is_empty() && thoughts.inside() && thoughts.thought_tokens() >= budget.tokens {
            self.cut_thought(ThoughtCut::Budget, vocab)?;
        }
        Ok(())
    }

    /// Has the thought's end follow.
    fn cut_thought(&mut self, why: ThoughtCut, vocab: &Vocab) -> anyhow::Result<()> {
        let sentence = match (&self.limits.budget, &self.text) {
            // A thought that has not begun needs no excuse.
            (_, Text::Thinking(thoughts)) if thoughts.thought_tokens() == 0 => "",
            (Some(budget), _) => &budget.sentence,
            (None, _) => thinking::BUDGET_SENTENCE,
        };
        self.forced = thinking::closing_ids(vocab, sentence)?;
        self.guard.clear();
        self.thought_cut = Some(why);
        Ok(())
    }

    /// Makes a token part of the answer.
    fn take(&mut self, id: u32, vocab: &Vocab, sink: &mut Sink<'_>) -> io::Result<()> {
        self.tokens.push(id);
        self.timings.chosen += 1;
        self.sampler.accept(id);
        // Structure such as <|im_start|> is no text.
        let piece = if vocab.is_control(id) { &[] } else { vocab.piece(id) };
        let parts = match &mut self.text {
            Text::Raw { chars, thought } => {
                thought.take_if(|close| *close == id);
                vec![Part::Answer(chars.push(piece).to_owned())]
            }
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
