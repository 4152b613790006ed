//! Options of guessing tokens ahead.

/// The most guesses at once: more are rarely right together, and each holds the logits of a whole vocabulary.
const MOST: i64 = 16;

/// Drafts.
#[derive(Debug, clap::Args)]
pub struct DraftArgs {
    /// Guess up to so many tokens at once from earlier text: faster where an answer repeats its prompt, slower elsewhere; the
    /// tokens stay the same. 0: none
    #[arg(
        long,
        value_name = "N",
        default_value = "0",
        conflicts_with = "stock_ops",
        value_parser = clap::value_parser!(u8).range(0..=MOST),
        help_heading = "Machine"
    )]
    draft_lookup: u8,
}

impl DraftArgs {
    /// Guesses at once at most; 0: none.
    pub fn most(&self) -> usize {
        self.draft_lookup.into()
    }
}
