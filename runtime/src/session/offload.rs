//! A session whose first layers are computed in another process, and what happens when that ends.
use super::{EvalError, Options, Session};
use crate::arch::EngineError;
use crate::gpu::check::Here;
use crate::gpu::{self, Event, Fault, Placement, Settings, Tell};
use crate::model::{Layer, Weight};
use std::sync::atomic::AtomicBool;

impl Session<'_> {
    /// Has the model's first layers computed on a GPU from now on, as `settings` say; `options` are those that the session was
    /// made with. If that fails later, `tell` hears why, and the layers are computed here again. The session is empty
    /// afterwards.
    ///
    /// # Errors
    /// Why all layers stay here.
    pub fn offload(&mut self, options: &Options, settings: &Settings, tell: Tell) -> Result<&Placement, Fault> {
        self.truncate(0);
        let mut remote = gpu::start::start(self.model, options, settings, tell)?;
        remote.tell(Event::Step(format!("{}: checking it against the processor", remote.placement().device)));
        let ids = self.sample();
        self.embed(&ids);
        let x = std::mem::take(&mut self.x);
        let here = |e: EngineError| Fault::Here(EvalError::from(e).to_string());
        let engine = &mut self.engine;
        gpu::check::check(&mut remote, self.model, &x, (self.batch, self.ctx), &mut |batch| {
            let given = batch.experts.is_some();
            if let Some((choice, experts)) = engine.choice().zip(batch.experts) {
                choice.experts = experts;
                choice.given = true;
            }
            let y = engine.layers(batch.layer..batch.layer + 1, batch.start, batch.x, &gpu::NEVER).map(<[f32]>::to_vec);
            let choice = engine.choice().map(std::mem::take).filter(|_| given);
            Ok(Here { y: y.map_err(here)?, regret: choice.map_or_else(Vec::new, |choice| choice.regret) })
        })?;
        gpu::check::output(&mut remote, &x, &mut |rows| {
            engine.head(rows, &gpu::NEVER).map(|head| head.logits.to_vec()).map_err(here)
        })?;
        remote.end_of_check();
        if settings.wanted == gpu::Wanted::Auto {
            let there = 0..remote.layers();
            let layers = gpu::compare::layers(&mut remote, &x, &mut |start, x| {
                engine.layers(there.clone(), start, x, &gpu::NEVER).map(drop).map_err(here)
            })?;
            let output = gpu::compare::output(&mut remote, &x, &mut |row| {
                engine.head(row, &gpu::NEVER).map(drop).map_err(here)
            })?;
            gpu::compare::decide(&mut remote, layers, output)?;
        }
        Ok(self.remote.insert(remote).placement())
    }

    /// Tokens from all over the vocabulary.
    fn sample(&self) -> Vec<u32> {
        let vocab = self.model.hparams().vocab;
        (0..gpu::check::TOKENS).map(|i| (i * vocab / gpu::check::TOKENS) as u32).collect()
    }

    /// Which layers are computed where, when not all are here.
    pub fn placement(&self) -> Option<&Placement> {
        self.remote.as_ref().map(|remote| remote.placement())
    }

    /// The weights that this process computes with.
    pub fn weights_here(&self) -> Vec<&Weight> {
        let model = self.model;
        let (there, output) = self.placement().map_or((0, false), |placement| (placement.there, placement.output));
        let layers = model.layers()[there..].iter().flat_map(Layer::matrices);
        layers.chain((!output).then(|| model.output())).collect()
    }

    /// Runs the other process's layers on the embeddings of `tokens` in `self.x`, in place, and says how many those are. None
    /// are left when it fails.
    pub(super) fn remote_layers(&mut self, tokens: &[u32], stop: &AtomicBool) -> Result<usize, EvalError> {
        let Some(remote) = &mut self.remote else { return Ok(0) };
        let layers = remote.layers();
        match remote.eval(0..layers, self.tokens.len(), &mut self.x, stop) {
            Ok(true) => Ok(layers),
            Ok(false) => Err(EvalError::Interrupted),
            Err(fault) => self.take_back(&fault, tokens, stop).map(|()| 0),
        }
    }

    /// The logits `[n, vocab]` of rows `x` `[n, hidden]` of the stream after the last layer, computed where the output is. The
    /// session holds their tokens: `interrupt` stops the computing anew of what is lost, `stop` the output here.
    pub(super) fn logits(&mut self, x: &[f32], stop: &AtomicBool, interrupt: &AtomicBool) -> Result<&[f32], EvalError> {
        let fault = match &mut self.remote {
            Some(remote) if remote.placement().output => remote.logits(x).err(),
            _ => None,
        };
        if let Some(fault) = fault {
            self.take_back(&fault, &[], interrupt)?;
        }
        match &self.remote {
            Some(remote) if remote.placement().output => Ok(remote.last_logits()),
            _ => Ok(self.engine.head(x, stop)?.logits),
        }
    }

    /// As [`Session::remote_layers`], adding the residual stream after each layer to `states`.
    pub(super) fn remote_every_layer(
        &mut self,
        tokens: &[u32],
        states: &mut Vec<Vec<f32>>,
    ) -> Result<usize, EvalError> {
        let layers = self.remote.as_ref().map_or(0, |remote| remote.layers());
        for i in 0..layers {
            let Some(remote) = &mut self.remote else { break };
            if let Err(fault) = remote.eval(i..i + 1, self.tokens.len(), &mut self.x, &gpu::NEVER) {
                states.clear();
                self.take_back(&fault, tokens, &gpu::NEVER)?;
                return Ok(0);
            }
            states.push(self.x.clone());
        }
        Ok(layers)
    }

    /// Computes the lost layers' part of the cache for the tokens that it holds; `self.x` gets the embeddings of `tokens`.
    /// After an interrupt it holds those that were done.
    fn take_back(&mut self, fault: &Fault, tokens: &[u32], stop: &AtomicBool) -> Result<(), EvalError> {
        let Some(mut remote) = self.remote.take() else { return Ok(()) };
        remote.tell(Event::Line(format!("{fault}; the processor goes on with its layers")));
        let held = std::mem::take(&mut self.tokens);
        self.mixed = !held.is_empty() && remote.layers() < self.model.layers().len();
        for chunk in held.chunks(self.batch) {
            self.embed(chunk);
            self.engine.layers(0..remote.layers(), self.tokens.len(), &self.x, stop)?;
            self.tokens.extend(chunk);
        }
        self.embed(tokens);
        Ok(())
    }
}
