//! A pool with scratch for each worker, and the two ways in which our operations share out work.
use crate::ggml::{Fault, Tile, Tiles};
use crate::pool::{Pool, lock};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Memory that a worker keeps between jobs.
#[derive(Default)]
pub struct Scratch {
    /// Results before they are put in their place.
    pub a: Vec<f32>,
    /// A second set of such.
    pub b: Vec<f32>,
}

/// The first `len` elements of `buffer`, which grows when needed. Their values are whatever was there.
pub fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Threads and their scratch.
pub struct Crew {
    pool: Pool,
    active: usize,
    scratch: Vec<Mutex<Scratch>>,
}

impl Crew {
    /// A crew of at most `workers` threads.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn new(workers: usize) -> std::io::Result<Crew> {
        let pool = Pool::new(workers)?;
        let scratch = (0..pool.workers()).map(|_| Mutex::default()).collect();
        Ok(Crew { active: pool.workers(), pool, scratch })
    }

    /// Lets `workers` threads work from now on.
    pub fn set_active(&mut self, workers: usize) {
        self.active = workers.clamp(1, self.pool.workers());
    }

    /// Threads that work.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Does `work` for each tile of each of `outputs`, with the output's number.
    ///
    /// # Errors
    /// [`Fault::Interrupted`] when `stop` was set before all was done.
    pub fn tiles(
        &mut self,
        stop: &AtomicBool,
        outputs: &mut [Tiles<'_>],
        work: impl Fn(&mut Scratch, usize, Tile<'_>) + Sync,
    ) -> Result<(), Fault> {
        let all: usize = outputs.iter().map(Tiles::len).sum();
        let workers = self.active.min(all);
        outputs.iter_mut().for_each(|tiles| tiles.share_out(workers));
        let outputs = &*outputs;
        self.share(stop, workers, |worker, scratch| {
            for (i, output) in outputs.iter().enumerate() {
                let mut share = output.worker(worker);
                while let Some(tile) = share.take() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    work(scratch, i, tile);
                }
            }
        })
    }

    /// Does `work` for each of `items`, for work on whole rows. Few items stay on this thread: they take less time than
    /// waking another.
    ///
    /// # Errors
    /// As [`Crew::tiles`].
    pub fn items<T>(
        &mut self,
        stop: &AtomicBool,
        items: impl ExactSizeIterator<Item = T> + Send,
        work: impl Fn(&mut Scratch, T) + Sync,
    ) -> Result<(), Fault> {
        const FEW: usize = 4;
        let pieces = if items.len() <= FEW { 1 } else { items.len() };
        let items = Mutex::new(items);
        self.share(stop, pieces, |_, scratch| {
            loop {
                let next = lock(&items).next();
                match next {
                    Some(item) if !stop.load(Ordering::Relaxed) => work(scratch, item),
                    _ => return,
                }
            }
        })
    }

    fn share(
        &mut self,
        stop: &AtomicBool,
        pieces: usize,
        work: impl Fn(usize, &mut Scratch) + Sync,
    ) -> Result<(), Fault> {
        let scratch = &self.scratch;
        self.pool.run(self.active.min(pieces), &|worker| work(worker, &mut lock(&scratch[worker])))?;
        if stop.load(Ordering::Relaxed) { Err(Fault::Interrupted) } else { Ok(()) }
    }
}
