//! Matrix products over shapes, alignments and extreme values.
use super::{Random, assert_same};
use crate::act::{ActKind, ActView, Acts};
use crate::block::codec;
use crate::dtype::DType;
use crate::kernel::{GROUP, Kernel, Level, RowLayout, interleave, kernels, select, select_interleaved};

/// Every kernel of this machine, and algorithms that other machines run, on arrays.
fn all() -> impl Iterator<Item = &'static Kernel> {
    #[cfg(target_arch = "x86_64")]
    static PORTABLE: std::sync::LazyLock<Vec<Kernel>> =
        std::sync::LazyLock::new(crate::kernel::x86::vnni::portable::kernels);
    #[cfg(not(target_arch = "x86_64"))]
    static PORTABLE: [Kernel; 0] = [];
    kernels().iter().chain(PORTABLE.iter())
}

/// The definitions: a scalar kernel for each format.
fn definitions() -> impl Iterator<Item = &'static Kernel> {
    kernels().iter().filter(|kernel| kernel.level == Level::Scalar)
}

/// The quantized ones of them.
fn quantized_definitions() -> impl Iterator<Item = &'static Kernel> {
    definitions().filter(|kernel| kernel.act != ActKind::F32)
}

/// The kernels of a format.
fn of(weight: DType) -> impl Iterator<Item = &'static Kernel> {
    all().filter(move |kernel| kernel.weight == weight)
}

fn acts(kind: ActKind, cols: usize, rows: &[Vec<f32>]) -> Acts {
    let mut acts = Acts::new();
    acts.reset(kind, rows.len(), cols);
    for (t, x) in rows.iter().enumerate() {
        acts.set_row(Level::Scalar, t, x);
    }
    acts
}

/// The product of the rows `w`, which lie at an address that is `offset` bytes after one that is given out for memory.
fn run_at(offset: usize, kernel: &Kernel, w: &[u8], acts: ActView<'_>) -> Vec<f32> {
    let mut moved = vec![0xff; offset + w.len()];
    let (rows, cols) = (w.len() / row_bytes(kernel.weight, acts.cols()), acts.cols());
    let mut out = vec![f32::NAN; rows * acts.tokens()];
    if kernel.layout == RowLayout::Plain {
        moved[offset..].copy_from_slice(w);
        kernel.mul_mat(&moved[offset..], acts, &mut out);
        return out;
    }
    // Rows beyond whole groups stay as they are.
    let whole = rows / GROUP * GROUP;
    let (groups, rest) = w.split_at(whole * row_bytes(kernel.weight, cols));
    let (mut of_groups, mut of_rest) = (vec![f32::NAN; whole * acts.tokens()], vec![]);
    if whole > 0 {
        let moved = &mut moved[offset..][..groups.len()];
        interleave(kernel.weight, cols, groups, moved);
        kernel.mul_mat(moved, acts, &mut of_groups);
    }
    if whole < rows {
        of_rest = run(select(kernel.level, kernel.weight).expect("a kernel for rows"), rest, acts);
    }
    for (t, out) in out.chunks_exact_mut(rows).enumerate() {
        out[..whole].copy_from_slice(&of_groups[t * whole..][..whole]);
        out[whole..].copy_from_slice(&of_rest[t * (rows - whole)..][..rows - whole]);
    }
    out
}

fn run(kernel: &Kernel, w: &[u8], acts: ActView<'_>) -> Vec<f32> {
    run_at(0, kernel, w, acts)
}

fn row_bytes(weight: DType, cols: usize) -> usize {
    cols / weight.block_len() * weight.block_bytes()
}

fn quantized(weight: DType, x: &[f32]) -> Vec<u8> {
    let mut w = vec![0; x.len() / weight.block_len() * weight.block_bytes()];
    codec(weight).expect("a codec each").quantize(x, &mut w, None);
    w
}

/// Column counts that are no multiple of a kernel's step.
fn col_counts(kind: ActKind) -> &'static [usize] {
    match kind {
        ActKind::F32 => &[1, 7, 8, 33, 256],
        ActKind::Q8x32 => &[32, 96, 256, 320],
        ActKind::Q8x256 => &[256, 768],
    }
}

/// All kernels of a quantized format give the scalar bits; those of float formats differ by rounding, in proportion to the
/// sum of magnitudes.
fn check(scalar: &Kernel, w: &[u8], acts: &Acts, what: &str) {
    let want = run(scalar, w, acts.view());
    for kernel in of(scalar.weight).filter(|kernel| kernel.level != Level::Scalar) {
        let got = run(kernel, w, acts.view());
        let what = || format!("{}, {what}, {} tokens of {}", kernel.name, acts.view().tokens(), acts.view().cols());
        if kernel.act == ActKind::F32 {
            assert_close(kernel.weight, w, acts, &got, &want, what);
        } else {
            assert_same(&got, &want, what);
        }
    }
}

