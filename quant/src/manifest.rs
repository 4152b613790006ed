//! The manifest that stands beside a converted model, `FILE.gguf.json`: what it was made of, and what each tensor's bytes must
//! be. The converter writes it, `qwren verify` compares a file with it.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The form that is written and read.
const FORM: u32 = 1;
/// Longest manifest that is read: an entry has some 300 bytes, the largest model about 1200 tensors.
const CAP: u64 = 16 << 20;

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

/// What a model was made of and what it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub manifest: u32,
    /// Name and version of the program that wrote the model.
    pub tool: String,
    /// What was asked for.
    pub recipe: Recipe,
    /// The files whose weights were read, whole.
    pub sources: Vec<Source>,
    /// The model's file, or its parts in order.
    pub files: Vec<FileEntry>,
}

/// What was asked for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recipe {
    /// The file's type, such as `q4_k_m`.
    #[serde(rename = "type")]
    pub file_type: String,
    /// `GLOB=TYPE` for single tensors, in the order of precedence.
    pub tensor_types: Vec<String>,
    /// Was the embedding used as output matrix whatever the checkpoint had?
    pub tie_embeddings: bool,
    /// Were weights taken that are not finite or too large for their type?
    pub allow_nonfinite: bool,
    /// The importance matrix, as a digest of its file.
    pub imatrix: Option<Digest>,
}

/// A file that was read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Source {
    /// Its name in the checkpoint's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of the whole file.
    pub sha256: Digest,
}

/// A file of the model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// The name that it was given.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of the whole file.
    pub sha256: Digest,
    /// Its tensors in the order of the file.
    pub tensors: Vec<TensorEntry>,
}

/// A tensor of the model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Name of its type, such as `Q4_K`.
    #[serde(rename = "type")]
    pub dtype: String,
    /// Elements along each dimension, columns first.
    pub shape: Vec<u64>,
    /// Its first byte, from the start of the data.
    pub offset: u64,
    /// Bytes that it takes.
    pub bytes: u64,
    /// Of these bytes.
    pub sha256: Digest,
    /// Root of the mean squared difference between what is stored and the checkpoint's values; `null` where a value is not
    /// finite.
    pub rmse: Option<f64>,
}

/// Why a manifest is not read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", .path.display())]
pub struct ManifestError {
    /// The manifest.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub cause: Cause,
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The operating system refused.
    #[error("the manifest cannot be read: {0}")]
    Io(io::Error),
    /// Longer than any real one.
    #[error("has more than {CAP} bytes, so it is no manifest; remove it or convert the model again")]
    TooLarge,
    /// No JSON, or of another form.
    #[error("is no manifest that can be read ({0}); remove it or convert the model again")]
    Json(serde_json::Error),
    /// Of a newer program.
    #[error("is a manifest of form {0}, and only form {FORM} is known; use a newer qwren")]
    Form(u32),
}

impl Manifest {
    /// A manifest of the current form.
    pub fn new(tool: String, recipe: Recipe, sources: Vec<Source>, files: Vec<FileEntry>) -> Manifest {
        Manifest { manifest: FORM, tool, recipe, sources, files }
    }

    /// Where the manifest of the model at `path` (its first part, if it is split) lies.
    pub fn path_of(path: &Path) -> PathBuf {
        let mut name: OsString = path.as_os_str().to_owned();
        name.push(".json");
        name.into()
    }

