//! Eight floats at a time for code that is written once and compiled for each level: the quantizers.
//!
//! Operations are lane by lane, rounded as IEEE 754 says and never fused, so that every level gives the same bits.
use std::ops::{Add, BitAnd, Div, Mul, Sub};

use super::Level;
#[cfg(target_arch = "aarch64")]
use super::aarch64::floats::F32x4;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use super::portable::F32x4;
#[cfg(target_arch = "x86_64")]
use super::x86::{self, sse2::F32x4};

/// Eight floats in the registers of one level. Only a CPU that has them can make a value.
pub(crate) trait Floats:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// Proof that the CPU has the instructions.
    type Token: Copy;
    /// A truth value a lane.
    type Mask: Copy + BitAnd<Output = Self::Mask>;

    /// The floats of `x`.
    fn load(token: Self::Token, x: &[f32; 8]) -> Self;

    /// The same float in every lane.
    fn all(token: Self::Token, x: f32) -> Self;

    /// The floats.
    fn get(self) -> [f32; 8];

    /// The greater one; `other` beside a NaN.
    fn max(self, other: Self) -> Self;

    /// The lesser one; `other` beside a NaN.
    fn min(self, other: Self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// `self < other`; false beside a NaN.
    fn less(self, other: Self) -> Self::Mask;

    /// `yes` where the mask is true, else `no`.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
}

/// Work that is compiled for each level. Everything it calls with `F` is marked `#[inline(always)]`: a function of its own
/// would be compiled without the level's instructions.
pub(crate) trait Work {
    /// Does it.
    fn run<F: Floats>(self, token: F::Token);
}

/// Does `work` with the instructions of `level`; the results are the same bits at each.
pub(crate) fn run(level: Level, work: impl Work) {
    match level {
        Level::Scalar => work.run::<Pair>(()),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(token) => x86::avx2::run(token, work),
        // The quantizers' eight floats are 256 bits.
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni(token) => x86::avx2::run(token.avx2(), work),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni(token) => x86::avx2::run(token.avx2(), work),
        // Their vectors of four are the target's own.
        #[cfg(target_arch = "aarch64")]
        Level::Neon(_) | Level::Dotprod(_) | Level::I8mm(_) => work.run::<Pair>(()),
    }
}

/// Two vectors of four, as every CPU has them.
#[derive(Clone, Copy)]
pub(crate) struct Pair([F32x4; 2]);

impl Pair {
    #[inline(always)]
    fn zip(self, other: Pair, f: impl Fn(F32x4, F32x4) -> F32x4) -> Pair {
        Pair([f(self.0[0], other.0[0]), f(self.0[1], other.0[1])])
    }
}

impl Floats for Pair {
    type Token = ();
    type Mask = Pair;

    #[inline(always)]
    fn load(_: (), x: &[f32; 8]) -> Pair {
        let x = x.as_chunks().0;
        Pair([F32x4::load(&x[0]), F32x4::load(&x[1])])
    }

    #[inline(always)]
    fn all(_: (), x: f32) -> Pair {
        Pair([F32x4::all(x); 2])
    }

    #[inline(always)]
    fn get(self) -> [f32; 8] {
        let mut out = [0.0; 8];
        let halves = out.as_chunks_mut().0;
        self.0[0].store(&mut halves[0]);
        self.0[1].store(&mut halves[1]);
        out
    }

    #[inline(always)]
    fn max(self, other: Pair) -> Pair {
        self.zip(other, F32x4::max)
    }

    #[inline(always)]
    fn min(self, other: Pair) -> Pair {
        self.zip(other, F32x4::min)
    }

    #[inline(always)]
    fn sqrt(self) -> Pair {
        Pair([self.0[0].sqrt(), self.0[1].sqrt()])
    }

    #[inline(always)]
    fn less(self, other: Pair) -> Pair {
        self.zip(other, F32x4::less)
    }

    #[inline(always)]
    fn select(mask: Pair, yes: Pair, no: Pair) -> Pair {
        Pair([0, 1].map(|i| F32x4::select(mask.0[i], yes.0[i], no.0[i])))
    }
}

/// Operators of a type from methods or functions of the like.
macro_rules! operators {
    ($($trait:ident, $name:ident, $f:expr;)*) => {$(
        impl $trait for Pair {
            type Output = Pair;

            #[inline(always)]
            fn $name(self, other: Pair) -> Pair {
                self.zip(other, $f)
            }
        }
    )*};
}

operators! {
    Add, add, F32x4::add;
    Sub, sub, F32x4::sub;
    Mul, mul, F32x4::mul;
    Div, div, F32x4::div;
    BitAnd, bitand, F32x4::and;
}
