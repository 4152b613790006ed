//! Options that say when an answer ends.

use qwren::stream::StopStrings;

use crate::exit::Failure;
use crate::generate::Limits;

/// When an answer ends.
#[derive(Debug, clap::Args)]
pub struct LimitArgs {
    /// Tokens to write at most; 0: only read the prompt; -1: until the model ends it or the context is full
    #[arg(
        short = 'n',
        long = "predict",
        visible_alias = "n-predict",
        value_name = "N",
        default_value = "-1",
        value_parser = clap::value_parser!(i64).range(-1..=1 << 30)
    )]
    predict: i64,

    /// End before this text; may be given several times
    #[arg(long, visible_alias = "reverse-prompt", short_alias = 'r', value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,

    /// Never choose a token that ends an answer; repetitions don't end it either
    #[arg(long)]
    ignore_eos: bool,

    /// Let an answer go on that only repeats itself
    #[arg(long)]
    no_loop_guard: bool,
}

impl LimitArgs {
    /// What the options mean.
    pub fn resolve(&self) -> Result<Limits, Failure> {
        let tokens = usize::try_from(self.predict).ok();
        let stops = StopStrings::new(self.stop.clone()).map_err(|err| Failure::usage(format!("--stop: {err}")))?;
        let loop_guard = !self.no_loop_guard && !self.ignore_eos;
        Ok(Limits { tokens, stops, ignore_eos: self.ignore_eos, loop_guard, budget: None })
    }
}
