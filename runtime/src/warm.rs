//! Brings a model into memory: its files are read before they are used, in their order, in large pieces, as disks like it (left
//! to page faults, a cold start reads a few KiB at a time, in the order of the computation); and while it runs they move to huge
//! pages, in an order of rows that decodes faster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use qwren::machine;
use qwren::model::{Copier, Model};
use qwren::session::Session;
use qwren_quant::gguf::PIECE;

use crate::console::Console;
use crate::units::bytes;

/// Silence is fine for so long: what the system has cached takes less.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reads all of `model` where it is mapped, telling a terminal how far it is. A model that doesn't fit the memory is left
/// alone: its end would push out its beginning.
pub fn read_ahead(model: &Model, console: Console) {
    let (start, total) = (Instant::now(), model.gguf().file_len());
    if !machine::has_room_for(total) {
        return;
    }
    let (mut done, mut shown) = (0, false);
    for part in model.gguf().parts() {
        let len = part.bytes().len();
        for from in (0..len).step_by(PIECE) {
            let to = (from + PIECE).min(len);
            part.read_ahead(from..to);
            done += (to - from) as u64;
            if start.elapsed() > PATIENCE {
                shown = true;
                console.progress(format_args!("reading the model: {} of {}", bytes(done), bytes(total)));
            }
        }
    }
    if shown {
        console.end_progress();
    }
}

/// How much the mover yields to those who compute, in the system's 20 steps: it gets a tenth of a core that is busy.
const NICE: i32 = 10;

/// Moves a model's weights to memory of the process beside other work. Dropped, it ends early.
pub struct Mover {
    /// It may begin, and has not.
    ready: bool,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Mover {
    /// One that has not begun. It never will where the memory has no room for a copy beside the `cache` bytes of a full
    /// cache and the system's own copy of the files, which others and the next start want to find.
    pub fn new(model: &Model, cache: u64) -> Mover {
        let need = model.gguf().file_len().saturating_mul(2).saturating_add(cache);
        Mover { ready: machine::has_room_for(need), thread: None, stop: Arc::default() }
    }

    /// One that never begins.
    pub fn idle() -> Mover {
        Mover { ready: false, thread: None, stop: Arc::default() }
    }

    /// Begins, if it has not, to move what `session` computes with here: when nobody waits for the model or much will be decoded,
    /// since moving takes longer than reading a short prompt and writing a short answer.
    pub fn begin(&mut self, session: &Session<'_>) {
        let Some(level) = session.level().filter(|_| std::mem::take(&mut self.ready)) else { return };
        // No more than a service: without it the model is used where it is.
        let Ok(copier) = Copier::new(session.model(), level, session.weights_here()) else { return };
        let stop = self.stop.clone();
        let work = move || {
            // Linux takes this as of the thread that asks. Where it is refused, the work is shared evenly.
            let _ = rustix::process::setpriority_process(None, NICE);
            // What can't be moved stays where it is mapped.
            let _ = copier.run(&stop, &mut |_| ());
        };
        self.thread = Builder::new().name("qwren-mover".to_owned()).spawn(work).ok();
    }

    /// Begins and waits for the end.
    pub fn finish(mut self, session: &Session<'_>) {
        self.begin(session);
        if let Some(thread) = self.thread.take() {
            // It doesn't panic, and if it did the model would be where it was.
            let _ = thread.join();
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
