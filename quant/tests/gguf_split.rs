//! Models in several files: whole ones open by any part, all others are refused with a line that names the file to look at.

use std::fs;
use std::path::{Path, PathBuf};

use qwren_quant::dtype::DType;
use qwren_quant::gguf::{GgufError, GgufFile, Plan, Value, Writer};

/// One part: keys and names of tensors `[8]` in F32, each filled with the first byte of its name.
#[derive(Clone)]
struct Part {
    keys: Vec<(&'static str, Value)>,
    tensors: Vec<&'static str>,
}

impl Part {
    fn new(no: u16, count: u16, total: i32, tensors: &[&'static str]) -> Part {
        let keys = vec![("split.no", no.into()), ("split.count", count.into()), ("split.tensors.count", total.into())];
        Part { keys, tensors: tensors.to_vec() }
    }

    fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.unset(key);
        self.keys.push((key, value.into()));
    }

    fn unset(&mut self, key: &str) {
        self.keys.retain(|(k, _)| *k != key);
    }

    fn write(&self, path: &Path) {
        let mut plan = Plan::new(32);
        self.keys.iter().for_each(|(key, value)| plan.push_kv(key, value.clone()));
        self.tensors.iter().for_each(|name| plan.push_tensor(name, &[8], DType::F32).unwrap());
        let layout = plan.layout().unwrap();
        let mut out = Writer::new(Vec::new(), &layout).unwrap();
        for name in &self.tensors {
            out.write(&[name.as_bytes()[0]; 32]).unwrap();
            out.end_tensor().unwrap();
        }
        fs::write(path, out.finish().unwrap()).unwrap();
    }
}

/// A sound model in three parts: two tensors, none, one.
fn sound() -> [Part; 3] {
    let mut first = Part::new(0, 3, 3, &["a", "b"]);
    first.set("general.architecture", "qwen3");
    first.set("qwen3.block_count", 7u32);
    [first, Part::new(1, 3, 3, &[]), Part::new(2, 3, 3, &["c"])]
}

fn paths(dir: &Path, count: usize) -> Vec<PathBuf> {
    (1..=count).map(|i| dir.join(format!("m-{i:05}-of-{count:05}.gguf"))).collect()
}

/// What is said when the parts are opened by the `by`th, without the folder.
fn refusal(parts: &[Part], by: usize) -> (String, bool) {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path(), parts.len());
    parts.iter().zip(&paths).for_each(|(part, path)| part.write(path));
    refused(&paths[by])
}

fn refused(path: &Path) -> (String, bool) {
    let error = GgufFile::open(path).unwrap_err();
    assert!(matches!(error, GgufError::InFile { .. }));
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control));
    let folder = format!("{}/", path.parent().unwrap().display());
    (text.strip_prefix(&folder).expect("the folder").to_owned(), error.unsupported())
}

#[test]
fn a_model_opens_by_any_of_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path(), 3);
    sound().iter().zip(&paths).for_each(|(part, path)| part.write(path));
    for path in &paths {
        let file = GgufFile::open(path).unwrap();
        assert_eq!(file.path(), path);
        assert_eq!(file.parts().iter().map(|p| p.path().to_owned()).collect::<Vec<_>>(), paths);
        let on_disk: u64 = paths.iter().map(|p| fs::metadata(p).unwrap().len()).sum();
        assert_eq!(file.file_len(), on_disk);
        // The keys are the first part's.
        assert_eq!(file.header().u32("qwen3.block_count").unwrap(), Some(7));
        assert_eq!(file.header().u32("split.no").unwrap(), Some(0));
        let names: Vec<(&str, usize)> = file.header().tensors().iter().map(|t| (t.name.as_str(), t.part)).collect();
        assert_eq!(names, [("a", 0), ("b", 0), ("c", 2)]);
        for t in file.header().tensors() {
            assert_eq!(file.header().tensor(&t.name), Some(t));
            assert_eq!(file.data(t), [t.name.as_bytes()[0]; 32]);
        }
    }
}

#[test]
fn names_need_not_be_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let name =
        |i: u8| std::ffi::OsStr::from_bytes(&[b"\xff-0000", &[b'0' + i][..], b"-of-00003.gguf"].concat()).to_owned();
    sound().iter().zip(1..).for_each(|(part, i)| part.write(&dir.path().join(name(i))));
    assert_eq!(GgufFile::open(&dir.path().join(name(2))).unwrap().header().tensors().len(), 3);
}

#[test]
fn one_part_alone_is_a_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any name");
    for count in [0, 1] {
        Part::new(0, count, 1, &["a"]).write(&path);
        assert_eq!(GgufFile::open(&path).unwrap().parts().len(), 1);
    }
}

