//! A conversation with a model: what was said, the cache behind it, and how an answer comes about.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qwren::constraint::Compiled;
use qwren::sampler::{Sampler, Sampling};
use qwren::session::Session;
use qwren::stream::FinishReason;
use qwren::template::{ChatTemplate, EncodedPrompt, Render};
use qwren::thinking::{self, CLOSE, OPEN, Part};
use qwren::vocab::{Specials, Vocab};
use serde_json::Value;

use super::chronicle::Chronicle;
use super::history::Reply;
use super::store::Record;
use crate::console::Console;
use crate::exit::Failure;
use crate::generate::{Answer, Engine, Gate, Limits, ThoughtCut, Timings};
use crate::units::count;
use crate::warm::Mover;

/// Tokens that an answer should have room for before older turns leave.
const ANSWER_ROOM: usize = 256;

/// What happens when the conversation no longer fits the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ContextFull {
    /// The oldest whole turns leave; the system prompt stays
    Drop,
    /// The answer stops
    Stop,
}

/// What every conversation with a model has.
pub struct Setup<'m> {
    /// The tokenizer.
    pub vocab: Arc<Vocab>,
    /// The chat template.
    pub template: &'m ChatTemplate,
    /// Function definitions.
    pub tools: Option<Value>,
    /// What answers are held to.
    pub grammar: Option<Compiled>,
    /// Tokens that are guessed at once at most; 0: none.
    pub draft: usize,
    /// Moves the model when there is time.
    pub mover: Mover,
    /// Hears notes.
    pub console: Console,
}

/// A conversation.
pub struct Conversation<'m> {
    /// What was said.
    pub chronicle: Chronicle,
    /// Whether the model thinks before it answers; None: as its template has it.
    pub thinking: Option<bool>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// When answers end.
    pub limits: Limits,
    /// What happens when the context is full.
    pub context_full: ContextFull,
    /// Counts and times of all answers.
    pub totals: Timings,
    setup: Setup<'m>,
    session: Session<'m>,
}

/// How an answer ended.
pub struct Outcome {
    /// Why.
    pub reason: FinishReason,
    /// Why its thought was ended from outside, if it was.
    pub thought_cut: Option<ThoughtCut>,
    /// Its counts and times.
    pub timings: Timings,
}

