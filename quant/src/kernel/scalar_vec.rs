//! The definition of the vector operations.
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::scalar::{add_lanes, dot};
use super::vec_ops::{Table, VecOps};
use super::{Ahead, Level, Q8_BLOCK, Q8Rows};
use crate::act::scale_of_largest;

/// The operations of this level.
pub(super) static OPS: VecOps = VecOps::new(
    Level::Scalar,
    Table {
        scale,
        rms_norm,
        max,
        exp_sum,
        silu_mul,
        f32_to_f16,
        quantize_32: quantize::<32, 32>,
        quantize_256: quantize::<256, 16>,
        dots_f32,
        dots_f16,
        weighted_rows_f32,
        weighted_rows_f16,
        multiply_adds,
        dots_q8,
        weighted_rows_q8,
    },
);

fn dot_f16(a: &[f16], b: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a.to_f32() * b;
        }
    }
    add_lanes(lanes)
}

fn axpy_f32(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

fn axpy_f16(y: &mut [f32], a: f32, x: &[f16]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x.to_f32();
    }
}

fn scale(y: &mut [f32], a: f32) {
    for y in y {
        *y *= a;
    }
}

fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
    for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
        *out = x * scale * w;
    }
}

fn max(x: &[f32]) -> f32 {
    x.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

fn exp_sum(x: &mut [f32], max: f32) -> f32 {
    let mut lanes = [0.0; 8];
    for x in x.chunks_mut(8) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *x = (*x - max).exp();
            *lane += *x;
        }
    }
    add_lanes(lanes)
}

fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + (-*gate).exp()) * up;
    }
}

fn f32_to_f16(src: &[f32], dst: &mut [f16]) {
    dst.convert_from_f32_slice(src);
}

/// `N` values share a scale and `S` a sum.
fn quantize<const N: usize, const S: usize>(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i16]) {
    let blocks = x.as_chunks::<N>().0.iter().zip(q.as_chunks_mut::<N>().0);
    for (((x, q), scale), sums) in blocks.zip(scales).zip(sums.chunks_exact_mut(N / S)) {
        // Magnitudes compare as their bits do, and every NaN lies above infinity.
        let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
        let per_unit;
        (*scale, per_unit) = scale_of_largest(f32::from_bits(largest));
        for (q, x) in q.iter_mut().zip(x) {
            *q = if per_unit == 0.0 { 0 } else { (x * per_unit).round_ties_even() as i8 };
        }
        for (sum, q) in sums.iter_mut().zip(q.as_chunks::<S>().0) {
            *sum = q.iter().map(|&q| i16::from(q)).sum();
        }
    }
}

fn dots_f32(k: &[f32], stride: usize, q: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    let n = out.len() / (q.len() / dim);
    for (q, out) in q.chunks_exact(dim).zip(out.chunks_exact_mut(n)) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = dot(&k[i * stride..][..dim], q);
        }
    }
}

fn dots_f16(k: &[f16], stride: usize, q: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    let n = out.len() / (q.len() / dim);
    for (q, out) in q.chunks_exact(dim).zip(out.chunks_exact_mut(n)) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = dot_f16(&k[i * stride..][..dim], q);
        }
    }
}

fn weighted_rows_f32(v: &[f32], stride: usize, p: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    let n = p.len() / (out.len() / dim);
    for (p, out) in p.chunks_exact(n).zip(out.chunks_exact_mut(dim)) {
        for (i, &p) in p.iter().enumerate() {
            axpy_f32(out, p, &v[i * stride..][..dim]);
        }
    }
}

fn weighted_rows_f16(v: &[f16], stride: usize, p: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    let n = p.len() / (out.len() / dim);
    for (p, out) in p.chunks_exact(n).zip(out.chunks_exact_mut(dim)) {
        for (i, &p) in p.iter().enumerate() {
            axpy_f16(out, p, &v[i * stride..][..dim]);
        }
    }
}

fn multiply_adds(rounds: usize) -> u64 {
    let (a, b) = (std::hint::black_box([3i8; 64]), std::hint::black_box([5i8; 64]));
    let mut sums = [0i32; 64];
    for _ in 0..rounds {
        let (a, b) = (std::hint::black_box(&a), std::hint::black_box(&b));
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| {
            *sum = sum.wrapping_add(i32::from(*a) * i32::from(*b));
        });
    }
    std::hint::black_box(sums);
    64 * rounds as u64
}

/// Each 32 products in eight lanes, which the block's scale weighs as they join the row's.
fn dots_q8(k: Q8Rows<'_>, q: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    let n = out.len() / (q.len() / dim);
    for (q, out) in q.chunks_exact(dim).zip(out.chunks_exact_mut(n)) {
        for (i, out) in out.iter_mut().enumerate() {
            let k = k.rows(i..i + 1, dim);
            let mut lanes = [0.0; 8];
            for ((k, q), scale) in k.q.chunks_exact(Q8_BLOCK).zip(q.chunks_exact(Q8_BLOCK)).zip(k.scales) {
                let mut block = [0.0; 8];
                for (j, (k, q)) in k.iter().zip(q).enumerate() {
                    block[j % 8] += f32::from(*k) * q;
                }
                lanes.iter_mut().zip(block).for_each(|(lane, sum)| *lane += scale.to_f32() * sum);
            }
            *out = add_lanes(lanes);
        }
    }
}

fn weighted_rows_q8(v: Q8Rows<'_>, p: &[f32], dim: usize, out: &mut [f32], _: Option<Ahead>) {
    let n = p.len() / (out.len() / dim);
    for (p, out) in p.chunks_exact(n).zip(out.chunks_exact_mut(dim)) {
        for (i, &p) in p.iter().enumerate() {
            let v = v.rows(i..i + 1, dim);
            for ((out, v), scale) in out.chunks_exact_mut(Q8_BLOCK).zip(v.q.chunks_exact(Q8_BLOCK)).zip(v.scales) {
                let weight = p * scale.to_f32();
                out.iter_mut().zip(v).for_each(|(out, v)| *out += weight * f32::from(*v));
            }
        }
    }
}
