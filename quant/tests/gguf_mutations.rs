//! Sound files with bytes changed, cut and inserted at random: the reader refuses them or describes them truly.

mod raw;

use proptest::prelude::*;
use raw::{outcome, sample};

/// A change to a file.
#[derive(Clone, Debug)]
enum Edit {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Word(prop::sample::Index, u64),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Copy(prop::sample::Index, prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(i, b)| Edit::Set(i, b)),
        (at(), 0u8..8).prop_map(|(i, bit)| Edit::Flip(i, bit)),
        (at(), any::<u64>().prop_flat_map(|n| (0u32..64).prop_map(move |s| n >> s)))
            .prop_map(|(i, n)| Edit::Word(i, n)),
        (at(), 1usize..20).prop_map(|(i, n)| Edit::Remove(i, n)),
        (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(i, b)| Edit::Insert(i, b)),
        (at(), at(), 1usize..40).prop_map(|(i, j, n)| Edit::Copy(i, j, n)),
        at().prop_map(Edit::Cut),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    let end = |i: usize, n: usize| (i + n).min(len);
    match edit {
        Edit::Set(i, b) => bytes[i.index(len)] = *b,
        Edit::Flip(i, bit) => bytes[i.index(len)] ^= 1 << bit,
        Edit::Word(i, n) => {
            let i = i.index(len);
            let target = &mut bytes[i..end(i, 8)];
            target.copy_from_slice(&n.to_le_bytes()[..target.len()]);
        }
        Edit::Remove(i, n) => {
            let i = i.index(len);
            bytes.drain(i..end(i, *n));
        }
        Edit::Insert(i, b) => {
            let i = i.index(len);
            bytes.splice(i..i, b.iter().copied());
        }
        Edit::Copy(i, j, n) => {
            let (i, j) = (i.index(len), j.index(len));
            let piece = bytes[i..end(i, *n)].to_vec();
            bytes.splice(j..j, piece);
        }
        Edit::Cut(i) => bytes.truncate(i.index(len)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn edited_files_are_refused_or_described_truly(edits in prop::collection::vec(edit(), 1..4)) {
        let mut bytes = sample().bytes;
        for e in &edits {
            apply(&mut bytes, e);
        }
        let _ = outcome(&bytes);
    }

    #[test]
    fn noise_after_a_preamble_is_refused_or_described_truly(
        version in 2u8..=3, tensors in 0u8..3, keys in 0u8..4, noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = vec![b'G', b'G', b'U', b'F', version, 0, 0, 0, tensors, 0, 0, 0, 0, 0, 0, 0, keys, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&noise);
        let _ = outcome(&bytes);
    }
}
