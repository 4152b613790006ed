//! Is a model what its manifest says?

use std::path::Path;

use qwren_quant::gguf::{GgufFile, Quoted, TensorInfo};
use qwren_quant::manifest::{FileEntry, Manifest, TensorEntry};

use super::digest::Digests;
use crate::exit::Failure;

/// The manifest beside a model, if there is one, after its files, tensors, types, shapes and sizes were compared.
pub fn read(file: &GgufFile) -> anyhow::Result<Option<Manifest>> {
    let path = Manifest::path_of(file.parts()[0].path());
    let Some(manifest) = Manifest::read(&path).map_err(|e| Failure::usage(e.to_string()))? else { return Ok(None) };
    match difference(file, &manifest) {
        None => Ok(Some(manifest)),
        Some(what) => {
            let text = format!(
                "{}: is not what {} says: {what}; they belong to different conversions, or one is damaged",
                file.path().display(),
                path.display()
            );
            Err(Failure::usage(text).into())
        }
    }
}

/// The first difference between a model's structure and its manifest.
fn difference(file: &GgufFile, manifest: &Manifest) -> Option<String> {
    let (parts, entries) = (file.parts(), &manifest.files);
    if parts.len() != entries.len() {
        return Some(format!("{} files instead of {}", parts.len(), entries.len()));
    }
    for (i, (part, entry)) in parts.iter().zip(entries).enumerate() {
        let tensors: Vec<&TensorInfo> = file.header().tensors().iter().filter(|t| t.part == i).collect();
        if tensors.len() != entry.tensors.len() {
            return Some(format!("{} tensors instead of {}", tensors.len(), entry.tensors.len()));
        }
        if let Some(what) = tensors.iter().zip(&entry.tensors).find_map(|(t, entry)| tensor_difference(t, entry)) {
            return Some(what);
        }
        let bytes = part.bytes().len() as u64;
        if bytes != entry.bytes {
            return Some(format!("{} has {bytes} bytes instead of {}", file_name(part.path()), entry.bytes));
        }
    }
    None
}

fn tensor_difference(t: &TensorInfo, entry: &TensorEntry) -> Option<String> {
    let name = Quoted::new(&t.name);
    if t.name != entry.name {
        return Some(format!("tensor {name} where {} should be", Quoted::new(&entry.name)));
    }
    let (dtype, expected) = (t.dtype.name(), Quoted::new(&entry.dtype));
    if dtype != entry.dtype {
        return Some(format!("tensor {name} has type {dtype} instead of {expected}"));
    }
    if t.shape != entry.shape {
        return Some(format!("tensor {name} has shape {:?} instead of {:?}", t.shape, entry.shape));
    }
    if (t.offset, t.bytes) != (entry.offset, entry.bytes) {
        let (at, bytes) = (entry.offset, entry.bytes);
        return Some(format!("tensor {name} has {} bytes at {} instead of {bytes} at {at}", t.bytes, t.offset));
    }
    None
}

/// Tensors whose bytes are not those of the manifest.
pub fn damaged<'f>(digests: &Digests<'f>, entry: &FileEntry) -> Vec<&'f TensorInfo> {
    let expected = |name: &str| entry.tensors.iter().find(|e| e.name == name).map(|e| e.sha256);
    let bad = digests.tensors.iter().filter(|(t, digest)| expected(&t.name) != Some(*digest));
    bad.map(|(t, _)| *t).collect()
}

/// What a model was made of, in a few words.
pub fn origin(manifest: &Manifest) -> String {
    let sources: Vec<String> = manifest.sources.iter().take(3).map(|s| Quoted::new(&s.name).to_string()).collect();
    let more = match manifest.sources.len().saturating_sub(3) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let (recipe, tool) = (Quoted::new(&manifest.recipe.file_type), Quoted::new(&manifest.tool));
    format!("fits: {recipe} by {tool} from {}{more}", sources.join(", "))
}

/// A file's name fit to print.
pub fn file_name(path: &Path) -> Quoted {
    Quoted::new(&path.file_name().unwrap_or_default().to_string_lossy())
}
