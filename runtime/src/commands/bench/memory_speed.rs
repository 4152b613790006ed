//! How fast this machine reads memory: what no decoder can be faster than.

use std::hint::black_box;
use std::io;
use std::thread;
use std::time::Instant;

use memmap2::{Advice, MmapMut};
use zerocopy::FromBytes;

/// Read at most: several times the last-level caches that are in use.
const MOST_BYTES: usize = 512 << 20;
/// Each pass is timed; the fastest is nearest to what the memory can do.
const PASSES: usize = 6;

/// Bytes a second that `threads` threads read together from memory, none of it cached; `None` where there is not enough of it, or
/// of threads, to measure with. `available` bounds what is used.
pub fn read_bytes_per_s(threads: usize, available: Option<u64>) -> Option<f64> {
    let room = available.map_or(MOST_BYTES, |bytes| usize::try_from(bytes / 4).unwrap_or(MOST_BYTES));
    let words_each = room.min(MOST_BYTES) / 8 / threads;
    // Written by the thread that reads, so that each has its pages near it.
    let parts: Vec<MmapMut> = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, move || filled(words_each * 8));
        let workers: Vec<_> = (0..threads).map(start).collect();
        workers.into_iter().filter_map(|w| w.ok()?.join().ok()?.ok()).collect()
    });
    if words_each == 0 || parts.len() < threads {
        return None;
    }
    let bytes = parts.iter().map(|part| part.len()).sum::<usize>() as f64;
    let pass = || -> io::Result<f64> {
        let start = Instant::now();
        thread::scope(|scope| {
            parts.iter().try_for_each(|part| {
                // A map begins on a page and is whole words.
                let words = <[u64]>::ref_from_bytes(part).unwrap_or(&[]);
                thread::Builder::new().spawn_scoped(scope, move || black_box(sum(words))).map(drop)
            })
        })?;
        Ok(bytes / start.elapsed().as_secs_f64())
    };
    (0..PASSES).try_fold(0.0, |most: f64, _| Some(most.max(pass().ok()?)))
}

/// Memory in huge pages, as weights lie in at best.
fn filled(bytes: usize) -> io::Result<MmapMut> {
    let mut map = MmapMut::map_anon(bytes)?;
    #[cfg(target_os = "linux")]
    // A wish: small pages are measured where there are no others.
    let _ = map.advise(Advice::HugePage);
    map.fill(1);
    Ok(map)
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
        let speed = super::read_bytes_per_s(1, Some(64 << 20)).unwrap();
        assert!(speed > 1e6 && speed.is_finite(), "{speed}");
    }

    #[test]
    fn without_memory_there_is_no_speed() {
        assert_eq!(super::read_bytes_per_s(1, Some(0)), None);
    }
}
