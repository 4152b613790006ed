//! The thread pool inside our operations. A job is one closure that every worker runs; the closure takes its work from
//! an atomic counter, so a slow core simply takes less. Workers spin for a short while between jobs and then sleep, and
//! one that has not woken by the time the work is done is not waited for: a busy neighbour costs in proportion.
use crate::ggml::Fault;
use crate::ggml::custom::panic_fault;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Longer than the gaps between the jobs of one token, shorter than a scheduler's slice.
const SPIN: Duration = Duration::from_micros(50);

type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// Where one worker gets its job. Alone in its cache lines: its worker looks at it all the time.
#[derive(Default)]
#[repr(align(128))]
struct Slot {
    /// A job may be waiting. Only a hint: whether there is one, `job` says.
    posted: AtomicBool,
    /// The job and the thread that waits for it. Whoever takes it out owns its fate: the worker runs it, the caller revokes it.
    job: Mutex<Option<(&'static Job<'static>, Thread)>>,
    /// The worker has run what it took, and doesn't touch it any more.
    done: AtomicBool,
    fault: Mutex<Option<Fault>>,
    quit: AtomicBool,
}

/// Threads that run jobs together with the caller's thread.
pub struct Pool {
    slots: Vec<Arc<Slot>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool in which `workers` threads work, the caller's among them (at least that one).
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn new(workers: usize) -> std::io::Result<Pool> {
        let mut pool = Pool { slots: Vec::new(), threads: Vec::new() };
        for index in 1..workers {
            let slot = Arc::new(Slot::default());
            pool.slots.push(slot.clone());
            let thread = std::thread::Builder::new().name(format!("qwren-{index}"));
            pool.threads.push(thread.spawn(move || serve(&slot, index))?);
        }
        Ok(pool)
    }

    /// How many threads work, the caller's included.
    pub fn workers(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs `job` on the caller's thread as worker 0 and on up to `workers - 1` others, and returns when all that
    /// started have ended. The work must be such that any subset of the workers, worker 0 alone included, completes it.
    ///
    /// # Errors
    /// When the job panicked on some worker.
    pub fn run(&mut self, workers: usize, job: &Job<'_>) -> Result<(), Fault> {
        let others = workers.clamp(1, self.workers()) - 1;
        // SAFETY: this only lengthens the lifetime. The reference reaches other threads through the slots' `job` alone. Before
        // this function returns, each slot is settled by `collect`: either the job is taken back out, so that its worker
        // can't get it any more, or the worker took it and `done` is awaited, after which it doesn't use it again. Nothing
        // in between unwinds: the caller's own share runs under `catch_unwind`, the rest doesn't panic.
        let lent = unsafe { std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job) };
        for (slot, thread) in self.slots[..others].iter().zip(&self.threads) {
            slot.done.store(false, Ordering::Relaxed);
            *lock(&slot.job) = Some((lent, std::thread::current()));
            slot.posted.store(true, Ordering::Release);
            thread.thread().unpark();
        }
        let mut result = catch_unwind(AssertUnwindSafe(|| job(0))).map_err(panic_fault);
        for slot in &self.slots[..others] {
            result = result.and(slot.collect());
        }
        result
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (slot, thread) in self.slots.iter().zip(&self.threads) {
            slot.quit.store(true, Ordering::Release);
            thread.thread().unpark();
        }
        for thread in self.threads.drain(..) {
            // A worker catches what its jobs do: it doesn't panic itself.
            let _ = thread.join();
        }
    }
}

impl Slot {
    /// Takes the job back if its worker hasn't begun, else waits for the worker's end.
    fn collect(&self) -> Result<(), Fault> {
        if lock(&self.job).take().is_some() {
            return Ok(());
        }
        wait_until(|| self.done.load(Ordering::Acquire));
        lock(&self.fault).take().map_or(Ok(()), Err)
    }
}

/// A worker's life.
fn serve(slot: &Slot, index: usize) {
    loop {
        // Looks before it takes: an exchange in a loop would keep the line from the thread that posts.
        let posted = || slot.posted.load(Ordering::Relaxed) && slot.posted.swap(false, Ordering::Acquire);
        wait_until(|| posted() || slot.quit.load(Ordering::Acquire));
        if slot.quit.load(Ordering::Acquire) {
            return;
        }
        let taken = lock(&slot.job).take();
        if let Some((job, caller)) = taken {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(index))) {
                *lock(&slot.fault) = Some(panic_fault(panic));
            }
            slot.done.store(true, Ordering::Release);
            caller.unpark();
        }
    }
}

/// Spins for a short while, then sleeps until this thread is unparked, until `ready`.
fn wait_until(ready: impl Fn() -> bool) {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            if ready() {
                return;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            std::thread::park();
        }
    }
}

/// A poisoned lock is as good as any: its data are whole at every point where a panic can happen.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn all_work_is_done_once() {
        for workers in 1..=4 {
            let mut pool = Pool::new(workers).unwrap();
            for round in 0..2000usize {
                let next = AtomicUsize::new(0);
                let sum = AtomicUsize::new(0);
                pool.run(workers, &|_| {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= 100 {
                            break;
                        }
                        sum.fetch_add(i + round, Ordering::Relaxed);
                    }
                })
                .unwrap();
                assert_eq!(sum.into_inner(), 4950 + 100 * round);
            }
        }
    }

    #[test]
    fn a_sleeping_pool_wakes_and_ends() {
        let mut pool = Pool::new(3).unwrap();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
            let ran = AtomicUsize::new(0);
            pool.run(3, &|_| {
                ran.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            })
            .unwrap();
            assert!((1..=3).contains(&ran.into_inner()));
        }
    }

    #[test]
    fn a_panic_is_an_error_and_the_pool_goes_on() {
        let mut pool = Pool::new(2).unwrap();
        for guilty in [0, 1] {
            let mut seen = false;
            for _ in 0..200 {
                let result = pool.run(2, &|w| {
                    if w == guilty {
                        panic!("worker {w} fell");
                    }
                    std::thread::sleep(Duration::from_micros(300));
                });
                // Worker 1 may sleep through a job.
                seen |= result == Err(Fault::Failed(format!("worker {guilty} fell")));
            }
            assert!(seen);
            assert_eq!(pool.run(2, &|_| ()), Ok(()));
        }
    }
}
