//! Importance matrices in both forms: what was summed comes back as means, and damaged files are errors and nothing else.

use proptest::prelude::*;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::{Plan, Writer};
use qwren_quant::imatrix::{Imatrix, ImatrixError, Importance, Origin, Sums, write_dat, write_gguf};

const ORIGIN: Origin<'static> = Origin { dataset: "wiki.txt", chunks: 3, chunk_size: 4 };
const EXPERTS: &str = "blk.0.ffn_down_exps.weight";

/// A matrix of 3 columns seen 12 times, and 3 experts of 2 columns of which the second one saw nothing.
fn sums() -> [Sums<'static>; 2] {
    [
        Sums { name: EXPERTS, squares: &[8.0, 4.0, 0.0, 0.0, 3.0, 0.0], rows: &[4, 0, 6] },
        Sums { name: "blk.0.attn_q.weight", squares: &[12.0, 24.0, 6.0], rows: &[12] },
    ]
}

fn gguf() -> Vec<u8> {
    let mut out = Vec::new();
    write_gguf(&mut out, &sums(), &ORIGIN).unwrap();
    out
}

fn dat() -> Vec<u8> {
    let mut out = Vec::new();
    write_dat(&mut out, &sums(), &ORIGIN).unwrap();
    out
}

fn open(bytes: &[u8]) -> Result<Imatrix<&[u8]>, ImatrixError> {
    Imatrix::of(bytes, bytes.len() as u64)
}

