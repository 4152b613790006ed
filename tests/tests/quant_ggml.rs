//! The block codecs against ggml's own C code, on the same rows.
use std::fs;
use std::sync::LazyLock;

use qwren_quant::block::{Codec, codec, codecs};
use qwren_quant::dtype::DType;
use qwren_tests::{data, ggml};
use safetensors::SafeTensors;

const COLS: usize = 1024;

fn quantize(codec: &Codec, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0u8; codec.dtype.row_bytes(x.len() as u64).unwrap() as usize];
    codec.quantize(x, &mut bytes, importance);
    bytes
}

fn dequantize(codec: &Codec, bytes: &[u8]) -> Vec<f32> {
    let mut y = vec![0f32; bytes.len() / codec.dtype.block_bytes() * codec.dtype.block_len()];
    codec.dequantize(bytes, &mut y);
    y
}

struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Named rows of `COLS` values each.
type Rows = Vec<(String, Vec<f32>)>;

/// The rows that everything is tested with.
fn rows() -> &'static Rows {
    static ROWS: LazyLock<Rows> = LazyLock::new(|| {
        let mut rows = made_up_rows();
        rows.extend(demo_rows());
        rows.extend(smollm2_rows(DType::Q4_1));
        rows.extend(smollm2_rows(DType::Q8_0));
        rows
    });
    &ROWS
}

fn made_up_rows() -> Rows {
    let mut noise = Noise(7);
    let mut rows = Vec::new();
    let mut push = |name: String, value: &mut dyn FnMut(usize) -> f64| {
        rows.push((name, (0..COLS).map(|i| value(i) as f32).collect::<Vec<_>>()));
    };
    for i in 0..24 {
        push(format!("gaussian {i}"), &mut |_| 0.03 * noise.gaussian());
    }
    for i in 0..8 {
        push(format!("shifted {i}"), &mut |_| f64::from(i - 4) * 0.02 + 0.03 * noise.gaussian());
        push(format!("heavy-tailed {i}"), &mut |_| 0.02 * noise.gaussian() / noise.uniform().max(1e-3));
        push(format!("cubed {i}"), &mut |_| noise.gaussian().powi(3));
        push(format!("uniform {i}"), &mut |_| noise.uniform() - 0.5);
        push(format!("sparse {i}"), &mut |_| if noise.uniform() < 0.03 { noise.gaussian() } else { 0.0 });
        push(format!("outliers {i}"), &mut |_| {
            if noise.uniform() < 0.004 { 40.0 * noise.gaussian() } else { noise.gaussian() }
        });
        push(format!("blocks of unlike size {i}"), &mut |k| noise.gaussian() * 10f64.powi((k / 32 % 7) as i32 - 3));
    }
    for value in [0.0, -0.0, 1.0, -1.0, 0.013, -7.7] {
        push(format!("constant {value}"), &mut |_| value);
    }
    for exponent in [-9, -7, -6, -5, -4, 2, 4, 5] {
        push(format!("scaled 1e{exponent}"), &mut |_| 10f64.powi(exponent) * noise.gaussian());
    }
    push("one value a block".into(), &mut |k| if k % 32 == 5 { noise.gaussian() } else { 0.0 });
    push("two values".into(), &mut |_| if noise.uniform() < 0.5 { -0.7 } else { 0.4 });
    push("ramp".into(), &mut |k| k as f64 / 100.0);
    push("positive".into(), &mut |_| noise.gaussian().abs());
    push("negative".into(), &mut |_| -noise.gaussian().abs());
    rows
}

/// Trained weights in bf16: two rows of each matrix of the demo.
fn demo_rows() -> Rows {
    let bytes = fs::read(data("demo/model.safetensors")).unwrap();
    let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    tensors.retain(|(_, tensor)| tensor.data().len() >= 4 * 2 * COLS);
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut rows = Vec::new();
    for (name, tensor) in tensors {
        for run in [1, 3] {
            let mut row = vec![0.0; COLS];
            codec(DType::BF16).unwrap().dequantize(&tensor.data()[2 * COLS * run..][..2 * COLS], &mut row);
            rows.push((format!("demo {name} {run}"), row));
        }
    }
    assert_eq!(rows.len(), 2 * (1 + 4 * 7));
    rows
}

