//! Damaged and hostile GGUF files, given to the program: one clear line, exit code 2 (3 where the file is of a kind that
//! can't be read), no panic, no signal, little memory. Numbers are those of CVEs and reports.

#[path = "../../quant/tests/raw/mod.rs"]
mod raw;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use qwren_tests::bin;
use raw::{Field, Raw, sample};

/// Address space, in KiB, in which the program must do with a small file: itself, its stack and 64 MiB.
const ROOM_KIB: &str = "98304";

fn qwren(args: &[&str], file: &Path) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v $0 && exec \"$@\"", ROOM_KIB]).arg(bin("qwren")).args(args).arg(file);
    command.output().expect("a shell")
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("bad.gguf");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Asserts that `command` refuses `file` as it should; gives the exit code and the line.
fn refused(command: &[&str], file: &Path, what: &str) -> (i32, String) {
    let out = qwren(command, file);
    let said = String::from_utf8(out.stderr).unwrap();
    let code = out.status.code().unwrap_or_else(|| panic!("{what}: {command:?} died: {} {said}", out.status));
    assert!(code == 2 || code == 3, "{what}: {command:?} ended with {code}: {said}");
    assert_eq!(said.lines().count(), 1, "{what}: {said}");
    assert!(said.starts_with("qwren: ") && said.contains("bad.gguf: "), "{what}: {said}");
    assert!(!said.trim_end().chars().any(char::is_control), "{what}: {said:?}");
    assert!(said.len() < 800 && !said.contains("internal fault"), "{what}: {said}");
    assert!(out.stdout.is_empty(), "{what}: {command:?} wrote {} bytes", out.stdout.len());
    (code, said)
}

const EVERY: [&[&str]; 2] = [&["inspect"], &["verify"]];

fn refused_by_all(bytes: &[u8], expected: i32, text: &str) {
    let scratch = Scratch::new();
    let file = scratch.file(bytes);
    for command in EVERY {
        let (code, said) = refused(command, &file, text);
        assert_eq!(code, expected, "{said}");
        assert!(said.contains(text), "{said:?} does not say {text:?}");
    }
}

