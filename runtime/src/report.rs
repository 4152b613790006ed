//! The lines before and after the work, and the same figures as JSON.

use qwren::model::Model;
use qwren::session::Options;
use qwren::stream::FinishReason;
use serde::Serialize;

use crate::args::cache_bytes;
use crate::generate::{ThoughtCut, Timings};
use crate::units::{bytes, count, digits};

/// What runs, and how.
pub fn start_line(model: &Model, options: &Options, seed: u64) -> String {
    let header = model.gguf().header();
    let path = model.gguf().path().display().to_string();
    let name = header.str("general.name").ok().flatten().unwrap_or(&path);
    let threads = match (options.stock_ops, options.threads) {
        (true, _) => "ggml's own operations, 1 thread".to_owned(),
        (false, t) if t.decode == t.prefill => count(t.decode, "thread"),
        (false, t) => format!("{} ({} for prompts)", count(t.decode, "thread"), t.prefill),
    };
    format!(
        "{name}: {}, {} | {threads} | context {} tokens, cache up to {} | seed {seed}",
        model.hparams().arch.name(),
        bytes(model.gguf().file_len()),
        options.ctx,
        bytes(cache_bytes(model, options)),
    )
}

/// What it came to.
pub fn end_line(timings: &Timings, reason: FinishReason, cut: Option<ThoughtCut>) -> String {
    format!("{} | ended by: {}{}", rates_text(timings), in_words(reason), cut_in_words(cut))
}

/// What one answer of a conversation took, and how full the context is: `used` of `ctx` tokens.
pub fn status_line(t: &Timings, reason: FinishReason, cut: Option<ThoughtCut>, used: usize, ctx: usize) -> String {
    let reason = match reason {
        FinishReason::Length => "as long as -n allows; ",
        FinishReason::Stop => "at a stop string; ",
        _ => "",
    };
    let (tokens, speed) = (count(t.chosen, "token"), speed(t.decode_rate()));
    format!("[{reason}{tokens}{speed}; context {used} of {ctx}{}]", cut_in_words(cut))
}

fn cut_in_words(cut: Option<ThoughtCut>) -> &'static str {
    match cut {
        None => "",
        Some(ThoughtCut::Budget) => "; the thought by its budget",
        Some(ThoughtCut::Loop) => "; the thought as it repeated itself",
    }
}

fn in_words(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Eos => "the model",
        FinishReason::Stop => "a stop string",
        FinishReason::Length => "the length asked for",
        FinishReason::Context => "a full context",
        FinishReason::Loop => "a repetition",
        FinishReason::Interrupt => "an interrupt",
    }
}

/// Tokens and speeds in words.
pub fn rates_text(t: &Timings) -> String {
    let reused = if t.reused > 0 { format!(" and {} reused", t.reused) } else { String::new() };
    let guessed = match t.drafted {
        0 => String::new(),
        drafted => format!(" ({} of {drafted} guesses right)", t.accepted),
    };
    format!(
        "prompt: {}{reused}{} | answer: {}{}{guessed}",
        count(t.prompt, "token"),
        speed(t.prompt_rate()),
        count(t.chosen, "token"),
        speed(t.decode_rate()),
    )
}

/// `, 12.3 tokens/s`; nothing where no token took any time.
fn speed(tokens_per_s: f64) -> String {
    if tokens_per_s > 0.0 { format!(", {} tokens/s", digits(tokens_per_s)) } else { String::new() }
}

/// Counts, times and rates.
#[derive(Debug, Serialize)]
pub struct Rates {
    prompt_tokens: usize,
    reused_tokens: usize,
    prompt_s: f64,
    prompt_tokens_per_s: f64,
    tokens: usize,
    decode_s: f64,
    decode_tokens_per_s: f64,
    draft_tokens: usize,
    draft_accepted: usize,
}

impl Rates {
    /// Of one answer, or of several added up.
    pub fn of(t: &Timings) -> Rates {
        Rates {
            prompt_tokens: t.prompt,
            reused_tokens: t.reused,
            prompt_s: t.prompt_time.as_secs_f64(),
            prompt_tokens_per_s: t.prompt_rate(),
            tokens: t.chosen,
            decode_s: t.decode_time.as_secs_f64(),
            decode_tokens_per_s: t.decode_rate(),
            draft_tokens: t.drafted,
            draft_accepted: t.accepted,
        }
    }
}
