//! Which files of a folder hold the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::files;
use crate::error::{Error, Problem};

/// Name of a sharded checkpoint's index.
pub(super) const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// How many missing files an error names.
const NAMED: usize = 4;

/// The files to read.
pub(super) struct Weights {
    /// File names, in order.
    pub files: Vec<String>,
    /// Tensor → file, when an index says so.
    pub placed: Option<BTreeMap<String, String>>,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Finds the weights in `dir`, in the order of preference that transformers has: one file, an index, bare shards.
pub(super) fn locate(dir: &Path) -> Result<Weights, Error> {
    let present = list(dir)?;
    let mut weights = if present.contains(SINGLE) {
        Weights { files: vec![SINGLE.to_owned()], placed: None, notes: Vec::new() }
    } else if present.contains(INDEX) {
        indexed(dir)?
    } else {
        bare(dir, &present)?
    };
    let used = |name: &String| weights.files.contains(name);
    let is_weight = |name: &String| {
        let name = name.to_ascii_lowercase();
        [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack"].iter().any(|ext| name.ends_with(ext))
    };
    let extra: Vec<&String> = present.iter().filter(|n| is_weight(n) && !used(n)).collect();
    if !extra.is_empty() {
        weights.notes.push(format!("not read: {}", enumerate(&extra)));
    }
    if weights.placed.is_none() && present.contains(INDEX) {
        weights.notes.push(format!("{INDEX} is not used, since {SINGLE} is there"));
    }
    Ok(weights)
}

/// Names in a folder. A name that is not UTF-8 is none of those we look for.
fn list(dir: &Path) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Problem::read(e).of(dir))? {
        let entry = entry.map_err(|e| Problem::Read(e).of(dir))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// The shards that the index names; all must be there.
fn indexed(dir: &Path) -> Result<Weights, Error> {
    let path = dir.join(INDEX);
    let Index { weight_map } = files::read_json(&path, files::SMALL_LIMIT)?;
    let names: BTreeSet<&String> = weight_map.values().collect();
    for name in &names {
        // A path from inside a file must not lead out of the folder.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(Problem::ShardName(name.to_string()).of(path));
        }
    }
    if names.is_empty() {
        return Err(Problem::NoWeights.of(dir));
    }
    let missing: BTreeSet<&String> = names.iter().copied().filter(|n| !dir.join(n).exists()).collect();
    if !missing.is_empty() {
        let tensors = weight_map.values().filter(|shard| missing.contains(shard)).count();
        let problem = Problem::MissingShards {
            missing: missing.len(),
            total: names.len(),
            names: enumerate(&missing.into_iter().collect::<Vec<_>>()),
            tensors: format!("{tensors} of {}", weight_map.len()),
        };
        return Err(problem.of(path));
    }
    let files = names.into_iter().cloned().collect();
    Ok(Weights { files, placed: Some(weight_map), notes: Vec::new() })
}

/// Weights without an index: a complete set `NAME-0000i-of-0000n.safetensors`, or the only safetensors file.
fn bare(dir: &Path, present: &BTreeSet<String>) -> Result<Weights, Error> {
    let tensors: Vec<&String> = present.iter().filter(|n| n.ends_with(".safetensors")).collect();
    let numbered: Vec<(&str, u64, u64)> = tensors.iter().filter_map(|n| numbered(n)).collect();
    if let Some(&(stem, _, total)) = numbered.first() {
        let have: BTreeSet<u64> = numbered.iter().filter(|n| n.0 == stem && n.2 == total).map(|n| n.1).collect();
        let name = |i: u64| format!("{stem}-{i:05}-of-{total:05}.safetensors");
        let missing = (total as usize).saturating_sub(have.len());
        if missing > 0 {
            let names: Vec<String> = (1..=total).filter(|i| !have.contains(i)).map(name).collect();
            let names = enumerate(&names.iter().collect::<Vec<_>>());
            let tensors = "an unknown number of".to_owned();
            return Err(Problem::MissingShards { missing, total: total as usize, names, tensors }.of(dir));
        }
        let notes = vec![format!("{INDEX} is absent; the {total} shards are read without it")];
        return Ok(Weights { files: (1..=total).map(name).collect(), placed: None, notes });
    }
    match tensors.as_slice() {
        [only] => Ok(Weights { files: vec![only.to_string()], placed: None, notes: Vec::new() }),
        _ => {
            let other = present.iter().find(|n| n.ends_with(".bin") || n.ends_with(".pth") || n.ends_with(".gguf"));
            Err(other.map_or(Problem::NoWeights, |n| Problem::OtherWeights(n.clone())).of(dir))
        }
    }
}

/// Takes `STEM-00002-of-00004.safetensors` apart: `("STEM", 2, 4)`.
fn numbered(name: &str) -> Option<(&str, u64, u64)> {
    let (rest, total) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, i) = rest.rsplit_once('-')?;
    let number = |s: &str| (s.len() == 5).then(|| s.parse::<u64>().ok()).flatten();
    let (i, total) = (number(i)?, number(total)?);
    (1..=total).contains(&i).then_some((stem, i, total))
}

/// "a, b, c, d and 7 more".
fn enumerate(names: &[&String]) -> String {
    let first = names.iter().take(NAMED).map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names_are_taken_apart() {
        assert_eq!(numbered("model-00002-of-00004.safetensors"), Some(("model", 2, 4)));
        assert_eq!(numbered("my-model-00001-of-00001.safetensors"), Some(("my-model", 1, 1)));
        for name in
            ["model.safetensors", "model-00005-of-00004.safetensors", "model-2-of-4.safetensors", "a-of-b.safetensors"]
        {
            assert_eq!(numbered(name), None, "{name}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..9).map(|i| i.to_string()).collect();
        assert_eq!(enumerate(&names.iter().collect::<Vec<_>>()), "0, 1, 2, 3 and 5 more");
        assert_eq!(enumerate(&[&names[0]]), "0");
    }
}
