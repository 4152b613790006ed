//! The terminal gets back the modes that it had, however the program ends.
//!
//! While a line is edited the terminal is in raw mode. The editor puts it back when it returns or unwinds; here it is put
//! back as well when the whole conversation unwinds, and when a signal ends the process in the middle of a line.

use std::io;
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

use crate::console::moves_cursor;

/// Bracketed paste: the terminal puts marks around what is pasted. The editor turns it on while it reads.
const PASTE_ON: &[u8] = b"\x1b[?2004h";
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
        let mut signals = Signals::new([SIGTERM, SIGHUP, SIGQUIT])?;
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

/// While an answer streams, what is typed or pasted waits for the prompt, where it arrives as if it were typed there: it
/// is not echoed into the answer, and not cut into lines. Ctrl-C and Ctrl-Z still are signals.
pub struct Hushed(Termios);

impl Hushed {
    /// Hushes the terminal until this is dropped; None where stdin is none.
    pub fn new() -> Option<Hushed> {
        let modes = tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut hushed = modes.clone();
        hushed.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &hushed).ok()?;
        tell(PASTE_ON);
        Some(Hushed(modes))
    }
}

impl Drop for Hushed {
    fn drop(&mut self) {
        // Not with a flush, which would lose what waits.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
        tell(PASTE_OFF);
    }
}

/// Writes a sequence to a terminal that knows it, unless the answers go elsewhere.
fn tell(sequence: &[u8]) {
    if rustix::termios::isatty(rustix::stdio::stdout()) && moves_cursor() {
        let _ = rustix::io::write(rustix::stdio::stdout(), sequence);
    }
}

fn restore(modes: &Termios) {
    let raw = tcgetattr(rustix::stdio::stdin()).is_ok_and(|now| now.local_modes != modes.local_modes);
    if raw {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, modes);
        tell(PASTE_OFF);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::exit;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    /// Set for the copy of this test that panics.
    const PANICS: &str = "QWREN_TEST_PANICS";

    #[test]
    fn t8_a_panic_in_raw_mode_gives_the_terminal_back() {
        if std::env::var_os(PANICS).is_some() {
            panic_in_raw_mode();
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = || OpenOptions::new().read(true).write(true).open(&name).unwrap();
        let (terminal, out) = (slave(), slave());
        let before = tcgetattr(&terminal).unwrap();
        let this = std::thread::current().name().unwrap().to_owned();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args([&this, "--exact", "--nocapture"])
            .env(PANICS, "1")
            .stdin(slave())
            .stdout(out)
            .stderr(Stdio::piped());
        let output = child.output().unwrap();
        let (said, after) = (String::from_utf8_lossy(&output.stderr), tcgetattr(&terminal).unwrap());
        assert_eq!(output.status.code(), Some(exit::Exit::Fault as i32), "{said}");
        assert!(said.contains("was raw") && said.contains("internal fault: in the middle of a line at "), "{said}");
        assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes));
        assert_eq!((after.output_modes, after.control_modes), (before.output_modes, before.control_modes));
        // With nobody at the other end reading ends, by an error.
        drop((child, terminal));
        let mut shown = Vec::new();
        let _ = File::from(master).read_to_end(&mut shown);
        let shown = String::from_utf8_lossy(&shown);
        assert!(shown.contains("\x1b[?2004l"), "bracketed paste stays on: {shown:?}");
    }

    /// As the program does when something under the editor panics; ends the process.
    fn panic_in_raw_mode() -> ! {
        exit::silence_panics();
        let result = exit::catch(|| {
            let _guard = TerminalGuard::new()?;
            let mut raw = tcgetattr(rustix::stdio::stdin())?;
            raw.make_raw();
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
            let now = tcgetattr(rustix::stdio::stdin())?;
            assert!(!now.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO));
            eprintln!("was raw");
            panic!("in the middle of a line");
        });
        let err: anyhow::Error = result.map(|()| unreachable!("it panics")).unwrap_err();
        eprintln!("{err}");
        std::process::exit(exit::code(&err) as i32)
    }
}
