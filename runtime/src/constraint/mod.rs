//! Answers held to a JSON schema or a grammar, by llguidance.
//!
//! Both come from a person, who may have got them from somewhere: sizes, nesting and the work to compile them are bounded,
//! and a panic of the engine is an error. The trie of the vocabulary (some 10 MB for Qwen3) is built only here.

mod tokens;

use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use thiserror::Error;

use crate::vocab::Vocab;
use tokens::Tokens;

/// Longest schema or grammar in bytes; the largest published schemas have some hundred kilobytes.
const MAX_SOURCE: usize = 1 << 20;
/// Deepest nesting of brackets: the engine recurses on it.
const MAX_NESTING: usize = 128;
/// Stack of the thread that compiles, with room for that depth. Memory that is not touched costs nothing.
const STACK: usize = 64 << 20;

/// What an answer has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grammar {
    /// JSON that a schema describes.
    JsonSchema(String),
    /// Text of a grammar in llguidance's form of Lark.
    Lark(String),
}

/// Why there is no answer of that form.
#[derive(Debug, Error)]
pub enum ConstraintError {
    /// The text is too long.
    #[error("has {0} bytes; {MAX_SOURCE} are the most")]
    TooLong(usize),
    /// Brackets within brackets.
    #[error("nests brackets more than {MAX_NESTING} deep")]
    TooDeep,
    /// No JSON.
    #[error("is not JSON: {0}")]
    Json(serde_json::Error),
    /// The engine does not take it.
    #[error("{0}")]
    Refused(String),
    /// A model whose answers can't end.
    #[error("the model has no token that ends an answer")]
    NoEnd,
    /// The engine failed while tokens were chosen.
    #[error("the grammar can't go on: {0}")]
    Stuck(String),
    /// No thread to compile on.
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
}

/// A compiled grammar, from which every answer gets a [`Constraint`] of its own.
pub struct Compiled(Matcher);

impl Grammar {
    /// Compiles for a vocabulary.
    ///
    /// # Errors
    /// Text that is no schema or grammar, or one beyond the limits.
    pub fn compile(&self, vocab: &Arc<Vocab>) -> Result<Compiled, ConstraintError> {
        let source = match self {
            Grammar::JsonSchema(text) | Grammar::Lark(text) => text,
        };
        if source.len() > MAX_SOURCE {
            return Err(ConstraintError::TooLong(source.len()));
        }
        if nesting(source) > MAX_NESTING {
            return Err(ConstraintError::TooDeep);
        }
        let grammar = match self {
            Grammar::JsonSchema(text) => {
                TopLevelGrammar::from_json_schema(spaced(serde_json::from_str(text).map_err(ConstraintError::Json)?))
            }
            Grammar::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
        };
        std::thread::scope(|scope| {
            let build = std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
            let thread = build.spawn_scoped(scope, move || compile(grammar, vocab)).map_err(ConstraintError::Thread)?;
            thread
                .join()
                .unwrap_or_else(|_| Err(ConstraintError::Refused("the grammar engine failed on it".to_owned())))
        })
    }
}

/// The schema with its white space settled, unless it settles that itself: one space after commas and colons, as models
/// write it. Where any amount may stand a model can write line breaks without end, and nothing is ever forced.
fn spaced(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields
            .entry("x-guidance")
            .or_insert_with(|| json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}));
    }
    schema
}

fn compile(grammar: TopLevelGrammar, vocab: &Arc<Vocab>) -> Result<Compiled, ConstraintError> {
    let refused = |err: String| ConstraintError::Refused(one_line(&err));
    let tokens: TokEnv = Arc::new(Tokens::new(vocab).ok_or(ConstraintError::NoEnd)?);
    let caps = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
    let slices = SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&tokens, caps, &slices).map_err(|err| refused(err.to_string()))?;
    factory.quiet();
    *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
    let matcher = Matcher::new(factory.create_parser(grammar));
    match matcher.get_error() {
        Some(err) => Err(refused(err)),
        None => Ok(Compiled(matcher)),
    }
}

/// The depth of brackets, whatever they mean: of JSON's own and of a grammar's groups.
fn nesting(text: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    for c in text.bytes() {
        match c {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// The engine's errors span lines and show the source; the first lines say what is wrong.
fn one_line(text: &str) -> String {
    const MOST: usize = 300;
    let text = text.replace("<non-verbose/>", "");
    if text.contains("NoExtensionBias") {
        return "no text that ends can have this form; look for a rule that only leads to itself".to_owned();
    }
    if text.contains("Too many items") || text.contains("Current row has") {
        return "it allows too many ways at once; make properties required, or split it".to_owned();
    }
    let mut out = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = out.char_indices().nth(MOST) {
        out.truncate(end);
        out.push('…');
    }
    out
}

impl Compiled {
    /// A constraint at the beginning of an answer.
    pub fn start(&self) -> Constraint {
        Constraint(self.0.deep_clone())
    }
}

/// An answer on its way through a grammar.
pub struct Constraint(Matcher);

impl Constraint {
    /// Tokens that must come next, whatever the model thinks; none where there is a choice.
    pub fn forced(&mut self) -> Vec<u32> {
        self.0.compute_ff_tokens()
    }

    /// Copies the logits `[vocab]` of the tokens that may come next to `allowed`; the others are −∞ there.
    ///
    /// # Errors
    /// The engine can't go on.
    pub fn allow(&mut self, logits: &[f32], allowed: &mut Vec<f32>) -> Result<(), ConstraintError> {
        let mask = self.0.compute_mask_or_eos().map_err(stuck)?;
        allowed.clear();
        allowed.resize(logits.len(), f32::NEG_INFINITY);
        mask.iter_set_entries(|id| {
            if let (Some(to), Some(&from)) = (allowed.get_mut(id), logits.get(id)) {
                *to = from;
            }
        });
        Ok(())
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// A token that may not come next.
    pub fn accept(&mut self, id: u32) -> Result<(), ConstraintError> {
        self.0.consume_token(id).map_err(stuck)
    }

    /// Whether nothing can follow.
    pub fn is_over(&self) -> bool {
        self.0.is_stopped()
    }
}

fn stuck(err: impl std::fmt::Display) -> ConstraintError {
    ConstraintError::Stuck(one_line(&err.to_string()))
}

#[cfg(test)]
mod tests;
