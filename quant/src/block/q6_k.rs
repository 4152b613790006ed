//! Q6_K: 256 values of 6 bits in sixteen sub-blocks, `x = d·scale·(q − 32)`.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::lanes::nearest;
use super::search::{Errors, fit_symmetric, quantize_symmetric};
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

/// Further values for the scale of largest magnitude. More would gain little for their time.
const UNITS: [f32; 2] = [-127.0, -125.0];
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
        let mut weights = [[0.0; 16]; 16];
        weights.as_flattened_mut().copy_from_slice(importance.map_or(&x[..], |importance| &importance[..SUPER]));
        let mut plain = weights;
        if importance.is_none() {
            plain = [[1.0; 16]; 16];
            for w in weights.as_flattened_mut() {
                *w *= *w;
            }
        }
        let mut fits = [0.0; 16];
        for j in 0..16 {
            fits[j] = fit_symmetric(&subs[j], &plain[j], &weights[j], LEVELS);
        }
        // The scale of largest magnitude becomes -128, the end of the range that reaches further.
        let max = super::signed_max(&fits);
        let block = Candidates { subs, plain: &plain, weights: &weights, fits: &fits };
        let mut best = block.with_unit(Half::saturating(max / -128.0), max / -128.0);
        let start = best.2;
        // Nearby units round the other scales in other ways, and reach -128 where the halves are too coarse to.
        for largest in UNITS {
            let d = Half::saturating(max / largest);
            let other = block.with_unit(d, d.get());
            if other.2.improves(&best.2, &start) {
                best = other;
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

struct Candidates<'a> {
    subs: &'a [[f32; 16]],
    plain: &'a [[f32; 16]; 16],
    weights: &'a [[f32; 16]; 16],
    fits: &'a [f32; 16],
}

impl Candidates<'_> {
    /// The best scales in the unit `d`, which was `unit` before it was rounded, and their errors.
    fn with_unit(&self, d: Half, unit: f32) -> (Half, [i8; 16], Errors) {
        let mut scales = [0; 16];
        let mut total = Errors::default();
        for j in 0..16 {
            let errors;
            (scales[j], errors) = self.best_scale(j, d.get(), unit);
            total += errors;
        }
        (d, scales, total)
    }

    /// The scale near the fitted one with the least error once the values are requantized with it; never worse than
    /// the one that the unrounded unit gives.
    fn best_scale(&self, j: usize, d: f32, unit: f32) -> (i8, Errors) {
        let errors_of =
            |scale: f32| Errors::of_symmetric(&self.subs[j], &self.plain[j], &self.weights[j], d * scale, LEVELS);
        let in_units = |unit: f32| if unit == 0.0 { 0.0 } else { nearest((self.fits[j] / unit).clamp(-128.0, 127.0)) };
        let mut best = in_units(unit);
        let start = errors_of(best);
        let mut least = start;
        for step in [0.0, -2.0, -1.0, 1.0, 2.0] {
            let scale = in_units(d) + step;
            if (-128.0..=127.0).contains(&scale) {
                let errors = errors_of(scale);
                if errors.improves(&least, &start) {
                    (best, least) = (scale, errors);
                }
            }
        }
        (best as i8, least)
    }
}
