//! Element-wise operations and reductions, the same at all levels.
use std::arch::aarch64::*;

use half::f16;

use super::attention::{dots_f16, dots_f32, weighted_rows_f16, weighted_rows_f32};
use super::attention_q8::{dots_q8, weighted_rows_q8};
use super::float::{Eight, load_8, store_8, sum_8};
use super::instructions::fcvtn;
use super::lanes::*;
use super::quantize::{quantize_32, quantize_256};
use super::{Dotprod, I8mm, Neon, speed};
use crate::kernel::Level;
use crate::kernel::vec_ops::{Table, VecOps};

/// The operations of the level with NEON alone.
pub(in crate::kernel) fn neon(_token: Neon) -> &'static VecOps {
    static OPS: VecOps = VecOps::new(Level::Neon(Neon(())), table(speed::neon));
    &OPS
}

/// The operations of the level with dot products.
pub(in crate::kernel) fn dotprod(_token: Dotprod) -> &'static VecOps {
    static OPS: VecOps = VecOps::new(Level::Dotprod(Dotprod(())), table(speed::dotprod));
    &OPS
}

/// The operations of the level with matrix instructions.
pub(in crate::kernel) fn i8mm(_token: I8mm) -> &'static VecOps {
    static OPS: VecOps = VecOps::new(Level::I8mm(I8mm(())), table(speed::i8mm));
    &OPS
}

const fn table(multiply_adds: unsafe fn(usize) -> u64) -> Table {
    Table {
        scale,
        rms_norm,
        max,
        exp_sum,
        silu_mul,
        f32_to_f16,
        quantize_32,
        quantize_256,
        dots_f32,
        dots_f16,
        weighted_rows_f32,
        weighted_rows_f16,
        multiply_adds,
        dots_q8,
        weighted_rows_q8,
    }
}

#[target_feature(enable = "neon")]
fn scale(y: &mut [f32], a: f32) {
    for y in y {
        *y *= a;
    }
}

#[target_feature(enable = "neon")]
fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let mut sum = [0.0];
    dots_f32(x, x.len(), x, x.len(), &mut sum, None);
    let scale = 1.0 / (sum[0] / x.len() as f32 + eps).sqrt();
    for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
        *out = x * scale * w;
    }
}

#[target_feature(enable = "neon")]
fn max(x: &[f32]) -> f32 {
    let (x, rest) = x.as_chunks::<4>();
    let mut lanes = vdupq_n_f32(f32::NEG_INFINITY);
    for x in x {
        // Not FMAX, whose result beside a NaN is a NaN.
        let x = load_f32(x);
        lanes = vbslq_f32(vcgtq_f32(x, lanes), x, lanes);
    }
    let mut values = [0.0; 4];
    store_f32(&mut values, lanes);
    values.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

#[target_feature(enable = "neon")]
fn exp_sum(x: &mut [f32], max: f32) -> f32 {
    let max = vdupq_n_f32(max);
    let mut lanes = [vdupq_n_f32(0.0); 2];
    let (x, rest) = x.as_chunks_mut::<8>();
    let mut step = |x: &mut [f32; 8]| {
        let e = load_8(x).map(|x| exp(vsubq_f32(x, max)));
        lanes = [vaddq_f32(lanes[0], e[0]), vaddq_f32(lanes[1], e[1])];
        store_8(x, e);
    };
    for x in x {
        step(x);
    }
    if !rest.is_empty() {
        // exp(−∞) = 0 fills the vector up.
        let mut last = [f32::NEG_INFINITY; 8];
        last[..rest.len()].copy_from_slice(rest);
        step(&mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
    sum_8(lanes)
}

#[target_feature(enable = "neon")]
fn silu_mul(gate: &mut [f32], up: &[f32]) {
    let step = |gate: &mut [f32; 8], up: &[f32; 8]| {
        let (g, u): (Eight, Eight) = (load_8(gate), load_8(up));
        let silu = g.map(|g| vdivq_f32(g, vaddq_f32(vdupq_n_f32(1.0), exp(vnegq_f32(g)))));
        store_8(gate, [vmulq_f32(silu[0], u[0]), vmulq_f32(silu[1], u[1])]);
    };
    let (gate, gate_rest) = gate.as_chunks_mut::<8>();
    let (up, up_rest) = up.as_chunks::<8>();
    for (gate, up) in gate.iter_mut().zip(up) {
        step(gate, up);
    }
    let n = gate_rest.len();
    if n > 0 {
        let (mut g, mut u) = ([0.0; 8], [0.0; 8]);
        g[..n].copy_from_slice(gate_rest);
        u[..n].copy_from_slice(up_rest);
        step(&mut g, &u);
        gate_rest.copy_from_slice(&g[..n]);
    }
}

#[target_feature(enable = "neon")]
fn f32_to_f16(src: &[f32], dst: &mut [f16]) {
    let (dst, dst_rest) = dst.as_chunks_mut::<4>();
    let (src, src_rest) = src.as_chunks::<4>();
    for (dst, src) in dst.iter_mut().zip(src) {
        let halves = fcvtn(load_f32(src));
        // SAFETY: 8 writable bytes; the store takes any alignment, and f16 is 16 bits.
        unsafe { vst1_u16(dst.as_mut_ptr().cast(), halves) };
    }
    for (dst, src) in dst_rest.iter_mut().zip(src_rest) {
        *dst = f16::from_f32(*src);
    }
}

/// e^x within 2 units in the last place; 0 below −104, infinite above 88.73, NaN of a NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r by its Taylor series to the seventh power, whose rest is below 2^-27.
#[inline]
#[target_feature(enable = "neon")]
fn exp(x: float32x4_t) -> float32x4_t {
    // Beside a NaN the result is a NaN.
    let x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-104.0)), vdupq_n_f32(89.0));
    let n = vrndnq_f32(vmulq_n_f32(x, std::f32::consts::LOG2_E));
    // ln 2 in two parts: the first has few enough bits that n times it is exact.
    let r = vfmsq_f32(x, n, vdupq_n_f32(355.0 / 512.0));
    let r = vfmsq_f32(r, n, vdupq_n_f32(-2.121_944_4e-4));
    let mut e = vdupq_n_f32(1.0 / 5040.0);
    for inverse_factorial in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        e = vfmaq_f32(vdupq_n_f32(inverse_factorial), e, r);
    }
    // 2^n in two factors: n reaches from −150 to 128, further than one exponent.
    let n = vcvtq_s32_f32(n);
    let half = vshrq_n_s32::<1>(n);
    let power = |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))));
    vmulq_f32(vmulq_f32(e, power(half)), power(vsubq_s32(n, half)))
}
