//! What an output may replace, asked before any work: nothing that the conversion reads, and an older output only when told to.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use qwren_quant::manifest::Manifest;

use super::journal;
use super::output::{folder_of, with_suffix};
use crate::error::{Error, Problem};
use crate::plan::Plan;
use crate::split;

/// Says whether `out` may be written. `committing`: did a run of the same plan end while it gave names?
///
/// # Errors
/// What stands in the way.
pub(super) fn check(plan: &Plan, out: &Path, force: bool, committing: impl FnOnce() -> bool) -> Result<(), Error> {
    let folder = folder_of(out);
    if !folder.is_dir() {
        let problem = if folder.exists() { Problem::NotAFolder } else { Problem::NoOutputFolder };
        return Err(problem.of(folder));
    }
    if out.file_name().is_none() {
        return Err(Problem::NotAFile.of(out));
    }
    let parts = split::paths(out, plan.files.len());
    let manifest = Manifest::path_of(&parts[0]);
    let sums = with_suffix(&parts[0], ".sha256");
    let inputs = Inputs::of(plan)?;
    let kept: Vec<PathBuf> = parts.iter().chain([&manifest, &sums]).cloned().collect();
    let passing = kept.iter().map(|path| with_suffix(path, ".partial")).chain([journal::path_of(out)]);
    for path in kept.iter().cloned().chain(passing) {
        let Some(meta) = look(&path)? else { continue };
        if inputs.read(&meta) || (parts.contains(&path) || path == manifest) && inputs.beside(&path) {
            return Err(Problem::OutputIsInput.of(path));
        }
        if !meta.is_file() {
            return Err(Problem::NotAFile.of(path));
        }
    }
    // Of a manifest's name something else may have made use: an output called `config` has `config.json` beside it.
    if !force && Manifest::read(&manifest).is_err() {
        return Err(Problem::Exists.of(manifest));
    }
    match parts.iter().position(|path| path.exists()) {
        // Without the first part the others are of a run that was killed while it gave names, if the journal says so.
        Some(part) if !force && (part == 0 || !committing()) => Err(Problem::Exists.of(&parts[part])),
        _ => Ok(()),
    }
}

/// What is at `path`, if anything is.
fn look(path: &Path) -> Result<Option<Metadata>, Error> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Problem::Write(e).of(path)),
    }
}

/// The files that a conversion reads.
struct Inputs {
    /// Device and inode of the weights and of the importance matrix, wherever they lie and by whatever name.
    read: Vec<(u64, u64)>,
    /// The checkpoint's folder. Only GGUF files and manifests there are outputs.
    folder: PathBuf,
}

impl Inputs {
    fn of(plan: &Plan) -> Result<Inputs, Error> {
        let weights = plan.checkpoint.weight_files().map(|(path, file, _)| (path, file.metadata()));
        let imatrix = plan.options.imatrix.iter().map(|path| (path.as_path(), fs::metadata(path)));
        let identity = |(path, meta): (&Path, io::Result<Metadata>)| match meta {
            Ok(meta) => Ok((meta.dev(), meta.ino())),
            Err(e) => Err(Problem::Read(e).of(path)),
        };
        let folder = plan.checkpoint.dir();
        Ok(Inputs {
            read: weights.chain(imatrix).map(identity).collect::<Result<_, _>>()?,
            folder: fs::canonicalize(folder).map_err(|e| Problem::Read(e).of(folder))?,
        })
    }

    /// Whether it is one that is read, by whatever name.
    fn read(&self, meta: &Metadata) -> bool {
        self.read.contains(&(meta.dev(), meta.ino()))
    }

    /// Whether a file belongs to the checkpoint by its place.
    fn beside(&self, path: &Path) -> bool {
        let mut magic = [0; 4];
        let mut gguf =
            || File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF";
        let beside = fs::canonicalize(folder_of(path)).is_ok_and(|folder| folder == self.folder);
        beside && !gguf() && Manifest::read(path).is_err()
    }
}
