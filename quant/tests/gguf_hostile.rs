//! Files that are damaged or made to do harm: each is an error that says what is wrong, and nothing else happens.
//! Tests carry the number of the CVE or of the report that they guard against.

mod raw;

use qwren_quant::dtype::{DType, DTypeError};
use qwren_quant::gguf::{GgufError, GgufFile, Header};
use raw::{Field, Raw, outcome, parse, sample};

const EXTREMES: [u64; 14] = [
    0,
    1,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 61) + 1,
    1 << 61,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 63) + 1,
    u64::MAX - 7,
    u64::MAX,
];

fn err(bytes: &[u8]) -> GgufError {
    outcome(bytes).expect_err("the file is not sound")
}

fn text(bytes: &[u8]) -> String {
    err(bytes).to_string()
}

#[test]
fn the_sample_is_sound() {
    let raw = sample();
    let h = outcome(&raw.bytes).unwrap();
    assert_eq!(h.tensors().len(), 3);
    assert_eq!(h.metadata().len(), 9);
    assert_eq!(h.strings("tokenizer.ggml.tokens").unwrap().unwrap(), ["a", "", "ü"]);
    let version_2 = raw.with(raw.fields[0], 2);
    assert_eq!(outcome(&version_2).unwrap().version, 2);
}

/// G10, CVE-2024-12055 and the other short files.
#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let raw = sample();
    for n in 0..raw.bytes.len() {
        let e = err(&raw.bytes[..n]);
        let says_so = matches!(
            e,
            GgufError::Empty
                | GgufError::Truncated { .. }
                | GgufError::Count { .. }
                | GgufError::ArrayTooLong { .. }
                | GgufError::PastEnd { .. }
        );
        assert!(says_so && !e.unsupported(), "cut at {n}: {e}");
    }
    // Half a download of which the header is whole.
    let h = parse(&raw.bytes).unwrap();
    let cut = Header::parse(&raw.bytes, raw.bytes.len() as u64 - 1).unwrap_err().to_string();
    let end = h.data_offset + 480 + 136;
    assert_eq!(
        cut,
        format!(
            "is cut off: tensor 'blk.0.ffn_down_exps.weight' ends at byte {end}, but the file has {} bytes; download it again",
            end - 1
        )
    );
}

/// CVE-2024-21825, -21836, -23605, -23496, -25664 to -25668, 2025-49847, G1: no field can promise what is not there.
#[test]
fn every_field_at_every_extreme_is_refused_or_harmless() {
    let raw = sample();
    for &place in &raw.fields {
        for extreme in EXTREMES {
            let bytes = raw.with(place, extreme);
            let result = outcome(&bytes);
            let stored = extreme << (64 - 8 * place.0.width()) >> (64 - 8 * place.0.width());
            let fits = stored >> 31 == 0;
            assert!(result.is_err() || fits || bytes == raw.bytes, "{place:?} = {extreme}");
        }
    }
}

#[test]
fn every_field_one_off_or_doubled_is_refused_or_harmless() {
    let raw = sample();
    for &(field, at) in &raw.fields {
        let mut value = [0; 8];
        value[..field.width()].copy_from_slice(&raw.bytes[at..at + field.width()]);
        let value = u64::from_le_bytes(value);
        for other in [value.wrapping_add(1), value.wrapping_sub(1), value.wrapping_mul(2), value.wrapping_neg(), !value]
        {
            let _ = outcome(&raw.with((field, at), other));
        }
    }
}

#[test]
fn counts_say_what_was_promised_and_what_could_be() {
    let mut raw = Raw::new(1 << 40, 0);
    raw.raw(&[0; 66]);
    assert_eq!(
        text(&raw.bytes),
        "promises 1099511627776 tensors, but the 66 bytes that are left can hold at most 2; the file is damaged"
    );
    let mut raw = Raw::new(0, u64::MAX);
    raw.raw(&[0; 100]);
    assert!(matches!(err(&raw.bytes), GgufError::Count { what: "keys", count: u64::MAX, left: 100, most: 7 }));

    for (element_type, most) in [(0, 48), (3, 24), (4, 12), (6, 12), (7, 48), (8, 6), (9, 4), (10, 6), (12, 6)] {
        for count in [most + 1, 1 << 31, 1 << 32, (1 << 61) + 1, 1 << 62, 1 << 63, u64::MAX] {
            let mut raw = Raw::new(0, 1);
            raw.key("k", 9).array(element_type, count).raw(&[0; 48]);
            assert!(
                matches!(err(&raw.bytes), GgufError::ArrayTooLong { left: 48, most: m, .. } if m == most),
                "{count} × {element_type}: {}",
                text(&raw.bytes)
            );
        }
    }
}

