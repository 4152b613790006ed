//! The vector operations of each level against exact values or the scalar ones.
use half::f16;

use super::{Random, assert_same};
use crate::kernel::{Ahead, Level, Q8_BLOCK, Q8Rows, Q8RowsMut, VecOps, vec_ops};

fn all() -> impl Iterator<Item = &'static VecOps> {
    Level::available().into_iter().map(vec_ops)
}

/// Lengths around the vectors' and the tiles'.
const LENGTHS: [usize; 12] = [0, 1, 7, 8, 9, 31, 32, 63, 64, 65, 128, 200];

fn halves(x: &[f32]) -> Vec<f16> {
    x.iter().map(|&x| f16::from_f32(x)).collect()
}

fn assert_near(got: f32, want: f64, bound: f64, what: impl Fn() -> String) {
    assert!((f64::from(got) - want).abs() <= bound, "{}: {got:?} instead of {want:?}", what());
}

#[test]
fn dot_products() {
    let mut random = Random(1);
    for n in LENGTHS.into_iter().filter(|&n| n > 0) {
        let (a, b) = (random.floats(n), random.floats(n));
        let h = halves(&a);
        for ops in all() {
            let exact = |a: &dyn Fn(usize) -> f64| (0..n).map(|i| a(i) * f64::from(b[i])).sum::<f64>();
            let bound = 1e-6 * n as f64;
            let (mut float, mut half) = ([f32::NAN], [f32::NAN]);
            ops.dots_f32(&a, n, &b, n, &mut float, None);
            ops.dots_f16(&h, n, &b, n, &mut half, None);
            assert_near(float[0], exact(&|i| a[i].into()), bound, || format!("{} f32 {n}", ops.name));
            assert_near(half[0], exact(&|i| h[i].into()), bound, || format!("{} f16 {n}", ops.name));
        }
    }
}

#[test]
fn weighted_sums_and_scale() {
    let mut random = Random(2);
    for n in LENGTHS.into_iter().filter(|&n| n > 0) {
        let (x, y) = (random.floats(n), random.floats(n));
        let h = halves(&x);
        for ops in all() {
            let (mut float, mut half, mut scaled) = (y.clone(), y.clone(), y.clone());
            ops.weighted_rows_f32(&x, n, &[0.7], n, &mut float, None);
            ops.weighted_rows_f16(&h, n, &[0.7], n, &mut half, None);
            ops.scale(&mut scaled, -3.0);
            for i in 0..n {
                let y = f64::from(y[i]);
                assert_near(float[i], y + f64::from(0.7f32) * f64::from(x[i]), 2e-7, || {
                    format!("{} f32 {n}", ops.name)
                });
                assert_near(half[i], y + f64::from(0.7f32) * f64::from(h[i]), 2e-7, || format!("{} f16 {n}", ops.name));
                assert_eq!(scaled[i], -3.0 * y as f32);
            }
        }
    }
}

#[test]
fn norm_has_the_formulas_value() {
    let mut random = Random(3);
    for n in LENGTHS.into_iter().filter(|&n| n > 0) {
        let (x, w) = (random.floats(n), random.floats(n));
        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64;
        for ops in all() {
            let mut out = vec![f32::NAN; n];
            ops.rms_norm(&x, &w, 1e-6, &mut out);
            for i in 0..n {
                let want = f64::from(x[i]) / (mean + 1e-6).sqrt() * f64::from(w[i]);
                assert_near(out[i], want, 1e-6 * (want.abs() + 1e-3), || format!("{} {n}", ops.name));
            }
        }
    }
}

#[test]
fn exp_is_within_two_units_in_the_last_place() {
    for ops in all() {
        let mut x: Vec<f32> = (-87_300..88_700).map(|i| i as f32 / 1000.0).collect();
        x.extend([-0.0, 1e-30, -1e-30, 88.722_8]);
        let mut e = x.clone();
        ops.exp_sum(&mut e, 0.0);
        for (x, e) in x.iter().zip(e) {
            let exact = f64::from(*x).exp();
            let unit = exact * f64::from(f32::EPSILON);
            assert_near(e, exact, 2.0 * unit, || format!("{}: exp({x:?})", ops.name));
        }
        let mut limits = [-104.0, f32::NEG_INFINITY, 89.0, f32::INFINITY, f32::NAN, -1e30, 1e30, 0.0];
        ops.exp_sum(&mut limits, 0.0);
        assert_same(&limits, &[0.0, 0.0, f32::INFINITY, f32::INFINITY, f32::NAN, 0.0, f32::INFINITY, 1.0], || {
            ops.name.to_owned()
        });
        // Where floats get coarse, the error is half their step.
        let mut small = [-100.0, -95.5, -90.0];
        let x = small;
        ops.exp_sum(&mut small, 0.0);
        for (x, e) in x.into_iter().zip(small) {
            assert_near(e, f64::from(x).exp(), 1.5e-45, || format!("{}: exp({x:?})", ops.name));
        }
    }
}

