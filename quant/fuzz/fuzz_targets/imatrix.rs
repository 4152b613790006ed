//! Any bytes: no importance matrix, or one whose weights are finite numbers that are not negative, for each entry.
//! `cargo +nightly fuzz run imatrix`
#![no_main]

use libfuzzer_sys::fuzz_target;
use qwren_quant::imatrix::Imatrix;

fuzz_target!(|bytes: &[u8]| {
    match Imatrix::of(bytes, bytes.len() as u64) {
        Err(e) => assert!(!e.to_string().chars().any(char::is_control)),
        Ok(matrix) => {
            for name in matrix.names().map(str::to_owned).collect::<Vec<_>>() {
                for (cols, experts) in [(1, 1), (2, 1), (1, 2), (4, 4), (usize::MAX, 2)] {
                    if let Ok(found) = matrix.importance(&name, cols, experts) {
                        let weights = found.expect("an entry of that name").weights;
                        assert_eq!(weights.len(), cols * experts);
                        assert!(weights.iter().all(|w| *w >= 0.0));
                    }
                }
            }
        }
    }
});