#[test]
fn texts_are_bounded_by_the_file_and_by_a_cap() {
    for len in [2, 1 << 20, 1 << 24] {
        let mut raw = Raw::new(0, 1);
        raw.key("k", 8).field(Field::TextLength, len).raw(b"x");
        assert!(matches!(err(&raw.bytes), GgufError::Truncated { need, have: 1, .. } if need == len), "{len}");
    }
    for len in [(1 << 24) + 1, 1 << 32, u64::MAX - 8, u64::MAX] {
        let mut raw = Raw::new(0, 1);
        raw.key("k", 8).field(Field::TextLength, len).raw(b"x");
        assert!(matches!(err(&raw.bytes), GgufError::TextTooLong { len: l, .. } if l == len), "{len}");
    }
    let mut raw = Raw::new(0, 1);
    raw.key(&"k".repeat(65_536), 0).raw(&[1]);
    assert!(matches!(err(&raw.bytes), GgufError::TextTooLong { len: 65_536, cap: 65_535, .. }));
    let mut raw = Raw::new(1, 0);
    raw.tensor(&"n".repeat(256), &[1], 0, 0).data(32, 4);
    assert!(matches!(err(&raw.bytes), GgufError::TextTooLong { len: 256, cap: 255, .. }));
}

#[test]
fn texts_are_utf8_and_names_are_not_empty() {
    let mut raw = Raw::new(0, 1);
    raw.key("tokenizer.ggml.tokens", 9).array(8, 2).text("ok").field(Field::TextLength, 3).raw(b"a\xff\xfe");
    let at = raw.bytes.len() - 2;
    assert_eq!(
        text(&raw.bytes),
        format!(
            "has bytes that are not UTF-8 in element 1 of 'tokenizer.ggml.tokens' (byte {at} of the file); the file is damaged"
        )
    );
    let mut raw = Raw::new(0, 1);
    raw.key("", 0).raw(&[0; 20]);
    assert_eq!(text(&raw.bytes), "has no name for key number 0; the file is damaged");
    let mut raw = Raw::new(1, 0);
    raw.tensor("", &[1], 0, 0).data(32, 4);
    assert_eq!(text(&raw.bytes), "has no name for the name of tensor number 0; the file is damaged");
}

#[test]
fn magic_byte_order_and_version_are_named() {
    let raw = sample();
    assert_eq!(text(b""), "is empty; download or convert it again");
    assert!(matches!(err(b"GG"), GgufError::Truncated { .. }));
    assert!(matches!(err(b"GGUG\x03\0\0\0"), GgufError::NotGguf { .. }));
    for version in [0, 1, 4, 65_535, u64::from(u32::MAX)] {
        let e = err(&raw.with(raw.fields[0], version));
        assert!(matches!(e, GgufError::Version(v) if u64::from(v) == version) && e.unsupported(), "{version}: {e}");
    }
    for version in [2u32, 3] {
        let e = err(&raw.with(raw.fields[0], version.swap_bytes().into()));
        assert!(matches!(e, GgufError::BigEndian) && e.unsupported(), "{e}");
    }
}

#[test]
fn value_types_that_do_not_exist_are_named() {
    let raw = sample();
    for &place in raw.fields.iter().filter(|(f, _)| matches!(f, Field::ValueType | Field::ElementType)) {
        for id in (13..300).chain([1 << 16, 1 << 31, u64::from(u32::MAX)]) {
            assert!(
                matches!(err(&raw.with(place, id)), GgufError::ValueType { id: found, .. } if u64::from(found) == id)
            );
        }
        for id in 0..13 {
            let _ = outcome(&raw.with(place, id));
        }
    }
    let mut raw = Raw::new(0, 1);
    raw.key("flag", 7).raw(&[2]);
    assert_eq!(text(&raw.bytes), "has 2 as a boolean in 'flag', which must be 0 or 1; the file is damaged");
    let mut raw = Raw::new(0, 1);
    raw.key("flags", 9).array(7, 3).raw(&[0, 1, 255]);
    assert!(matches!(err(&raw.bytes), GgufError::NotBool { byte: 255, .. }));
}

