//! Predictions of a base model in a file.
//!
//! Little-endian: the magic, then u32 vocabulary, tokens in a chunk, chunks, scored positions in a chunk; the chunks'
//! tokens as u32; then for each scored position the log-probabilities as f32 `[vocab]`. Its length follows from the four
//! counts, so a file of any other length, or of another text, is refused before anything is reserved.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use byteorder::{ByteOrder, LittleEndian, ReadBytesExt, WriteBytesExt};

use crate::exit::Failure;
use crate::load::naming;
use crate::output_file::OutputFile;

const MAGIC: &[u8; 8] = b"QWRENLP1";

/// What must agree for two runs to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    vocab: usize,
    chunk: usize,
    chunks: usize,
    /// Predictions scored in each chunk.
    pub scored: usize,
}

impl Shape {
    /// The shape of a run over `chunks`, which are of one length.
    pub fn of(vocab: usize, chunks: &[Vec<u32>]) -> Shape {
        let chunk = chunks[0].len();
        Shape { vocab, chunk, chunks: chunks.len(), scored: chunk - 1 - chunk / 2 }
    }

    fn fields(&self) -> [usize; 4] {
        [self.vocab, self.chunk, self.chunks, self.scored]
    }

    /// Length of a file of this shape; None if it would not fit in 64 bits.
    fn file_len(&self) -> Option<u64> {
        let [vocab, chunk, chunks, scored] = self.fields().map(|n| n as u64);
        let rows = chunks.checked_mul(scored)?.checked_mul(vocab)?.checked_mul(4)?;
        (MAGIC.len() as u64 + 16).checked_add(chunks.checked_mul(chunk)?.checked_mul(4)?)?.checked_add(rows)
    }
}

/// Writes a file of predictions.
pub struct BaseWriter {
    file: OutputFile,
    row: Vec<u8>,
}

impl BaseWriter {
    /// Begins the file.
    pub fn create(mut file: OutputFile, shape: &Shape, chunks: &[Vec<u32>]) -> anyhow::Result<BaseWriter> {
        let mut begin = || -> io::Result<()> {
            file.write_all(MAGIC)?;
            let fields = shape.fields().into_iter().map(|n| n as u32);
            fields.chain(chunks.iter().flatten().copied()).try_for_each(|n| file.write_u32::<LittleEndian>(n))
        };
        begin().map_err(|err| naming(file.path(), err.into()))?;
        Ok(BaseWriter { file, row: Vec::new() })
    }

    /// Appends one prediction.
    pub fn push(&mut self, row: &[f32]) -> anyhow::Result<()> {
        self.row.resize(row.len() * 4, 0);
        LittleEndian::write_f32_into(row, &mut self.row);
        self.file.write_all(&self.row).map_err(|err| naming(self.file.path(), err.into()))
    }

    /// Gives the file its name.
    pub fn finish(self) -> anyhow::Result<()> {
        self.file.finish()
    }
}

/// Reads a file of predictions, one at a time.
#[derive(Debug)]
pub struct BaseReader {
    path: PathBuf,
    file: BufReader<File>,
    bytes: Vec<u8>,
    row: Vec<f32>,
}

impl BaseReader {
    /// Opens a file that must be of this shape and of this text.
    pub fn open(path: &Path, shape: &Shape, chunks: &[Vec<u32>]) -> anyhow::Result<BaseReader> {
        let wrong = |what: &str| anyhow::Error::from(Failure::usage(format!("{}: {what}", path.display())));
        let unreadable = |err: io::Error| wrong(&format!("cannot be read: {err}"));
        let file = File::open(path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || &magic != MAGIC {
            return Err(wrong("is no file of --save-logits; make one with this option first"));
        }
        let mut fields = [0; 4];
        file.read_u32_into::<LittleEndian>(&mut fields).map_err(|_| wrong("is cut short; make it again"))?;
        if fields.map(|n| n as usize) != shape.fields() {
            let names = "vocabulary, tokens a chunk, chunks, predictions a chunk";
            let text =
                format!("holds {fields:?} ({names}), this run has {:?}; use the same text and -c", shape.fields());
            return Err(wrong(&text));
        }
        if shape.file_len() != Some(len) {
            return Err(wrong("has another length than its counts say; make it again"));
        }
        for &id in chunks.iter().flatten() {
            if file.read_u32::<LittleEndian>().map_err(unreadable)? != id {
                return Err(wrong("was made from another text or with another tokenizer; use the same text"));
            }
        }
        Ok(BaseReader { path: path.to_owned(), file, bytes: vec![0; shape.vocab * 4], row: vec![0.0; shape.vocab] })
    }

    /// The next prediction's log-probabilities, `[vocab]`.
    pub fn next_row(&mut self) -> anyhow::Result<&[f32]> {
        let wrong = |what: String| Failure::usage(format!("{}: {what}", self.path.display()));
        self.file.read_exact(&mut self.bytes).map_err(|err| wrong(format!("cannot be read: {err}")))?;
        LittleEndian::read_f32_into(&self.bytes, &mut self.row);
        if self.row.iter().any(|x| x.is_nan() || *x > 1e-3) {
            return Err(wrong("holds values that are no log-probabilities; make it again".into()).into());
        }
        Ok(&self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(dir: &Path) -> (PathBuf, Shape, Vec<Vec<u32>>) {
        let chunks = vec![vec![1, 2, 3, 0], vec![0, 1, 2, 3]];
        let shape = Shape::of(4, &chunks);
        let path = dir.join("base");
        let mut writer = BaseWriter::create(OutputFile::create(&path, false, []).unwrap(), &shape, &chunks).unwrap();
        writer.push(&[-1.0, -2.0, -3.0, -4.0]).unwrap();
        writer.push(&[-1.5, -2.0, f32::NEG_INFINITY, -0.5]).unwrap();
        writer.finish().unwrap();
        (path, shape, chunks)
    }

    #[test]
    fn what_is_saved_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (path, shape, chunks) = saved(dir.path());
        assert_eq!(shape.scored, 1);
        let mut reader = BaseReader::open(&path, &shape, &chunks).unwrap();
        assert_eq!(reader.next_row().unwrap(), [-1.0, -2.0, -3.0, -4.0]);
        assert_eq!(reader.next_row().unwrap()[3], -0.5);
    }

    #[test]
    fn every_cut_and_every_other_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, shape, mut chunks) = saved(dir.path());
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(BaseReader::open(&path, &shape, &chunks).is_err(), "{len}");
        }
        std::fs::write(&path, &whole).unwrap();
        chunks[1][2] = 7;
        let err = BaseReader::open(&path, &shape, &chunks).unwrap_err();
        assert!(err.to_string().contains("another text"), "{err}");
    }

    #[test]
    fn absurd_values_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, shape, chunks) = saved(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() - 32;
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert!(BaseReader::open(&path, &shape, &chunks).unwrap().next_row().is_err());
    }
}
