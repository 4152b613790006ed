//! Options of `qwren chat`.

use std::path::PathBuf;

use super::conversation::ContextFull;
use super::render::Thinking;
use crate::args::{ContextArgs, DraftArgs, GrammarArgs, LimitArgs, PromptCacheArgs, RunArgs, SamplingArgs};
use crate::exit::Failure;
use crate::generate::{Budget, Limits};

/// Options of `qwren chat`.
#[derive(Debug, clap::Args)]
// A list of conversations needs no model.
#[command(mut_arg("model", |arg| arg.required(false).required_unless_present("list").default_value_if("list", "true", "-")))]
pub struct Args {
    #[command(flatten)]
    pub run: RunArgs,

    #[command(flatten)]
    pub context: ContextArgs,

    /// System prompt: what the model is told before the conversation (also -sys)
    #[arg(long, visible_alias = "system-prompt", value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,

    /// Let the model think before it answers [default: as its template has it]
    #[arg(long, conflicts_with = "no_think")]
    pub think: bool,

    /// Answer without thinking
    #[arg(long)]
    pub no_think: bool,

    /// What becomes of thoughts
    #[arg(long, value_name = "HOW", default_value = "dim")]
    pub thinking: Thinking,

    /// End a thought after N tokens; 0: no thought; -1: never
    #[arg(
        long,
        visible_alias = "reasoning-budget",
        value_name = "N",
        default_value = "-1",
        value_parser = clap::value_parser!(i64).range(-1..=1 << 30)
    )]
    pub thinking_budget: i64,

    /// What the model reads as its own last words when its thought is ended
    #[arg(
        long,
        visible_alias = "reasoning-budget-message",
        value_name = "TEXT",
        default_value = qwren::thinking::BUDGET_SENTENCE,
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub thinking_budget_message: String,

    /// When the conversation no longer fits the context
    #[arg(long, value_name = "HOW", default_value = "drop")]
    pub context_full: ContextFull,

    /// Functions that the model may call: a JSON array of definitions
    #[arg(long, value_name = "FILE")]
    pub tools: Option<PathBuf>,

    /// Each line of stdin is a message: a JSON string, or {"role": "user" or "tool", "content": …}; print each answer as an
    /// object, null while more results of functions are awaited
    #[arg(long)]
    pub jsonl: bool,

    /// Go on with a conversation that was kept: the last one, or the one of this name
    #[arg(long, value_name = "ID", num_args = 0..=1, conflicts_with_all = ["list", "private"])]
    pub resume: Option<Option<String>>,

    /// List the conversations that were kept, and end
    #[arg(long)]
    pub list: bool,

    /// Keep nothing: neither the conversation nor what was typed
    #[arg(long)]
    pub private: bool,

    #[command(flatten)]
    pub limits: LimitArgs,

    #[command(flatten)]
    pub draft: DraftArgs,

    #[command(flatten)]
    pub sampling: SamplingArgs,

    #[command(flatten)]
    pub grammar: GrammarArgs,

    #[command(flatten)]
    pub prompt_cache: PromptCacheArgs,
}

impl Args {
    /// Whether thinking was asked for or forbidden.
    pub fn asked_to_think(&self) -> Option<bool> {
        match (self.think, self.no_think) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// When answers end.
    pub fn limits(&self) -> Result<Limits, Failure> {
        let sentence = self.thinking_budget_message.clone();
        let budget = usize::try_from(self.thinking_budget).ok().map(|tokens| Budget { tokens, sentence });
        Ok(Limits { budget, ..self.limits.resolve()? })
    }
}