#[test]
fn missing_parts_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path(), 3);
    sound().iter().zip(&paths).for_each(|(part, path)| part.write(path));
    fs::remove_file(&paths[1]).unwrap();
    for by in [0, 2] {
        let said = "m-00002-of-00003.gguf: is missing: the model is split into 3 files, and all of them are needed";
        assert_eq!(refused(&paths[by]), (said.into(), false));
    }
    fs::remove_file(&paths[0]).unwrap();
    let (text, _) = refused(&paths[2]);
    assert!(text.starts_with("m-00001-of-00003.gguf: is missing, and 1 more: "), "{text}");
}

#[test]
fn a_part_with_another_name_or_no_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("renamed.gguf");
    sound()[0].write(&path);
    let (text, _) = refused(&path);
    assert!(text.contains("is part 1 of 3") && text.contains("does not end in -00001-of-00003.gguf"), "{text}");

    for key in ["split.no", "split.tensors.count"] {
        let mut part = sound()[0].clone();
        part.unset(key);
        part.write(&path);
        assert!(refused(&path).0.contains(&format!("one of 3 parts of a split model, but lacks the key {key};")));
    }
    // Counts that no file name can have; numbers past the count; types that are none.
    let wrong: [(&'static str, Value); 8] = [
        ("split.count", u64::MAX.into()),
        ("split.count", 65_536u32.into()),
        ("split.count", (-3i32).into()),
        ("split.count", "3".into()),
        ("split.count", 3.0f32.into()),
        ("split.no", 3u16.into()),
        ("split.no", (-1i32).into()),
        ("split.tensors.count", (-1i32).into()),
    ];
    for (key, value) in wrong {
        let mut part = sound()[0].clone();
        part.set(key, value);
        part.write(&path);
        let (text, unsupported) = refused(&path);
        assert!(text.contains(&format!("'{key}'")) && !unsupported, "{text}");
    }
    // The largest count costs a look for each part, and no memory.
    let mut part = sound()[0].clone();
    part.set("split.count", 65_535u16);
    let path = dir.path().join("m-00001-of-65535.gguf");
    part.write(&path);
    assert!(refused(&path).0.starts_with("m-00002-of-65535.gguf: is missing, and 65533 more: "));
}

#[test]
fn parts_of_different_models_are_refused() {
    type Edit = fn(&mut Part);
    let wrong: [(usize, Edit, &str); 8] = [
        (1, |p| p.set("split.count", 2u16), "'split.count' = 2, and the part beside it 3"),
        (1, |p| p.unset("split.count"), "'split.count' = 1, and the part beside it 3"),
        (1, |p| p.set("split.no", 2u16), "'split.no' = 2, and the part beside it 1"),
        (0, |p| p.set("split.no", 1u16), "'split.no' = 1, and the part beside it 0"),
        (2, |p| p.set("split.tensors.count", 4i32), "'split.tensors.count' = 4, and the part beside it 3"),
        (
            2,
            |p| p.set("general.architecture", "llama"),
            "'general.architecture' = 'llama', and the part beside it 'qwen3'",
        ),
        (2, |p| p.tensors = vec!["b"], "has the tensor 'b', which another part has too"),
        (2, |p| p.tensors = vec!["c", "d"], "says that the parts hold 3 tensors, but 4 are there"),
    ];
    for (at, edit, said) in wrong {
        let mut parts = sound();
        edit(&mut parts[at]);
        let by = if at == 0 { 2 } else { 0 };
        let (text, unsupported) = refusal(&parts, by);
        assert!(text.contains(said) && !unsupported, "{text}");
    }
}

#[test]
fn every_part_is_checked_as_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path(), 3);
    sound().iter().zip(&paths).for_each(|(part, path)| part.write(path));
    let whole = fs::read(&paths[2]).unwrap();
    for (bytes, said) in [
        (&whole[..0], "m-00003-of-00003.gguf: is empty"),
        (&whole[..whole.len() - 1], "m-00003-of-00003.gguf: is cut off"),
        (b"<!DOCTYPE html>", "m-00003-of-00003.gguf: is a web page"),
    ] {
        fs::write(&paths[2], bytes).unwrap();
        let (text, _) = refused(&paths[0]);
        assert!(text.starts_with(said), "{text}");
    }
    fs::remove_file(&paths[2]).unwrap();
    fs::create_dir(&paths[2]).unwrap();
    assert!(refused(&paths[0]).0.starts_with("m-00003-of-00003.gguf: is a folder"));
}
