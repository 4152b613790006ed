//! Options that say how tokens are chosen.

use qwren::sampler::{FileSampling, Flags, Purpose, Resolved, resolve};
use qwren_quant::gguf::Header;

use super::count;
use crate::exit::Failure;

/// How tokens are chosen. What isn't given comes from the file, else from Qwen's model card.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampling (defaults: the file's, else the model card's)")]
pub struct SamplingArgs {
    /// Temperature; 0: always the most likely token
    #[arg(long, visible_alias = "temperature", value_name = "X")]
    temp: Option<f32>,

    /// Keep the K most likely tokens; 0: all
    #[arg(long, value_name = "K", value_parser = count)]
    top_k: Option<usize>,

    /// Keep the fewest tokens with this share of the probability; 1: all
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,

    /// Keep tokens with at least this share of the most likely one's probability; 0: all
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,

    /// Make tokens of the last ones less likely, the prompt's included; 1: off
    #[arg(long, value_name = "X")]
    repeat_penalty: Option<f32>,

    /// How many tokens the penalties look back; 0: no penalties
    #[arg(long, value_name = "N", value_parser = count)]
    repeat_last_n: Option<usize>,

    /// Subtracted once from the logits of tokens among the last ones
    #[arg(long, value_name = "X")]
    presence_penalty: Option<f32>,

    /// Subtracted for each occurrence among the last tokens
    #[arg(long, value_name = "X")]
    frequency_penalty: Option<f32>,

    /// The same seed gives the same text; -1: a new one each time
    #[arg(short, long, value_name = "N", value_parser = seed)]
    seed: Option<Seed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seed {
    Given(u64),
    Fresh,
}

fn seed(text: &str) -> Result<Seed, &'static str> {
    match text {
        "-1" => Ok(Seed::Fresh),
        _ => text.parse().map(Seed::Given).map_err(|_| "give a whole number, or -1 for a new one"),
    }
}

impl SamplingArgs {
    /// What was asked for.
    pub fn flags(&self) -> Flags {
        Flags {
            temp: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: match self.seed {
                Some(Seed::Given(seed)) => Some(seed),
                Some(Seed::Fresh) | None => None,
            },
        }
    }

    /// The values that hold for this file and purpose, each with its source.
    pub fn resolve(&self, header: &Header, purpose: Purpose) -> anyhow::Result<Resolved> {
        let file = FileSampling::from_gguf(header)?;
        Ok(resolve(&self.flags(), &file, purpose).map_err(|err| Failure::usage(err.to_string()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_whole_numbers_or_fresh() {
        assert_eq!(seed("18446744073709551615"), Ok(Seed::Given(u64::MAX)));
        assert_eq!(seed("-1"), Ok(Seed::Fresh));
        assert!(seed("-2").is_err() && seed("1.5").is_err() && seed("").is_err());
    }
}
