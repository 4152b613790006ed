//! Models in several files, as llama.cpp's gguf-split makes them: `NAME-00001-of-00003.gguf` and so on. Each file is a whole
//! GGUF file; the first one has the model's keys, all have `split.no`, `split.count` and `split.tensors.count`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{GgufError, Quoted};
use super::header::Header;

const COUNT_KEY: &str = "split.count";
const NO_KEY: &str = "split.no";
const TENSORS_KEY: &str = "split.tensors.count";

/// Most parts: the key is a 16-bit number where it is written.
const MOST: u64 = u16::MAX as u64;

/// Which part of a model a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// From 0.
    pub no: usize,
    /// Parts of the model; at least 2.
    pub count: usize,
    /// Tensors in all parts together.
    pub tensors: u64,
}

impl Place {
    /// What a header says; `None` for a model of one file.
    pub fn of(header: &Header) -> Result<Option<Place>, GgufError> {
        let count = match within(header, COUNT_KEY, MOST)? {
            None | Some(0 | 1) => return Ok(None),
            Some(count) => count as usize,
        };
        let lacks = |key| GgufError::PartKey { count, key };
        let no = within(header, NO_KEY, count as u64 - 1)?.ok_or_else(|| lacks(NO_KEY))? as usize;
        let tensors = header.u64(TENSORS_KEY)?.ok_or_else(|| lacks(TENSORS_KEY))?;
        Ok(Some(Place { no, count, tensors }))
    }

    /// The paths of all parts, given this one's. They lie in its folder: nothing of a path comes from the file.
    pub fn siblings(&self, path: &Path) -> Result<Vec<PathBuf>, GgufError> {
        let ending = |no: usize| format!("-{:05}-of-{:05}.gguf", no + 1, self.count);
        let own = ending(self.no);
        // As bytes: what stands before the ending need not be UTF-8.
        let stem = path.file_name().and_then(|name| name.as_bytes().strip_suffix(own.as_bytes()));
        let Some(stem) = stem.filter(|stem| !stem.is_empty()) else {
            return Err(GgufError::PartName { no: self.no + 1, count: self.count, ending: own });
        };
        let name_of = |no| [stem, ending(no).as_bytes()].concat();
        Ok((0..self.count).map(|no| path.with_file_name(OsStr::from_bytes(&name_of(no)))).collect())
    }
}

fn within(header: &Header, key: &str, most: u64) -> Result<Option<u64>, GgufError> {
    match header.u64(key)? {
        Some(n) if n > most => Err(GgufError::KeyRange { key: Quoted::new(key), value: n.into(), most }),
        other => Ok(other),
    }
}

/// Does part `no`, whose header is `part`, belong to the model whose first part has the header `first`?
pub(super) fn check(first: &Header, place: Place, part: &Header, no: usize) -> Result<(), GgufError> {
    let alien =
        |key: &str, found: String, expected: String| GgufError::PartAlien { key: Quoted::new(key), found, expected };
    let Some(own) = Place::of(part)? else {
        return Err(alien(COUNT_KEY, "1".into(), place.count.to_string()));
    };
    for (key, found, expected) in [
        (COUNT_KEY, own.count as u64, place.count as u64),
        (NO_KEY, own.no as u64, no as u64),
        (TENSORS_KEY, own.tensors, place.tensors),
    ] {
        if found != expected {
            return Err(alien(key, found.to_string(), expected.to_string()));
        }
    }
    // Writers may repeat keys of the model, never with another value.
    let (mine, theirs) = (part.str("general.architecture")?, first.str("general.architecture")?);
    if mine.is_some() && mine != theirs {
        let quoted = |text: Option<&str>| text.map_or("nothing".into(), |text| Quoted::new(text).to_string());
        return Err(alien("general.architecture", quoted(mine), quoted(theirs)));
    }
    Ok(())
}

/// One header for all parts, which are in order.
pub(super) fn join(place: Place, parts: Vec<Header>) -> Result<Header, GgufError> {
    let found: u64 = parts.iter().map(|part| part.tensors().len() as u64).sum();
    if found != place.tensors {
        return Err(GgufError::PartsCount { promised: place.tensors, found });
    }
    let mut parts = parts.into_iter();
    match parts.next() {
        Some(first) => first.join(parts),
        None => Err(GgufError::PartsCount { promised: place.tensors, found: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn siblings(name: &str, no: usize, count: usize) -> Result<Vec<String>, String> {
        let place = Place { no, count, tensors: 1 };
        let paths = place.siblings(Path::new(name)).map_err(|e| e.to_string())?;
        Ok(paths.iter().map(|p| p.display().to_string()).collect())
    }

    #[test]
    fn parts_lie_beside_each_other_under_one_name() {
        let wanted = ["d/m-q8-00001-of-00002.gguf", "d/m-q8-00002-of-00002.gguf"].map(str::to_owned).to_vec();
        assert_eq!(siblings("d/m-q8-00001-of-00002.gguf", 0, 2), Ok(wanted.clone()));
        assert_eq!(siblings("d/m-q8-00002-of-00002.gguf", 1, 2), Ok(wanted));
        assert_eq!(siblings("m-65535-of-65535.gguf", 65_534, 65_535).unwrap().len(), 65_535);
    }

    #[test]
    fn another_name_is_refused() {
        for name in
            ["m.gguf", "m-00002-of-00002.gguf", "m-00001-of-00003.gguf", "-00001-of-00002.gguf", "m-1-of-2.gguf", ".."]
        {
            let why = siblings(name, 0, 2).unwrap_err();
            assert!(why.contains("is part 1 of 2") && why.contains("-00001-of-00002.gguf; give it"), "{why}");
        }
    }
}
