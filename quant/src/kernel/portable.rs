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

    #[inline(always)]
    pub(crate) fn div(self, other: F32x4) -> F32x4 {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    pub(crate) fn sqrt(self) -> F32x4 {
        F32x4(self.0.map(f32::sqrt))
    }

    /// All bits of the lanes where `self < other`; none beside a NaN.
    #[inline(always)]
    pub(crate) fn less(self, other: F32x4) -> F32x4 {
        self.zip(other, |a, b| f32::from_bits(if a < b { u32::MAX } else { 0 }))
    }

    /// Of the bits.
    #[inline(always)]
    pub(crate) fn and(self, other: F32x4) -> F32x4 {
        self.zip(other, |a, b| f32::from_bits(a.to_bits() & b.to_bits()))
    }

    /// `yes` where all bits of a lane are set, `no` where none is.
    #[inline(always)]
    pub(crate) fn select(mask: F32x4, yes: F32x4, no: F32x4) -> F32x4 {
        F32x4(std::array::from_fn(|i| if mask.0[i].to_bits() == 0 { no.0[i] } else { yes.0[i] }))
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
