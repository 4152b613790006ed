//! What can be wrong with a chat template.

use crate::vocab::VocabError;
use qwren_quant::gguf::GgufError;
use thiserror::Error;

/// Why a template can't be used, or fails for a conversation. There is no fallback to another template.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The key has another type than a string.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A base model's file.
    #[error("the file has no chat template; use `qwren complete`, or a file of a chat model")]
    Absent,
    /// The prompt's text can't be encoded.
    #[error(transparent)]
    Vocab(#[from] VocabError),
    /// Too long to be one.
    #[error("the chat template has {0} bytes; {max} are allowed", max = super::MAX_SOURCE)]
    TooLong(usize),
    /// The template itself, or a conversation that it refuses.
    #[error("the chat template fails at line {line}: {reason}")]
    Failed {
        /// Line in the template, from 1; 0 if unknown.
        line: usize,
        /// The engine's or the template's own words, on one line.
        reason: String,
    },
    /// Loops or sizes beyond any honest template.
    #[error("the chat template takes too much work at line {line}; it looks hostile or broken")]
    TooMuchWork {
        /// Line in the template, from 1.
        line: usize,
    },
    /// A namespace in a place where it could come to contain itself.
    #[error(
        "the chat template uses its namespace \"{name}\" as a value at line {line}; only its attributes can be used"
    )]
    Namespace {
        /// Name of the variable.
        name: String,
        /// Line in the template, from 1.
        line: usize,
    },
    /// JSON that nests deeper than templates may walk.
    #[error("a message or tool nests deeper than {max} levels", max = super::json::MAX_DEPTH)]
    TooDeep,
    /// The conversation uses all characters that could mark typed special tokens.
    #[error("the conversation uses every private-use character of plane 15; remove some")]
    NoMark,
    /// A fault in the engine.
    #[error("the chat template makes the template engine fail; this is a bug")]
    Engine,
    /// The operating system has no thread for us.
    #[error("no thread can be started to render the chat template: {0}")]
    Thread(std::io::Error),
}

impl From<minijinja::Error> for TemplateError {
    fn from(e: minijinja::Error) -> TemplateError {
        let line = e.line().unwrap_or(0);
        if e.kind() == minijinja::ErrorKind::OutOfFuel {
            return TemplateError::TooMuchWork { line };
        }
        let mut reason = match e.detail() {
            Some(detail) if e.kind() == minijinja::ErrorKind::InvalidOperation => detail.to_string(),
            Some(detail) => format!("{}: {detail}", e.kind()),
            None => e.kind().to_string(),
        };
        // One line, and no more of a hostile template's words than a terminal shows.
        reason = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        TemplateError::Failed { line, reason }
    }
}
