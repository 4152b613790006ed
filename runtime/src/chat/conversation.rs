//! A conversation with a model: the history, the cache behind it, and how an answer comes about.

use std::io;
use std::sync::atomic::AtomicBool;

use qwren::sampler::{Sampler, Sampling};
use qwren::session::Session;
use qwren::stream::FinishReason;
use qwren::template::{ChatTemplate, EncodedPrompt, Render};
use qwren::thinking::Part;
use qwren::vocab::Vocab;

use super::history::History;
use crate::console::Console;
use crate::exit::Failure;
use crate::generate::{Answer, Engine, Limits, Timings};
use crate::units::count;

/// Tokens that an answer should have room for before older turns leave.
const ANSWER_ROOM: usize = 256;

/// A conversation.
pub struct Conversation<'m> {
    /// What was said.
    pub history: History,
    /// Whether the model thinks before it answers; None: as its template has it.
    pub thinking: Option<bool>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Counts and times of all answers.
    pub totals: Timings,
    answers: u64,
    vocab: &'m Vocab,
    template: &'m ChatTemplate,
    session: Session<'m>,
    limits: Limits,
    console: Console,
}

impl<'m> Conversation<'m> {
    /// An empty conversation.
    pub fn new(
        vocab: &'m Vocab,
        template: &'m ChatTemplate,
        session: Session<'m>,
        sampling: Sampling,
        limits: Limits,
        system: Option<String>,
        console: Console,
    ) -> Conversation<'m> {
        Conversation {
            history: History::new(system),
            thinking: None,
            sampling,
            totals: Timings::default(),
            answers: 0,
            vocab,
            template,
            session,
            limits,
            console,
        }
    }

    /// Answers the last message; the answer, or as much as there was of it, goes to the history.
    ///
    /// # Errors
    /// A template that fails, a message that no context of this size can hold, a fault of the evaluation or of `sink`.
    pub fn answer(
        &mut self,
        interrupt: &AtomicBool,
        sink: &mut dyn FnMut(&Part) -> io::Result<()>,
    ) -> anyhow::Result<(FinishReason, Timings)> {
        let mut said = String::new();
        let mut keep = |part: Part| {
            match &part {
                Part::Answer(text) => said.push_str(text),
                Part::WasThought => said.clear(),
                Part::Thought(_) => {}
            }
            sink(&part)
        };
        let mut prompt = self.fitting_prompt(0)?;
        // Each answer has random numbers of its own, so that another try may turn out otherwise; they follow from the
        // seed, so that the same conversation comes out again.
        let seed = self.sampling.seed.wrapping_add(self.answers);
        self.answers += 1;
        let sampler = Sampler::new(Sampling { seed, ..self.sampling });
        let mut answer = Answer::thinking(self.limits.clone(), sampler, self.vocab, prompt.thinking_open);
        let reason = loop {
            let mut engine = Engine { session: &mut self.session, vocab: self.vocab, interrupt, console: self.console };
            match answer.run(&mut engine, &prompt.ids, &mut keep)? {
                // Older turns make room, and the answer goes on.
                FinishReason::Context if self.history.len() > 1 => prompt = self.fitting_prompt(answer.tokens.len())?,
                reason => break reason,
            }
        };
        answer.finish(&mut keep)?;
        self.totals.add(&answer.timings);
        self.history.answer(said.trim().to_owned());
        Ok((reason, answer.timings))
    }

    /// The prompt of the whole history; the oldest turns leave it until `said` tokens and room for more fit after it.
    fn fitting_prompt(&mut self, said: usize) -> anyhow::Result<EncodedPrompt> {
        let ctx = self.session.ctx();
        let room = ANSWER_ROOM.min(ctx / 4).min(self.limits.tokens.unwrap_or(usize::MAX)).max(1);
        let mut dropped = 0;
        loop {
            let prompt = self.template.encode_chat(
                self.vocab,
                &Render {
                    messages: &self.history.messages(),
                    tools: None,
                    enable_thinking: self.thinking,
                    add_generation_prompt: true,
                },
            )?;
            let length = prompt.ids.len() + said;
            if length + room > ctx && self.history.drop_oldest() {
                dropped += 1;
                continue;
            }
            if dropped > 0 {
                let turns = count(dropped, "turn");
                self.console.note(format_args!("[the context of {ctx} tokens is full: the oldest {turns} left it]"));
            }
            // With nothing left to drop the answer may have less room, but it must have some.
            if length >= ctx {
                let text = format!(
                    "the message makes a prompt of {length} tokens, the context holds {ctx}; shorten it or start with a larger -c"
                );
                return Err(Failure::usage(text).into());
            }
            return Ok(prompt);
        }
    }
}
