//! Test data: what lies under tests/data, what is generated or unpacked from it, and GGUF files converted from both.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `tests/data/…`.
pub fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(path)
}

/// Cargo's target folder, `$CARGO_TARGET_DIR` or `target` in the workspace.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"), PathBuf::from)
}

/// A checkpoint with known outputs.
pub struct Reference {
    /// Its name, as of the files under tests/data.
    pub name: String,
    /// Its folder in Hugging Face layout.
    pub checkpoint: PathBuf,
    /// Outputs by scripts/make_reference.py, which says what each array is.
    pub outputs: PathBuf,
}

/// All checkpoints with reference outputs: those in tests/data, the generated ones, and, where `$QWREN_FIXTURES` names a
/// folder with more (`checkpoints/NAME`; too large for the repository), those too.
pub fn reference_checkpoints() -> Vec<Reference> {
    let extra = std::env::var_os("QWREN_FIXTURES").map(PathBuf::from);
    let mut found = Vec::new();
    for entry in fs::read_dir(data("reference")).expect("tests/data/reference") {
        let outputs = entry.expect("a folder entry").path();
        let name = outputs.file_stem().and_then(|s| s.to_str()).expect("a UTF-8 name").to_owned();
        let here = data("checkpoints").join(&name);
        let there = extra.as_ref().map(|e| e.join("checkpoints").join(&name));
        let checkpoint = if here.is_dir() {
            here
        } else if data("generated").join(format!("{name}.json")).is_file() {
            crate::generated::checkpoint(&name)
        } else if let Some(there) = there.filter(|t| t.is_dir()) {
            there
        } else {
            eprintln!("{name}: not in the repository; set QWREN_FIXTURES to test it too");
            continue;
        };
        found.push(Reference { name, checkpoint, outputs });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() >= 7, "only {} reference checkpoints found", found.len());
    found
}

/// Qwen3's own tokenizer as a folder with tokenizer.json, tokenizer_config.json and generation_config.json.
pub fn qwen3_tokenizer() -> PathBuf {
    once("qwen3-tokenizer", |dir| {
        let packed = fs::File::open(data("qwen3-tokenizer/tokenizer.json.gz")).expect("the packed tokenizer");
        let mut plain = fs::File::create(dir.join("tokenizer.json")).expect("a new file");
        std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut plain).expect("a sound gzip file");
        for name in ["tokenizer_config.json", "generation_config.json"] {
            fs::copy(data("qwen3-tokenizer").join(name), dir.join(name)).expect("a copy");
        }
    })
}

/// SmolLM2-135M-Instruct in Q4_1, as scripts/fetch_smollm2.sh fetches it; `None`, saying so, where it can't be had.
pub fn smollm2() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("scripts").join("fetch_smollm2.sh");
    let out =
        Command::new("bash").arg(script).arg(target_dir().join("test-data/smollm2")).output().expect("bash starts");
    if !out.status.success() {
        eprintln!("SKIPPED: SmolLM2 can't be fetched here: {}", String::from_utf8_lossy(&out.stderr));
        return None;
    }
    Some(PathBuf::from(String::from_utf8(out.stdout).expect("a path").trim_end()))
}

/// The GGUF file that `qwren-convert` makes of a checkpoint folder, as `label.type.gguf`, made once.
pub fn converted(label: &str, checkpoint: &Path, dtype: &str) -> PathBuf {
    let file = format!("{label}.{dtype}.gguf");
    once(&format!("gguf-{}-{label}-{dtype}", built(&crate::bin("qwren-convert"))), |dir| {
        let out = Command::new(crate::bin("qwren-convert"))
            .arg(checkpoint)
            .args(["--type", dtype, "--quiet", "-o"])
            .arg(dir.join(&file))
            .output()
            .expect("qwren-convert starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    })
    .join(file)
}

/// A folder under the target folder, filled once however many test processes ask for it at the same time: it is made
/// under another name and renamed when whole.
pub(crate) fn once(name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let root = target_dir().join("test-data");
    let place = root.join(name);
    if !place.is_dir() {
        fs::create_dir_all(&root).expect("a writable target folder");
        let work = tempfile::tempdir_in(&root).expect("a temporary folder");
        fill(work.path());
        let work = work.keep();
        if fs::rename(&work, &place).is_err() {
            assert!(place.is_dir(), "{} can't be made", place.display());
            fs::remove_dir_all(&work).expect("a folder of our own");
        }
    }
    place
}

/// When a program was built: what an older one made must not be taken for its work.
fn built(program: &Path) -> u128 {
    let time = fs::metadata(program).and_then(|m| m.modified()).expect("a build time");
    time.duration_since(std::time::UNIX_EPOCH).expect("a time after 1970").as_nanos()
}
