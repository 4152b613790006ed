//! The vectors of code that runs at no particular level, where no instructions are known.

/// Four floats.
#[derive(Clone, Copy)]
pub(crate) struct F32x4([f32; 4]);

impl F32x4 {
    #[inline(always)]
    pub(crate) fn load(x: &[f32; 4]) -> F32x4 {
        F32x4(*x)
    }

    #[inline(always)]
    pub(crate) fn store(self, x: &mut [f32; 4]) {
        *x = self.0;
    }

    #[inline(always)]
    pub(crate) fn all(x: f32) -> F32x4 {
        F32x4([x; 4])
    }

    #[inline(always)]
    pub(crate) fn add(self, other: F32x4) -> F32x4 {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    pub(crate) fn sub(self, other: F32x4) -> F32x4 {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    pub(crate) fn mul(self, other: F32x4) -> F32x4 {
        self.zip(other, |a, b| a * b)
    }

    /// The greater one; `other` beside a NaN.
    #[inline(always)]
    pub(crate) fn max(self, other: F32x4) -> F32x4 {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    /// The lesser one; `other` beside a NaN.
    #[inline(always)]
    pub(crate) fn min(self, other: F32x4) -> F32x4 {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn zip(self, other: F32x4, f: impl Fn(f32, f32) -> f32) -> F32x4 {
        let ([a, b, c, d], [e, g, h, i]) = (self.0, other.0);
        F32x4([f(a, e), f(b, g), f(c, h), f(d, i)])
    }
}
