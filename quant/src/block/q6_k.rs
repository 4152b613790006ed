//! Q6_K: 256 values of 6 bits in sixteen sub-blocks, `x = d·scale·(q − 32)`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::search::{Errors, fit_symmetric, nearest, quantize_symmetric};
use super::{Block, Half, SUPER};

/// 256 values, 210 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockQ6K {
    /// Low 4 bits. Each 128 values take 64 bytes: byte l holds values l (low half) and l + 64, byte 32 + l values
    /// l + 32 and l + 96, for l in 0 … 31.
    pub ql: [u8; 128],
    /// High 2 bits. Each 128 values take 32 bytes: byte l holds those of values l, l + 32, l + 64, l + 96 from the
    /// lowest pair up.
    pub qh: [u8; 64],
    /// Scales of the sixteen sub-blocks of 16.
    pub scales: [i8; 16],
    /// Unit of the scales.
    pub d: Half,
}

/// Largest magnitude of a level: -32 … 31.
const LEVELS: f32 = 32.0;

impl Block for BlockQ6K {
    const LEN: usize = SUPER;

    fn quantize_row(x: &[f32], importance: Option<&[f32]>, row: &mut [Self]) {
        for (i, (x, block)) in x.as_chunks().0.iter().zip(row).enumerate() {
            block.quantize(x, importance.map(|w| &w[SUPER * i..]));
        }
    }

    fn dequantize(&self, y: &mut [f32]) {
        let d = self.d.get();
        let q = self.unpack();
        for (j, (y, q)) in y.chunks_exact_mut(16).zip(q.chunks_exact(16)).enumerate() {
            let step = d * f32::from(self.scales[j]);
            for (y, &q) in y.iter_mut().zip(q) {
                *y = step * f32::from(q);
            }
        }
    }
}

impl BlockQ6K {
    /// The 256 values as integers, -32 … 31.
    pub fn unpack(&self) -> [i8; SUPER] {
        let mut q = [0; SUPER];
        for (n, q) in q.chunks_exact_mut(128).enumerate() {
            let (ql, qh) = (&self.ql[64 * n..][..64], &self.qh[32 * n..][..32]);
            for l in 0..32 {
                q[l] = (ql[l] & 15 | (qh[l] & 3) << 4) as i8 - 32;
                q[l + 32] = (ql[l + 32] & 15 | (qh[l] >> 2 & 3) << 4) as i8 - 32;
                q[l + 64] = (ql[l] >> 4 | (qh[l] >> 4 & 3) << 4) as i8 - 32;
                q[l + 96] = (ql[l + 32] >> 4 | qh[l] >> 6 << 4) as i8 - 32;
            }
        }
        q
    }

    fn quantize(&mut self, x: &[f32; SUPER], importance: Option<&[f32]>) {
        let subs = x.as_chunks::<16>().0;
        // Without importance, big values count more: their errors hurt a dot product most.
        let weights: [[f32; 16]; 16] = std::array::from_fn(|j| match importance {
            Some(w) => std::array::from_fn(|l| w[16 * j + l]),
            None => subs[j].map(|x| x * x),
        });
        let plain: [[f32; 16]; 16] = if importance.is_some() { weights } else { [[1.0; 16]; 16] };
        let fits: [f32; 16] = std::array::from_fn(|j| fit_symmetric(&subs[j], &weights[j], LEVELS));
        let with_unit = |d: Half| {
            let mut scales = [0; 16];
            let mut total = Errors::default();
            for j in 0..16 {
                let errors;
                (scales[j], errors) = best_scale(&subs[j], &plain[j], &weights[j], d.get(), fits[j]);
                total += errors;
            }
            (d, scales, total)
        };
        // The scale of largest magnitude becomes -128, the end of the range that reaches further.
        let unit = super::signed_max(&fits) / -128.0;
        let mut best = with_unit(Half::saturating(unit));
        // Units of usual weights are so small that halves are coarse there: rounded down, -128 may not reach.
        if best.0.get().abs() < unit.abs() && unit.abs() < Half::LEAST_NORMAL {
            let up = with_unit(best.0.away_from_zero(unit));
            if up.2.better_than(&best.2) {
                best = up;
            }
        }
        (self.d, self.scales) = (best.0, best.1);
        let mut q = [0; SUPER];
        for (j, q) in q.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            *q = quantize_symmetric(&subs[j], self.d.get() * f32::from(self.scales[j]), LEVELS);
        }
        self.pack(&q);
    }

    /// Levels are stored with 32 added.
    fn pack(&mut self, q: &[i8; SUPER]) {
        let q = q.map(|q| (q + 32) as u8);
        for (n, q) in q.chunks_exact(128).enumerate() {
            let (ql, qh) = (&mut self.ql[64 * n..][..64], &mut self.qh[32 * n..][..32]);
            for l in 0..32 {
                let [a, b, c, e] = [q[l], q[l + 32], q[l + 64], q[l + 96]];
                ql[l] = a & 15 | c << 4;
                ql[l + 32] = b & 15 | e << 4;
                qh[l] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | e >> 4 << 6;
            }
        }
    }
}

/// The scale, in units of `d`, near `fit` with the least error once the values are requantized with it.
fn best_scale(x: &[f32; 16], plain: &[f32; 16], weights: &[f32; 16], d: f32, fit: f32) -> (i8, Errors) {
    let centre = if d == 0.0 { 0.0 } else { nearest((fit / d).clamp(-128.0, 127.0)) };
    let mut best = centre;
    let mut least = Errors::of_symmetric(x, plain, weights, d * centre, LEVELS);
    for step in [-2.0, -1.0, 1.0, 2.0] {
        let scale = centre + step;
        if (-128.0..=127.0).contains(&scale) {
            let errors = Errors::of_symmetric(x, plain, weights, d * scale, LEVELS);
            if errors.better_than(&least) {
                (best, least) = (scale, errors);
            }
        }
    }
    (best as i8, least)
}
