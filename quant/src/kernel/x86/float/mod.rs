//! Float rows: matrix products of F32, F16 and BF16, and attention over keys and values of one KV head.
//!
//! The algorithms stand here once, over [`Register`]; the folders of the levels bind them to theirs. A dot product is as many
//! fused sums as a register has lanes, lane i over the elements i, i + L, …, added up at the end, whatever tile it is computed
//! in. A weighted sum of rows is one fused chain an element. So a result's bits depend on nothing else in the call.
//!
//! - `tiles`: dot products: matrix products, attention scores.
//! - `rows`: weighted sums of rows.
//! - `q8`: both over int8 rows.
mod q8;
mod rows;
mod tiles;

use half::f16;
use zerocopy::{FromBytes, Immutable, KnownLayout};

pub(super) use q8::{dots_q8, weighted_rows_q8};
pub(super) use rows::weighted_rows;
pub(super) use tiles::{dots, multiply};

/// A register of `L` float32. Only a CPU that has the instructions can make a value.
pub(super) trait Register<const L: usize>: Copy {
    /// Proof that the CPU has the instructions.
    type Token: Copy;

    /// There are 32 of them, not 16.
    const WIDE: bool;

    /// The same float in each lane.
    fn all(token: Self::Token, x: f32) -> Self;

    /// `L` floats.
    ///
    /// # Safety
    /// They are readable, at any alignment.
    unsafe fn load(token: Self::Token, x: *const f32) -> Self;

    /// `L` half-precision numbers.
    ///
    /// # Safety
    /// As for [`Register::load`].
    unsafe fn load_f16(token: Self::Token, x: *const f16) -> Self;

    /// The floats whose upper halves these are.
    ///
    /// # Safety
    /// As for [`Register::load`].
    unsafe fn load_bf16(token: Self::Token, x: *const u16) -> Self;

    /// `L` integers.
    ///
    /// # Safety
    /// As for [`Register::load`].
    unsafe fn load_i8(token: Self::Token, x: *const i8) -> Self;

    /// Writes the lanes.
    fn store(self, out: &mut [f32; L]);

    /// `self · a`.
    fn times(self, a: Self) -> Self;

    /// `self + a·b`, fused.
    fn add_product(self, a: Self, b: Self) -> Self;

    /// The sum of the lanes.
    fn sum(self) -> f32;

    /// The sums of four, each of the bits of [`Register::sum`].
    fn sums(four: [Self; 4]) -> [f32; 4];
}

/// What rows consist of.
pub(super) trait Element: Copy + Default {
    /// `L` of them.
    fn load<R: Register<L>, const L: usize>(token: R::Token, x: &[Self; L]) -> R;
}

/// A float32 of a file, at any alignment.
#[derive(Clone, Copy, Default, FromBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub(super) struct F32([u8; 4]);

/// A half-precision number of a file, at any alignment.
#[derive(Clone, Copy, Default, FromBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub(super) struct F16([u8; 2]);

/// A bfloat16 of a file, at any alignment.
#[derive(Clone, Copy, Default, FromBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub(super) struct Bf16([u8; 2]);

/// Elements and how they are loaded.
macro_rules! elements {
    ($($element:ty: $load:ident;)*) => {$(
        impl Element for $element {
            #[inline(always)]
            fn load<R: Register<L>, const L: usize>(token: R::Token, x: &[$element; L]) -> R {
                // SAFETY: an array of as many, which this CPU, of little end first, keeps as a file does.
                unsafe { R::$load(token, x.as_ptr().cast()) }
            }
        }
    )*};
}

elements! {
    f32: load;
    f16: load_f16;
    i8: load_i8;
    F32: load;
    F16: load_f16;
    Bf16: load_bf16;
}

/// What a level computes with registers `$register` of `$lanes` floats, `$token` being at hand where its instructions are:
/// products with float matrices, and the vector operations over rows.
macro_rules! functions {
    ($token:expr, $features:literal, $register:ty, $lanes:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn mul_f32(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            float::multiply::<$register, float::F32, $lanes>($token, w, acts, out);
        }

        #[target_feature(enable = $features)]
        pub(super) fn mul_f16(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            float::multiply::<$register, float::F16, $lanes>($token, w, acts, out);
        }

        #[target_feature(enable = $features)]
        pub(super) fn mul_bf16(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
            float::multiply::<$register, float::Bf16, $lanes>($token, w, acts, out);
        }

        float::functions!(@rows $token, $features, $register, $lanes: dots_f32 dots f32);
        float::functions!(@rows $token, $features, $register, $lanes: dots_f16 dots f16);
        float::functions!(@rows $token, $features, $register, $lanes: weighted_rows_f32 weighted_rows f32);
        float::functions!(@rows $token, $features, $register, $lanes: weighted_rows_f16 weighted_rows f16);

        #[target_feature(enable = $features)]
        pub(super) fn dots_q8(k: Q8Rows<'_>, q: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
            float::dots_q8::<$register, $lanes>($token, k, q, dim, out, ahead);
        }

        #[target_feature(enable = $features)]
        pub(super) fn weighted_rows_q8(v: Q8Rows<'_>, p: &[f32], dim: usize, out: &mut [f32], ahead: Option<Ahead>) {
            float::weighted_rows_q8::<$register, $lanes>($token, v, p, dim, out, ahead);
        }
    };
    // `x`: vectors, or the weights of rows.
    (@rows $token:expr, $features:literal, $register:ty, $lanes:literal: $name:ident $generic:ident $element:ty) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name(
            rows: &[$element],
            stride: usize,
            x: &[f32],
            dim: usize,
            out: &mut [f32],
            ahead: Option<Ahead>,
        ) {
            float::$generic::<$register, $element, $lanes>($token, rows, stride, x, dim, out, ahead);
        }
    };
}
pub(super) use functions;
