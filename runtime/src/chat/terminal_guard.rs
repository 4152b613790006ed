//! The terminal gets back the modes that it had, however the program ends.
//!
//! While a line is edited the terminal is in raw mode. The editor puts it back when it returns or unwinds; here it is put
//! back as well when the whole conversation unwinds, and when a signal ends the process in the middle of a line.

use std::io;
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

/// Ends bracketed paste, which the editor turns on.
const PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// Holds the terminal's modes; puts them back when dropped.
pub struct TerminalGuard {
    modes: Termios,
    signals: Handle,
}

impl TerminalGuard {
    /// Notes the modes of the terminal at stdin.
    pub fn new() -> io::Result<TerminalGuard> {
        let modes = tcgetattr(rustix::stdio::stdin())?;
        let mut signals = Signals::new([SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let saved = modes.clone();
        // Sleeps until a signal comes, so it takes no time.
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                restore(&saved);
                let _ = emulate_default_handler(signal);
            }
        })?;
        Ok(TerminalGuard { modes, signals: handle })
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        self.signals.close();
        restore(&self.modes);
    }
}

fn restore(modes: &Termios) {
    let raw = tcgetattr(rustix::stdio::stdin()).is_ok_and(|now| now.local_modes != modes.local_modes);
    if raw {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, modes);
        let _ = rustix::io::write(rustix::stdio::stdout(), PASTE_OFF);
    }
}
