//! The KV cache of a prompt on disk, so that a long one is read once.
//!
//! A line of JSON says what it is of; then come the bytes of the cache, and a SHA-256 over all of that. The file may come
//! from anybody: sizes follow from the model in hand and are compared before anything is read, and what does not fit, is
//! torn or belongs to another model is not used.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::gpu::Fault;
use crate::kv::{KvCache, RANGE};
use crate::model::Model;
use crate::session::Session;

/// What the first line begins with, so that no other file is taken for one of these.
const MAGIC: &str = "{\"qwren_prompt_cache\":3,";
/// The format's version.
const VERSION: u32 = 3;
/// Longest first line: ten digits and a comma for each token of a context of a million.
const MAX_HEAD: u64 = 16 << 20;
/// Characters of a line in the file that are shown.
const QUOTED: usize = 150;
/// Bytes of a SHA-256.
const DIGEST: usize = 32;

/// Why a file is not used.
#[derive(Debug, Error)]
pub enum CacheFault {
    /// It is something else, and must not be replaced.
    #[error("is no prompt cache")]
    Alien,
    /// Another model's.
    #[error("belongs to another model")]
    Model,
    /// Other types of keys or values.
    #[error("was made with other types of keys and values ({0})")]
    Types(String),
    /// Computed with other instructions, or elsewhere, which rounds otherwise.
    #[error("was computed otherwise ({0})")]
    Computed(String),
    /// Bytes were changed or are missing.
    #[error("is damaged")]
    Damaged,
    /// This session's cache isn't ours.
    #[error("can't be used with --stock-ops")]
    Stock,
    /// It can't be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Why nothing is kept.
#[derive(Debug, Error)]
pub enum SaveFault {
    /// The file can't be written.
    #[error("cannot be written: {0}")]
    Io(#[from] io::Error),
    /// A device's part can't be had.
    #[error("{0}")]
    Device(#[from] Fault),
    /// Layers went from a device to the processor in the middle.
    #[error("a part was computed by a device that is gone")]
    Mixed,
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The format's version.
    qwren_prompt_cache: u32,
    /// [`fingerprint`] of the model, in hexadecimal digits.
    model: String,
    type_k: String,
    type_v: String,
    /// [`Session::computed_by`].
    by: String,
    tokens: Vec<u32>,
}

/// Fills an empty session with what the file holds, as far as its context goes; gives the number of tokens. A file that
/// isn't there holds none.
///
/// # Errors
/// Why it is not used; the session is empty then.
pub fn load(session: &mut Session<'_>, path: &Path) -> Result<usize, CacheFault> {
    let types = types(session).ok_or(CacheFault::Stock)?;
    // A pipe or a device would keep us waiting.
    let length = match path.metadata() {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(err) => return Err(err.into()),
        Ok(meta) if !meta.is_file() => return Err(CacheFault::Alien),
        Ok(meta) => meta.len(),
    };
    if length == 0 {
        return Ok(0);
    }
    let mut input = Hashing { inner: BufReader::new(File::open(path)?), hash: Sha256::new() };
    let head = read_head(&mut input)?;
    if head.model != fingerprint(session.model()) {
        return Err(CacheFault::Model);
    }
    if (head.type_k.as_str(), head.type_v.as_str()) != types {
        return Err(CacheFault::Types(format!("{}, {}", head.type_k, head.type_v)));
    }
    if session.computed_by().is_none_or(|by| by != head.by) {
        return Err(CacheFault::Computed(head.by.chars().take(QUOTED).collect()));
    }
    let vocab = session.model().hparams().vocab;
    if head.tokens.iter().any(|&id| id as usize >= vocab) {
        return Err(CacheFault::Damaged);
    }
    let (all, ctx) = (head.tokens.len(), session.ctx());
    let kv = session.kv_mut().ok_or(CacheFault::Stock)?;
    let result = fill(&mut input, kv, all, ctx);
    let whole = result.is_ok() && {
        let sum = std::mem::take(&mut input.hash).finalize();
        let mut stored = [0; DIGEST];
        input.inner.read_exact(&mut stored).is_ok() && stored[..] == sum[..] && input.inner.fill_buf()?.is_empty()
    };
    if !whole {
        return Err(CacheFault::Damaged);
    }
    let tokens = &head.tokens[..all.min(ctx)];
    session.hold(tokens);
    Ok(tokens.len())
}

fn read_head(input: &mut Hashing<BufReader<File>>) -> Result<Head, CacheFault> {
    let mut begin = [0; MAGIC.len()];
    if input.read_exact(&mut begin).is_err() || begin != *MAGIC.as_bytes() {
        return Err(CacheFault::Alien);
    }
    let mut line = MAGIC.as_bytes().to_vec();
    (&mut input.inner).take(MAX_HEAD).read_until(b'\n', &mut line)?;
    input.hash.update(&line[MAGIC.len()..]);
    serde_json::from_slice(&line).map_err(|_| CacheFault::Damaged)
}

/// Reads `all` positions into the cache, which has room for `ctx`; what is more is read past.
fn fill(input: &mut impl Read, kv: &mut KvCache, all: usize, ctx: usize) -> io::Result<()> {
    let kept = all.min(ctx);
    for (range, run) in kv.prefix_mut(kept) {
        let in_range = |n: usize| RANGE.min(n - range * RANGE);
        input.read_exact(run)?;
        pass(input, run.len() / in_range(kept) * (in_range(all) - in_range(kept)))?;
    }
    // The ranges of which nothing is kept.
    let later = all.saturating_sub(kept.next_multiple_of(RANGE));
    pass(input, later.checked_mul(kv.position_bytes()).ok_or(io::ErrorKind::UnexpectedEof)?)
}

/// Reads past `bytes`.
fn pass(input: &mut impl Read, bytes: usize) -> io::Result<()> {
    match io::copy(&mut input.take(bytes as u64), &mut io::sink())? == bytes as u64 {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes the first `n` tokens of the session to a file, which replaces the old one when it is whole. Only its owner can
/// read it: it tells what was said.
///
/// # Errors
/// When it can't be written. A session with stock operations writes nothing.
///
/// # Panics
/// When the session holds fewer tokens.
pub fn save(session: &mut Session<'_>, n: usize, path: &Path) -> Result<(), SaveFault> {
    let Some((type_k, type_v)) = types(session) else { return Ok(()) };
    let head = Head {
        qwren_prompt_cache: VERSION,
        model: fingerprint(session.model()),
        type_k: type_k.to_owned(),
        type_v: type_v.to_owned(),
        by: session.computed_by().ok_or(SaveFault::Mixed)?,
        tokens: session.tokens()[..n].to_vec(),
    };
    let Some(kv) = session.kv(n)? else { return Ok(()) };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).map_err(|err| io::Error::from(err.kind()))?;
    let mut out = Hashing { inner: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new() };
    serde_json::to_writer(&mut out, &head).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    for (_, run) in kv.prefix(n) {
        out.write_all(run)?;
    }
    let sum = out.hash.finalize();
    let mut inner = out.inner;
    inner.write_all(&sum)?;
    let file = inner.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.persist(path).map_err(|err| err.error)?;
    Ok(())
}

fn types(session: &Session<'_>) -> Option<(&'static str, &'static str)> {
    session.kv_types().map(|(k, v)| (k.name(), v.name()))
}

/// Tells models apart without reading them whole: the header, and of each tensor the ends and some pages between.
/// Training changes all of these.
fn fingerprint(model: &Model) -> String {
    const PAGE: usize = 4096;
    const PAGES: usize = 8;
    let mut hash = Sha256::new();
    let gguf = model.gguf();
    hash.update(gguf.file_len().to_le_bytes());
    for tensor in gguf.header().tensors() {
        hash.update(tensor.name.as_bytes());
        hash.update(format!("{:?}{:?}", tensor.dtype, tensor.shape));
        let data = gguf.data(tensor);
        for i in 0..=PAGES {
            let at = data.len().saturating_sub(PAGE) / PAGES * i;
            hash.update(&data[at..data.len().min(at + PAGE)]);
        }
    }
    // Positions are turned by these.
    hash.update(format!("{:?}", model.hparams()));
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Hashes what passes.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