#[test]
fn softmax_sums_to_one_and_leaves_masked_positions_out() {
    let mut random = Random(4);
    for n in LENGTHS.into_iter().filter(|&n| n > 1) {
        for ops in all() {
            let mut x = random.floats(n).iter().map(|x| 30.0 * x).collect::<Vec<_>>();
            x[n / 2] = f32::NEG_INFINITY;
            let max = x.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
            let exact: Vec<f64> = x.iter().map(|&x| f64::from(x - max).exp()).collect();
            let sum: f64 = exact.iter().sum();
            ops.softmax(&mut x);
            assert_eq!(x[n / 2], 0.0);
            for (x, exact) in x.iter().zip(&exact) {
                assert_near(*x, exact / sum, 1e-6 * exact / sum + 1e-30, || format!("{} {n}", ops.name));
            }
        }
    }
    for ops in all() {
        let mut masked = [f32::NEG_INFINITY; 11];
        ops.softmax(&mut masked);
        assert_eq!(masked, [0.0; 11]);
        let mut bad = [1.0, f32::NAN, 2.0];
        ops.softmax(&mut bad);
        assert!(bad.iter().all(|x| x.is_nan()), "{}", ops.name);
        ops.softmax(&mut []);
    }
}

#[test]
fn swiglu_has_the_formulas_value() {
    let mut random = Random(5);
    for n in LENGTHS {
        for ops in all() {
            let gate: Vec<f32> = random.floats(n).iter().map(|x| 40.0 * x).collect();
            let up = random.floats(n);
            let mut got = gate.clone();
            ops.silu_mul(&mut got, &up);
            for i in 0..n {
                let g = f64::from(gate[i]);
                let want = g / (1.0 + (-g).exp()) * f64::from(up[i]);
                assert_near(got[i], want, 1e-6 * want.abs() + 1e-30, || format!("{} {n}", ops.name));
            }
        }
    }
    for ops in all() {
        let mut extremes = [-1e30, 1e30, 0.0, -200.0];
        ops.silu_mul(&mut extremes, &[1.0; 4]);
        assert_eq!(extremes, [0.0, 1e30, 0.0, 0.0], "{}", ops.name);
    }
}

#[test]
fn halves_round_to_nearest_even() {
    let mut random = Random(6);
    let mut x: Vec<f32> = (0..1003).map(|_| random.float() * 10f32.powi((random.bits() % 14) as i32 - 9)).collect();
    x.extend([65504.0, 65519.0, 65520.0, f32::INFINITY, -0.0, 1e-8]);
    for ops in all() {
        let mut got = vec![f16::NAN; x.len()];
        ops.f32_to_f16(&x, &mut got);
        for (x, got) in x.iter().zip(got) {
            assert_eq!(got.to_bits(), f16::from_f32_const(*x).to_bits(), "{}: {x:?}", ops.name);
        }
    }
}

#[test]
fn max_passes_over_nan() {
    for ops in all() {
        let mut x = vec![-3.0; 21];
        assert_eq!(ops.max(&x), -3.0);
        (x[4], x[9], x[20]) = (f32::NAN, 2.0, 1.0);
        assert_eq!(ops.max(&x), 2.0, "{}", ops.name);
        assert_eq!(ops.max(&[]), f32::NEG_INFINITY);
    }
}

/// (dim, stride, queries, positions)
const ATTENTION: [(usize, usize, usize, usize); 9] = [
    (64, 64, 1, 1),
    (128, 256, 1, 33),
    (128, 128, 2, 32),
    (128, 384, 4, 7),
    (64, 64, 8, 32),
    (128, 128, 13, 19),
    (80, 96, 3, 5),
    (7, 9, 5, 6),
    (36, 36, 6, 11),
];

