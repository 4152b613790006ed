//! `--imatrix`: how much an error in each column of a matrix matters to the quantizers.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use qwren_quant::block::Codec;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::{Quoted, Value};
use qwren_quant::imatrix::{Imatrix, ImatrixError};
use sha2::{Digest, Sha256};

use crate::Keys;
use crate::arch::Target;
use crate::error::{Error, Problem};
use crate::recipe::Choice;

/// An importance matrix that fits a model. Its values stay in the file until a tensor is quantized.
#[derive(Debug)]
pub struct Importances {
    path: PathBuf,
    matrix: Imatrix,
    sha256: String,
}

/// The importance of a tensor's columns, of each expert's if it is one of experts.
#[derive(Debug)]
pub struct Columns {
    /// `[experts, cols]`
    weights: Vec<f32>,
    cols: usize,
    /// Rows of an expert.
    rows: u64,
}

/// Does the quantizer of `dtype` have a choice? Floats and Q8_0 are rounded.
fn heeds(dtype: DType) -> bool {
    dtype.block_len() > 1 && dtype != DType::Q8_0
}

impl Importances {
    /// Opens the file at `path` and compares every entry with `tensors`; remarks for the user are added to `notes`.
    ///
    /// # Errors
    /// It is no importance matrix, damaged, or of another model.
    pub fn open(path: &Path, tensors: &[(Target, Choice)], notes: &mut Vec<String>) -> Result<Importances, Error> {
        let wrong = |e: ImatrixError| Problem::Imatrix(e.into_cause().into()).of(path);
        let matrix = Imatrix::read(path).map_err(wrong)?;
        let known = |name: &str| tensors.iter().any(|(t, _)| t.name == name);
        let strange = |name: &&str| !known(name) && (name.starts_with("blk.") || !matrix.names().any(known));
        if let Some(name) = matrix.names().find(strange) {
            return Err(Problem::ImatrixAlien(Quoted::new(name)).of(path));
        }
        let sha256 = sha256(path).map_err(|e| Problem::Read(e).of(path))?;
        let all = Importances { path: path.to_owned(), matrix, sha256 };

        let (mut bare, mut experts, mut unseen) = (Vec::new(), 0, 0);
        for (target, choice) in tensors {
            match all.find(target)? {
                Some(found) if target.shape.len() == 3 => {
                    experts += target.shape[2];
                    unseen += found.unseen;
                }
                None if heeds(choice.dtype) => bare.push(target.name.as_str()),
                _ => {}
            }
        }
        let file = path.display();
        if !tensors.iter().any(|(_, choice)| heeds(choice.dtype)) {
            notes.push(format!("{file} changes nothing: no tensor gets a type whose quantizer has a choice"));
        }
        if let [first, rest @ ..] = &bare[..] {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            notes.push(format!("{file} has no entry for {first}{more}: there every column counts the same"));
        }
        if unseen > 0 {
            notes.push(format!(
                "{file} has seen nothing of {unseen} of {experts} matrices of experts: there every column counts the same"
            ));
        }
        Ok(all)
    }

    /// The keys that llama-quantize writes.
    pub fn keys(&self) -> Keys {
        let key = |name: &str, value: Value| (format!("quantize.imatrix.{name}"), value);
        let mut keys = vec![key("file", Value::String(self.path.to_string_lossy().into_owned()))];
        if let Some(dataset) = self.matrix.datasets().first() {
            keys.push(key("dataset", Value::String(dataset.clone())));
        }
        keys.push(key("entries_count", Value::U32(self.matrix.names().len() as u32)));
        if self.matrix.chunks() > 0 {
            keys.push(key("chunks_count", Value::U32(self.matrix.chunks())));
        }
        keys
    }

    /// SHA-256 of the file in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The importance of the columns of `target`, if there is an entry and a tensor of type `dtype` has a use for it.
    ///
    /// # Errors
    /// The file can't be read any more, or is another one by now.
    pub fn columns(&self, target: &Target, dtype: DType) -> Result<Option<Columns>, Error> {
        if !heeds(dtype) {
            return Ok(None);
        }
        let rows = target.shape.get(1).copied().unwrap_or(1);
        let cols = target.cols() as usize;
        Ok(self.find(target)?.map(|found| Columns { weights: found.weights, cols, rows }))
    }

    fn find(&self, target: &Target) -> Result<Option<qwren_quant::imatrix::Importance>, Error> {
        let experts = target.shape.get(2).copied().unwrap_or(1);
        let found = self.matrix.importance(&target.name, target.cols() as usize, experts as usize);
        found.map_err(|e| Problem::Imatrix(e.into()).of(&self.path))
    }
}

impl Columns {
    /// Quantizes rows from `first` on, counted over all experts, each row by the importance of its expert's columns.
    pub fn quantize(&self, codec: &Codec, first: u64, values: &[f32], out: &mut [u8]) {
        let row_bytes = self.cols / codec.dtype.block_len() * codec.dtype.block_bytes();
        let (mut row, mut values, mut out) = (first, values, out);
        while !values.is_empty() {
            let expert = (row / self.rows) as usize;
            let left = (self.rows - row % self.rows) as usize;
            let n = left.min(values.len() / self.cols);
            let (these, rest) = values.split_at(n * self.cols);
            let (bytes, tail) = out.split_at_mut(n * row_bytes);
            codec.quantize(these, bytes, Some(&self.weights[expert * self.cols..][..self.cols]));
            (row, values, out) = (row + n as u64, rest, tail);
        }
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut sha, mut piece) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => sha.update(&piece[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use qwren_quant::block::codec;

    use super::*;

    #[test]
    fn each_row_is_quantized_by_its_experts_columns() {
        let codec = codec(DType::Q4K).unwrap();
        let (cols, rows, experts) = (256, 3, 4);
        let weights: Vec<f32> = (0..experts * cols).map(|i| 1.0 + (i * i % 89) as f32).collect();
        let values: Vec<f32> = (0..experts * rows * cols).map(|i| (i as f32 * 0.7).sin() * (i % 31) as f32).collect();
        let expected: Vec<u8> = (0..experts * rows)
            .flat_map(|row| {
                let mut bytes = vec![0; 144];
                let weights = &weights[row / rows * cols..][..cols];
                codec.quantize(&values[row * cols..][..cols], &mut bytes, Some(weights));
                bytes
            })
            .collect();
        let columns = Columns { weights, cols, rows: rows as u64 };
        // Pieces that end inside of experts and reach over several.
        for step in [1, 2, 4, 5, 12] {
            let mut out = vec![0; expected.len()];
            for first in (0..experts * rows).step_by(step) {
                let n = step.min(experts * rows - first);
                let (values, out) = (&values[first * cols..][..n * cols], &mut out[first * 144..][..n * 144]);
                columns.quantize(codec, first as u64, values, out);
            }
            assert!(out == expected, "{step} rows at a time");
        }
    }
}
