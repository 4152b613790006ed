//! What the writer writes, the reader reads.

use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::{Array, GgufError, GgufFile, Header, Layout, Plan, Value, WriteError, Writer};

/// The file of `plan`, each tensor filled with bytes counted from its number.
fn write(plan: Plan) -> (Layout, Vec<u8>) {
    let layout = plan.layout().unwrap();
    let mut writer = Writer::new(Vec::new(), &layout).unwrap();
    for (i, t) in layout.tensors.iter().enumerate() {
        for piece in content(i, t.bytes).chunks(7) {
            writer.write(piece).unwrap();
        }
        writer.end_tensor().unwrap();
    }
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, layout.file_bytes);
    (layout, bytes)
}

fn content(i: usize, bytes: u64) -> Vec<u8> {
    (0..bytes).map(|j| (i as u64 + j) as u8).collect()
}

fn one_of_each() -> Vec<(&'static str, Value)> {
    vec![
        ("general.architecture", "qwen3".into()),
        ("a.u8", 7u8.into()),
        ("a.i8", (-7i8).into()),
        ("a.u16", 65_535u16.into()),
        ("a.i16", i16::MIN.into()),
        ("a.u32", u32::MAX.into()),
        ("a.i32", i32::MIN.into()),
        ("a.f32", 1e6f32.into()),
        ("a.bool", true.into()),
        ("a.u64", u64::MAX.into()),
        ("a.i64", i64::MIN.into()),
        ("a.f64", 0.1f64.into()),
        ("a.text", "Größe 大きさ\n\u{1b}".into()),
        ("a.empty", "".into()),
        ("l.u8", vec![1u8, 2].into()),
        ("l.i8", vec![-1i8].into()),
        ("l.u16", vec![1u16].into()),
        ("l.i16", vec![-1i16].into()),
        ("l.u32", vec![1u32, 2, 3].into()),
        ("l.i32", vec![1i32, -2].into()),
        ("l.f32", vec![0.5f32].into()),
        ("l.bool", vec![true, false].into()),
        ("l.u64", vec![1u64].into()),
        ("l.i64", vec![-1i64].into()),
        ("l.f64", vec![0.25f64].into()),
        ("l.text", vec!["a".to_owned(), String::new(), "ü".to_owned()].into()),
        ("l.none", Vec::<String>::new().into()),
        ("l.nested", Value::Array(Array::Nested(vec![Array::U8(vec![1]), Array::String(vec!["x".to_owned()])]))),
    ]
}

#[test]
fn every_value_type_and_layout_comes_back() {
    for alignment in [8, 32, 64, 65_536] {
        let mut plan = Plan::new(alignment);
        for (key, value) in one_of_each() {
            plan.push_kv(key, value);
        }
        plan.push_tensor("a", &[3], DType::F32).unwrap();
        plan.push_tensor("b", &[256, 2, 3], DType::Q4K).unwrap();
        plan.push_tensor("c", &[32, 1, 1, 2], DType::Q8_0).unwrap();
        let (layout, bytes) = write(plan);
        let header = Header::parse(&bytes, bytes.len() as u64).unwrap();
        assert_eq!((header.version, header.alignment), (3, alignment.into()));
        assert_eq!(header.data_offset, layout.data_offset);
        assert_eq!(header.tensors(), layout.tensors);
        assert_eq!(header.metadata().len(), one_of_each().len() + usize::from(alignment != 32));
        for (i, (key, value)) in one_of_each().into_iter().enumerate() {
            assert_eq!(header.get(key), Some(&value), "{key}");
            assert_eq!(header.metadata().nth(i), Some((key, &value)));
        }
        assert_eq!(header.tensor("b").unwrap().bytes, 6 * 144);
        assert_eq!(header.tensor("d"), None);
        assert!(header.tensors().iter().all(|t| t.offset % u64::from(alignment) == 0));

        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let opened = GgufFile::open(file.path()).unwrap();
        assert_eq!(opened.file_len(), layout.file_bytes);
        for (i, t) in opened.header().tensors().iter().enumerate() {
            assert_eq!(opened.data(t), content(i, t.bytes), "{}", t.name);
        }
    }
}