/// Trained weights that a peer had quantized.
fn smollm2_rows(dtype: DType) -> Rows {
    let bytes = fs::read(data(&format!("rows/smollm2.{}", dtype.name().to_lowercase()))).unwrap();
    let rows = bytes.chunks_exact(dtype.row_bytes(COLS as u64).unwrap() as usize);
    rows.enumerate().map(|(i, row)| (format!("smollm2 {} {i}", dtype.name()), ggml::dequantize(dtype, row))).collect()
}

/// Importances as an imatrix has them, mean squares of activations: mild, and with a few columns far above the rest.
fn importances() -> [Vec<f32>; 2] {
    let mut noise = Noise(5);
    let mild = (0..COLS).map(|_| noise.gaussian().powi(2) as f32 + 1e-3).collect();
    let wild = (0..COLS).map(|_| (2.0 * noise.gaussian()).exp() as f32).collect();
    [mild, wild]
}

/// Σ w·(x − y)².
fn squared_error(x: &[f32], y: &[f32], w: Option<&[f32]>) -> f64 {
    (0..x.len()).map(|i| (f64::from(x[i]) - f64::from(y[i])).powi(2) * w.map_or(1.0, |w| f64::from(w[i]))).sum()
}

#[test]
fn simple_formats_have_ggmls_bytes() {
    for dtype in [DType::F32, DType::F16, DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1] {
        let codec = codec(dtype).unwrap();
        for (name, x) in rows() {
            // Where ggml's minimum overflows to infinity, ours is the largest half.
            if !matches!(dtype, DType::Q4_1 | DType::Q5_1) || x.iter().all(|x| *x > -65504.0) {
                assert!(quantize(codec, x, None) == ggml::quantize(dtype, COLS, x, None), "{}, {name}", dtype.name());
            }
        }
    }
}

#[test]
fn bf16_rounds_to_nearest_even() {
    let codec = codec(DType::BF16).unwrap();
    let mut x: Vec<f32> = rows().iter().flat_map(|(_, x)| x.clone()).collect();
    let mut noise = Noise(3);
    x.extend((0..10_000).map(|_| f32::from_bits(noise.bits() as u32)));
    x.extend([f32::INFINITY, -f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45, -0.0]);
    let bytes = quantize(codec, &x, None);
    for (x, bytes) in x.iter().zip(bytes.chunks(2)) {
        let want = half::bf16::from_f32(*x);
        assert_eq!(u16::from_le_bytes([bytes[0], bytes[1]]), want.to_bits(), "{x:?}");
    }
}

#[test]
fn dequantized_values_are_ggmls() {
    let mut noise = Noise(11);
    for codec in codecs().iter().filter(|codec| codec.dtype != DType::BF16) {
        let check = |bytes: &[u8], what: &str| {
            for (ours, theirs) in dequantize(codec, bytes).into_iter().zip(ggml::dequantize(codec.dtype, bytes)) {
                let same = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
                assert!(same, "{}, {what}: {ours:?}, ggml {theirs:?}", codec.dtype.name());
            }
        };
        let random: Vec<u8> = (0..codec.dtype.block_bytes() * 2048).map(|_| noise.bits() as u8).collect();
        check(&random, "random bytes");
        for (name, x) in rows() {
            check(&ggml::quantize(codec.dtype, COLS, x, None), name);
        }
    }
}

/// Ratios of our squared error to ggml's, of the rows that lose anything to speak of: (row, ratio).
fn ratios(dtype: DType, importance: Option<&[f32]>) -> Vec<(&'static str, f64)> {
    // Below this share of a row's energy errors are chance: a constant happens to lie near a level or not.
    const CHANCE: f64 = 1e-5;
    let codec = codec(dtype).unwrap();
    let mut ratios = Vec::new();
    for (name, x) in rows() {
        let ours = squared_error(x, &dequantize(codec, &quantize(codec, x, importance)), importance);
        let theirs =
            squared_error(x, &ggml::dequantize(dtype, &ggml::quantize(dtype, COLS, x, importance)), importance);
        assert!(ours.is_finite());
        let energy = squared_error(x, &vec![0.0; x.len()], importance);
        if theirs.is_finite() && ours.max(theirs) > CHANCE * energy {
            ratios.push((&name[..], ours / theirs));
        }
    }
    assert!(ratios.len() > 150, "{dtype}: only {} rows", ratios.len());
    ratios
}

