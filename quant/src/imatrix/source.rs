//! Bytes that are fetched by position, so that a file need be neither mapped nor held.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes by position.
pub trait ReadAt {
    /// Fills `out` with the bytes from `at` on.
    ///
    /// # Errors
    /// `UnexpectedEof` where there are fewer, or what the system returns.
    fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, out, at)
    }
}

impl ReadAt for &[u8] {
    fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let bytes = rest.get(..out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}
