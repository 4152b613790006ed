//! Are all values of all tensors finite? Quantized blocks are unpacked, so that a scale which is not finite shows too.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use qwren_quant::block::{Codec, codec};
use qwren_quant::gguf::{GgufFile, TensorInfo};

/// Elements unpacked at a time: whole blocks of every type, and 256 KiB of floats stay in a core's cache.
const PIECE: usize = 64 << 10;

/// What was found in a file.
#[derive(Debug, Default)]
pub struct Survey {
    /// Tensors of which all values are finite.
    pub sound: usize,
    /// Tensors of types that can't be unpacked here.
    pub skipped: usize,
    /// Tensors with values that are not finite, in the file's order.
    pub bad: Vec<Bad>,
}

/// A tensor with values that are not finite.
#[derive(Debug)]
pub struct Bad {
    /// Its name.
    pub name: String,
    /// Index of the first such value, in the order of the file.
    pub index: u64,
    /// That value: NaN or an infinity.
    pub value: f32,
    /// How many there are.
    pub count: u64,
}

/// Looks at every value; `progress` hears after each tensor how many bytes it had.
pub fn survey(file: &GgufFile, mut progress: impl FnMut(u64)) -> Survey {
    let threads = thread::available_parallelism().map_or(1, |n| n.get());
    let mut survey = Survey::default();
    for t in file.header().tensors() {
        match codec(t.dtype) {
            None => survey.skipped += 1,
            Some(codec) => match look(t, file.data(t), codec, threads) {
                None => survey.sound += 1,
                Some(bad) => survey.bad.push(bad),
            },
        }
        progress(t.bytes);
    }
    survey
}

fn look(t: &TensorInfo, data: &[u8], codec: &Codec, threads: usize) -> Option<Bad> {
    let piece_bytes = PIECE / t.dtype.block_len() * t.dtype.block_bytes();
    let pieces = data.len().div_ceil(piece_bytes);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut floats = vec![0.0; PIECE];
        let mut found: Option<(u64, f32, u64)> = None;
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(rest) = data.get(i * piece_bytes..).filter(|rest| !rest.is_empty()) else { return found };
            let piece = &rest[..rest.len().min(piece_bytes)];
            let values = &mut floats[..piece.len() / t.dtype.block_bytes() * t.dtype.block_len()];
            codec.dequantize(piece, values);
            for (j, &x) in values.iter().enumerate().filter(|(_, x)| !x.is_finite()) {
                found.get_or_insert(((i * PIECE + j) as u64, x, 0)).2 += 1;
            }
        }
    };
    let found: Vec<_> = thread::scope(|scope| {
        // A thread that the system refuses leaves more to the others.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..threads.min(pieces)).filter_map(spawn).collect();
        let mine = work();
        let theirs = others.into_iter().filter_map(|t| t.join().unwrap_or_else(|panic| resume_unwind(panic)));
        theirs.chain(mine).collect()
    });
    let &(index, value, _) = found.iter().min_by_key(|(index, ..)| *index)?;
    Some(Bad { name: t.name.clone(), index, value, count: found.iter().map(|(_, _, count)| count).sum() })
}
