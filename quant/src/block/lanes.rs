//! Eight floats at a time for the searches. Sums run in eight lanes on every machine, so files are the same bytes.
use std::ops::{Add, Mul, Sub};

use crate::kernel::F32x4;

/// Eight floats. Operations are lane by lane, in the order written.
#[derive(Clone, Copy)]
pub(super) struct Lanes([F32x4; 2]);

impl Lanes {
    /// The floats `8 * i …`.
    #[inline(always)]
    pub(super) fn load<const N: usize>(x: &[f32; N], i: usize) -> Lanes {
        let x = x.as_chunks().0;
        Lanes([F32x4::load(&x[2 * i]), F32x4::load(&x[2 * i + 1])])
    }

    /// The same float in every lane.
    #[inline(always)]
    pub(super) fn all(x: f32) -> Lanes {
        Lanes([F32x4::all(x); 2])
    }

    /// The nearest integers within [low, high], ties to even; low of a NaN. The bounds are below 2^22.
    #[inline(always)]
    pub(super) fn nearest_within(self, low: f32, high: f32) -> Lanes {
        let Lanes([a, b]) = self;
        let (low, high) = (F32x4::all(low), F32x4::all(high));
        Lanes([a.max(low).min(high), b.max(low).min(high)]) + Lanes::all(ROUNDER) - Lanes::all(ROUNDER)
    }

    /// The floats.
    #[inline(always)]
    pub(super) fn get(self) -> [f32; 8] {
        let mut out = [[0.0; 4]; 2];
        self.0[0].store(&mut out[0]);
        self.0[1].store(&mut out[1]);
        let ([a, b, c, d], [e, f, g, h]) = (out[0], out[1]);
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let l = self.get();
        ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
    }
}

impl Add for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn add(self, other: Lanes) -> Lanes {
        Lanes([self.0[0].add(other.0[0]), self.0[1].add(other.0[1])])
    }
}

impl Sub for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn sub(self, other: Lanes) -> Lanes {
        Lanes([self.0[0].sub(other.0[0]), self.0[1].sub(other.0[1])])
    }
}

impl Mul for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn mul(self, other: Lanes) -> Lanes {
        Lanes([self.0[0].mul(other.0[0]), self.0[1].mul(other.0[1])])
    }
}

/// `S` sums over `N` elements; `terms(i)` gives those of the elements `8 * i …`.
#[inline(always)]
pub(super) fn sums<const N: usize, const S: usize>(terms: impl Fn(usize) -> [Lanes; S]) -> [f32; S] {
    let mut lanes = [Lanes::all(0.0); S];
    for i in 0..N / 8 {
        let terms = terms(i);
        for s in 0..S {
            lanes[s] = lanes[s] + terms[s];
        }
    }
    let mut sums = [0.0; S];
    for s in 0..S {
        sums[s] = lanes[s].sum();
    }
    sums
}

/// Adding and subtracting 1.5·2^23 leaves the nearest integer, ties to even, of |x| < 2^22.
const ROUNDER: f32 = 12_582_912.0;

/// The nearest integer, ties to even, for |x| < 2^22.
#[inline(always)]
pub(super) fn nearest(x: f32) -> f32 {
    (x + ROUNDER) - ROUNDER
}
