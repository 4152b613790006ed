//! Quantizing real weights by a real importance matrix, against doing without and against ggml's C code doing the same.
use qwren_quant::block::codec;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::GgufFile;
use qwren_quant::imatrix::Imatrix;
use qwren_tests::{converted, data, ggml};

/// For each matrix of the demo: Σ importance · error² falls with the importance at hand, and to no more than ggml's.
#[test]
fn weighted_errors_fall_and_are_no_larger_than_ggmls() {
    let file = GgufFile::open(&converted("demo", &data("demo"), "f32")).unwrap();
    let matrix = Imatrix::read(&data("imatrix/demo.gguf")).unwrap();
    for dtype in [DType::Q4K, DType::Q5K, DType::Q6K] {
        let codec = codec(dtype).unwrap();
        let (mut without, mut with, mut ggmls) = (0.0, 0.0, 0.0);
        for name in matrix.names() {
            let t = file.header().tensor(name).unwrap();
            let cols = t.shape[0] as usize;
            let importance = matrix.importance(name, cols, 1).unwrap().unwrap().weights;
            let x: Vec<f32> = file.data(t).as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            let error = |bytes: &[u8]| -> f64 {
                let mut y = vec![0.0; x.len()];
                codec.dequantize(bytes, &mut y);
                let terms = x.iter().zip(&y).enumerate();
                terms.map(|(i, (x, y))| f64::from((x - y).powi(2) * importance[i % cols])).sum()
            };
            let ours = |importance: Option<&[f32]>| {
                let mut bytes = vec![0; dtype.row_bytes(x.len() as u64).unwrap() as usize];
                codec.quantize(&x, &mut bytes, importance);
                error(&bytes)
            };
            let (plain, weighted) = (ours(None), ours(Some(&importance)));
            let ggml = error(&ggml::quantize(dtype, cols, &x, Some(&importance)));
            assert!(weighted < plain, "{name} as {}: {weighted} with, {plain} without", dtype.name());
            assert!(weighted <= ggml, "{name} as {}: {weighted}, ggml {ggml}", dtype.name());
            (without, with, ggmls) = (without + plain, with + weighted, ggmls + ggml);
        }
        println!("{}: {:.3} of without, {:.3} of ggml's", dtype.name(), with / without, with / ggmls);
        assert!(with < 0.95 * without, "{}: {with} with, {without} without", dtype.name());
    }
}
