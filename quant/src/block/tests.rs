//! Properties that hold for every codec.
use proptest::prelude::*;

use super::{Codec, codecs};
use crate::dtype::DType;
use crate::kernel::Level;

fn quantized(codec: &Codec, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    quantized_at(codec, Level::best(), x, importance)
}

fn quantized_at(codec: &Codec, level: Level, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0xa5; x.len() / codec.dtype.block_len() * codec.dtype.block_bytes()];
    codec.quantize_at(level, x, &mut bytes, importance);
    bytes
}

fn round_trip(codec: &Codec, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    codec.dequantize(&quantized(codec, x, None), &mut y);
    y
}

/// Largest error of a format, as a share of the largest magnitude of its block.
fn tolerance(codec: &Codec) -> f32 {
    match codec.dtype.name() {
        "F32" => 0.0,
        "F16" => 1.0 / 2048.0,
        "BF16" => 1.0 / 256.0,
        "Q8_0" => 0.6 / 127.0,
        "Q6_K" => 1.2 / 32.0,
        "Q5_0" | "Q5_1" | "Q5_K" => 1.2 / 16.0,
        "Q4_0" | "Q4_1" | "Q4_K" => 1.2 / 8.0,
        // The lowest levels of these are 23 of 240 apart.
        "IQ4_NL" | "IQ4_XS" => 1.2 / 10.0,
        "Q3_K" => 1.2 / 4.0,
        "Q2_K" => 1.2 / 2.0,
        name => panic!("no tolerance for {name}"),
    }
}

/// Bell-shaped values in a fixed pseudorandom order.
fn noise(n: usize, scale: f32) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| scale * (0..6).map(|_| uniform()).sum::<f32>()).collect()
}

#[test]
fn values_survive_within_the_formats_precision() {
    for codec in codecs() {
        for scale in [1.0, 1e-2, 1e3] {
            let x = noise(1024, scale);
            let amax = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (x, y) in x.iter().zip(round_trip(codec, &x)) {
                let error = (x - y).abs() / amax;
                assert!(error <= tolerance(codec), "{}: {x} became {y}", codec.dtype.name());
            }
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for codec in codecs() {
        assert!(round_trip(codec, &[0.0; 512]).iter().all(|&y| y == 0.0), "{}", codec.dtype.name());
        let zeros = vec![0.0; codec.dtype.block_len()];
        let mut sink = zeros.clone();
        codec.dequantize(&vec![0; codec.dtype.block_bytes()], &mut sink);
        let all_zero_bytes_are_zeros = sink.iter().all(|&y| y == 0.0);
        assert!(all_zero_bytes_are_zeros, "{}", codec.dtype.name());
    }
}

#[test]
fn extreme_magnitudes_stay_finite() {
    for codec in codecs().iter().filter(|codec| codec.dtype.name() != "F16") {
        for scale in [1e-45, 1e-38, 1e-30, 1e-8, 1e7, 1e30, 3e37] {
            for y in round_trip(codec, &noise(512, scale)) {
                assert!(y.is_finite(), "{} at {scale}", codec.dtype.name());
            }
        }
    }
}

#[test]
fn constant_rows_are_kept() {
    for codec in codecs() {
        // Where IQ4_XS's unit, a 4064th of the largest value, is a half of few bits, they are coarse.
        let tolerance = if codec.dtype == DType::IQ4XS { 2e-2 } else { 4e-3 };
        for value in [1.0, -1.0, 0.1, -3.7e-3, 250.0] {
            for y in round_trip(codec, &[value; 256]) {
                assert!((y / value - 1.0).abs() < tolerance, "{}: {value} became {y}", codec.dtype.name());
            }
        }
    }
}

#[test]
fn importance_moves_the_error_to_unimportant_columns() {
    let x = noise(1024, 1.0);
    let importance: Vec<f32> = (0..512).map(|i| if i % 4 == 0 { 100.0 } else { 0.01 }).collect();
    for codec in codecs().iter().filter(|c| !matches!(c.dtype, DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0)) {
        let error = |importance: Option<&[f32]>| {
            let mut y = vec![0.0; x.len()];
            codec.dequantize(&quantized(codec, &x, importance), &mut y);
            (0..x.len()).step_by(4).map(|i| (x[i] - y[i]).powi(2)).sum::<f32>()
        };
        assert!(error(Some(&importance)) < 0.9 * error(None), "{}", codec.dtype.name());
    }
}

#[test]
#[should_panic(expected = "don't fill")]
fn a_wrong_length_is_refused() {
    super::codec(DType::Q4K).expect("a codec").dequantize(&[0; 143], &mut [0.0; 256]);
}

#[test]
fn rows_without_a_codec_have_none() {
    assert!(super::codec(DType::IQ2XS).is_none());
}

/// Rows that try every branch of the searches.
fn rows_of_all_kinds() -> Vec<Vec<f32>> {
    let mut rows: Vec<Vec<f32>> =
        [1e-44, 1e-38, 1e-30, 1e-6, 0.03, 1.0, 7e4, 1e30, 3e38].map(|scale| noise(768, scale)).into();
    let outlier =
        |x: f32| noise(768, 1.0).into_iter().enumerate().map(|(i, y)| if i % 100 == 3 { x } else { y }).collect();
    rows.extend([50.0, 1e9, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(outlier));
    rows.extend([0.0, -0.0, 1.0, -2.5, f32::NAN].map(|x| vec![x; 768]));
    rows.push((0..768).map(|i| (i / 32) as f32 - 7.0).collect());
    rows.push(noise(768, 1e-3).into_iter().map(|x| x + 100.0).collect());
    rows
}

#[test]
fn every_level_writes_the_same_bytes() {
    let importance: Vec<f32> = noise(768, 1.0).into_iter().map(|x| x * x).collect();
    for codec in codecs() {
        for (i, x) in rows_of_all_kinds().iter().enumerate() {
            for importance in [None, Some(&importance[..])] {
                let want = quantized_at(codec, Level::Scalar, x, importance);
                for level in Level::available() {
                    let got = quantized_at(codec, level, x, importance);
                    assert!(got == want, "{} at {level}, row {i}, importance {}", codec.dtype, importance.is_some());
                }
            }
        }
    }
}

fn any_float() -> impl Strategy<Value = f32> {
    prop_oneof![any::<u32>().prop_map(f32::from_bits), -1.0f32..1.0, Just(f32::INFINITY), Just(f32::NAN), Just(0.0)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_dequantize(bytes in prop::collection::vec(any::<u8>(), 210)) {
        for codec in codecs() {
            let blocks = bytes.len() / codec.dtype.block_bytes();
            let mut y = vec![0.0; blocks * codec.dtype.block_len()];
            codec.dequantize(&bytes[..blocks * codec.dtype.block_bytes()], &mut y);
        }
    }

    #[test]
    fn any_floats_quantize(x in prop::collection::vec(any_float(), 256), w in prop::collection::vec(any_float(), 256)) {
        for codec in codecs() {
            for importance in [None, Some(&w[..])] {
                let want = quantized_at(codec, Level::Scalar, &x, importance);
                for level in Level::available() {
                    prop_assert!(quantized_at(codec, level, &x, importance) == want, "{} at {level}", codec.dtype);
                }
            }
        }
    }
}
