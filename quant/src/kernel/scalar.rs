//! The definition of the matrix products, one block at a time.
use super::{Kernel, Level, RowLayout, Run};
use crate::act::{ActKind, ActView};
use crate::block::{
    Block, BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, SUPER, blocks, codec, unpack_scales,
};
use crate::dtype::DType;

/// The table of this level.
pub(super) fn kernels() -> [Kernel; 15] {
    let kernel =
        |name, weight, act, run: Run| Kernel { name, weight, act, level: Level::Scalar, layout: RowLayout::Plain, run };
    [
        kernel("scalar Q4_K", DType::Q4K, ActKind::Q8x256, mul_super::<BlockQ4K>),
        kernel("scalar Q5_K", DType::Q5K, ActKind::Q8x256, mul_super::<BlockQ5K>),
        kernel("scalar Q6_K", DType::Q6K, ActKind::Q8x256, mul_super::<BlockQ6K>),
        kernel("scalar Q3_K", DType::Q3K, ActKind::Q8x256, mul_super::<BlockQ3K>),
        kernel("scalar Q2_K", DType::Q2K, ActKind::Q8x256, mul_super::<BlockQ2K>),
        kernel("scalar IQ4_XS", DType::IQ4XS, ActKind::Q8x256, mul_super::<BlockIq4Xs>),
        kernel("scalar Q8_0", DType::Q8_0, ActKind::Q8x32, mul_small::<BlockQ8_0>),
        kernel("scalar Q4_0", DType::Q4_0, ActKind::Q8x32, mul_small::<BlockQ4_0>),
        kernel("scalar Q4_1", DType::Q4_1, ActKind::Q8x32, mul_small::<BlockQ4_1>),
        kernel("scalar Q5_0", DType::Q5_0, ActKind::Q8x32, mul_small::<BlockQ5_0>),
        kernel("scalar Q5_1", DType::Q5_1, ActKind::Q8x32, mul_small::<BlockQ5_1>),
        kernel("scalar IQ4_NL", DType::IQ4NL, ActKind::Q8x32, mul_small::<BlockIq4Nl>),
        kernel("scalar F16", DType::F16, ActKind::F32, |w, acts, out| mul_float(DType::F16, w, acts, out)),
        kernel("scalar BF16", DType::BF16, ActKind::F32, |w, acts, out| mul_float(DType::BF16, w, acts, out)),
        kernel("scalar F32", DType::F32, ActKind::F32, |w, acts, out| mul_float(DType::F32, w, acts, out)),
    ]
}

/// A block of 256 as integers: `x = d·scale·q − dmin·min`, with a scale and a min for each 16 values.
struct SuperInts {
    d: f32,
    dmin: f32,
    scales: [i32; 16],
    mins: [i32; 16],
    q: [i8; SUPER],
}

trait SuperBlock: Block {
    fn ints(&self) -> SuperInts;
}

impl SuperBlock for BlockQ4K {
    fn ints(&self) -> SuperInts {
        let (scales, mins) = unpack_scales(&self.scales);
        SuperInts {
            d: self.d.get(),
            dmin: self.dmin.get(),
            scales: std::array::from_fn(|j| scales[j / 2].into()),
            mins: std::array::from_fn(|j| mins[j / 2].into()),
            q: self.unpack().map(|q| q as i8),
        }
    }
}

impl SuperBlock for BlockQ5K {
    fn ints(&self) -> SuperInts {
        let (scales, mins) = unpack_scales(&self.scales);
        SuperInts {
            d: self.d.get(),
            dmin: self.dmin.get(),
            scales: std::array::from_fn(|j| scales[j / 2].into()),
            mins: std::array::from_fn(|j| mins[j / 2].into()),
            q: self.unpack().map(|q| q as i8),
        }
    }
}

impl SuperBlock for BlockQ6K {
    fn ints(&self) -> SuperInts {
        SuperInts { d: self.d.get(), dmin: 0.0, scales: self.scales.map(i32::from), mins: [0; 16], q: self.unpack() }
    }
}

impl SuperBlock for BlockQ3K {
    fn ints(&self) -> SuperInts {
        let scales = self.unpack_scales().map(i32::from);
        SuperInts { d: self.d.get(), dmin: 0.0, scales, mins: [0; 16], q: self.unpack() }
    }
}

impl SuperBlock for BlockQ2K {
    fn ints(&self) -> SuperInts {
        SuperInts {
            d: self.d.get(),
            dmin: self.dmin.get(),
            scales: self.scales.map(|s| (s & 15).into()),
            mins: self.scales.map(|s| (s >> 4).into()),
            q: self.unpack().map(|q| q as i8),
        }
    }
}

