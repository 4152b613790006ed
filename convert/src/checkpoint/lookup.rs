//! Tensors found by name: which ones were asked for, and how many of them are not there.

use safetensors::tensor::Dtype;

use super::{Checkpoint, Stored};
use crate::error::{Error, Problem};

/// Missing tensors are counted up to here, so that an absurd config.json costs no time.
const COUNTED: usize = 1000;

/// A checkpoint's tensors while they are being asked for.
pub(crate) struct Lookup<'a> {
    checkpoint: &'a Checkpoint,
    used: Vec<bool>,
    missing: usize,
    first_missing: String,
}

impl<'a> Lookup<'a> {
    /// Nothing was asked for yet.
    pub fn new(checkpoint: &'a Checkpoint) -> Lookup<'a> {
        let used = vec![false; checkpoint.tensors().len()];
        Lookup { checkpoint, used, missing: 0, first_missing: String::new() }
    }

    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.checkpoint
    }

    /// The tensor of that name and its index; one that is missing is counted.
    pub fn find(&mut self, name: &str) -> Option<(usize, &'a Stored)> {
        let found = self.find_optional(name);
        if found.is_none() {
            self.missing(name);
        }
        found
    }

    /// The tensor of that name and its index, if it is there.
    pub fn find_optional(&mut self, name: &str) -> Option<(usize, &'a Stored)> {
        let i = self.checkpoint.index_of(name)?;
        self.used[i] = true;
        Some((i, &self.checkpoint.tensors()[i]))
    }

    /// The index of the tensor of that name, which must have `shape`; one that is missing is counted.
    pub fn shaped(&mut self, name: &str, shape: &[u64]) -> Result<Option<usize>, Error> {
        let Some((i, stored)) = self.find(name) else { return Ok(None) };
        self.check_shape(stored, shape)?;
        Ok(Some(i))
    }

    /// Counts a tensor that is not there.
    pub fn missing(&mut self, name: &str) {
        if self.missing == 0 {
            self.first_missing = name.to_owned();
        }
        self.missing += 1;
    }

    /// Whether so many are missing that looking on is pointless.
    pub fn hopeless(&self) -> bool {
        self.missing > COUNTED
    }

    /// An error if anything was missing.
    pub fn complete(&self) -> Result<(), Error> {
        if self.missing == 0 {
            return Ok(());
        }
        let problem = Problem::MissingTensor { name: self.first_missing.clone(), count: self.missing.min(COUNTED) };
        Err(problem.of(self.checkpoint.dir()))
    }

    /// Tensors that nobody asked for.
    pub fn unused(&self) -> impl Iterator<Item = &'a Stored> {
        self.checkpoint.tensors().iter().zip(&self.used).filter(|(_, used)| !**used).map(|(stored, _)| stored)
    }

    /// Compares a tensor's shape with the one that config.json implies.
    pub fn check_shape(&self, stored: &Stored, expected: &[u64]) -> Result<(), Error> {
        if stored.shape == expected { Ok(()) } else { Err(self.shape_error(stored, expected)) }
    }

    pub fn shape_error(&self, stored: &Stored, expected: &[u64]) -> Error {
        let (name, found) = (stored.name.clone(), stored.shape.clone());
        Problem::Shape { name, found, expected: expected.to_vec() }.of(self.checkpoint.file_of(stored))
    }

    /// The tensor must have one of `types`.
    pub fn check_type(&self, tensor: usize, types: &[Dtype]) -> Result<(), Error> {
        let stored = &self.checkpoint.tensors()[tensor];
        if types.contains(&stored.dtype) { Ok(()) } else { Err(self.type_error(stored)) }
    }

    pub fn type_error(&self, stored: &Stored) -> Error {
        let problem = Problem::TensorType { name: stored.name.clone(), dtype: format!("{:?}", stored.dtype) };
        problem.of(self.checkpoint.file_of(stored))
    }
}
