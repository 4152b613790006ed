//! Messages as lines of JSON over a pipe.
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, Read, Write};

/// The longest line: devices are few, and a layer's tensors are ten.
pub const MAX_LINE: usize = 64 << 10;

/// Writes one message.
///
/// # Errors
/// The pipe's.
pub fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one message; None at the end.
///
/// # Errors
/// The pipe's, or [`io::ErrorKind::InvalidData`] for what is no message.
pub fn read<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    parse(&line).map(Some)
}

/// One message of a line.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`].
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> io::Result<T> {
    serde_json::from_slice(line).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
