//! The option that keeps what was read of a prompt.

use std::path::PathBuf;

use qwren::prompt_cache::{self, CacheFault};
use qwren::session::Session;

use crate::console::Console;

/// A prompt's cache on disk.
#[derive(Debug, clap::Args)]
pub struct PromptCacheArgs {
    /// Keep what was read in this file, and begin with what it holds: the same beginning is read once
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    prompt_cache: Option<PathBuf>,
}

/// What to do with the file when the session ends.
#[derive(Debug)]
pub struct PromptCache<'a> {
    file: Option<&'a PathBuf>,
    /// Tokens that it holds already.
    tokens: Vec<u32>,
}

impl PromptCacheArgs {
    /// Fills the session with what the file holds. A file that can't be used is said and passed over.
    pub fn load(&self, session: &mut Session<'_>, console: Console) -> PromptCache<'_> {
        let Some(path) = &self.prompt_cache else { return PromptCache { file: None, tokens: Vec::new() } };
        let name = path.display();
        let file = match prompt_cache::load(session, path) {
            Ok(_) => Some(path),
            // What is no cache may be dear to somebody.
            Err(fault @ (CacheFault::Alien | CacheFault::Stock | CacheFault::Io(_))) => {
                console.note(format_args!("{name}: {fault}; it is not used and stays as it is"));
                None
            }
            Err(fault) => {
                console.note(format_args!("{name}: {fault}; it is not used and will be replaced"));
                Some(path)
            }
        };
        PromptCache { file, tokens: session.tokens().to_vec() }
    }
}

impl PromptCache<'_> {
    /// Keeps the session's first `n` tokens, unless the file holds them already. That it can't be written is said.
    pub fn save(&self, session: &mut Session<'_>, n: usize, console: Console) {
        let n = n.min(session.len());
        let Some(path) = self.file.filter(|_| n > 0 && !self.tokens.starts_with(&session.tokens()[..n])) else {
            return;
        };
        if let Err(err) = prompt_cache::save(session, n, path) {
            console.line(format_args!("{}: {err}; the prompt is not kept", path.display()));
        }
    }
}