/// Opens and asks for everything. An error must be one line.
fn outcome(bytes: &[u8]) -> Result<(), ImatrixError> {
    let all = || {
        let matrix = open(bytes)?;
        for name in matrix.names().map(str::to_owned).collect::<Vec<_>>() {
            for (cols, experts) in [(3, 1), (2, 3), (1, 1), (0, 0), (usize::MAX, usize::MAX)] {
                match matrix.importance(&name, cols, experts) {
                    Ok(found) => {
                        let found = found.expect("an entry of that name");
                        assert_eq!(found.weights.len(), cols * experts);
                        assert!(found.weights.iter().all(|w| *w >= 0.0));
                    }
                    Err(ImatrixError::Shape { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    };
    all().inspect_err(|e: &ImatrixError| {
        let text = e.to_string();
        assert!(!text.is_empty() && text.len() < 600 && !text.chars().any(char::is_control), "{text:?}");
    })
}

fn text(bytes: &[u8]) -> String {
    outcome(bytes).unwrap_err().to_string()
}

#[test]
fn means_come_back_from_both_forms() {
    for bytes in [gguf(), dat()] {
        let matrix = open(&bytes).unwrap();
        assert_eq!(matrix.names().collect::<Vec<_>>(), ["blk.0.attn_q.weight", EXPERTS]);
        assert_eq!((matrix.chunks(), matrix.datasets()), (3, &["wiki.txt".to_owned()][..]));
        let plain = matrix.importance("blk.0.attn_q.weight", 3, 1).unwrap().unwrap();
        assert_eq!(plain, Importance { weights: vec![1.0, 2.0, 0.5], unseen: 0 });
        let experts = matrix.importance(EXPERTS, 2, 3).unwrap().unwrap();
        assert_eq!(experts.weights, [2.0, 1.0, 1.0, 1.0, 0.5, 0.0]);
        // The older form can't tell an expert that was fed nothing.
        assert_eq!(experts.unseen, if bytes.starts_with(b"GGUF") { 1 } else { 0 });
        assert_eq!(matrix.importance("output.weight", 3, 1).unwrap(), None);
    }
}

#[test]
fn the_bytes_of_the_older_form_are_llama_cpps() {
    let mut wanted = Vec::new();
    let mut int = |n: i32, rest: &[u8]| {
        wanted.extend(n.to_le_bytes());
        wanted.extend(rest);
    };
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    int(2, &[]);
    int(19, b"blk.0.attn_q.weight");
    int(3, &[]); // 12 rows in chunks of 4
    int(3, &floats(&[3.0, 6.0, 1.5]));
    int(26, EXPERTS.as_bytes());
    int(2, &[]); // 6 rows, rounded up
    int(6, &floats(&[4.0, 2.0, 2.0, 2.0, 1.0, 0.0]));
    int(3, &[]);
    int(8, b"wiki.txt");
    assert_eq!(dat(), wanted);
}

#[test]
fn one_count_for_all_experts_serves_them_all() {
    let mut out = Vec::new();
    write_gguf(&mut out, &[Sums { name: "x", squares: &[2.0, 4.0, 6.0, 8.0], rows: &[2] }], &ORIGIN).unwrap();
    assert_eq!(open(&out).unwrap().importance("x", 2, 2).unwrap().unwrap().weights, [1.0, 2.0, 3.0, 4.0]);
    // What was never fed counts the same everywhere.
    let mut out = Vec::new();
    write_gguf(&mut out, &[Sums { name: "x", squares: &[0.0; 4], rows: &[0] }], &ORIGIN).unwrap();
    let found = open(&out).unwrap().importance("x", 2, 2).unwrap().unwrap();
    assert_eq!(found, Importance { weights: vec![1.0; 4], unseen: 2 });
}

#[test]
fn another_shape_is_another_model() {
    for bytes in [gguf(), dat()] {
        let matrix = open(&bytes).unwrap();
        for (cols, experts) in [(4, 1), (3, 2), (0, 0), (usize::MAX, 3)] {
            let e = matrix.importance("blk.0.attn_q.weight", cols, experts).unwrap_err().to_string();
            assert!(e.starts_with("has 3 values for 'blk.0.attn_q.weight', where the model has"), "{e}");
        }
    }
    // As many values, but in another number of experts.
    assert!(open(&gguf()).unwrap().importance(EXPERTS, 3, 2).is_err());
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let whole = gguf();
    for n in 0..whole.len() {
        // The last tensor is padded, and llama.cpp does the same.
        let data_ends = n >= whole.len() - 32 + 12;
        assert_eq!(outcome(&whole[..n]).is_err(), !data_ends, "cut at {n}");
    }
    let whole = dat();
    // The number of calls and the text's name came later: files that end before one of them are whole.
    let ends = [whole.len() - 16, whole.len() - 12];
    for n in 0..whole.len() {
        assert_eq!(outcome(&whole[..n]).is_ok(), ends.contains(&n), "cut at {n}");
    }
    let longer = [&whole[..], b"\0"].concat();
    assert_eq!(text(&longer), "has 1 bytes after its end; the file is damaged");
}

#[test]
fn every_number_of_the_older_form_at_every_extreme_is_refused_or_harmless() {
    let whole = dat();
    for at in 0..whole.len() - 3 {
        for extreme in [0, 1, -1, 255, 256, 1 << 16, 1 << 30, i32::MAX, i32::MIN] {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&extreme.to_le_bytes());
            let _ = outcome(&bytes);
        }
    }
    let with = |at: usize, n: i32| {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&n.to_le_bytes());
        text(&bytes)
    };
    for n in [0, -1, i32::MAX, 1 << 17] {
        assert!(with(0, n).contains("neither a GGUF file nor one of the older form"));
    }
    assert_eq!(with(4, 256), "has 256 as the length of the name of entry 1, which cannot be; the file is damaged");
    assert_eq!(with(27, -2), "has -2 as the calls of entry 1, which cannot be; the file is damaged");
    assert_eq!(with(31, 0), "has 0 as the number of values of entry 1, which cannot be; the file is damaged");
    assert_eq!(with(31, 1 << 30), "is cut off in the values of entry 1; make or download it again");
}

#[test]
fn numbers_that_no_sum_of_squares_can_be_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
        let mut bytes = dat();
        bytes[35 + 4..35 + 8].copy_from_slice(&bad.to_le_bytes());
        let said = text(&bytes);
        assert!(said.starts_with(&format!("has {bad} at index 1 of 'blk.0.attn_q.weight'")), "{said}");
        let mut sums = sums();
        let squares = [12.0, f64::from(bad), 6.0];
        sums[1].squares = &squares;
        let mut out = Vec::new();
        write_gguf(&mut out, &sums, &ORIGIN).unwrap();
        assert!(text(&out).starts_with(&format!("has {bad} at index 1 of ")));
    }
}

/// A GGUF file with these tensors, all zeros.
fn tensors(list: &[(&str, &[u64], DType)]) -> Vec<u8> {
    let mut plan = Plan::new(32);
    list.iter().for_each(|(name, shape, dtype)| plan.push_tensor(name, shape, *dtype).unwrap());
    let layout = plan.layout().unwrap();
    let mut out = Writer::new(Vec::new(), &layout).unwrap();
    for t in &layout.tensors {
        out.write(&vec![0; t.bytes as usize]).unwrap();
        out.end_tensor().unwrap();
    }
    out.finish().unwrap()
}

#[test]
fn sums_and_counts_belong_together() {
    use DType::*;
    let wrong: [&[(&str, &[u64], DType)]; 5] = [
        &[("x.in_sum2", &[4], F32)],
        &[("x.counts", &[1], F32)],
        &[("x.in_sum2", &[4], F16), ("x.counts", &[1], F32)],
        &[("x.in_sum2", &[4], F32), ("x.counts", &[1], F64)],
        &[("x.in_sum2", &[4], F32), ("x.counts", &[3], F32)],
    ];
    for list in wrong {
        assert!(text(&tensors(list)).starts_with("has an entry for 'x' that is not whole"));
    }
    let model = tensors(&[("token_embd.weight", &[4, 8], F32)]);
    assert!(text(&model).starts_with("is no importance matrix (a GGUF file without a tensor NAME.in_sum2)"));
    assert!(outcome(&tensors(&[("x.in_sum2", &[4], F32), ("x.counts", &[1], F32), ("y", &[1], F16)])).is_ok());
}

#[test]
fn entries_are_unique() {
    let one = &dat()[4..];
    let twice = [&4i32.to_le_bytes()[..], &one[..one.len() - 16], one].concat();
    assert!(text(&twice).starts_with("has two entries for 'blk.0."));
}

#[test]
fn other_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let say = |bytes: &[u8]| {
        let path = dir.path().join("i.dat");
        std::fs::write(&path, bytes).unwrap();
        let said = Imatrix::read(&path).unwrap_err().to_string();
        said.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    };
    assert!(say(b"").starts_with("is no importance matrix"));
    assert!(say(b"GGU").starts_with("is no importance matrix"));
    assert!(say(b"GGUF").starts_with("is cut off"));
    assert!(
        say(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 77\n")
            .starts_with("is a git-LFS pointer to 77")
    );
    assert!(Imatrix::read(dir.path()).unwrap_err().to_string().contains("is not a regular file"));
    let missing = Imatrix::read(&dir.path().join("none")).unwrap_err();
    assert!(missing.to_string().contains("none: No such file"), "{missing}");
    assert!(matches!(missing.cause(), ImatrixError::Io(_)));
}

proptest! {
    #[test]
    fn any_damage_is_an_error_or_harmless(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>(), form in any::<bool>()) {
        let mut bytes = if form { gguf() } else { dat() };
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = outcome(&bytes);
        let _ = outcome(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_bytes_are_an_error_or_harmless(bytes in prop::collection::vec(any::<u8>(), 0..256), entries in 1i32..4) {
        let _ = outcome(&bytes);
        let _ = outcome(&[&entries.to_le_bytes()[..], &bytes].concat());
    }
}
