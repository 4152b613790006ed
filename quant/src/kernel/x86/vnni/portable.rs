//! The algorithm on arrays: what it computes without any instruction of its own, against the scalar definition.
use std::array::from_fn;
use std::ops::{Add, BitAnd, BitOr, BitXor, Mul, Shl, Shr, Sub};

use half::f16;

use super::lanes::{Lanes, ROWS};
use super::panel::Panel;
use super::{SmallPanel, SuperPanel, multiply, multiply_interleaved};
use crate::act::{ActKind, ActView};
use crate::block::{
    Block, BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0,
};
use crate::dtype::DType;
use crate::kernel::{Kernel, Level, RowLayout, Run};

/// Sixteen lanes; `WIDE` as in [`Lanes::WIDE`].
#[derive(Clone, Copy)]
struct Array<const WIDE: bool>([i32; ROWS]);

#[derive(Clone, Copy)]
struct Floats([f32; ROWS]);

macro_rules! operators {
    ($($trait:ident $name:ident $f:expr;)*) => {$(
        impl<const WIDE: bool> $trait for Array<WIDE> {
            type Output = Self;

            fn $name(self, other: Self) -> Self {
                let f: fn(i32, i32) -> i32 = $f;
                Array(from_fn(|r| f(self.0[r], other.0[r])))
            }
        }
    )*};
}

operators! {
    // As in the tests' build: an overflow is a panic, since the sums of a block must fit.
    Add add |a, b| a + b;
    Mul mul |a, b| a * b;
    BitAnd bitand |a, b| a & b;
    BitOr bitor |a, b| a | b;
    BitXor bitxor |a, b| a ^ b;
}

impl<const WIDE: bool> Shl<u32> for Array<WIDE> {
    type Output = Self;

    fn shl(self, n: u32) -> Self {
        Array(self.0.map(|x| x << n))
    }
}

impl<const WIDE: bool> Shr<u32> for Array<WIDE> {
    type Output = Self;

    fn shr(self, n: u32) -> Self {
        Array(self.0.map(|x| (x as u32 >> n) as i32))
    }
}

macro_rules! float_operators {
    ($($trait:ident $name:ident $f:expr;)*) => {$(
        impl $trait for Floats {
            type Output = Self;

            fn $name(self, other: Self) -> Self {
                let f: fn(f32, f32) -> f32 = $f;
                Floats(from_fn(|r| f(self.0[r], other.0[r])))
            }
        }
    )*};
}

float_operators! {
    Add add |a, b| a + b;
    Sub sub |a, b| a - b;
    Mul mul |a, b| a * b;
}

impl<const WIDE: bool> Lanes for Array<WIDE> {
    type Token = ();
    type Floats = Floats;
    const WIDE: bool = WIDE;

    fn all(_: (), x: i32) -> Self {
        Array([x; ROWS])
    }

    fn words<'a>(_: (), row: impl Fn(usize) -> &'a [u8; 16]) -> [Self; 4] {
        from_fn(|k| Array(from_fn(|r| i32::from_le_bytes(row(r).as_chunks().0[k]))))
    }

    fn eights(_: (), low: &[u8; 32], high: &[u8; 32]) -> Self {
        let (low, high) = (low.as_chunks().0, high.as_chunks().0);
        Array(from_fn(|r| i32::from_le_bytes(if r < 8 { low[r] } else { high[r - 8] })))
    }

    fn dot_bytes(self, w: Self, a: Self) -> Self {
        let dot = |w: i32, a: i32| -> i32 {
            w.to_le_bytes().into_iter().zip(a.to_le_bytes()).map(|(w, a)| i32::from(w) * i32::from(a as i8)).sum()
        };
        Array(from_fn(|r| self.0[r] + dot(w.0[r], a.0[r])))
    }

    fn dot_words(self, x: Self, y: Self) -> Self {
        let halves = |v: i32| [v as i16, (v >> 16) as i16].map(i32::from);
        Array(from_fn(|r| {
            let ([a, b], [c, d]) = (halves(x.0[r]), halves(y.0[r]));
            self.0[r] + a * c + b * d
        }))
    }

    fn look_up(self, table: &[i8; 16]) -> Self {
        Array(self.0.map(|x| i32::from_le_bytes(x.to_le_bytes().map(|i| table[usize::from(i)] as u8))))
    }

    fn byte(self, i: u32) -> Self {
        Array(self.0.map(|x| i32::from((x >> (8 * i)) as i8)))
    }

    fn to_floats(self) -> Floats {
        Floats(self.0.map(|x| x as f32))
    }

    fn halves(self) -> (Floats, Floats) {
        let widen = |x: i32| f16::from_bits(x as u16).to_f32();
        (Floats(self.0.map(widen)), Floats(self.0.map(|x| widen(x >> 16))))
    }

    fn widen(_: (), bits: &[u16; ROWS]) -> Floats {
        Floats(bits.map(|bits| f16::from_bits(bits).to_f32()))
    }

    fn all_floats(_: (), x: f32) -> Floats {
        Floats([x; ROWS])
    }

    fn get(x: Floats) -> [f32; ROWS] {
        x.0
    }
}

