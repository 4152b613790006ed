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

/// The products of the upper halves, added.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn smlal2(mut acc: int16x8_t, a: int8x16_t, b: int8x16_t) -> int16x8_t {
    // The intrinsic becomes SMLAL of halves that are extracted first, where they serve several products.
    // SAFETY: the function has the feature; the instruction works on registers alone.
    unsafe {
        asm!("smlal2 {0:v}.8h, {1:v}.16b, {2:v}.16b", inout(vreg) acc, in(vreg) a, in(vreg) b,
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

/// `v`, which is computed before what comes later in the program and goes through here. The compiler would otherwise mix the
/// steps of a long calculation and run out of registers, or foretell a result.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn settled(mut v: int16x8_t) -> int16x8_t {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0:v} */", inout(vreg) v, options(nomem, nostack, preserves_flags)) };
    v
}

/// [`settled`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn settled_float(v: float32x4_t) -> float32x4_t {
    vreinterpretq_f32_s16(settled(vreinterpretq_s16_f32(v)))
}

/// `v`, of which the compiler knows nothing: what it knows of bits makes it take some instructions apart into two.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn opaque(mut v: uint8x16_t) -> uint8x16_t {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0:v} */", inout(vreg) v, options(pure, nomem, nostack, preserves_flags)) };
    v
}

/// `x`, what it refers to being read here and later: not before, and again where it has been read before.
#[inline]
pub(super) fn settled_ref<T>(x: &T) -> &T {
    let mut at: *const T = x;
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(reg) at, options(readonly, nostack, preserves_flags)) };
    // SAFETY: it is `x`, unchanged.
    unsafe { &*at }
}

/// `x` as a reference that the compiler takes for another: what is read through it is loaded, though a register holds it.
#[inline]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through it")]
pub(super) fn again<T>(x: &T) -> &T {
    let mut at: *const T = x;
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(reg) at, options(pure, nomem, nostack, preserves_flags)) };
    // SAFETY: it is `x`, unchanged.
    unsafe { &*at }
}

/// The lower halves of both, and the upper ones.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn halves_of_both(a: uint32x4_t, b: uint32x4_t) -> [uint32x4_t; 2] {
    let (low, high);
    // The intrinsics become instructions that take a Cortex-A72 two or three steps: ZIP2, or a move and an INS.
    // SAFETY: the function has the feature; the instructions work on registers alone.
    unsafe {
        asm!("trn1 {0:v}.2d, {1:v}.2d, {2:v}.2d", out(vreg) low, in(vreg) a, in(vreg) b,
             options(pure, nomem, nostack, preserves_flags));
        asm!("trn2 {0:v}.2d, {1:v}.2d, {2:v}.2d", out(vreg) high, in(vreg) a, in(vreg) b,
             options(pure, nomem, nostack, preserves_flags));
    }
    [low, high]
}

/// The bits of an integer register.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn fmov(x: u64) -> uint16x4_t {
    let out;
    // The intrinsic becomes loads into single lanes where the compiler knows where the parts of `x` come from.
    // SAFETY: the function has the feature; the instruction works on registers alone.
    unsafe {
        asm!("fmov {0:d}, {1}", out(vreg) out, in(reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    out
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
