//! Instructions whose intrinsics are not stable in the oldest Rust that builds this, or that the compiler takes apart.
use std::arch::aarch64::*;
use std::arch::asm;

/// `acc[i] += Σ a[4·i + k] · b[4·i + k]`, k in 0 … 3.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the feature; the instruction works on registers alone.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) acc, in(vreg) a, in(vreg) b,
             options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// `acc[i] += Σ a[4·i + k] · b[4·G + k]`, k in 0 … 3.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn sdot_group<const G: usize>(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the feature; the instruction works on registers alone.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{g}]", inout(vreg) acc, in(vreg) a, in(vreg) b, g = const G,
             options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// `acc[2·i + j] += Σ a[8·i + k] · b[8·j + k]`, k in 0 … 7.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) fn smmla(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the feature; the instruction works on registers alone.
    unsafe {
        asm!("smmla {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) acc, in(vreg) a, in(vreg) b,
             options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The bits of `from` where `mask` has any, else those of `to`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn insert(mut to: uint8x16_t, from: uint8x16_t, mask: uint8x16_t) -> int8x16_t {
    // The intrinsic becomes two instructions where the compiler knows that those bits of `to` are zero.
    // SAFETY: the function has the feature; the instruction works on registers alone.
    unsafe {
        asm!("bit {0:v}.16b, {1:v}.16b, {2:v}.16b", inout(vreg) to, in(vreg) from, in(vreg) mask,
             options(pure, nomem, nostack, preserves_flags));
    }
    vreinterpretq_s8_u8(to)
}

/// Four halves as floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn fcvtl(x: uint16x4_t) -> float32x4_t {
    let out;
    // SAFETY: the function has the feature; the instruction works on registers alone.
    unsafe {
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) out, in(vreg) x, options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// The upper four halves as floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn fcvtl2(x: uint16x8_t) -> float32x4_t {
    let out;
    // SAFETY: the function has the feature; the instruction works on registers alone.
    unsafe {
        asm!("fcvtl2 {0:v}.4s, {1:v}.8h", out(vreg) out, in(vreg) x, options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Four floats as halves, rounded to nearest, ties to even.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn fcvtn(x: float32x4_t) -> uint16x4_t {
    let out;
    // SAFETY: the function has the feature; the instruction works on registers alone.
    unsafe {
        asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) out, in(vreg) x, options(pure, nomem, nostack, preserves_flags));
    }
    out
}