/// Equal but for the rounding of sums in another order.
fn assert_close(weight: DType, w: &[u8], acts: &Acts, got: &[f32], want: &[f32], what: impl Fn() -> String) {
    let cols = acts.view().cols();
    let mut row = vec![0.0; cols];
    let rows = w.len() / row_bytes(weight, cols);
    for (r, w) in w.chunks_exact(row_bytes(weight, cols)).enumerate() {
        codec(weight).expect("a codec each").dequantize(w, &mut row);
        for t in 0..acts.view().tokens() {
            let magnitude: f32 = row.iter().zip(acts.view().floats(t)).map(|(w, x)| (w * x).abs()).sum();
            let (got, want) = (got[t * rows + r], want[t * rows + r]);
            let bound = magnitude * f32::EPSILON * (2.0 + cols as f32 / 8.0);
            assert!((got - want).abs() <= bound, "{}: {got:?} instead of {want:?}", what());
        }
    }
}

#[test]
fn every_shape() {
    const MOST_ROWS: usize = 40;
    let mut random = Random(1);
    for scalar in definitions() {
        for &cols in col_counts(scalar.act) {
            // Quantizing takes longer than multiplying: each shape takes its rows of one matrix.
            let w = quantized(scalar.weight, &random.floats(MOST_ROWS * cols));
            for (rows, tokens) in [
                (1, 1),
                (2, 3),
                (3, 2),
                (4, 1),
                (5, 4),
                (7, 200),
                (15, 5),
                (16, 6),
                (17, 7),
                (16, 130),
                (33, 12),
                (MOST_ROWS, 31),
            ] {
                let x: Vec<_> = (0..tokens).map(|_| random.floats(cols)).collect();
                let w = &w[..rows * row_bytes(scalar.weight, cols)];
                check(scalar, w, &acts(scalar.act, cols, &x), &format!("{rows} rows"));
            }
        }
    }
}

#[test]
fn any_bytes_are_weights() {
    let mut random = Random(2);
    for scalar in quantized_definitions() {
        let cols = 512;
        let x: Vec<_> = (0..7).map(|_| random.floats(cols)).collect();
        let acts = acts(scalar.act, cols, &x);
        for _ in 0..8 {
            let w: Vec<u8> = (0..20 * row_bytes(scalar.weight, cols)).map(|_| random.bits() as u8).collect();
            check(scalar, &w, &acts, "random bytes");
        }
    }
}

/// Where a block of the format has its half-precision numbers.
fn halves(weight: DType) -> &'static [usize] {
    match weight {
        DType::Q4K | DType::Q5K | DType::Q4_1 | DType::Q5_1 => &[0, 2],
        DType::Q6K => &[208],
        DType::Q3K => &[108],
        DType::Q2K => &[80, 82],
        _ => &[0],
    }
}

#[test]
fn extreme_levels_do_not_overflow() {
    for scalar in quantized_definitions() {
        let cols = 512;
        let signs = [
            vec![1.0; cols],
            vec![-1.0; cols],
            (0..cols).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect(),
            (0..cols).map(|i| if i % 32 < 16 { 1.0 } else { -1.0 }).collect(),
        ];
        let acts = acts(scalar.act, cols, &signs);
        for fill in [0x00, 0x7f, 0x80, 0x81, 0xf0, 0x0f, 0xff] {
            // The largest finite half, −1, and the smallest one.
            for d in [0x7bffu16, 0xbc00, 0x0001, 0x7c00, 0x7e00] {
                let mut w = vec![fill; 18 * row_bytes(scalar.weight, cols)];
                for block in w.chunks_exact_mut(scalar.weight.block_bytes()) {
                    for &at in halves(scalar.weight) {
                        block[at..at + 2].copy_from_slice(&d.to_le_bytes());
                    }
                }
                check(scalar, &w, &acts, &format!("bytes {fill:#x}, scale {d:#x}"));
            }
        }
    }
}

#[test]
fn weights_may_lie_at_any_address() {
    let mut random = Random(3);
    for scalar in definitions() {
        let cols = 256;
        let w = quantized(scalar.weight, &random.floats(6 * cols));
        let x: Vec<_> = (0..5).map(|_| random.floats(cols)).collect();
        let acts = acts(scalar.act, cols, &x);
        for kernel in of(scalar.weight) {
            let want = run(kernel, &w, acts.view());
            for offset in [1, 2, 7, 31] {
                assert_same(&run_at(offset, kernel, &w, acts.view()), &want, || format!("{} at {offset}", kernel.name));
            }
        }
    }
}

#[test]
fn a_result_depends_on_its_row_and_token_alone() {
    let mut random = Random(4);
    for scalar in definitions() {
        let (rows, tokens, cols) = (37, 19, if scalar.act == ActKind::F32 { 300 } else { 768 });
        let w = quantized(scalar.weight, &random.floats(rows * cols));
        let x: Vec<_> = (0..tokens).map(|_| random.floats(cols)).collect();
        let acts = acts(scalar.act, cols, &x);
        let row_bytes = row_bytes(scalar.weight, cols);
        for kernel in of(scalar.weight) {
            let all = run(kernel, &w, acts.view());
            for (row_step, token_step) in [(1, 19), (37, 1), (4, 3), (16, 4), (5, 7), (20, 6), (8, 2)] {
                for r0 in (0..rows).step_by(row_step) {
                    for t0 in (0..tokens).step_by(token_step) {
                        let (r1, t1) = (rows.min(r0 + row_step), tokens.min(t0 + token_step));
                        let part = run(kernel, &w[r0 * row_bytes..r1 * row_bytes], acts.view().slice(t0..t1));
                        let want: Vec<f32> = (t0..t1).flat_map(|t| all[t * rows..][r0..r1].to_vec()).collect();
                        assert_same(&part, &want, || format!("{}, rows {r0}…, tokens {t0}…", kernel.name));
                    }
                }
            }
        }
    }
}