#[test]
fn typed_getters_refuse_other_types_and_ranges() {
    let mut plan = Plan::new(32);
    for (key, value) in one_of_each() {
        plan.push_kv(key, value);
    }
    let (_, bytes) = write(plan);
    let h = Header::parse(&bytes, bytes.len() as u64).unwrap();

    assert_eq!(h.str("general.architecture").unwrap(), Some("qwen3"));
    assert_eq!(h.u32("a.u8").unwrap(), Some(7));
    assert_eq!(h.u32("a.u32").unwrap(), Some(u32::MAX));
    assert_eq!(h.u64("a.u64").unwrap(), Some(u64::MAX));
    assert_eq!(h.f32("a.f32").unwrap(), Some(1e6));
    assert_eq!(h.f32("a.f64").unwrap(), Some(0.1));
    assert_eq!(h.bool("a.bool").unwrap(), Some(true));
    assert_eq!(h.strings("l.text").unwrap().map(<[String]>::len), Some(3));
    assert_eq!(h.i32s("l.i32").unwrap(), Some(&[1, -2][..]));
    assert_eq!(h.f32s("l.f32").unwrap(), Some(&[0.5][..]));

    assert_eq!(h.u32("absent").unwrap(), None);
    assert_eq!(h.strings("absent").unwrap(), None);

    for negative in ["a.i8", "a.i16", "a.i32", "a.i64"] {
        assert!(matches!(h.u32(negative), Err(GgufError::KeyRange { .. })), "{negative}");
        assert!(matches!(h.u64(negative), Err(GgufError::KeyRange { .. })), "{negative}");
    }
    let e = h.u32("a.u64").unwrap_err().to_string();
    assert_eq!(e, "has 18446744073709551615 as 'a.u64', which is out of range (0 to 4294967295)");
    // G4: an array of bytes is not an array of int32.
    let e = h.i32s("l.u8").unwrap_err().to_string();
    assert_eq!(
        e,
        "has array<uint8> as 'l.u8', where an array<int32> is expected; the file is damaged or of another kind"
    );
    assert!(h.str("a.u8").is_err() && h.f32("a.u8").is_err() && h.bool("a.u8").is_err());
    assert!(h.strings("a.text").is_err() && h.f32s("l.f64").is_err() && h.u32("a.f32").is_err());
}

#[test]
fn the_writer_holds_tensors_to_their_sizes() {
    let mut plan = Plan::new(32);
    plan.push_tensor("first", &[4], DType::F32).unwrap();
    plan.push_tensor("second", &[1], DType::I8).unwrap();
    let layout = plan.layout().unwrap();
    assert_eq!(layout.file_bytes, layout.data_offset + 64);

    let mut w = Writer::new(Vec::new(), &layout).unwrap();
    let e = w.write(&[0; 17]).unwrap_err();
    assert_eq!(e.to_string(), "the tensor 'first' takes 16 bytes, and 1 more came");
    w.write(&[1; 10]).unwrap();
    let e = w.end_tensor().unwrap_err();
    assert_eq!(e.to_string(), "the tensor 'first' takes 16 bytes, of which 6 did not come");
    w.write(&[1; 6]).unwrap();
    w.end_tensor().unwrap();
    assert_eq!(w.current().unwrap().name, "second");
    w.write(&[2]).unwrap();
    w.end_tensor().unwrap();
    assert_eq!(w.written(), layout.file_bytes);
    assert!(matches!(w.write(&[0]), Err(WriteError::AfterEnd)));
    assert!(matches!(w.end_tensor(), Err(WriteError::AfterEnd)));
    let bytes = w.finish().unwrap();
    assert_eq!(
        bytes[layout.data_offset as usize..],
        [[1; 16], [0; 16], [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0; 16]].concat()
    );

    let unfinished = Writer::new(Vec::new(), &layout).unwrap().finish().unwrap_err();
    assert!(matches!(unfinished, WriteError::Short { missing: 16, .. }));
}

