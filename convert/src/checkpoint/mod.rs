//! A checkpoint folder: its configuration, and where in which file each tensor lies. Nothing is held or mapped:
//! weights are read by position when they are needed.

pub mod config;
pub(crate) mod files;
pub mod header;
mod lookup;
pub(crate) mod quantization;
mod shards;
mod stamp;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;

use crate::error::{Error, Problem};
pub(crate) use lookup::Lookup;
pub use quantization::{AwqConfig, GptqConfig, Quantization, Strategy, WeightArgs};
use shards::Weights;
pub use stamp::Stamp;

/// The tensors of a checkpoint, every name, type, shape and span checked.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    shards: Vec<Shard>,
    tensors: Vec<Stored>,
    by_name: HashMap<String, usize>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    /// As it was opened.
    stamp: Stamp,
}

/// A tensor as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Name in the checkpoint.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    shard: usize,
    offset: u64,
    bytes: u64,
}

impl Checkpoint {
    /// Finds and checks the weights of the folder `dir`: `model.safetensors`, or shards with or without an index.
    ///
    /// # Errors
    /// A missing shard, a damaged or truncated file, an LFS pointer: see [`Problem`].
    pub fn open(dir: &Path) -> Result<Checkpoint, Error> {
        let Weights { files, placed, notes } = shards::locate(dir)?;
        let mut all = Checkpoint {
            dir: dir.to_path_buf(),
            shards: Vec::new(),
            tensors: Vec::new(),
            by_name: HashMap::new(),
            notes,
        };
        let mut unplaced = 0;
        let mut twice = 0;
        for name in files {
            let path = dir.join(&name);
            let (file, len) = files::open(&path)?;
            let stamp = Stamp::of(&file, &path)?;
            for entry in header::read(&path, &file, len)? {
                match placed.as_ref().map(|p| p.get(&entry.name)) {
                    Some(None) => unplaced += 1,
                    Some(Some(shard)) if *shard != name => twice += 1,
                    _ => twice += usize::from(!all.add(entry)),
                }
            }
            all.shards.push(Shard { path, file, stamp });
        }
        if let Some(placed) = placed {
            let mut absent = placed.iter().filter(|(tensor, _)| !all.by_name.contains_key(*tensor));
            if let Some((tensor, shard)) = absent.next() {
                let problem =
                    Problem::StaleIndex { tensor: tensor.clone(), shard: shard.clone(), count: 1 + absent.count() };
                return Err(problem.of(dir.join(shards::INDEX)));
            }
        }
        if unplaced > 0 {
            all.notes.push(format!("{unplaced} tensors that the index does not name are not read"));
        }
        if twice > 0 {
            all.notes.push(format!("{twice} tensors are stored twice; one copy of each is read"));
        }
        Ok(all)
    }

    /// Adds a tensor of the shard that is being read; false when its name is there already.
    fn add(&mut self, entry: header::Entry) -> bool {
        let header::Entry { name, dtype, shape, offset, bytes } = entry;
        if self.by_name.contains_key(&name) {
            return false;
        }
        self.by_name.insert(name.clone(), self.tensors.len());
        self.tensors.push(Stored { name, dtype, shape, shard: self.shards.len(), offset, bytes });
        true
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All tensors, file by file in the order of their data.
    pub fn tensors(&self) -> &[Stored] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&Stored> {
        self.index_of(name).map(|i| &self.tensors[i])
    }

    /// Position of the tensor of that name in [`tensors`](Self::tensors).
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Remarks for the user: what was found and not read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The files with weights, and how each was when it was opened.
    pub fn weight_files(&self) -> impl ExactSizeIterator<Item = (&Path, &File, &Stamp)> {
        self.shards.iter().map(|s| (s.path.as_path(), &s.file, &s.stamp))
    }

    /// Which of [`weight_files`](Self::weight_files) holds a tensor.
    pub fn file_number(&self, tensor: &Stored) -> usize {
        tensor.shard
    }

    /// Are the files with weights still what they were when they were opened?
    ///
    /// # Errors
    /// One was written to, cut, or replaced.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.shards.iter().try_for_each(|s| s.stamp.check(&s.file, &s.path))
    }

    /// The file that holds a tensor.
    pub fn file_of(&self, tensor: &Stored) -> &Path {
        &self.shards[tensor.shard].path
    }

    /// Fills `buf` with the tensor's bytes from `offset` on.
    ///
    /// # Errors
    /// The read fails, or the file became shorter since it was checked.
    ///
    /// # Panics
    /// When the range does not lie inside the tensor.
    pub(crate) fn read_at(&self, tensor: &Stored, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(buf.len() as u64);
        assert!(end.is_some_and(|end| end <= tensor.bytes), "read past the end of {}", tensor.name);
        let shard = &self.shards[tensor.shard];
        shard.file.read_exact_at(buf, tensor.offset + offset).map_err(|e| Problem::read_weights(e).of(&shard.path))
    }
}