/// The products of every format in both sizes of tiles.
pub(in crate::kernel) fn kernels() -> Vec<Kernel> {
    let mut kernels = of::<false>();
    kernels.extend(of::<true>());
    kernels.extend(of_interleaved::<false>());
    kernels.extend(of_interleaved::<true>());
    kernels
}

fn of_interleaved<const WIDE: bool>() -> [Kernel; 4] {
    let layout = RowLayout::Interleaved;
    let kernel = |name, weight, act, run: Run| Kernel { name, weight, act, level: Level::Scalar, layout, run };
    [
        kernel("panels of Q4_K, interleaved", DType::Q4K, ActKind::Q8x256, |w, acts, out| {
            multiply_interleaved::<Array<WIDE>, BlockQ4K, Super<WIDE>, 36>((), w, acts, out);
        }),
        kernel("panels of Q5_K, interleaved", DType::Q5K, ActKind::Q8x256, |w, acts, out| {
            multiply_interleaved::<Array<WIDE>, BlockQ5K, Super<WIDE>, 44>((), w, acts, out);
        }),
        kernel("panels of Q6_K, interleaved", DType::Q6K, ActKind::Q8x256, |w, acts, out| {
            multiply_interleaved::<Array<WIDE>, BlockQ6K, Super<WIDE>, 52>((), w, acts, out);
        }),
        kernel("panels of Q8_0, interleaved", DType::Q8_0, ActKind::Q8x32, |w, acts, out| {
            multiply_interleaved::<Array<WIDE>, BlockQ8_0, Small<WIDE>, 8>((), w, acts, out);
        }),
    ]
}

fn of<const WIDE: bool>() -> Vec<Kernel> {
    let kernel =
        |name, weight, act, run: Run| Kernel { name, weight, act, level: Level::Scalar, layout: RowLayout::Plain, run };
    vec![
        kernel("panels of Q4_K", DType::Q4K, ActKind::Q8x256, product::<WIDE, BlockQ4K, Super<WIDE>>),
        kernel("panels of Q5_K", DType::Q5K, ActKind::Q8x256, product::<WIDE, BlockQ5K, Super<WIDE>>),
        kernel("panels of Q6_K", DType::Q6K, ActKind::Q8x256, product::<WIDE, BlockQ6K, Super<WIDE>>),
        kernel("panels of Q3_K", DType::Q3K, ActKind::Q8x256, product::<WIDE, BlockQ3K, Super<WIDE>>),
        kernel("panels of Q2_K", DType::Q2K, ActKind::Q8x256, product::<WIDE, BlockQ2K, Super<WIDE>>),
        kernel("panels of IQ4_XS", DType::IQ4XS, ActKind::Q8x256, product::<WIDE, BlockIq4Xs, Super<WIDE>>),
        kernel("panels of Q8_0", DType::Q8_0, ActKind::Q8x32, product::<WIDE, BlockQ8_0, Small<WIDE>>),
        kernel("panels of Q4_0", DType::Q4_0, ActKind::Q8x32, product::<WIDE, BlockQ4_0, Small<WIDE>>),
        kernel("panels of Q4_1", DType::Q4_1, ActKind::Q8x32, product::<WIDE, BlockQ4_1, Small<WIDE>>),
        kernel("panels of Q5_0", DType::Q5_0, ActKind::Q8x32, product::<WIDE, BlockQ5_0, Small<WIDE>>),
        kernel("panels of Q5_1", DType::Q5_1, ActKind::Q8x32, product::<WIDE, BlockQ5_1, Small<WIDE>>),
        kernel("panels of IQ4_NL", DType::IQ4NL, ActKind::Q8x32, product::<WIDE, BlockIq4Nl, Small<WIDE>>),
    ]
}

type Super<const WIDE: bool> = SuperPanel<Array<WIDE>>;
type Small<const WIDE: bool> = SmallPanel<Array<WIDE>>;

fn product<const WIDE: bool, B: Block + Copy, P: Panel<Array<WIDE>, B>>(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    multiply::<Array<WIDE>, B, P>((), w, acts, out);
}
