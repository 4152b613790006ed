//! One runner for all kernels of this machine: every one against the scalar definition.
mod mul_mat;
mod vec_ops;

use super::Level;

/// The environment variable with the levels, between commas, that this machine must have.
const REQUIRE: &str = "QWREN_TEST_REQUIRE";

/// A machine without a level tests nothing of it: where one is meant to be tested, it is named.
#[test]
fn required_levels_are_there() {
    let names = std::env::var(REQUIRE).unwrap_or_default();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        assert!(Level::parse(name).is_ok(), "{REQUIRE}: this machine lacks {name}; it has {:?}", Level::available());
    }
}

/// Pseudorandom numbers that are the same on every machine (splitmix64).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// −1 … 1.
    fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// Equal bits, or both NaN.
fn assert_same(got: &[f32], want: &[f32], what: impl Fn() -> String) {
    assert_eq!(got.len(), want.len(), "{}", what());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        assert!(same, "{}, element {i}: {got:?} instead of {want:?}", what());
    }
}
