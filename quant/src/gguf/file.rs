//! A model in memory: one GGUF file, or all parts of a split one, mapped, so that weights are read where they lie.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Advice, Mmap, UncheckedAdvice};

use super::cursor::HEADER_CAP;
use super::error::GgufError;
use super::header::{Header, TensorInfo};
use super::split::{self, Place};

/// Read at a time: long enough for any disk's full speed, short enough to say how far it is.
pub const PIECE: usize = 16 << 20;

/// A mapped model with a checked header.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    /// At least one.
    parts: Vec<GgufPart>,
    header: Header,
}

/// One of the files of a model; the only one, mostly.
#[derive(Debug)]
pub struct GgufPart {
    path: PathBuf,
    file: File,
    map: Arc<Mmap>,
    data_offset: u64,
}

impl GgufFile {
    /// Maps the file at `path` and checks its header. If it is a part of a split model, whichever, all parts are mapped: they
    /// lie beside it and are named `NAME-00001-of-00003.gguf`. The header then has the first part's keys and all tensors.
    ///
    /// # Errors
    /// A file can't be opened, or is not a sound GGUF file, or a part is missing or of another model. Every error is a
    /// [`GgufError::InFile`] that names the file.
    pub fn open(path: &Path) -> Result<GgufFile, GgufError> {
        let (part, header) = GgufPart::open(path)?;
        let place = Place::of(&header).map_err(|e| e.in_file(path))?;
        let (parts, header) = match place {
            None => (vec![part], header),
            Some(place) => open_all(path, place, (part, header))?,
        };
        Ok(GgufFile { path: path.to_owned(), parts, header })
    }

    /// Metadata and tensor table.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files in order: one, or all parts of a split model.
    pub fn parts(&self) -> &[GgufPart] {
        &self.parts
    }

    /// Bytes in all files.
    pub fn file_len(&self) -> u64 {
        self.parts.iter().map(|part| part.map.len() as u64).sum()
    }

    /// The bytes of tensor `t` of this model.
    ///
    /// # Panics
    /// `t` is of another model, and lies outside this one.
    pub fn data(&self, t: &TensorInfo) -> &[u8] {
        &self.parts[t.part].map[self.span(t)]
    }

    /// Where the bytes of tensor `t` of this model lie in the file of its part.
    pub fn span(&self, t: &TensorInfo) -> Range<usize> {
        let start = (self.parts[t.part].data_offset + t.offset) as usize;
        start..start + t.bytes as usize
    }
}

impl GgufFile {
    /// Asks the system to read `bytes`, which lie in this model, without waiting for them. No more than a hint.
    pub fn will_need(&self, bytes: &[u8]) {
        let start = bytes.as_ptr() as usize;
        for part in &self.parts {
            let base = part.map.as_ptr() as usize;
            if start >= base && start + bytes.len() <= base + part.map.len() {
                let _ = part.map.advise_range(Advice::WillNeed, start - base, bytes.len());
            }
        }
    }
}

impl GgufPart {
    /// Brings the bytes `span` of the file into memory and waits for them. No more than a service: what fails here fails
    /// again, and is told, where the bytes are used.
    ///
    /// # Panics
    /// The file has no such bytes.
    pub fn read_ahead(&self, span: Range<usize>) {
        let bytes = &self.map[span.clone()];
        // Pages and their table entries at once. Other systems are asked for the pages, and waited for by touching them.
        #[cfg(target_os = "linux")]
        let read = self.map.advise_range(Advice::PopulateRead, span.start, span.len()).is_ok();
        #[cfg(not(target_os = "linux"))]
        let read = false;
        if !read {
            let _ = self.map.advise_range(Advice::WillNeed, span.start, span.len());
            bytes.iter().step_by(4096).for_each(|byte| {
                std::hint::black_box(*byte);
            });
        }
    }

    /// What reads the file on any thread, also when the model is gone.
    ///
    /// # Errors
    /// No more files can be opened.
    pub fn reader(&self) -> io::Result<PartReader> {
        Ok(PartReader { file: self.file.try_clone()?, map: self.map.clone() })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, to be read elsewhere.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn open(path: &Path) -> Result<(GgufPart, Header), GgufError> {
        GgufPart::open_unnamed(path).map_err(|e| e.in_file(path))
    }

    fn open_unnamed(path: &Path) -> Result<(GgufPart, Header), GgufError> {
        // Asked before opening: opening a pipe would wait for a writer.
        let kind = fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(GgufError::Folder);
        }
        if !kind.is_file() {
            return Err(GgufError::NotAFile);
        }
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        if bytes == 0 {
            return Err(GgufError::Empty);
        }
        // SAFETY: the mapping is read-only and lives as long as the borrows of it, which `GgufFile` hands out. Rust wants
        // the bytes not to change meanwhile; that no other process writes to a model in use is what every program that
        // maps files relies on. The bytes are used as plain numbers, so a change means other numbers and no more: sizes
        // and spans were copied out of the map before they were checked.
        let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(|err| match err.kind() {
            io::ErrorKind::OutOfMemory => GgufError::NoAddressSpace { bytes },
            _ => err.into(),
        })?);
        let header = Header::parse(&map, map.len() as u64)?;
        Ok((GgufPart { path: path.to_owned(), file, map, data_offset: header.data_offset }, header))
    }
}

/// A file of a model, to be read beside its map.
pub struct PartReader {
    file: File,
    map: Arc<Mmap>,
}

impl PartReader {
    /// Reads the bytes from `at` on.
    ///
    /// # Errors
    /// The file can't be read, or has become shorter.
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, at as u64)
    }

    /// Lets the process's map of the bytes `span` go, as far as they are whole pages: whoever reads them there finds them again
    /// in the system's copy of the file.
    pub fn let_go(&self, span: Range<usize>) {
        let page = rustix::param::page_size();
        let (start, end) = (span.start.next_multiple_of(page), span.end.min(self.map.len()) / page * page);
        if start < end {
            // SAFETY: a read-only, shared map of a file: a page that is touched again is filled from the file, with the bytes
            // that references into the map saw before.
            let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        }
    }
}

/// All parts of the model of which `given` is one, and their common header.
fn open_all(path: &Path, place: Place, given: (GgufPart, Header)) -> Result<(Vec<GgufPart>, Header), GgufError> {
    let paths = place.siblings(path).map_err(|e| e.in_file(path))?;
    let mut missing = paths.iter().filter(|path| !path.exists());
    if let Some(first) = missing.next() {
        return Err(GgufError::PartMissing { count: place.count, more: missing.count() }.in_file(first));
    }
    let mut given = Some(given);
    let (mut parts, mut headers) = (Vec::new(), Vec::<Header>::new());
    // Headers are held in memory: together they may take what one may.
    let mut left = HEADER_CAP as u64;
    for (no, path) in paths.iter().enumerate() {
        let (part, header) = match given.take_if(|_| no == place.no) {
            Some(given) => given,
            None => GgufPart::open(path)?,
        };
        split::check(headers.first().unwrap_or(&header), place, &header, no).map_err(|e| e.in_file(path))?;
        left = left.checked_sub(part.data_offset).ok_or_else(|| {
            GgufError::HeaderTooLarge { what: format!("part {}", no + 1), cap: HEADER_CAP }.in_file(path)
        })?;
        parts.push(part);
        headers.push(header);
    }
    let header = split::join(place, headers).map_err(|e| e.in_file(path))?;
    Ok((parts, header))
}
