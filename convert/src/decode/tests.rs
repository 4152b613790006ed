//! Every form against values that scripts/make_quantized.py computed, in runs that begin and end anywhere.

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::*;
use crate::checkpoint::quantization;

#[test]
fn every_form_in_any_run_of_rows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/quantized");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let raw = std::fs::read(folder.join("cases.safetensors")).unwrap();
    let all = SafeTensors::deserialize(&raw).unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let tensors = all.tensors();
        let own = tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix(name)?.strip_prefix('/')?, t)));
        let (expected, stored): (Vec<_>, Vec<_>) = own.partition(|(n, _)| n.ends_with("_proj"));
        assert_eq!(expected.len(), 2, "{name}");
        let dir = tempfile::tempdir().unwrap();
        safetensors::serialize_to_file(stored, None, &dir.path().join("model.safetensors")).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let quantization = quantization::read(&json!({"quantization_config": case["config"]})).unwrap();

        let mut lookup = Lookup::new(&checkpoint);
        for (module, values) in expected {
            let [rows, cols] = [0, 1].map(|i| values.shape()[i]);
            let values = floats(Dtype::F32, values.data());
            let shape = [rows as u64, cols as u64];
            let source = locate(&mut lookup, &quantization, &format!("{module}.weight"), &shape).unwrap().unwrap();
            let part = Part { tensor: source.tensor, first_row: 0, rows: rows as u64, encoding: source.encoding };
            for (first, n) in [(0, rows), (1, 1), (3, 9), (8, 8), (rows - 5, 5)] {
                let mut raw = vec![7; 3];
                let run = read(&checkpoint, &part, cols as u64, first as u64, n as u64, &mut raw).unwrap();
                for skip in [0, n / 2] {
                    let mut out = vec![0.0; (n - skip) * cols];
                    run.rows(&raw, cols, skip, &mut out);
                    let same =
                        out.iter().zip(&values[(first + skip) * cols..]).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{name} {module}: rows {first} to {}, from {skip} on", first + n);
                }
            }
        }
        assert!(lookup.complete().is_ok());
        assert_eq!(lookup.unused().count(), 0, "{name}");
    }
}
