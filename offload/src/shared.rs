//! Memory that two processes share: floats, or bytes. Its elements are atomics, so that whatever the other process does, reading gives numbers.
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bytes of a word.
pub const WORD: usize = size_of::<u32>();

/// Floats in shared memory.
pub struct Shared {
    map: MmapRaw,
    file: File,
}

impl Shared {
    /// Room for `floats` floats, all 0. Pages are taken as they are written.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn create(floats: usize) -> io::Result<Shared> {
        let bytes = floats.checked_mul(4).filter(|&n| n > 0).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = memfd_create("qwren-activations", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, bytes as u64)?;
        // Memory that shrinks under a map is a signal, and the other process could do that.
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Shared::open(File::from(fd))
    }

    /// What the other process created.
    ///
    /// # Errors
    /// It is no such memory.
    pub fn open(file: File) -> io::Result<Shared> {
        Ok(Shared { map: MmapOptions::new().map_raw(&file)?, file })
    }

    /// What is given to the other process.
    pub fn file(&self) -> impl AsFd {
        &self.file
    }

    /// How many floats have room.
    pub fn len(&self) -> usize {
        self.map.len() / 4
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn words(&self) -> &[AtomicU32] {
        // SAFETY: the map is readable and writable, starts on a page, has room for `len` words, and lives as long as `self`.
        // Any bytes are valid words. The memory is only ever reached through atomics here, and by another process, to which
        // Rust's rules for data races within a program don't extend.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU32>(), self.len()) }
    }

    /// Writes `values` at the front.
    ///
    /// # Panics
    /// When they are too many.
    pub fn write(&self, values: &[f32]) {
        for (word, value) in self.words()[..values.len()].iter().zip(values) {
            word.store(value.to_bits(), Relaxed);
        }
    }

    /// Reads as many values from the front as `values` has.
    ///
    /// # Panics
    /// When they are too many.
    pub fn read(&self, values: &mut [f32]) {
        let words = &self.words()[..values.len()];
        for (value, word) in values.iter_mut().zip(words) {
            *value = f32::from_bits(word.load(Relaxed));
        }
    }

    /// As [`Shared::write`], bytes.
    ///
    /// # Panics
    /// When they are too many.
    pub fn write_bytes(&self, bytes: &[u8]) {
        for (word, bytes) in self.words()[..bytes.len().div_ceil(WORD)].iter().zip(bytes.chunks(WORD)) {
            let mut whole = [0; WORD];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u32::from_le_bytes(whole), Relaxed);
        }
    }

    /// As [`Shared::read`], bytes.
    ///
    /// # Panics
    /// When they are too many.
    pub fn read_bytes(&self, bytes: &mut [u8]) {
        let words = &self.words()[..bytes.len().div_ceil(WORD)];
        for (bytes, word) in bytes.chunks_mut(WORD).zip(words) {
            bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes()[..bytes.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_see_the_same_numbers_and_neither_can_shrink_them() {
        let ours = Shared::create(1000).unwrap();
        let theirs = Shared::open(ours.file.try_clone().unwrap()).unwrap();
        ours.write(&[1.5, -2.0, f32::NAN]);
        let mut seen = [0.0; 4];
        theirs.read(&mut seen);
        assert_eq!(seen[..2], [1.5, -2.0]);
        assert!(seen[2].is_nan() && seen[3] == 0.0);
        theirs.write_bytes(b"seven b");
        let mut seven = [0; 7];
        ours.read_bytes(&mut seven);
        assert_eq!(&seven, b"seven b");
        assert!(ftruncate(&theirs.file, 4).is_err());
        assert_eq!(theirs.len(), 1000);
        assert!(Shared::create(0).is_err() && Shared::create(usize::MAX).is_err());
    }
}
