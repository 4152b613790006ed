//! SSE2, which every x86-64 has: the vectors of code that runs at no particular level.
use std::arch::x86_64::*;

/// Four floats.
#[derive(Clone, Copy)]
pub(crate) struct F32x4(__m128);

/// Operations lane by lane.
macro_rules! lane_by_lane {
    ($($(#[$doc:meta])* $name:ident = $intrinsic:ident;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(self, other: F32x4) -> F32x4 {
            // SAFETY: SSE2 belongs to x86-64.
            F32x4(unsafe { $intrinsic(self.0, other.0) })
        }
    )*};
}

impl F32x4 {
    #[inline(always)]
    pub(crate) fn load(x: &[f32; 4]) -> F32x4 {
        // SAFETY: SSE2 belongs to x86-64; 16 readable bytes, at any alignment.
        F32x4(unsafe { _mm_loadu_ps(x.as_ptr()) })
    }

    #[inline(always)]
    pub(crate) fn store(self, x: &mut [f32; 4]) {
        // SAFETY: SSE2 belongs to x86-64; 16 writable bytes, at any alignment.
        unsafe { _mm_storeu_ps(x.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    pub(crate) fn all(x: f32) -> F32x4 {
        // SAFETY: SSE2 belongs to x86-64.
        F32x4(unsafe { _mm_set1_ps(x) })
    }

    lane_by_lane! {
        add = _mm_add_ps;
        sub = _mm_sub_ps;
        mul = _mm_mul_ps;
        div = _mm_div_ps;
        /// The greater one; `other` beside a NaN.
        max = _mm_max_ps;
        /// The lesser one; `other` beside a NaN.
        min = _mm_min_ps;
        /// All bits of the lanes where `self < other`; none beside a NaN.
        less = _mm_cmplt_ps;
        /// Of the bits.
        and = _mm_and_ps;
    }

    #[inline(always)]
    pub(crate) fn sqrt(self) -> F32x4 {
        // SAFETY: SSE2 belongs to x86-64.
        F32x4(unsafe { _mm_sqrt_ps(self.0) })
    }

    /// `yes` where all bits of a lane are set, `no` where none is.
    #[inline(always)]
    pub(crate) fn select(mask: F32x4, yes: F32x4, no: F32x4) -> F32x4 {
        // SAFETY: SSE2 belongs to x86-64.
        F32x4(unsafe { _mm_or_ps(_mm_and_ps(mask.0, yes.0), _mm_andnot_ps(mask.0, no.0)) })
    }
}