impl<'m> Conversation<'m> {
    /// A conversation as far as `chronicle` has it.
    pub fn new(
        setup: Setup<'m>,
        session: Session<'m>,
        sampling: Sampling,
        limits: Limits,
        context_full: ContextFull,
        chronicle: Chronicle,
    ) -> Conversation<'m> {
        let totals = Timings::default();
        Conversation { chronicle, thinking: None, sampling, limits, context_full, totals, setup, session }
    }

    /// The tokenizer.
    pub fn vocab(&self) -> &Vocab {
        &self.setup.vocab
    }

    /// Whether functions were defined that the model may call.
    pub fn has_tools(&self) -> bool {
        self.setup.tools.is_some()
    }

    /// Nobody waits for the model now: it may move to where it is faster.
    pub fn rest(&mut self) {
        self.setup.mover.begin(&self.session);
    }

    /// The cache.
    pub fn session(&self) -> &Session<'m> {
        &self.session
    }

    /// It, when nothing more is said.
    pub fn into_session(self) -> Session<'m> {
        self.session
    }

    /// Answers the last message; the answer, or as much as there was of it, goes to the history. With `goes_on` it begins
    /// with what was said already.
    ///
    /// # Errors
    /// A template that fails, a message that no context of this size can hold, a fault of the evaluation or of `sink`. A
    /// message that got no answer at all is taken back.
    pub fn answer(
        &mut self,
        goes_on: bool,
        interrupt: &AtomicBool,
        sink: &mut dyn FnMut(&Part) -> io::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let outcome = self.try_answer(goes_on, interrupt, sink);
        if outcome.is_err() && self.chronicle.history().last().is_some_and(|turn| turn.reply.is_none()) {
            self.chronicle.happen(Record::Undo);
        }
        outcome
    }

    fn try_answer(
        &mut self,
        goes_on: bool,
        interrupt: &AtomicBool,
        sink: &mut dyn FnMut(&Part) -> io::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let mut prompt = self.fitting_prompt(0)?;
        let mut said = Vec::new();
        if goes_on {
            said = said_tokens(&self.chronicle, &self.setup.vocab, &prompt)?;
            prompt = self.fitting_prompt(said.len())?;
        }
        // Each answer has random numbers of its own, so that another try may turn out otherwise; they follow from the
        // seed, so that the same conversation comes out again.
        let seed = self.sampling.seed.wrapping_add(self.chronicle.answers());
        let sampler = Sampler::new(Sampling { seed, ..self.sampling });
        let vocab = &*self.setup.vocab;
        let mut answer = Answer::thinking(self.limits.clone(), sampler, vocab, prompt.thinking_open);
        if let Some(grammar) = &self.setup.grammar {
            answer.constrain(Gate::new(grammar.start(), may_think(vocab, &prompt)));
        }
        if goes_on {
            answer.resume(&prompt.ids, &said, vocab)?;
        }
        let result = loop {
            let result = {
                let Conversation { chronicle, session, setup, .. } = self;
                let Setup { vocab, draft, mover, console, .. } = setup;
                let mut engine = Engine { session, vocab, interrupt, draft: *draft, mover, console: *console };
                answer.run(&mut engine, &prompt.ids, &mut keeper(chronicle, sink))
            };
            match result {
                // Older turns make room, and the answer goes on.
                Ok(FinishReason::Context) if self.may_make_room() => {
                    prompt = self.fitting_prompt(answer.tokens.len())?;
                }
                result => break result,
            }
        };
        let flushed = answer.finish(&mut keeper(&mut self.chronicle, sink));
        self.totals.add(&answer.timings);
        self.chronicle.set_tokens(answer.tokens);
        let reason = result?;
        flushed?;
        self.chronicle.happen(Record::End(reason.name().to_owned()));
        Ok(Outcome { reason, thought_cut: answer.thought_cut, timings: answer.timings })
    }

    /// Whether older turns could leave.
    fn may_make_room(&self) -> bool {
        let history = self.chronicle.history();
        self.context_full == ContextFull::Drop && history.turns().len() > history.left() + 1
    }

    /// The prompt of the history as it is, without the last turn's answer.
    pub fn prompt(&self) -> anyhow::Result<EncodedPrompt> {
        Ok(self.setup.template.encode_chat(
            &self.setup.vocab,
            &Render {
                messages: &self.chronicle.history().messages(true),
                tools: self.setup.tools.as_ref(),
                enable_thinking: self.thinking,
                add_generation_prompt: true,
            },
        )?)
    }

    /// The prompt; the oldest turns leave it until `said` tokens and room for more fit after it.
    fn fitting_prompt(&mut self, said: usize) -> anyhow::Result<EncodedPrompt> {
        let ctx = self.session.ctx();
        let room = ANSWER_ROOM.min(ctx / 4).min(self.limits.tokens.unwrap_or(usize::MAX)).max(1);
        let mut dropped = 0;
        loop {
            let prompt = self.prompt()?;
            let length = prompt.ids.len() + said;
            if length + room > ctx && self.may_make_room() && self.chronicle.leave_oldest() {
                dropped += 1;
                continue;
            }
            if dropped > 0 {
                let turns = count(dropped, "turn");
                if said > 0 {
                    // In the middle of an answer's line.
                    self.setup.console.break_line();
                }
                let text = format!("[the context of {ctx} tokens is full: the oldest {turns} left it]");
                self.setup.console.note(text);
            }
            // With nothing left to drop the answer may have less room, but it must have some.
            if length >= ctx {
                let what = match self.chronicle.history().turns().len() - self.chronicle.history().left() {
                    _ if said > 0 => "the answer so far makes",
                    0 | 1 if self.chronicle.history().system().is_some() => "the system prompt and the message make",
                    0 | 1 => "the message makes",
                    _ => "the conversation makes",
                };
                let text = format!(
                    "{what} a prompt of {length} tokens, the context holds {ctx}; shorten it or start with a larger -c"
                );
                return Err(Failure::usage(text).into());
            }
            return Ok(prompt);
        }
    }
}

/// Keeps each part before it is shown.
fn keeper<'k>(
    chronicle: &'k mut Chronicle,
    sink: &'k mut dyn FnMut(&Part) -> io::Result<()>,
) -> impl FnMut(Part) -> io::Result<()> + 'k {
    move |part| {
        chronicle.happen(match &part {
            Part::Thought(text) => Record::Thought(text.clone()),
            Part::Answer(text) => Record::Answer(text.clone()),
            Part::WasThought => Record::WasThought,
        });
        sink(&part)
    }
}

/// The token with which the model may begin to think after this prompt.
fn may_think(vocab: &Vocab, prompt: &EncodedPrompt) -> Option<u32> {
    let settled = prompt.thinking_open || prompt.text.trim_end().ends_with(CLOSE);
    thinking::tags(vocab).map(|(open, _)| open).filter(|_| !settled)
}

/// The tokens of the last answer so far: as the model gave them, or else those of its text.
fn said_tokens(chronicle: &Chronicle, vocab: &Vocab, prompt: &EncodedPrompt) -> anyhow::Result<Vec<u32>> {
    if !chronicle.tokens().is_empty() {
        return Ok(chronicle.tokens().to_vec());
    }
    let Some(Reply { thought, text }) = chronicle.history().last().and_then(|turn| turn.reply.as_ref()) else {
        return Ok(Vec::new());
    };
    let mut ids = Vec::new();
    if !thought.is_empty() {
        if !prompt.thinking_open {
            ids.extend(vocab.encode(&format!("{OPEN}\n"), Specials::Parse)?);
        }
        ids.extend(vocab.encode(thought, Specials::Plain)?);
        if !text.is_empty() {
            ids.extend(vocab.encode(&format!("\n{CLOSE}\n\n"), Specials::Parse)?);
        }
    } else if prompt.thinking_open && !text.is_empty() {
        ids.extend(vocab.encode(&format!("\n{CLOSE}\n\n"), Specials::Parse)?);
    }
    ids.extend(vocab.encode(text, Specials::Plain)?);
    Ok(ids)
}
