//! What an unfinished output holds already, checked byte by byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use qwren_quant::gguf::Layout;
use qwren_quant::manifest::Digest;
use sha2::{Digest as _, Sha256};

use super::journal::{Done, Past};
use super::output::Output;
use super::{Progress, Settings};
use crate::error::{Error, Problem};
use crate::plan::Plan;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// Where a run begins.
pub(super) struct Start {
    /// For each tensor: what is known of it if its bytes are there.
    pub done: Vec<Option<Done>>,
    /// The files' hashes as far as they go.
    pub hashes: Vec<FileHash>,
}

/// The SHA-256 of a file, fed from its front on.
#[derive(Clone)]
pub(super) struct FileHash {
    sha: Sha256,
    /// Bytes of the file that went in.
    at: u64,
}

/// Compares what stands in the files with what the journal tells, and writes what belongs to no tensor: header and padding.
/// A tensor whose bytes differ is as if it had never been written.
pub(super) fn survey(plan: &Plan, output: &Output, past: &mut Past, settings: &Settings) -> Result<Start, Error> {
    let mut start = Start { done: Vec::new(), hashes: Vec::new() };
    for (planned, file) in plan.files.iter().zip(output.files()) {
        let (layout, file) = (&planned.layout, file.file());
        let fail = |e| output.write_error(e);
        file.write_all_at(&layout.header, 0).map_err(fail)?;
        let mut hash = FileHash { sha: Sha256::new_with_prefix(&layout.header), at: layout.data_offset };
        for (i, t) in layout.tensors.iter().enumerate() {
            let known = past.tensors.remove(&t.name);
            let begin = layout.data_offset + t.offset;
            let mut ahead = hash.clone();
            let found = match &known {
                Some(_) => digest(file, begin, t.bytes, &mut ahead, settings).map_err(|e| e.of(output.path()))?,
                None => None,
            };
            let sound = known.filter(|done| found == Some(done.sha256));
            if sound.is_some() {
                pad(file, layout, i, &mut ahead).map_err(fail)?;
                hash = ahead;
                (settings.progress)(Progress { bytes: t.bytes, tensor: &t.name, kept: true });
            }
            start.done.push(sound);
        }
        start.hashes.push(hash);
    }
    output.journal().count(start.done.iter().flatten().count());
    Ok(start)
}

/// The digest of `bytes` bytes from `begin` on, or `None` if they can't be read; they also go into `hash` if they are what
/// it waits for.
fn digest(
    file: &File,
    begin: u64,
    bytes: u64,
    hash: &mut FileHash,
    settings: &Settings,
) -> Result<Option<Digest>, Problem> {
    let mut sha = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut at = begin;
    while at < begin + bytes {
        settings.check_interrupt()?;
        let piece = &mut piece[..(begin + bytes - at).min(PIECE as u64) as usize];
        if file.read_exact_at(piece, at).is_err() {
            return Ok(None);
        }
        sha.update(&*piece);
        hash.offer(at, piece);
        at += piece.len() as u64;
    }
    Ok(Some(Digest(sha.finalize().into())))
}

/// Writes the zeros between tensor `i` of a file and the next one, or the file's end.
pub(super) fn pad(file: &File, layout: &Layout, i: usize, hash: &mut FileHash) -> io::Result<()> {
    let t = &layout.tensors[i];
    let end = layout.data_offset + t.offset + t.bytes;
    let next = layout.tensors.get(i + 1).map_or(layout.file_bytes, |next| layout.data_offset + next.offset);
    let zeros = vec![0; (next - end) as usize];
    file.write_all_at(&zeros, end)?;
    hash.offer(end, &zeros);
    Ok(())
}

impl FileHash {
    /// Takes the file's bytes from `begin` on if all before them went in.
    pub fn offer(&mut self, begin: u64, bytes: &[u8]) {
        if begin == self.at {
            self.sha.update(bytes);
            self.at += bytes.len() as u64;
        }
    }

    /// Reads up to byte `to` what did not go in yet.
    pub fn catch_up(&mut self, file: &File, to: u64) -> io::Result<()> {
        let mut piece = vec![0; PIECE.min(to.saturating_sub(self.at) as usize)];
        while self.at < to {
            let piece = &mut piece[..(to - self.at).min(PIECE as u64) as usize];
            file.read_exact_at(piece, self.at)?;
            self.offer(self.at, piece);
        }
        Ok(())
    }

    /// The digest of all that went in.
    pub fn finish(self) -> Digest {
        Digest(self.sha.finalize().into())
    }
}
