//! How the program ends: exit codes, the one line of an error, panics.

use std::error::Error;
use std::io;
use std::panic::{self, UnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;

use qwren::constraint::ConstraintError;
use qwren::ggml::GgmlError;
use qwren::model::ModelError;
use qwren::session::{EvalError, SessionError};
use qwren::template::TemplateError;
use qwren::vocab::VocabError;
use qwren_quant::gguf::GgufError;
use qwren_quant::kernel::LevelError;

use crate::console::Console;

/// The exit codes that scripts may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or stdout was closed by its reader.
    Done = 0,
    /// A fault of ours.
    Fault = 1,
    /// Wrong usage, or a file that is missing, truncated or malformed.
    Usage = 2,
    /// Sound, but not supported.
    Unsupported = 3,
    /// Not enough memory or disk.
    NoRoom = 4,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error that knows its exit code. Its text is one sentence: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    /// An error that ends with `exit`.
    pub fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into() }
    }

    /// Wrong usage or a wrong file.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, text)
    }
}

/// `err` in other words: a user reads `text`, and its exit code and cause stay.
pub fn reword(err: anyhow::Error, text: String) -> anyhow::Error {
    let failure = Failure::new(code(&err), text);
    err.context(failure)
}

/// The exit code of an error: that of a [`Failure`] in it, else that of the first cause that has one; else it is our fault.
pub fn code(err: &anyhow::Error) -> Exit {
    // A failure given as context is not among the links of the chain.
    if let Some(failure) = err.downcast_ref::<Failure>() {
        return failure.exit;
    }
    err.chain().find_map(link_code).unwrap_or(Exit::Fault)
}

fn link_code(link: &(dyn Error + 'static)) -> Option<Exit> {
    if let Some(failure) = link.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    library_code(link).or_else(|| io_code(link))
}

/// Errors of the libraries: most speak of a wrong file.
fn library_code(link: &(dyn Error + 'static)) -> Option<Exit> {
    let of_file = |unsupported| if unsupported { Exit::Unsupported } else { Exit::Usage };
    let of_gguf = |err: &GgufError| match err.cause() {
        GgufError::Io(io) => io_code(io).unwrap_or(Exit::Usage),
        GgufError::NoAddressSpace { .. } => Exit::NoRoom,
        _ => of_file(err.unsupported()),
    };
    if let Some(err) = link.downcast_ref::<GgufError>() {
        return Some(of_gguf(err));
    }
    if let Some(err) = link.downcast_ref::<ModelError>() {
        // Its own causes are not among the links where it speaks with their words.
        return Some(match err {
            ModelError::Gguf(err) => of_gguf(err),
            err => of_file(err.unsupported()),
        });
    }
    if let Some(err) = link.downcast_ref::<VocabError>() {
        return Some(of_file(err.unsupported()));
    }
    if let Some(err) = link.downcast_ref::<TemplateError>() {
        return Some(if matches!(err, TemplateError::Thread(_)) { Exit::Fault } else { Exit::Usage });
    }
    if let Some(err) = link.downcast_ref::<SessionError>() {
        return Some(match err {
            SessionError::Memory { .. } => Exit::NoRoom,
            SessionError::Zero(_) | SessionError::Batch(_) | SessionError::Ctx(_) | SessionError::Watch => Exit::Usage,
            SessionError::Threads { .. } | SessionError::Level(_) => Exit::Usage,
            SessionError::Ggml(GgmlError::Type(_) | GgmlError::RopeScaling | GgmlError::Cache(_)) => Exit::Unsupported,
            SessionError::CacheBlocks(_) => Exit::Unsupported,
            SessionError::Ggml(GgmlError::Memory) => Exit::NoRoom,
            SessionError::Ggml(_) => Exit::Fault,
        });
    }
    if let Some(err) = link.downcast_ref::<EvalError>() {
        return Some(match err {
            EvalError::Interrupted => Exit::Interrupted,
            EvalError::Empty | EvalError::Token { .. } | EvalError::Full { .. } => Exit::Usage,
            EvalError::Ggml(GgmlError::Memory) => Exit::NoRoom,
            EvalError::Failed(_) | EvalError::Ggml(_) => Exit::Fault,
        });
    }
    (link.is::<LevelError>() || link.is::<ConstraintError>()).then_some(Exit::Usage)
}

fn io_code(link: &(dyn Error + 'static)) -> Option<Exit> {
    if let Some(io) = link.downcast_ref::<io::Error>() {
        return match io.kind() {
            io::ErrorKind::BrokenPipe => Some(Exit::Done),
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::OutOfMemory => Some(Exit::NoRoom),
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::InvalidData => Some(Exit::Usage),
            _ => None,
        };
    }
    None
}

/// Prints what the parser of the command line has to say: help, the version, or what is wrong with it.
pub fn tell(said: &clap::Error) -> Exit {
    match said.print() {
        _ if said.use_stderr() => Exit::Usage,
        Ok(()) => Exit::Done,
        Err(err) => report(&err.into(), Console::new(false, false)),
    }
}

/// Says the error in one line, with its causes when verbose, and returns its exit code.
pub fn report(err: &anyhow::Error, console: Console) -> Exit {
    let exit = code(err);
    if exit != Exit::Done {
        // Only what is written to stdout fails without a name.
        let name = if err.is::<io::Error>() && !err.is::<Failure>() { "stdout: " } else { "" };
        console.line(format_args!("qwren: {name}{err}"));
        if console.is_verbose() {
            err.chain().skip(1).for_each(|cause| console.line(format_args!("  caused by: {cause}")));
        }
    }
    exit
}

/// What the last panic said and where; read by [`catch`].
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps a panic from printing: [`catch`] says it in one line, after everything on the stack has cleaned up.
pub fn silence_panics() {
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let what = text.unwrap_or("no message");
        let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = Some(format!("{what}{place}"));
        }
    }));
}