#[test]
fn attention_scores_are_those_of_a_row_and_a_query() {
    let mut random = Random(7);
    for (dim, stride, queries, n) in ATTENTION {
        let k = random.floats((n - 1) * stride + dim);
        let q = random.floats(queries * dim);
        let h = halves(&k);
        for ops in all() {
            let (mut float, mut half) = (vec![f32::NAN; queries * n], vec![f32::NAN; queries * n]);
            ops.dots_f32(&k, stride, &q, dim, &mut float, Some(Ahead::of(&q)));
            ops.dots_f16(&h, stride, &q, dim, &mut half, Some(Ahead::of(&q)));
            let (mut want_float, mut want_half) = (vec![f32::NAN; queries * n], vec![f32::NAN; queries * n]);
            for (j, q) in q.chunks(dim).enumerate() {
                for i in 0..n {
                    let (row, at) = (i * stride..i * stride + dim, j * n + i);
                    ops.dots_f32(&k[row.clone()], dim, q, dim, &mut want_float[at..][..1], None);
                    ops.dots_f16(&h[row], dim, q, dim, &mut want_half[at..][..1], None);
                }
            }
            let what = || format!("{} {dim} {queries} {n}", ops.name);
            assert_same(&float, &want_float, what);
            assert_same(&half, &want_half, what);
        }
    }
}

#[test]
fn weighted_rows_are_added_one_after_the_other() {
    let mut random = Random(8);
    for (dim, stride, queries, n) in ATTENTION {
        let v = random.floats((n - 1) * stride + dim);
        let p = random.floats(queries * n);
        let start = random.floats(queries * dim);
        let h = halves(&v);
        for ops in all() {
            let what = || format!("{} {dim} {queries} {n}", ops.name);
            let (mut float, mut half) = (start.clone(), start.clone());
            ops.weighted_rows_f32(&v, stride, &p, dim, &mut float, Some(Ahead::of(&p)));
            ops.weighted_rows_f16(&h, stride, &p, dim, &mut half, Some(Ahead::of(&p)));
            let (mut want_float, mut want_half) = (start.clone(), start.clone());
            for j in 0..queries {
                for i in 0..n {
                    let row = i * stride..i * stride + dim;
                    let p = &p[j * n + i..][..1];
                    ops.weighted_rows_f32(&v[row.clone()], dim, p, dim, &mut want_float[j * dim..][..dim], None);
                    ops.weighted_rows_f16(&h[row], dim, p, dim, &mut want_half[j * dim..][..dim], None);
                }
            }
            assert_same(&float, &want_float, what);
            assert_same(&half, &want_half, what);
        }
    }
}

#[test]
fn attention_over_nothing_does_nothing() {
    for ops in all() {
        ops.dots_f32(&[], 4, &[1.0; 4], 4, &mut [], None);
        let mut out = [5.0; 4];
        ops.weighted_rows_f32(&[], 4, &[], 4, &mut out, None);
        assert_eq!(out, [5.0; 4]);
    }
}

#[test]
#[should_panic(expected = "beyond the rows")]
fn rows_beyond_the_cache_are_refused() {
    vec_ops(Level::Scalar).dots_f32(&[0.0; 15], 8, &[0.0; 8], 8, &mut [0.0; 2], None);
}

/// Rows of int8 with scales, and what they stand for.
fn q8(random: &mut Random, n: usize, dim: usize) -> (Vec<i8>, Vec<f16>, Vec<f32>) {
    let x = random.floats(n * dim);
    let (mut q, mut scales) = (vec![0; x.len()], vec![f16::ZERO; x.len() / Q8_BLOCK]);
    vec_ops(Level::Scalar).f32_to_q8(&x, Q8RowsMut { q: &mut q, scales: &mut scales });
    let value = |i: usize| f32::from(q[i]) * scales[i / Q8_BLOCK].to_f32();
    let values: Vec<f32> = (0..x.len()).map(value).collect();
    for (x, value) in x.iter().zip(&values) {
        // Half a level of at most 1/127, and the rounding of the scale.
        assert_near(*value, (*x).into(), 0.5 / 127.0 + 1e-3, || "q8".to_owned());
    }
    (q, scales, values)
}