#[test]
fn plans_that_no_reader_would_take_are_refused() {
    let mut plan = Plan::new(32);
    assert!(matches!(plan.push_tensor("", &[1], DType::F32), Err(WriteError::Name { len: 0, .. })));
    assert!(matches!(plan.push_tensor(&"n".repeat(64), &[1], DType::F32), Err(WriteError::Name { len: 64, .. })));
    assert!(matches!(plan.push_tensor("t", &[100], DType::Q4K), Err(WriteError::Tensor { .. })));
    plan.push_tensor("t", &[1 << 60], DType::I8).unwrap();
    plan.push_tensor("u", &[1 << 62], DType::I8).unwrap();
    assert!(matches!(plan.push_tensor("v", &[1 << 62], DType::I8), Err(WriteError::TooLarge)));

    let mut plan = Plan::new(32);
    plan.push_kv("k", 1u32);
    plan.push_kv("k", 2u32);
    assert!(matches!(plan.layout(), Err(WriteError::DuplicateKey(_))));

    let mut plan = Plan::new(32);
    plan.push_tensor("t", &[1], DType::F32).unwrap();
    plan.push_tensor("t", &[1], DType::F32).unwrap();
    assert!(matches!(plan.layout(), Err(WriteError::DuplicateTensor(_))));

    for alignment in [0, 1, 4, 33, 1 << 17, 1 << 31] {
        assert!(matches!(Plan::new(alignment).layout(), Err(WriteError::Alignment(a)) if a == alignment));
    }
}

/// Offsets and sizes are those that llama.cpp's tools gave to the same tensors in the same order.
#[test]
fn layouts_equal_llama_cpps() {
    let dumps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/gguf-dumps");
    let mut seen = 0;
    for entry in std::fs::read_dir(dumps).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let number_after = |marker: &str| -> u64 {
            let rest = text.split_once(marker).unwrap().1;
            rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        };
        let mut plan = Plan::new(32);
        let mut offsets = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("tensor ")) {
            // NAME TYPE [NE0, NE1, …] OFFSET
            let (head, rest) = line.split_once(" [").unwrap();
            let (name, dtype) = head.split_once(' ').unwrap();
            let (shape, offset) = rest.split_once("] ").unwrap();
            let shape: Vec<u64> = shape.split(", ").map(|n| n.parse().unwrap()).collect();
            plan.push_tensor(name, &shape, DType::parse(dtype).unwrap()).unwrap();
            offsets.push(offset.parse::<u64>().unwrap());
        }
        let layout = plan.layout().unwrap();
        let planned: Vec<u64> = layout.tensors.iter().map(|t| t.offset).collect();
        assert_eq!(planned, offsets, "{}", path.display());
        let data_bytes = number_after("file of ") - number_after("data at ");
        assert_eq!(layout.file_bytes - layout.data_offset, data_bytes, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 6, "{seen} dumps");
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = || ".{0,12}";
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        (-1e9f32..1e9).prop_map(Value::from),
        text().prop_map(Value::from),
        prop::collection::vec(text(), 0..5).prop_map(Value::from),
        prop::collection::vec(any::<i32>(), 0..5).prop_map(Value::from),
        prop::collection::vec(any::<bool>(), 0..5).prop_map(Value::from),
        prop::collection::vec(prop::collection::vec(any::<u16>(), 0..3).prop_map(Array::U16), 0..3)
            .prop_map(|v| Value::Array(Array::Nested(v))),
    ]
}

proptest! {
    #[test]
    fn arbitrary_files_come_back(
        metadata in prop::collection::btree_map("[a-z]{1,3}\\.[a-z_]{1,12}", any_value(), 0..10),
        tensors in prop::collection::btree_map("[a-z.0-9]{1,40}", (prop::collection::vec(1u64..4, 1..=4), 0..DType::ALL.len()), 0..10),
    ) {
        let mut plan = Plan::new(32);
        for (key, value) in &metadata {
            plan.push_kv(key, value.clone());
        }
        for (name, (shape, dtype)) in &tensors {
            let dtype = DType::ALL[*dtype];
            let mut shape = shape.clone();
            shape[0] *= dtype.block_len() as u64;
            plan.push_tensor(name, &shape, dtype).unwrap();
        }
        let (layout, bytes) = write(plan);
        let header = Header::parse(&bytes, bytes.len() as u64).unwrap();
        prop_assert_eq!(header.tensors(), &layout.tensors);
        prop_assert_eq!(header.metadata().len(), metadata.len());
        for (key, value) in &metadata {
            prop_assert_eq!(header.get(key), Some(value));
        }
    }
}