#[test]
fn nesting_is_bounded() {
    for depth in [2, 3, 4, 5, 6, 1000, 100_000] {
        let mut raw = Raw::new(0, 1);
        raw.key("deep", 9);
        for _ in 1..depth {
            raw.array(9, 1);
        }
        raw.array(0, 1).raw(&[7]);
        match outcome(&raw.bytes) {
            Ok(_) => assert!(depth <= 4),
            Err(e) => assert!(depth > 4 && matches!(e, GgufError::Nesting { limit: 4, .. }), "{depth}: {e}"),
        }
    }
    // Wide at every level: as many arrays as the bytes allow.
    let mut raw = Raw::new(0, 1);
    raw.key("wide", 9).array(9, 1000);
    for _ in 0..1000 {
        raw.array(9, 1).array(1, 0);
    }
    assert!(outcome(&raw.bytes).is_ok());
}

#[test]
fn duplicates_are_refused() {
    let mut raw = Raw::new(0, 3);
    raw.key("twice", 0).raw(&[1]).key("other", 0).raw(&[1]).key("twice", 1).raw(&[2]);
    assert_eq!(text(&raw.bytes), "has the key 'twice' twice; the file is damaged");
    let mut raw = Raw::new(2, 0);
    raw.tensor("t", &[8], 0, 0).tensor("t", &[8], 0, 32).data(32, 64);
    assert_eq!(text(&raw.bytes), "has the tensor 't' twice; the file is damaged");
}

