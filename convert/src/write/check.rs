//! Values that must not be in a file, found on the way through.

use qwren_quant::dtype::DType;

use crate::error::Problem;

/// Largest finite f16: the bound of block scales.
const F16_MAX: f32 = 65504.0;
/// Greatest f32 that rounds to a finite f16, and to a finite bf16.
const ROUNDS_TO_F16: f32 = 65519.996;
const ROUNDS_TO_BF16: f32 = f32::from_bits(0x7f7f_7fff);

/// Values of one stored tensor that its target type can't hold.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Faults {
    /// NaN and infinities.
    pub nonfinite: Found,
    /// Finite values beyond the target's range.
    pub large: Found,
}

/// How many, and the first of them.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub count: u64,
    /// Flat index within the stored tensor, and the value.
    pub first: Option<(u64, f32)>,
}

impl Found {
    fn add(&mut self, index: u64, value: f32) {
        self.count += 1;
        self.first.get_or_insert((index, value));
    }

    fn join(self, later: Found) -> Found {
        Found { count: self.count + later.count, first: self.first.or(later.first) }
    }
}

impl Faults {
    /// Looks at values whose first one has the flat index `start`; `limit` as of [`limit`].
    pub fn scan(values: &[f32], start: u64, limit: f32) -> Faults {
        // One pass that vectorizes finds whether there is anything at all: NaN fails every comparison.
        if values.iter().fold(true, |sound, v| sound & (v.abs() <= limit)) {
            return Faults::default();
        }
        let mut faults = Faults::default();
        for (i, &v) in (start..).zip(values) {
            if !v.is_finite() {
                faults.nonfinite.add(i, v);
            } else if v.abs() > limit {
                faults.large.add(i, v);
            }
        }
        faults
    }

    /// Faults here and in what follows.
    pub fn join(self, later: Faults) -> Faults {
        Faults { nonfinite: self.nonfinite.join(later.nonfinite), large: self.large.join(later.large) }
    }

    /// How many values are concerned.
    pub fn count(&self) -> u64 {
        self.nonfinite.count + self.large.count
    }

    /// The faults as an error; NaN and infinities come first.
    pub fn problem(&self, tensor: &str, dtype: DType) -> Option<Problem> {
        let tensor = tensor.to_owned();
        if let Found { count, first: Some((index, value)) } = self.nonfinite {
            return Some(Problem::NonFinite { tensor, count, value, index });
        }
        let Found { count, first } = self.large;
        first.map(|(index, value)| Problem::OutOfRange { tensor, dtype: dtype.name(), count, value, index })
    }
}

/// The largest magnitude that a type holds: beyond it an f16 value or block scale would become infinite.
pub(super) fn limit(dtype: DType) -> f32 {
    match dtype {
        DType::F32 => f32::MAX,
        DType::BF16 => ROUNDS_TO_BF16,
        DType::F16 => ROUNDS_TO_F16,
        DType::Q8_0 => 127.0 * F16_MAX,
        _ => F16_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_where_rounding_becomes_infinite() {
        use half::{bf16, f16};
        for (limit, rounded) in [
            (limit(DType::F16), (|x| f16::from_f32(x).is_finite()) as fn(f32) -> bool),
            (limit(DType::BF16), |x| bf16::from_f32(x).is_finite()),
        ] {
            assert!(rounded(limit) && !rounded(f32::from_bits(limit.to_bits() + 1)));
        }
    }

    #[test]
    fn faults_are_counted_and_the_first_is_named() {
        let values = [0.0, f32::NAN, 70000.0, f32::INFINITY, -1.0];
        let faults = Faults::scan(&values, 100, limit(DType::F16));
        assert_eq!((faults.nonfinite.count, faults.large), (2, Found { count: 1, first: Some((102, 70000.0)) }));
        assert_eq!(faults.nonfinite.first.map(|f| f.0), Some(101));
        assert_eq!(Faults::scan(&values[2..3], 0, limit(DType::BF16)), Faults::default());
        let both = Faults::scan(&values[2..3], 7, limit(DType::F16)).join(faults);
        assert_eq!(both.large, Found { count: 2, first: Some((7, 70000.0)) });
        let text = faults.problem("w", DType::F16).unwrap().to_string();
        assert_eq!(faults.count(), 3);
        assert!(text.starts_with("tensor w has 2 values that are not finite, the first (NaN) at index 101;"), "{text}");
    }
}
