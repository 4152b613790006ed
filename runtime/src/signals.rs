//! Ctrl-C, or what `kill` sends, while something runs: a flag that the work looks at.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{SigId, flag, low_level};

use crate::exit::Exit;

/// From now on a write beyond `ulimit -f` is an error and not the end.
pub fn outlive_file_limits() {
    // Where it can't be caught the process ends as it would have without.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// What a second Ctrl-C does while the first one is still being obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// Ends the process at once with [`Exit::Interrupted`]. For work whose end is the process's: SIGTERM is obeyed alike, so that
    /// no unfinished file stays.
    Exits,
    /// Nothing more than the first. SIGTERM ends the process.
    Ignored,
}

/// Listens for Ctrl-C until it is dropped, so that an editor that reads afterwards has the key for itself.
pub struct Interrupt {
    raised: Arc<AtomicBool>,
    idle: Arc<AtomicBool>,
    handlers: Vec<SigId>,
}

impl Interrupt {
    /// Starts to listen.
    pub fn listen(second: Second) -> io::Result<Interrupt> {
        let (raised, idle) = (Arc::default(), Arc::default());
        let mut interrupt = Interrupt { raised: Arc::clone(&raised), idle: Arc::clone(&idle), handlers: Vec::new() };
        let (signals, ends_when): (&[i32], &[_]) = match second {
            Second::Exits => (&[SIGINT, SIGTERM], &[&idle, &raised]),
            Second::Ignored => (&[SIGINT], &[&idle]),
        };
        for &signal in signals {
            // Before the flag's own handler: the first signal must find the flag still down.
            for &flag in ends_when {
                let code = Exit::Interrupted as i32;
                interrupt.handlers.push(flag::register_conditional_shutdown(signal, code, Arc::clone(flag))?);
            }
            interrupt.handlers.push(flag::register(signal, Arc::clone(&raised))?);
        }
        Ok(interrupt)
    }

    /// Says whether nothing runs: Ctrl-C then ends the process at once, whatever it waits for.
    pub fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::SeqCst);
    }

    /// The flag, for work that looks at it now and then.
    pub fn flag(&self) -> &AtomicBool {
        &self.raised
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.handlers.drain(..).for_each(|id| {
            low_level::unregister(id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_follows_the_signal() {
        let interrupt = Interrupt::listen(Second::Ignored).unwrap();
        assert!(!interrupt.flag().load(Ordering::Relaxed));
        low_level::raise(SIGINT).unwrap();
        low_level::raise(SIGINT).unwrap();
        assert!(interrupt.flag().load(Ordering::Relaxed));
        // A later listener starts afresh.
        drop(interrupt);
        assert!(!Interrupt::listen(Second::Ignored).unwrap().flag().load(Ordering::Relaxed));
    }
}