/// G4: the type is what the reader will use, or the file is refused.
#[test]
fn known_keys_have_their_types() {
    // A value of each type.
    let scalar = |raw: &mut Raw, key: &str, id: u64| {
        match id {
            8 => raw.key(key, 8).text("x"),
            9 => raw.key(key, 9).array(0, 1).raw(&[1]),
            0 | 1 | 7 => raw.key(key, id).raw(&[1]),
            2 | 3 => raw.key(key, id).raw(&[1, 0]),
            4..=6 => raw.key(key, id).raw(&[1, 0, 0, 0]),
            _ => raw.key(key, id).raw(&[1, 0, 0, 0, 0, 0, 0, 0]),
        };
    };
    let integers = [0, 1, 2, 3, 4, 5, 10, 11];
    let kinds: &[(&str, &[u64])] = &[
        ("general.name", &[8]),
        ("tokenizer.chat_template", &[8]),
        ("general.file_type", &integers),
        ("tokenizer.ggml.eos_token_id", &integers),
        ("general.sampling.temp", &[6, 12]),
        ("tokenizer.ggml.add_bos_token", &[7]),
        ("tokenizer.ggml.tokens", &[]),
        ("tokenizer.ggml.token_type", &[]),
        ("qwen3.block_count", &integers),
        ("qwen3.attention.head_count", &integers),
        ("qwen3.rope.freq_base", &[6, 12]),
        ("qwen3.expert_weights_norm", &[7]),
        ("qwen3.rope.scaling.type", &[8]),
        ("anything.else", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ];
    for &(key, right) in kinds {
        for id in 0..13 {
            let mut raw = Raw::new(0, 2);
            scalar(&mut raw, key, id);
            raw.key("general.architecture", 8).text("qwen3");
            match outcome(&raw.bytes) {
                Ok(_) => assert!(right.contains(&id), "{key} as {id}"),
                Err(e) => {
                    assert!(!right.contains(&id), "{key} as {id}: {e}");
                    assert!(matches!(e, GgufError::KeyType { .. }), "{key} as {id}: {e}");
                }
            }
        }
    }
    for id in [0, 1, 2, 3, 4, 6, 7, 10, 11, 12] {
        let mut raw = Raw::new(0, 1);
        raw.key("tokenizer.ggml.token_type", 9).array(id, 1).raw(&[1, 0, 0, 0, 0, 0, 0, 0]);
        let e = err(&raw.bytes).to_string();
        assert!(e.contains("where an array<int32> is expected"), "{e}");
    }
    let mut raw = Raw::new(0, 1);
    raw.key("general.architecture", 4).raw(&[1, 0, 0, 0]);
    assert!(matches!(err(&raw.bytes), GgufError::KeyType { .. }));
}

/// G7: no alignment can overflow the padding.
#[test]
fn alignments_are_powers_of_two_in_range() {
    for alignment in [0u32, 1, 2, 3, 4, 7, 9, 24, 33, 1000, 1 << 17, 1 << 20, 1 << 31, u32::MAX] {
        let mut raw = Raw::new(0, 1);
        raw.key("general.alignment", 4).raw(&alignment.to_le_bytes());
        assert!(matches!(err(&raw.bytes), GgufError::Alignment(a) if a == u64::from(alignment)), "{alignment}");
    }
    for alignment in [8u32, 16, 32, 64, 4096, 1 << 16] {
        let mut raw = Raw::new(1, 1);
        raw.key("general.alignment", 4).raw(&alignment.to_le_bytes());
        raw.tensor("t", &[4], 0, 0).data(alignment as usize, 16);
        let h = outcome(&raw.bytes).unwrap();
        assert_eq!((h.alignment, h.data_offset), (alignment.into(), raw.bytes.len() as u64 - 16));
    }
    // A number of another type is not read as uint32.
    let mut raw = Raw::new(0, 1);
    raw.key("general.alignment", 10).raw(&32u64.to_le_bytes());
    assert!(matches!(err(&raw.bytes), GgufError::KeyType { .. }));
}

fn one_tensor(shape: &[u64], dtype: u64, offset: u64) -> Vec<u8> {
    let mut raw = Raw::new(1, 0);
    raw.tensor("t", shape, dtype, offset).data(32, 4096);
    raw.bytes
}

/// CVE-2024-21802, G3: more dimensions than there is room for.
#[test]
fn tensors_have_one_to_four_dimensions() {
    for dims in [0, 5, 6, 64] {
        let e = err(&one_tensor(&vec![1; dims], 0, 0));
        assert!(matches!(e, GgufError::Tensor { why: DTypeError::Dims(n), .. } if n == dims as u64), "{e}");
    }
    let raw = sample();
    for &place in raw.fields.iter().filter(|(f, _)| *f == Field::Dims) {
        for dims in [0, 5, 1 << 16, 1 << 31, u64::from(u32::MAX)] {
            let e = err(&raw.with(place, dims));
            assert!(matches!(e, GgufError::Tensor { why: DTypeError::Dims(n), .. } if n == dims), "{e}");
        }
    }
}

/// G2: a zero among the dimensions.
#[test]
fn no_dimension_is_zero() {
    for dims in 1..=4 {
        for zero in 0..dims {
            let mut shape = vec![1; dims];
            shape[zero] = 0;
            let e = err(&one_tensor(&shape, 0, 0));
            assert!(matches!(e, GgufError::Tensor { why: DTypeError::ZeroDim(i), .. } if i == zero), "{shape:?}: {e}");
        }
    }
}

#[test]
fn tensor_types_exist_and_rows_are_whole_blocks() {
    for id in (0..300).chain([1 << 16, 1 << 31, u64::from(u32::MAX)]) {
        let bytes = one_tensor(&[256], id, 0);
        match DType::from_ggml_id(id as u32) {
            Ok(dtype) => {
                assert_eq!(outcome(&bytes).unwrap().tensors()[0].dtype, dtype);
                for cols in [1, 31, 33, 255, 257] {
                    let result = outcome(&one_tensor(&[cols], id, 0));
                    let whole = cols % dtype.block_len() as u64 == 0;
                    assert_eq!(result.is_ok(), whole, "{cols} × {dtype}");
                    if let Err(e) = result {
                        assert!(matches!(e, GgufError::Tensor { why: DTypeError::Ragged { .. }, .. }), "{e}");
                    }
                }
            }
            Err(why) => {
                let e = err(&bytes);
                assert!(matches!(e, GgufError::Tensor { why: found, .. } if found == why) && e.unsupported(), "{e}");
            }
        }
    }
    assert_eq!(
        text(&one_tensor(&[256], 31, 0)),
        "has a tensor 't' that cannot be: type Q4_0_4_4 (id 31) was removed from ggml; convert the model again"
    );
}

/// CVE-2026-33298, G8, G9: the product of the dimensions wraps to something small.
#[test]
fn products_of_dimensions_do_not_wrap() {
    for shape in [
        &[1 << 32, 1 << 32][..],
        &[1 << 32, 1 << 31, 2],
        &[1 << 16, 1 << 16, 1 << 16, 1 << 16],
        &[(1 << 63) + 1, 2],
        &[u64::MAX],
        &[u64::MAX, u64::MAX, u64::MAX, u64::MAX],
        &[1 << 62, 4],
        &[3, 6_148_914_691_236_517_206],
    ] {
        for dtype in [0, 1, 24, 28] {
            let e = err(&one_tensor(shape, dtype, 0));
            assert!(matches!(e, GgufError::Tensor { why: DTypeError::Overflow, .. }), "{shape:?}: {e}");
        }
    }
    // Only the bytes wrap: 2^61 doubles.
    assert!(matches!(err(&one_tensor(&[1 << 61], 28, 0)), GgufError::Tensor { why: DTypeError::Overflow, .. }));
    // Nothing wraps, the file is just smaller.
    assert!(matches!(err(&one_tensor(&[1 << 40], 0, 0)), GgufError::PastEnd { .. }));
}

/// CVE-2026-7482: a span that ends outside the file.
#[test]
fn spans_lie_inside_the_file() {
    let offsets = [4096, 1 << 20, 1 << 32, 1 << 62, (1 << 63) - 32, 1 << 63, u64::MAX - 31];
    for offset in offsets {
        let e = err(&one_tensor(&[8], 0, offset));
        assert!(matches!(e, GgufError::PastEnd { .. } | GgufError::SizeOverflow { .. }), "{offset}: {e}");
    }
    assert!(outcome(&one_tensor(&[8], 0, 4064)).is_ok());
    assert!(matches!(err(&one_tensor(&[9], 0, 4064)), GgufError::PastEnd { .. }));
    for offset in [1, 4, 16, 31, 33, 4063] {
        assert!(matches!(err(&one_tensor(&[8], 0, offset)), GgufError::Misaligned { .. }), "{offset}");
    }
}

/// CVE-2025-53630, 2026-27940: the sum of the sizes wraps to something small.
#[test]
fn sums_of_sizes_do_not_wrap() {
    for n in 2..=9u64 {
        let mut raw = Raw::new(n, 0);
        for i in 0..n {
            // Each just fits in 63 bits; a sum that wraps would look like a small one.
            raw.tensor(&format!("t{i}"), &[(1 << 63) - 32], 24, i.wrapping_mul((1 << 63) - 32));
        }
        raw.data(32, 4096);
        let e = err(&raw.bytes);
        assert!(matches!(e, GgufError::SizeOverflow { .. } | GgufError::PastEnd { .. }), "{n}: {e}");
    }
    let mut raw = Raw::new(3, 0);
    for (name, offset) in [("a", 0), ("b", 32), ("c", 64)] {
        raw.tensor(name, &[(1 << 63) - 32], 24, offset);
    }
    raw.data(32, 4096);
    assert!(matches!(err(&raw.bytes), GgufError::SizeOverflow { .. }));
}

#[test]
fn spans_do_not_share_bytes() {
    for (a, b) in [(0, 0), (0, 32), (32, 0), (96, 64)] {
        let mut raw = Raw::new(2, 0);
        raw.tensor("a", &[16], 0, a).tensor("b", &[16], 0, b).data(32, 4096);
        assert!(matches!(err(&raw.bytes), GgufError::Overlap { .. }), "{a} {b}");
    }
    // In any order, and with holes, as long as they are apart.
    let mut raw = Raw::new(3, 0);
    raw.tensor("a", &[16], 0, 1024).tensor("b", &[16], 0, 0).tensor("c", &[16], 0, 64).data(32, 4096);
    assert!(outcome(&raw.bytes).is_ok());
}

/// CVE-2024-39720 to -39722: nothing but a header, or no tensor at all.
#[test]
fn a_file_without_tensors_is_sound() {
    assert!(outcome(&Raw::new(0, 0).bytes).is_ok());
    let mut raw = Raw::new(0, 1);
    raw.key("general.architecture", 8).text("qwen3");
    assert_eq!(outcome(&raw.bytes).unwrap().tensors().len(), 0);
}

#[test]
fn what_is_no_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| GgufFile::open(&folder.path().join(name)).unwrap_err();
    assert!(matches!(open("").cause(), GgufError::Folder));
    assert!(matches!(open("absent").cause(), GgufError::Io(e) if e.kind() == std::io::ErrorKind::NotFound));
    std::fs::write(folder.path().join("empty"), "").unwrap();
    assert!(matches!(open("empty").cause(), GgufError::Empty));
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 639446784\n";
    std::fs::write(folder.path().join("lfs.gguf"), pointer).unwrap();
    let e = open("lfs.gguf");
    assert!(matches!(e.cause(), GgufError::LfsPointer { bytes: 639_446_784 }));
    assert!(e.to_string().contains("lfs.gguf: is a git-LFS pointer"), "{e}");
    #[cfg(unix)]
    assert!(matches!(GgufFile::open("/dev/zero".as_ref()).unwrap_err().cause(), GgufError::NotAFile));
}

/// T11: names from a file don't drive the terminal through a message.
#[test]
fn messages_escape_what_a_file_says() {
    let evil = "\u{1b}]52;c;ZXZpbA==\u{7}\r\n\u{9b}31m\u{202e}";
    let mut raw = Raw::new(1, 0);
    raw.tensor(evil, &[0], 0, 0).data(32, 32);
    assert_eq!(
        text(&raw.bytes),
        r"has a tensor '\u{1b}]52;c;ZXZpbA==\u{7}\r\n\u{9b}31m\u{202e}' that cannot be: dimension 0 is zero"
    );
    let mut raw = Raw::new(0, 1);
    raw.key(evil, 99);
    assert!(text(&raw.bytes).contains(r"for '\u{1b}]52;c;"));
}
