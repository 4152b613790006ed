//! The vectors of code that runs at no particular level: NEON belongs to the target.
use std::arch::aarch64::*;

/// Four floats.
#[derive(Clone, Copy)]
pub(crate) struct F32x4(float32x4_t);

/// Operations lane by lane.
macro_rules! lane_by_lane {
    ($($name:ident = $intrinsic:ident;)*) => {$(
        #[inline(always)]
        pub(crate) fn $name(self, other: F32x4) -> F32x4 {
            // SAFETY: NEON belongs to the target.
            F32x4(unsafe { $intrinsic(self.0, other.0) })
        }
    )*};
}

impl F32x4 {
    #[inline(always)]
    pub(crate) fn load(x: &[f32; 4]) -> F32x4 {
        // SAFETY: NEON belongs to the target; 16 readable bytes, at any alignment.
        F32x4(unsafe { vld1q_f32(x.as_ptr()) })
    }

    #[inline(always)]
    pub(crate) fn store(self, x: &mut [f32; 4]) {
        // SAFETY: NEON belongs to the target; 16 writable bytes, at any alignment.
        unsafe { vst1q_f32(x.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    pub(crate) fn all(x: f32) -> F32x4 {
        // SAFETY: NEON belongs to the target.
        F32x4(unsafe { vdupq_n_f32(x) })
    }

    lane_by_lane! {
        add = vaddq_f32;
        sub = vsubq_f32;
        mul = vmulq_f32;
        div = vdivq_f32;
    }

    #[inline(always)]
    pub(crate) fn sqrt(self) -> F32x4 {
        // SAFETY: NEON belongs to the target.
        F32x4(unsafe { vsqrtq_f32(self.0) })
    }

    /// All bits of the lanes where `self < other`; none beside a NaN.
    #[inline(always)]
    pub(crate) fn less(self, other: F32x4) -> F32x4 {
        // SAFETY: NEON belongs to the target.
        F32x4(unsafe { vreinterpretq_f32_u32(vcltq_f32(self.0, other.0)) })
    }

    /// Of the bits.
    #[inline(always)]
    pub(crate) fn and(self, other: F32x4) -> F32x4 {
        // SAFETY: NEON belongs to the target.
        let bits = unsafe { vandq_u32(vreinterpretq_u32_f32(self.0), vreinterpretq_u32_f32(other.0)) };
        // SAFETY: as above.
        F32x4(unsafe { vreinterpretq_f32_u32(bits) })
    }

    /// `yes` where all bits of a lane are set, `no` where none is.
    #[inline(always)]
    pub(crate) fn select(mask: F32x4, yes: F32x4, no: F32x4) -> F32x4 {
        // SAFETY: NEON belongs to the target.
        F32x4(unsafe { vbslq_f32(vreinterpretq_u32_f32(mask.0), yes.0, no.0) })
    }

    /// The greater one; `other` beside a NaN.
    #[inline(always)]
    pub(crate) fn max(self, other: F32x4) -> F32x4 {
        // Not FMAX, whose result beside a NaN is a NaN.
        F32x4::select(other.less(self), self, other)
    }

    /// The lesser one; `other` beside a NaN.
    #[inline(always)]
    pub(crate) fn min(self, other: F32x4) -> F32x4 {
        F32x4::select(self.less(other), self, other)
    }
}
