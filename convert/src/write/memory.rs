//! The memory that a conversion takes: the tokenizer while it is checked, then chunks in flight. The size of the model is no
//! part of it.

use super::chunks::ELEMENTS;
use super::encode::PIECE;
use super::stream::QUEUE;
use crate::plan::Plan;

/// Program, libraries and the plan of a large model.
const BASE: u64 = 32 << 20;
/// The tokenizers library takes so much for a token of Qwen's vocabulary, merges included (measured, rounded up).
const PER_TOKEN: u64 = 1600;
/// A thread's stack and allocator.
const PER_THREAD: u64 = 1 << 20;

/// Bytes that converting takes at most, page cache not counted.
pub fn memory_bytes(plan: &Plan, threads: usize) -> u64 {
    let widest = plan.tensors.iter().map(|(target, _)| target.cols()).max().unwrap_or(0);
    // Stored and encoded bytes of a chunk, four each at most; in every queue, and in the hands of both its ends.
    let chunks = ELEMENTS.max(widest) * 4 * (2 * (QUEUE as u64 + 2));
    // Values before and after, as f32.
    let pieces = threads as u64 * ((PIECE as u64).max(widest) * 8 + PER_THREAD);
    let headers: u64 = plan.files.iter().map(|file| 3 * file.layout.header.len() as u64).sum();
    // The check of the tokenizer is over before the weights come.
    BASE + headers + (plan.tokens as u64 * PER_TOKEN).max(chunks + pieces)
}