#[test]
fn the_sample_is_sound() {
    let scratch = Scratch::new();
    let file = scratch.file(&sample().bytes);
    for command in EVERY {
        let out = qwren(command, &file);
        assert_eq!(out.status.code(), Some(0), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let (scratch, bytes) = (Scratch::new(), sample().bytes);
    for n in (0..bytes.len()).step_by(13).chain([bytes.len() - 1]) {
        let (code, _) = refused(&["verify"], &scratch.file(&bytes[..n]), &format!("cut at {n}"));
        assert_eq!(code, 2);
    }
}

/// CVE-2024-21802, -21825, -21836, -23496, -23605, -25664 to -25668, -32878, 2025-53630, 2026-27940, -33298, G1 and others.
#[test]
fn no_field_can_promise_what_is_not_there() {
    let (scratch, raw) = (Scratch::new(), sample());
    for &place in raw.fields.iter().filter(|(field, _)| *field != Field::Version) {
        for extreme in [1 << 31, u64::from(u32::MAX), 1 << 32, (1 << 61) + 1, 1 << 63, u64::MAX] {
            let bytes = raw.with(place, extreme);
            // A field of four bytes keeps the lower half only, which may be sound.
            if raw::outcome(&bytes).is_err() {
                refused(&["inspect"], &scratch.file(&bytes), &format!("{place:?} = {extreme}"));
            } else {
                assert!(place.0.width() == 4 && extreme as u32 <= 1, "{place:?} = {extreme}");
            }
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let with = |make: &dyn Fn(&mut Raw), tensors, keys| {
        let mut raw = Raw::new(tensors, keys);
        make(&mut raw);
        raw.bytes
    };
    let tensor = |shape: &'static [u64], dtype, offset| {
        with(
            &|r| {
                r.tensor("t", shape, dtype, offset).data(32, 4096);
            },
            1,
            0,
        )
    };
    let two = |a, b| {
        with(
            &|r| {
                r.tensor("a", &[16], 0, a).tensor("b", &[16], 0, b).data(32, 4096);
            },
            2,
            0,
        )
    };
    let alignment = |n: u32| {
        with(
            &|r| {
                r.key("general.alignment", 4).raw(&n.to_le_bytes());
            },
            0,
            1,
        )
    };
    let cases: &[(&str, Vec<u8>, &str)] = &[
        (
            "G1",
            with(
                &|r| {
                    r.key("k", 9).array(4, 1 << 60).raw(&[0; 100]);
                },
                0,
                1,
            ),
            "1152921504606846976 elements in 'k'",
        ),
        ("G2", tensor(&[16, 0], 0, 0), "dimension 1 is zero"),
        ("G3", tensor(&[1, 1, 1, 1, 1], 0, 0), "5 dimensions"),
        (
            "G4",
            with(
                &|r| {
                    r.key("tokenizer.ggml.token_type", 9).array(0, 4).raw(&[1; 4]);
                },
                0,
                1,
            ),
            "array<uint8> as 'tokenizer.ggml.token_type', where an array<int32> is expected",
        ),
        ("G7", alignment(1 << 31), "an alignment of 2147483648"),
        ("G7 zero", alignment(0), "an alignment of 0"),
        ("G8", tensor(&[1 << 32, 1 << 32], 0, 0), "does not fit in 63 bits"),
        ("ragged rows", tensor(&[100], 12, 0), "a row of 100 elements is not a multiple of Q4_K's block of 256"),
        ("CVE-2026-7482", tensor(&[8192], 0, 0), "tensor 't' ends at byte"),
        ("misaligned", tensor(&[8], 0, 4), "offset 4, not a multiple of the alignment 32"),
        ("overlap", two(0, 32), "'a' and 'b' in the same place"),
        (
            "duplicate key",
            with(
                &|r| {
                    r.key("k", 0).raw(&[1]).key("k", 0).raw(&[1]);
                },
                0,
                2,
            ),
            "the key 'k' twice",
        ),
        (
            "not UTF-8",
            with(
                &|r| {
                    r.key("k", 8).field(Field::TextLength, 2).raw(b"\xff\xfe");
                },
                0,
                1,
            ),
            "not UTF-8",
        ),
        ("web page", b"<!DOCTYPE html><html></html>".to_vec(), "a web page (a failed download)"),
        ("safetensors", b"\x40\0\0\0\0\0\0\0{\"a\":1}".to_vec(), "is a safetensors file"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\nsize 123\n".to_vec(), "git-LFS pointer to 123 bytes"),
        ("empty", Vec::new(), "is empty"),
    ];
    for (_, bytes, text) in cases {
        refused_by_all(bytes, 2, text);
    }
    let raw = sample();
    let version = raw.fields[0];
    refused_by_all(&raw.with(version, 1), 3, "version 1");
    refused_by_all(&raw.with(version, 4), 3, "version 4");
    refused_by_all(&raw.with(version, 0x0300_0000), 3, "big-endian");
    refused_by_all(&tensor(&[256], 31, 0), 3, "type Q4_0_4_4 (id 31) was removed");
    refused_by_all(&tensor(&[256], 77, 0), 3, "type id 77");
}

#[test]
fn what_is_no_file_is_refused() {
    let scratch = Scratch::new();
    let folder = scratch.0.path().join("bad.gguf");
    std::fs::create_dir(&folder).unwrap();
    assert!(refused(&["verify"], &folder, "a folder").1.contains("is a folder"));
    std::fs::remove_dir(&folder).unwrap();
    assert_eq!(refused(&["inspect"], &folder, "nothing").0, 2);
    std::os::unix::fs::symlink("/dev/zero", &folder).unwrap();
    assert!(refused(&["inspect"], &folder, "a device").1.contains("not a regular file"));
}

/// A file of 40 MB that is all header; and one of a terabyte with nothing in it.
#[test]
fn large_files_cost_what_was_read() {
    let scratch = Scratch::new();
    let mut raw = Raw::new(0, 1);
    raw.key("k", 9).array(8, 5_000_000).raw(&vec![0; 40_000_000]);
    raw.bytes.truncate(39_000_000);
    let file = scratch.file(&raw.bytes);
    // 40 MB are mapped and 24 bytes are kept for each text of 8: more than a small file may take, but in proportion.
    let limited = || {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v 524288 && exec \"$@\"", "sh"]).arg(bin("qwren")).arg("inspect").arg(&file);
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, said) = limited();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("promises 5000000 elements in 'k'"), "{said}");

    std::fs::write(&file, sample().bytes).unwrap();
    let sparse = std::fs::File::options().write(true).open(&file).unwrap();
    if sparse.set_len(1 << 40).is_ok() {
        let out = Command::new(bin("qwren")).arg("inspect").arg(&file).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        let (code, said) = limited();
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains("takes 1099511627776 bytes of address space, more than is left"), "{said}");
    }
}

/// T11: nothing that a file says drives the terminal.
#[test]
fn a_file_cannot_drive_the_terminal() {
    let evil = "\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}[2J\u{9b}31m\u{202e}\rx";
    let mut raw = Raw::new(1, 4);
    raw.key("general.architecture", 8).text(evil);
    raw.key("general.name", 8).text(evil);
    raw.key(evil, 8).text(evil);
    raw.key("tokenizer.ggml.tokens", 9).array(8, 2).text(evil).text("b");
    raw.tensor(evil, &[8], 0, 0);
    let mut bad = raw.clone();
    raw.data(32, 32);
    bad.data(32, 8);

    let scratch = Scratch::new();
    for (bytes, code) in [(&raw.bytes, 0), (&bad.bytes, 2)] {
        let file = scratch.file(bytes);
        for command in ["inspect", "inspect --json", "verify --quiet"] {
            let line = format!("{} {command} {}", bin("qwren").display(), file.display());
            let mut terminal = rexpect::spawn(&line, Some(10_000)).unwrap();
            // The crate makes a character of each byte.
            let seen: Vec<u8> = terminal.exp_eof().unwrap().chars().map(|c| c as u8).collect();
            let seen = String::from_utf8(seen).unwrap();
            let status = terminal.process().wait().unwrap();
            assert!(format!("{status:?}").contains(&format!(", {code})")), "{status:?}");
            assert!(
                !seen.is_empty() && seen.contains("bad.gguf") == (!command.starts_with("verify") || code == 2),
                "{seen}"
            );
            let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
            // The terminal itself adds a return to each line.
            let text = seen.replace("\r\n", "\n");
            assert!(text.chars().all(harmless) && !text.contains('\u{202e}'), "{command}: {text:?}");
        }
    }
}
