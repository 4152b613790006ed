//! A file that is cut short while it is mapped: reading past its new end raises SIGBUS, and the process dies without a
//! word. Here it ends with one.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::Exit;

const TEXT: &[u8] = b"qwren: the model file was cut short or became unreadable while it was in use; copy it again\n";

/// Ends the process with [`Exit::Usage`] and one line when a mapped file turns out to be shorter than it was.
///
/// The handler replaces the standard library's, which looks for stack overflows (SIGSEGV on Linux) and takes itself off at
/// any other fault: chained before ours it would let a second thread's fault, a moment later, end the process by the signal.
pub fn explain() {
    // SAFETY: all zeros are a valid `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_fault as extern "C" fn(c_int) as usize;
    // On the alternate stack, where a thread has one.
    action.sa_flags = libc::SA_ONSTACK;
    // SAFETY: the structure is whole, and the handler calls async-signal-safe functions only. Where it can't be installed
    // the process ends as it would have without: by the signal.
    unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
}

extern "C" fn on_fault(_signal: c_int) {
    static SAID: AtomicBool = AtomicBool::new(false);
    // SAFETY: write(2) reads a constant of that length; that, pause(2) and _exit(2) are async-signal-safe.
    unsafe {
        while SAID.swap(true, Ordering::Relaxed) {
            libc::pause(); // another thread says it and ends the process
        }
        libc::write(libc::STDERR_FILENO, TEXT.as_ptr().cast(), TEXT.len());
        libc::_exit(Exit::Usage as c_int)
    }
}
