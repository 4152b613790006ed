//! A GGUF file in memory: mapped, so that weights are read where they lie.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::error::GgufError;
use super::header::{Header, TensorInfo};

/// A mapped file with a checked header.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

impl GgufFile {
    /// Maps the file at `path` and checks its header.
    ///
    /// # Errors
    /// The file can't be opened, or is not a sound GGUF file. Every error is a [`GgufError::InFile`] that names `path`.
    pub fn open(path: &Path) -> Result<GgufFile, GgufError> {
        GgufFile::open_unnamed(path).map_err(|e| e.in_file(path))
    }

    fn open_unnamed(path: &Path) -> Result<GgufFile, GgufError> {
        // Asked before opening: opening a pipe would wait for a writer.
        let kind = fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(GgufError::Folder);
        }
        if !kind.is_file() {
            return Err(GgufError::NotAFile);
        }
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Err(GgufError::Empty);
        }
        // SAFETY: the mapping is read-only and lives as long as the borrows of it, which `GgufFile` hands out. Rust wants
        // the bytes not to change meanwhile; that no other process writes to a model in use is what every program that
        // maps files relies on. The bytes are used as plain numbers, so a change means other numbers and no more: sizes
        // and spans were copied out of the map before they were checked.
        let map = unsafe { Mmap::map(&file)? };
        let header = Header::parse(&map, map.len() as u64)?;
        Ok(GgufFile { path: path.to_owned(), map, header })
    }

    /// Metadata and tensor table.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file.
    pub fn file_len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The bytes of tensor `t` of this file.
    ///
    /// # Panics
    /// `t` is of another file, and lies outside this one.
    pub fn data(&self, t: &TensorInfo) -> &[u8] {
        let start = (self.header.data_offset + t.offset) as usize;
        &self.map[start..start + t.bytes as usize]
    }
}