#[test]
fn products_approximate_the_real_ones() {
    let mut random = Random(5);
    for scalar in definitions() {
        let cols = 1024;
        let w = random.floats(8 * cols);
        let x: Vec<_> = (0..4).map(|_| random.floats(cols)).collect();
        let (quantized, acts) = (quantized(scalar.weight, &w), acts(scalar.act, cols, &x));
        // Errors are independent per element: a sum of them grows with the root of the count.
        let step = match scalar.weight {
            DType::F32 => 1e-6,
            DType::F16 | DType::BF16 => 1e-2,
            DType::Q8_0 => 2e-2,
            DType::Q6K => 5e-2,
            DType::Q3K => 4e-1,
            DType::Q2K => 1.0,
            _ => 2e-1,
        };
        for kernel in of(scalar.weight) {
            let got = run(kernel, &quantized, acts.view());
            for (t, x) in x.iter().enumerate() {
                for (r, w) in w.chunks_exact(cols).enumerate() {
                    let want: f64 = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    let got = got[t * 8 + r];
                    let error = (f64::from(got) - want).abs();
                    assert!(error < step * (cols as f64).sqrt(), "{}: {got} instead of {want}", kernel.name);
                }
            }
        }
    }
}

#[test]
fn the_table_is_complete_and_ordered() {
    assert!(kernels().is_sorted_by(|a, b| a.level >= b.level));
    for level in Level::available() {
        for codec in crate::block::codecs() {
            let kernel = select(level, codec.dtype).expect("a kernel for each codec");
            assert!(kernel.level == level && kernel.weight == codec.dtype);
        }
        assert!(select(level, DType::IQ2XS).is_none());
        for codec in crate::block::codecs() {
            let interleaved = select_interleaved(level, codec.dtype);
            assert!(interleaved.is_none_or(|kernel| kernel.level == level && kernel.layout == RowLayout::Interleaved));
        }
    }
}

#[test]
fn interleaving_keeps_every_byte() {
    // Two blocks of eight rows, each byte another one of its row and block.
    for (weight, word, halves) in [(DType::Q4K, 0, None), (DType::Q6K, 0, Some(208)), (DType::Q8_0, 2, Some(0))] {
        let (bytes, per_row) = (weight.block_bytes(), 2);
        let byte = |r: usize, b: usize, i: usize| (r * 31 + b * 101 + i * 7) as u8;
        let rows: Vec<u8> =
            (0..GROUP * per_row * bytes).map(|i| byte(i / (per_row * bytes), i / bytes % per_row, i % bytes)).collect();
        let mut out = vec![0; rows.len()];
        interleave(weight, per_row * weight.block_len(), &rows, &mut out);
        let words = bytes / 4;
        for (r, b) in (0..GROUP).flat_map(|r| (0..per_row).map(move |b| (r, b))) {
            for k in 0..4 * words {
                let at = ((b * words + k / 4) * GROUP + r) * 4 + k % 4;
                assert_eq!(out[at], byte(r, b, word + k), "{weight:?}: row {r}, block {b}, byte {k}");
            }
            if let Some(half) = halves {
                let at = per_row * words * 4 * GROUP + (b * GROUP + r) * 2;
                assert_eq!(out[at..at + 2], [byte(r, b, half), byte(r, b, half + 1)], "{weight:?}: row {r}, block {b}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "no rows of")]
fn parts_of_groups_are_refused() {
    let acts = acts(ActKind::Q8x256, 256, &[vec![0.0; 256]]);
    match kernels().iter().find(|kernel| kernel.layout == RowLayout::Interleaved && kernel.weight == DType::Q4K) {
        Some(kernel) => kernel.mul_mat(&[0; 144], acts.view(), &mut [0.0]),
        // A machine without such kernels.
        None => panic!("144 bytes are no rows of 1152"),
    }
}

#[test]
#[should_panic(expected = "other activations")]
fn activations_of_another_kind_are_refused() {
    let acts = acts(ActKind::F32, 256, &[vec![0.0; 256]]);
    select(Level::Scalar, DType::Q4K).expect("a kernel").mul_mat(&[0; 144], acts.view(), &mut [0.0]);
}

#[test]
#[should_panic(expected = "another number of results")]
fn a_wrong_output_is_refused() {
    let acts = acts(ActKind::Q8x256, 256, &[vec![0.0; 256]]);
    select(Level::Scalar, DType::Q4K).expect("a kernel").mul_mat(&[0; 288], acts.view(), &mut [0.0]);
}
