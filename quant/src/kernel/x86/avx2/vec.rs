//! Element-wise operations and reductions.
use std::arch::x86_64::*;

use half::f16;

use super::float::{dots_f16, dots_f32, dots_q8, weighted_rows_f16, weighted_rows_f32, weighted_rows_q8};
use super::lanes::*;
use super::quantize::{quantize_32, quantize_256};
use crate::kernel::Level;
use crate::kernel::vec_ops::{Table, VecOps};
use crate::kernel::x86::Avx2;

/// The operations of this level; handed out against the token only.
pub(super) static OPS: VecOps = VecOps::new(Level::Avx2(Avx2(())), TABLE);

/// For levels that include this one.
pub(in crate::kernel::x86) const TABLE: Table = Table {
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
};

#[target_feature(enable = "avx2,fma,f16c")]
fn scale(y: &mut [f32], a: f32) {
    for y in y {
        *y *= a;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let mut sum = [0.0];
    dots_f32(x, x.len(), x, x.len(), &mut sum, None);
    let scale = 1.0 / (sum[0] / x.len() as f32 + eps).sqrt();
    for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
        *out = x * scale * w;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn max(x: &[f32]) -> f32 {
    let (x, rest) = x.as_chunks::<8>();
    let mut lanes = _mm256_set1_ps(f32::NEG_INFINITY);
    for x in x {
        // Of a NaN and a number this is the second operand.
        lanes = _mm256_max_ps(load_f32(x), lanes);
    }
    let mut values = [0.0; 8];
    store_f32(&mut values, lanes);
    values.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

#[target_feature(enable = "avx2,fma,f16c")]
fn exp_sum(x: &mut [f32], max: f32) -> f32 {
    let max = _mm256_set1_ps(max);
    let mut lanes = _mm256_setzero_ps();
    let (x, rest) = x.as_chunks_mut::<8>();
    for x in x {
        let e = exp(_mm256_sub_ps(load_f32(x), max));
        lanes = _mm256_add_ps(lanes, e);
        store_f32(x, e);
    }
    if !rest.is_empty() {
        // exp(−∞) = 0 fills the vector up.
        let mut last = [f32::NEG_INFINITY; 8];
        last[..rest.len()].copy_from_slice(rest);
        let e = exp(_mm256_sub_ps(load_f32(&last), max));
        lanes = _mm256_add_ps(lanes, e);
        store_f32(&mut last, e);
        rest.copy_from_slice(&last[..rest.len()]);
    }
    sum_f32(lanes)
}

#[target_feature(enable = "avx2,fma,f16c")]
fn silu_mul(gate: &mut [f32], up: &[f32]) {
    let step = |gate: __m256, up: __m256| {
        let e = exp(_mm256_xor_ps(gate, _mm256_set1_ps(-0.0)));
        _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1.0), e)), up)
    };
    let (gate, gate_rest) = gate.as_chunks_mut::<8>();
    let (up, up_rest) = up.as_chunks::<8>();
    for (gate, up) in gate.iter_mut().zip(up) {
        let value = step(load_f32(gate), load_f32(up));
        store_f32(gate, value);
    }
    let n = gate_rest.len();
    if n > 0 {
        let (mut g, mut u) = ([0.0; 8], [0.0; 8]);
        g[..n].copy_from_slice(gate_rest);
        u[..n].copy_from_slice(up_rest);
        let value = step(load_f32(&g), load_f32(&u));
        store_f32(&mut g, value);
        gate_rest.copy_from_slice(&g[..n]);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn f32_to_f16(src: &[f32], dst: &mut [f16]) {
    let (dst, dst_rest) = dst.as_chunks_mut::<8>();
    let (src, src_rest) = src.as_chunks::<8>();
    for (dst, src) in dst.iter_mut().zip(src) {
        let v = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load_f32(src));
        // SAFETY: 16 writable bytes; the store takes any alignment.
        unsafe { _mm_storeu_si128(dst.as_mut_ptr().cast(), v) };
    }
    for (dst, src) in dst_rest.iter_mut().zip(src_rest) {
        *dst = f16::from_f32(*src);
    }
}

/// As the panels do: products of pairs, added up in 16 bits.
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_adds(rounds: usize) -> u64 {
    // Independent sums, as many as hide an addition's latency.
    let mut sums = [_mm256_setzero_si256(); 8];
    let (mut w, a) = (_mm256_set1_epi8(3), pin(_mm256_set1_epi8(5)));
    for _ in 0..rounds {
        for sum in &mut sums {
            w = pin(w);
            *sum = pin(_mm256_add_epi16(*sum, _mm256_maddubs_epi16(w, a)));
        }
    }
    sums.into_iter().for_each(|sum| {
        pin(sum);
    });
    (8 * 32) * rounds as u64
}

/// e^x within 2 units in the last place; 0 below −104, infinite above 88.73, NaN of a NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r by its Taylor series to the seventh power, whose rest is below 2^-27.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn exp(x: __m256) -> __m256 {
    // Of a NaN and a number these are the second operand, so a NaN passes through.
    let x = _mm256_max_ps(_mm256_set1_ps(-104.0), x);
    let x = _mm256_min_ps(_mm256_set1_ps(89.0), x);
    let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_mul_ps(
        x,
        _mm256_set1_ps(std::f32::consts::LOG2_E),
    ));
    // ln 2 in two parts: the first has few enough bits that n times it is exact.
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(355.0 / 512.0), x);
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.121_944_4e-4), r);
    let mut e = _mm256_set1_ps(1.0 / 5040.0);
    for inverse_factorial in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(inverse_factorial));
    }
    // 2^n in two factors: n reaches from −150 to 128, further than one exponent.
    let n = _mm256_cvtps_epi32(n);
    let half = _mm256_srai_epi32::<1>(n);
    let power = |n: __m256i| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
    _mm256_mul_ps(_mm256_mul_ps(e, power(half)), power(_mm256_sub_epi32(n, half)))
}
