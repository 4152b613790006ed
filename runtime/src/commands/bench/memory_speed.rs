//! How fast this machine reads memory: what no decoder can be faster than.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Read at most: several times the last-level caches that are in use.
const MOST_BYTES: usize = 512 << 20;
/// Each pass is timed; the fastest is nearest to what the memory can do.
const PASSES: usize = 6;

/// Bytes a second that `threads` threads read together from memory, none of it cached. `available` bounds what is used.
pub fn read_bytes_per_s(threads: usize, available: Option<u64>) -> f64 {
    let room = available.map_or(MOST_BYTES, |bytes| usize::try_from(bytes / 4).unwrap_or(MOST_BYTES));
    let words_each = room.min(MOST_BYTES) / 8 / threads;
    // Written by the thread that reads, so that each has its pages near it.
    let parts: Vec<Vec<u64>> = thread::scope(|scope| {
        let fill = |n: usize| (0..n as u64).collect();
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(move || fill(words_each))).collect();
        workers.into_iter().filter_map(|w| w.join().ok()).collect()
    });
    let bytes = parts.iter().map(|p| p.len() * 8).sum::<usize>() as f64;
    let pass = || {
        let start = Instant::now();
        thread::scope(|scope| parts.iter().for_each(|part| drop(scope.spawn(|| black_box(sum(part))))));
        bytes / start.elapsed().as_secs_f64()
    };
    (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
}

/// Adds in independent lanes, so that reading is all that takes time.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for chunk in words.chunks_exact(lanes.len()) {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().fold(0, |a, b| a.wrapping_add(*b))
}

#[cfg(test)]
mod tests {
    #[test]
    fn some_speed_is_measured() {
        let speed = super::read_bytes_per_s(1, Some(64 << 20));
        assert!(speed > 1e6 && speed.is_finite(), "{speed}");
    }
}