    /// Reads the manifest at `path`; `None` where there is none.
    ///
    /// # Errors
    /// It can't be read, is no manifest, or is of a form that is not known.
    pub fn read(path: &Path) -> Result<Option<Manifest>, ManifestError> {
        let fail = |cause| ManifestError { path: path.to_owned(), cause };
        match std::fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(Cause::Io(e))),
            // Asked before opening: opening a pipe would wait for a writer.
            Ok(meta) if !meta.is_file() => return Err(fail(Cause::Io(io::Error::other("it is no regular file")))),
            Ok(_) => {}
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|e| fail(Cause::Io(e)))?;
        file.take(CAP + 1).read_to_end(&mut bytes).map_err(|e| fail(Cause::Io(e)))?;
        if bytes.len() as u64 > CAP {
            return Err(fail(Cause::TooLarge));
        }
        Manifest::parse(&bytes).map(Some).map_err(fail)
    }

    fn parse(bytes: &[u8]) -> Result<Manifest, Cause> {
        /// What every form has.
        #[derive(Deserialize)]
        struct Form {
            manifest: u32,
        }
        let Form { manifest } = serde_json::from_slice(bytes).map_err(Cause::Json)?;
        if manifest != FORM {
            return Err(Cause::Form(manifest));
        }
        serde_json::from_slice(bytes).map_err(Cause::Json)
    }

    /// The text of the file, the same for equal manifests.
    ///
    /// # Errors
    /// None that a manifest can cause.
    pub fn to_text(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Digest, &'static str> {
        let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut digest = [0; 32];
        if pairs.len() != digest.len() || !rest.is_empty() {
            return Err("a SHA-256 has 64 digits");
        }
        for (byte, &[high, low]) in digest.iter_mut().zip(pairs) {
            *byte = digit(high).zip(digit(low)).map(|(h, l)| h << 4 | l).ok_or("a SHA-256 has hexadecimal digits")?;
        }
        Ok(Digest(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let digest = |byte| Digest([byte; 32]);
        let tensor = TensorEntry {
            name: "blk.0.attn_q.weight".into(),
            dtype: "Q4_K".into(),
            shape: vec![256, 2],
            offset: 0,
            bytes: 288,
            sha256: digest(1),
            rmse: Some(0.001234567890123),
        };
        let damaged = TensorEntry { rmse: None, ..tensor.clone() };
        let file = FileEntry { name: "m.gguf".into(), bytes: 320, sha256: digest(2), tensors: vec![tensor, damaged] };
        let recipe = Recipe {
            file_type: "q4_k_m".into(),
            tensor_types: vec!["*=q8_0".into()],
            tie_embeddings: false,
            allow_nonfinite: false,
            imatrix: Some(digest(0xab)),
        };
        let source = Source { name: "model.safetensors".into(), bytes: 1 << 40, sha256: digest(3) };
        Manifest::new("qwren-convert 1.2.3".into(), recipe, vec![source], vec![file])
    }

    #[test]
    fn what_is_written_is_read() {
        let text = sample().to_text().unwrap();
        assert_eq!(Manifest::parse(&text).unwrap(), sample());
        assert_eq!(Manifest::path_of(Path::new("d/m.gguf")), Path::new("d/m.gguf.json"));
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(&format!("\"imatrix\": \"{}\"", "ab".repeat(32))), "{text}");
        assert!(text.contains("\"rmse\": null") && text.contains("\"rmse\": 0.001234567890123"), "{text}");
    }

    #[test]
    fn other_files_are_errors_that_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf.json");
        assert!(Manifest::read(&path).unwrap().is_none());
        let newer =
            String::from_utf8(sample().to_text().unwrap()).unwrap().replace("\"manifest\": 1", "\"manifest\": 2");
        let short = String::from_utf8(sample().to_text().unwrap()).unwrap().replace(&"01".repeat(32), "01");
        for (text, why) in [
            ("", "is no manifest that can be read (EOF"),
            ("{}", "missing field `manifest`"),
            ("[[[[", "is no manifest"),
            (newer.as_str(), "is a manifest of form 2, and only form 1 is known"),
            (short.as_str(), "a SHA-256 has 64 digits"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Manifest::read(&path).unwrap_err().to_string();
            assert!(error.contains("m.gguf.json: ") && error.contains(why), "{error}");
        }
        std::fs::write(&path, vec![b' '; CAP as usize + 1]).unwrap();
        assert!(matches!(Manifest::read(&path).unwrap_err().cause, Cause::TooLarge));
        assert!(matches!(Manifest::read(folder.path()).unwrap_err().cause, Cause::Io(_)));
    }

    #[test]
    fn every_cut_of_a_manifest_is_an_error() {
        let text = sample().to_text().unwrap();
        // The last two bytes are the closing brace and the line's end.
        for end in 0..text.len() - 1 {
            assert!(Manifest::parse(&text[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn digests_are_hexadecimal() {
        let digest = |text: &str| Digest::try_from(text.to_owned());
        assert_eq!(digest(&"aB".repeat(32)), Ok(Digest([0xab; 32])));
        assert_eq!(digest(&"g0".repeat(32)), Err("a SHA-256 has hexadecimal digits"));
        assert_eq!(digest(&"ü".repeat(32)), Err("a SHA-256 has hexadecimal digits"));
        assert_eq!(digest(&"00".repeat(31)), Err("a SHA-256 has 64 digits"));
        assert_eq!(Digest([0x0f; 32]).to_string(), "0f".repeat(32));
    }
}
