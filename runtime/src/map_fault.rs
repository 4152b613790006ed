//! A file that is cut short while it is mapped: reading past its new end raises SIGBUS, and the process dies without a
//! word. Here it ends with one.

use signal_hook::consts::SIGBUS;
use signal_hook::low_level;

use crate::exit::Exit;

const TEXT: &[u8] = b"qwren: the model file was cut short or became unreadable while it was in use; copy it again\n";

/// Ends the process with [`Exit::Usage`] and one line when a mapped file turns out to be shorter than it was.
pub fn explain() {
    let action = || {
        let _ = rustix::io::write(rustix::stdio::stderr(), TEXT);
        low_level::exit(Exit::Usage as i32);
    };
    // SAFETY: an action runs inside a signal handler, where only async-signal-safe functions may be called. This one calls
    // write(2) and _exit(2), reads nothing but a constant, takes no lock and allocates nothing; it can't panic, and
    // nothing runs after it.
    let registered = unsafe { low_level::register(SIGBUS, action) };
    // Where it can't be registered the process ends as it would have without: by the signal.
    drop(registered);
}