/// Runs `f`; a panic becomes an error that ends with [`Exit::Fault`].
pub fn catch<T>(f: impl FnOnce() -> anyhow::Result<T> + UnwindSafe) -> anyhow::Result<T> {
    panic::catch_unwind(f).unwrap_or_else(|_| {
        let what = LAST_PANIC.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
        Err(Failure::new(Exit::Fault, format!("internal fault: {what}; please report it with this line")).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_first_link_with_a_code_decides() {
        let full = anyhow::Error::from(io::Error::from(io::ErrorKind::StorageFull)).context("writing F");
        assert_eq!(code(&full), Exit::NoRoom);
        let wrapped = Err::<(), _>(full).context(Failure::usage("no")).unwrap_err();
        assert_eq!(code(&wrapped), Exit::Usage);
        assert_eq!(code(&anyhow::anyhow!("what?")), Exit::Fault);
        assert_eq!(code(&io::Error::from(io::ErrorKind::BrokenPipe).into()), Exit::Done);
    }

    #[test]
    fn memory_that_a_file_wants_is_no_fault_of_the_file() {
        for (kind, exit) in [(io::ErrorKind::OutOfMemory, Exit::NoRoom), (io::ErrorKind::NotFound, Exit::Usage)] {
            let model = ModelError::Gguf(GgufError::Io(kind.into()));
            assert_eq!(code(&model.into()), exit);
        }
        assert_eq!(code(&GgufError::NoAddressSpace { bytes: 1 }.into()), Exit::NoRoom);
    }

    #[test]
    fn a_panic_becomes_a_fault() {
        silence_panics();
        let err = catch(|| -> anyhow::Result<()> { panic!("odd number {}", 3) }).unwrap_err();
        assert_eq!(code(&err), Exit::Fault);
        assert!(err.to_string().contains("odd number 3 at "), "{err}");
    }
}