impl SuperBlock for BlockIq4Xs {
    fn ints(&self) -> SuperInts {
        let scales = self.unpack_scales();
        SuperInts {
            d: self.d.get(),
            dmin: 0.0,
            scales: std::array::from_fn(|j| scales[j / 2].into()),
            mins: [0; 16],
            q: self.unpack(),
        }
    }
}

/// Per 256 columns: `sum += da · (d · Σ scale·(q·a) − dmin · Σ min·(Σ a))`, where the inner sums are exact integers.
fn mul_super<B: SuperBlock>(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    out.fill(0.0);
    let per_row = acts.cols() / SUPER;
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    for (i, block) in w.iter().enumerate() {
        let (r, b) = (i / per_row, i % per_row);
        let w = block.ints();
        for t in 0..acts.tokens() {
            let a = &acts.quants(t)[SUPER * b..][..SUPER];
            let sums = &acts.sums(t)[16 * b..][..16];
            let (mut dot, mut offset) = (0, 0);
            for j in 0..16 {
                dot += w.scales[j] * dot_i8(&w.q[16 * j..][..16], &a[16 * j..][..16]);
                offset += w.mins[j] * i32::from(sums[j]);
            }
            out[t * rows + r] += acts.scales(t)[b] * (w.d * dot as f32 - w.dmin * offset as f32);
        }
    }
}

/// A block of 32 as integers: `x = d·q + m`.
struct SmallInts {
    d: f32,
    m: Option<f32>,
    q: [i8; 32],
}

trait SmallBlock: Block {
    fn ints(&self) -> SmallInts;
}

impl SmallBlock for BlockQ8_0 {
    fn ints(&self) -> SmallInts {
        SmallInts { d: self.d.get(), m: None, q: self.qs }
    }
}

impl SmallBlock for BlockQ4_0 {
    fn ints(&self) -> SmallInts {
        SmallInts { d: self.d.get(), m: None, q: self.unpack() }
    }
}

impl SmallBlock for BlockQ4_1 {
    fn ints(&self) -> SmallInts {
        SmallInts { d: self.d.get(), m: Some(self.m.get()), q: self.unpack().map(|q| q as i8) }
    }
}

impl SmallBlock for BlockQ5_0 {
    fn ints(&self) -> SmallInts {
        SmallInts { d: self.d.get(), m: None, q: self.unpack() }
    }
}

impl SmallBlock for BlockQ5_1 {
    fn ints(&self) -> SmallInts {
        SmallInts { d: self.d.get(), m: Some(self.m.get()), q: self.unpack().map(|q| q as i8) }
    }
}

impl SmallBlock for BlockIq4Nl {
    fn ints(&self) -> SmallInts {
        SmallInts { d: self.d.get(), m: None, q: self.unpack() }
    }
}

/// Per 32 columns: `sum += (d · da) · (q·a)`, then for a format with an offset `sum += (m · da) · (Σ a)`.
fn mul_small<B: SmallBlock>(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    out.fill(0.0);
    let per_row = acts.cols() / 32;
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    for (i, block) in w.iter().enumerate() {
        let (r, b) = (i / per_row, i % per_row);
        let w = block.ints();
        for t in 0..acts.tokens() {
            let sum = &mut out[t * rows + r];
            let da = acts.scales(t)[b];
            *sum += (w.d * da) * dot_i8(&w.q, &acts.quants(t)[32 * b..][..32]) as f32;
            if let Some(m) = w.m {
                *sum += (m * da) * f32::from(acts.sums(t)[b]);
            }
        }
    }
}

fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// Weights as float32 by the format's codec, then [`dot`].
fn mul_float(weight: DType, w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let codec = codec(weight).expect("a float format");
    let row_bytes = acts.cols() * weight.block_bytes();
    let rows = w.len() / row_bytes;
    let mut row = vec![0.0; acts.cols()];
    for (r, w) in w.chunks_exact(row_bytes).enumerate() {
        codec.dequantize(w, &mut row);
        for t in 0..acts.tokens() {
            out[t * rows + r] = dot(&row, acts.floats(t));
        }
    }
}

/// Σ a·b in eight lanes: lane i takes the elements i, i + 8, i + 16 …; [`add_lanes`] adds them up.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    add_lanes(lanes)
}

/// Neighbours first, as horizontal additions do.
pub(super) fn add_lanes(l: [f32; 8]) -> f32 {
    ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7]))
}
