//! Options that hold answers to a form.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qwren::constraint::{Compiled, Grammar};
use qwren::vocab::Vocab;

use super::text::read_file;
use crate::exit::Failure;

/// The form of answers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Form of the answer (a thought before it is free)")]
pub struct GrammarArgs {
    /// Answer in JSON by this schema: a file, or the schema itself
    #[arg(long, short = 'j', value_name = "FILE|TEXT", allow_hyphen_values = true, conflicts_with = "grammar")]
    json_schema: Option<String>,

    /// Answer by the grammar in this file, in llguidance's form of Lark
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
}

impl GrammarArgs {
    /// Reads and compiles what was given. Errors name the file or the option.
    pub fn compile(&self, vocab: &Arc<Vocab>) -> anyhow::Result<Option<Compiled>> {
        let (name, grammar) = match (&self.json_schema, &self.grammar) {
            (Some(text), _) if is_schema(text) => ("--json-schema".to_owned(), Grammar::JsonSchema(text.clone())),
            (Some(file), _) => (file.clone(), Grammar::JsonSchema(read(file.as_ref())?)),
            (None, Some(file)) => (file.display().to_string(), Grammar::Lark(read(file)?)),
            (None, None) => return Ok(None),
        };
        match grammar.compile(vocab) {
            Ok(compiled) => Ok(Some(compiled)),
            Err(err) => Err(Failure::usage(format!("{name}: {err}")).into()),
        }
    }
}

/// Whether this is a schema itself: an object, or one of the two that are a word. An empty text is a wrong one.
fn is_schema(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('{') || text == "true" || text == "false"
}

/// A file's text, without the mark that some editors put first.
fn read(path: &Path) -> anyhow::Result<String> {
    let text = read_file(path)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