/// (dim, queries, positions)
const Q8_SHAPES: [(usize, usize, usize); 7] =
    [(32, 1, 1), (128, 2, 32), (64, 3, 7), (128, 4, 33), (96, 13, 19), (32, 7, 65), (128, 1, 64)];

#[test]
fn q8_attention_is_that_of_its_values() {
    let mut random = Random(9);
    for (dim, queries, n) in Q8_SHAPES {
        let (q8, scales, values) = q8(&mut random, n, dim);
        let rows = Q8Rows { q: &q8, scales: &scales };
        let (q, p, start) = (random.floats(queries * dim), random.floats(queries * n), random.floats(queries * dim));
        for ops in all() {
            // x86-64's values are exact; elsewhere a block's sum is scaled.
            let same_bits = cfg!(target_arch = "x86_64") && ops.level != Level::Scalar;
            let what = || format!("{} {dim} {queries} {n}", ops.name);
            let (mut dots, mut want) = (vec![f32::NAN; queries * n], vec![f32::NAN; queries * n]);
            ops.dots_q8(rows, &q, dim, &mut dots, Some(Ahead::of(&q)));
            ops.dots_f32(&values, dim, &q, dim, &mut want, None);
            dots.iter().zip(&want).for_each(|(got, want)| assert_near(*got, (*want).into(), 3e-5, what));
            if same_bits {
                assert_same(&dots, &want, what);
            }
            let (mut sums, mut want) = (start.clone(), start.clone());
            ops.weighted_rows_q8(rows, &p, dim, &mut sums, Some(Ahead::of(&p)));
            ops.weighted_rows_f32(&values, dim, &p, dim, &mut want, None);
            sums.iter().zip(&want).for_each(|(got, want)| assert_near(*got, (*want).into(), 3e-5, what));
            if same_bits {
                assert_same(&sums, &want, what);
            }
        }
    }
}

#[test]
fn q8_attention_depends_on_its_query_and_positions_alone() {
    let mut random = Random(10);
    for (dim, queries, n) in Q8_SHAPES {
        let (q8, scales, _) = q8(&mut random, n, dim);
        let rows = Q8Rows { q: &q8, scales: &scales };
        let (q, p, start) = (random.floats(queries * dim), random.floats(queries * n), random.floats(queries * dim));
        for ops in all() {
            let what = || format!("{} {dim} {queries} {n}", ops.name);
            let (mut dots, mut sums) = (vec![f32::NAN; queries * n], start.clone());
            ops.dots_q8(rows, &q, dim, &mut dots, Some(Ahead::of(&q)));
            ops.weighted_rows_q8(rows, &p, dim, &mut sums, Some(Ahead::of(&p)));
            let mut chain = start.clone();
            for j in 0..queries {
                for i in 0..n {
                    let (row, mut dot) = (rows.rows(i..i + 1, dim), [f32::NAN]);
                    ops.dots_q8(row, &q[j * dim..][..dim], dim, &mut dot, None);
                    assert_same(&dots[j * n + i..][..1], &dot, what);
                    ops.weighted_rows_q8(row, &p[j * n + i..][..1], dim, &mut chain[j * dim..][..dim], None);
                }
            }
            assert_same(&sums, &chain, what);
        }
    }
}

#[test]
fn q8_blocks_are_the_same_bits_at_each_level_and_keep_what_is_not_finite() {
    let mut random = Random(11);
    let mut x = random.floats(128);
    x[64..96].fill(0.0);
    x[40] = f32::NAN;
    for ops in all() {
        let (mut q, mut scales) = (vec![1; 128], vec![f16::ZERO; 4]);
        ops.f32_to_q8(&x, Q8RowsMut { q: &mut q, scales: &mut scales });
        assert!(scales[1].is_nan() && scales[2] == f16::ZERO && q[64..96].iter().all(|q| *q == 0));
        let largest = x[..32].iter().fold(0f32, |m, x| m.max(x.abs()));
        assert_eq!(scales[0], f16::from_f32(largest / 127.0), "{}", ops.name);
    }
}

#[test]
fn multiply_adds_are_counted() {
    for ops in all() {
        assert!(ops.multiply_adds(1) > 0 && ops.multiply_adds(10) == 10 * ops.multiply_adds(1), "{}", ops.name);
        assert_eq!(ops.multiply_adds(0), 0);
    }
}
