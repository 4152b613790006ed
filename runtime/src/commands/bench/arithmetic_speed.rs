//! How fast this machine multiplies: what no reader of prompts can be faster than.

use std::thread;
use std::time::{Duration, Instant};

use qwren_quant::kernel::VecOps;

/// Long enough for the clock rate to settle.
const TIME: Duration = Duration::from_millis(60);
/// Rounds between two looks at the clock.
const ROUNDS: usize = 10_000;

/// int8 multiply-adds a second that `threads` threads do together with the instructions of `vec`, on registers alone.
pub fn macs_per_s(threads: usize, vec: &'static VecOps) -> f64 {
    let work = move || {
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < TIME {
            done += vec.multiply_adds(ROUNDS);
        }
        done as f64 / start.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| thread::Builder::new().spawn_scoped(scope, work)).collect();
        workers.into_iter().filter_map(|w| w.ok()?.join().ok()).sum()
    })
}

#[cfg(test)]
mod tests {
    use qwren_quant::kernel::{Level, vec_ops};

    #[test]
    fn some_speed_is_measured() {
        let speed = super::macs_per_s(1, vec_ops(Level::Scalar));
        assert!(speed > 1e6 && speed.is_finite(), "{speed}");
    }
}
