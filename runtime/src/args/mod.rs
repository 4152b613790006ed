//! The command line as typed. What it means is worked out once, by each command, before anything is loaded.

mod argv;
mod draft;
mod grammar;
mod limits;
mod prompt_cache;
mod run;
mod sampling;
pub mod text;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint};

pub use draft::DraftArgs;
pub use grammar::GrammarArgs;
pub use limits::LimitArgs;
pub use prompt_cache::PromptCacheArgs;
pub use run::{ContextArgs, ModelArgs, RunArgs, cache_bytes};
pub use sampling::SamplingArgs;
pub use text::TextArgs;

use crate::{chat, commands};

/// What scripts and unusual machines need to know.
const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 a fault of qwren, 2 wrong usage or a wrong file, 3 sound but unsupported, 4 not enough memory or disk, \
130 interrupted.

Environment: QWREN_CPU=LEVEL computes with that level's kernels (`qwren devices` shows the one in use). QWREN_GPU=FILE is the \
qwren-gpu to start for -ngl. QWREN_GPU_PATIENCE=SECONDS, 10 by default, is how much longer than expected a GPU may take before \
it counts as hanging. Conversations are kept under XDG_STATE_HOME, or ~/.local/state. VISUAL or EDITOR is what /edit \
starts.";

/// Everything that was typed.
#[derive(Debug, Parser)]
#[command(name = "qwren", version, about = "Runs Qwen3 GGUF files in a terminal", infer_subcommands = false)]
#[command(after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Say nothing on stderr but errors
    #[arg(long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more on stderr, and the whole chain of causes of an error
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// One variant a command; its options lie in the command's own file.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Complete a text
    Complete(Box<commands::complete::Args>),
    /// Talk with a model
    Chat(Box<chat::Args>),
    /// Show what is in a file and the memory that it needs
    Inspect(commands::inspect::Args),
    /// Check a file: structure, digest, finite values
    Verify(commands::verify::Args),
    /// Measure how fast a model runs on this machine
    Bench(commands::bench::Args),
    /// Measure how well a model predicts a text
    Perplexity(commands::perplexity::Args),
    /// Find out which inputs of a model's matrices matter, for qwren-convert --imatrix
    Imatrix(commands::imatrix::Args),
    /// Show a text's tokens
    Tokenize(commands::tokens::TokenizeArgs),
    /// Turn token ids into text
    Detokenize(commands::tokens::DetokenizeArgs),
    /// Render conversations with a model's chat template
    Template(commands::template::Args),
    /// Write a model's logits for given tokens to a NumPy file
    Logits(commands::logits::Args),
    /// Show what this machine offers
    Devices(commands::devices::Args),
    /// Print the manual page (roff)
    Man,
    /// Print a completion script for a shell
    Completions(commands::completions::Args),
}

/// Parses the process's arguments.
///
/// # Errors
/// Wrong usage; and what `--help` and `--version` are answered with.
pub fn parse() -> Result<Cli, clap::Error> {
    let mut tree = tree();
    let args = argv::expand(std::env::args_os()).map_err(|text| tree.error(ErrorKind::UnknownArgument, text))?;
    Cli::from_arg_matches(&tree.try_get_matches_from(args)?)
}

/// The command tree. An option given twice has its last value, as scripts that add to a command line expect.
pub fn tree() -> clap::Command {
    let command = Cli::command();
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let command = names.iter().fold(command, |command, name| {
        command
            .mut_subcommand(name, |c| c.args_override_self(true).mut_args(completed_as_file).mut_args(may_be_negative))
    });
    // It refuses them.
    let hide = |c: clap::Command, id| c.mut_arg(id, |arg| arg.hide(true));
    command.mut_subcommand("imatrix", |c| ["stock_ops", "gpu_layers", "device"].into_iter().fold(c, hide))
}

/// `-1` is a value, never an option: those that take none as small say so themselves.
fn may_be_negative(arg: clap::Arg) -> clap::Arg {
    let takes_values = arg.get_action().takes_values();
    if takes_values { arg.allow_negative_numbers(true) } else { arg }
}

/// A number of tokens.
pub fn count(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "give a whole number, 0 or more")
}

/// Shells complete paths with spaces and folders rightly where they know that a file is wanted.
fn completed_as_file(arg: clap::Arg) -> clap::Arg {
    match arg.get_value_hint() {
        ValueHint::AnyPath => arg.value_hint(ValueHint::FilePath),
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_tree_is_consistent() {
        super::tree().debug_assert();
    }
}