/// No row may be worse than `worst`, nor the mean than `mean`.
fn check(dtype: DType, ratios: &[(&str, f64)], worst: f64, mean: f64) {
    let worse: Vec<_> = ratios.iter().filter(|(_, ratio)| *ratio > worst).collect();
    assert!(worse.is_empty(), "{dtype}: {worse:?}");
    let found = ratios.iter().map(|(_, ratio)| ratio).sum::<f64>() / ratios.len() as f64;
    assert!(found <= mean, "{dtype}: {found} in the mean");
}

#[test]
fn k_quants_lose_no_more_than_ggml_on_any_row() {
    for (dtype, mean) in [(DType::Q2K, 0.78), (DType::Q4K, 0.9), (DType::Q5K, 0.86), (DType::Q6K, 0.95)] {
        check(dtype, &ratios(dtype, None), 1.0 + 1e-6, mean);
    }
}

/// Where values lie on a grid, either program may hit it by luck.
fn by_luck(name: &str) -> bool {
    ["smollm2 Q4_1", "constant", "ramp"].iter().any(|grid| name.starts_with(grid))
}

#[test]
fn with_importance_no_more_is_lost_than_by_ggml() {
    let [mild, wild] = importances();
    // Where a few columns count nearly alone, one lucky value in them outdoes a search.
    for (importance, worst) in [(mild, 1.02), (wild, 1.15)] {
        for (dtype, mean) in [(DType::Q4K, 0.93), (DType::Q5K, 0.87), (DType::Q6K, 0.94)] {
            let mut ratios = ratios(dtype, Some(&importance));
            ratios.retain(|(name, _)| !by_luck(name));
            check(dtype, &ratios, worst, mean);
        }
        for dtype in [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1] {
            check(dtype, &ratios(dtype, Some(&importance)), worst, 1.0);
        }
    }
}

/// With few levels a row is a few lucky hits, and one in thirty is better served by ggml's.
#[test]
fn the_low_types_lose_less_than_ggml_in_the_mean() {
    for (dtype, worst, mean) in [(DType::Q3K, 1.12, 0.96), (DType::IQ4NL, 1.04, 0.96), (DType::IQ4XS, 1.02, 0.94)] {
        check(dtype, &ratios(dtype, None), worst, mean);
    }
    for importance in importances() {
        for (dtype, worst, mean) in
            [(DType::Q2K, 1.25, 0.88), (DType::Q3K, 1.55, 0.97), (DType::IQ4NL, 1.25, 0.97), (DType::IQ4XS, 1.05, 0.93)]
        {
            let mut ratios = ratios(dtype, Some(&importance));
            ratios.retain(|(name, _)| !by_luck(name));
            check(dtype, &ratios, worst, mean);
        }
    }
}

/// ggml's search aborts on some of these.
#[test]
fn tiny_values_lose_no_more_than_themselves() {
    let mut noise = Noise(9);
    for exponent in [-45, -42, -39, -38, -30, -20, -12] {
        let x: Vec<f32> = (0..COLS).map(|_| (10f64.powi(exponent) * noise.gaussian()) as f32).collect();
        for codec in codecs() {
            for importance in [None, Some(&importances()[0][..])] {
                let y = dequantize(codec, &quantize(codec, &x, importance));
                let energy = squared_error(&x, &vec![0.0; x.len()], importance);
                assert!(squared_error(&x, &y, importance) <= energy, "{} at 1e{exponent}", codec.dtype);
            }
        }
    }
}

#[test]
fn importance_pays() {
    for importance in importances() {
        for dtype in [DType::Q4K, DType::Q5K, DType::Q6K] {
            let codec = codec(dtype).unwrap();
            let loss = |row: &[f32], importance_used: Option<&[f32]>| {
                squared_error(row, &dequantize(codec, &quantize(codec, row, importance_used)), Some(&importance))
            };
            let (mut with, mut without) = (0.0, 0.0);
            for (name, x) in
                rows().iter().filter(|(name, _)| name.starts_with("demo") || name.starts_with("smollm2 Q8"))
            {
                let energy = squared_error(x, &vec![0.0; x.len()], Some(&importance));
                assert!(energy > 0.0, "{name}");
                with += loss(x, Some(&importance)) / energy;
                without += loss(x, None) / energy;
            }
            assert!(with < 0.9 * without, "{dtype}: {with} against {without}");
        }
    }
}
