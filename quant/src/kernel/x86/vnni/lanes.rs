//! The vectors that the algorithm is written over.
use std::ops::{Add, BitAnd, BitOr, BitXor, Mul, Shl, Shr, Sub};

/// Lanes of a vector, each a row.
pub(super) const ROWS: usize = 16;

/// Sixteen lanes of 32 bits: an int32, two int16 or four bytes. Only a CPU that has the instructions can make a value.
///
/// Shifts and products are of int32; `>>` fills with zeros.
pub(in crate::kernel::x86) trait Lanes:
    Copy
    + Add<Output = Self>
    + Mul<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
{
    /// Proof that the CPU has the instructions.
    type Token: Copy;
    /// Sixteen float32. No operation is fused.
    type Floats: Copy + Add<Output = Self::Floats> + Sub<Output = Self::Floats> + Mul<Output = Self::Floats>;
    /// The registers hold two sums of 12 tokens, not of 6.
    const WIDE: bool;

    /// The same int32 in each lane.
    fn all(token: Self::Token, x: i32) -> Self;

    /// `[16 rows][4 words]` → `[4 words][16 rows]`.
    fn words<'a>(token: Self::Token, row: impl Fn(usize) -> &'a [u8; 16]) -> [Self; 4];

    /// A word of the first eight rows, and of the others.
    fn eights(token: Self::Token, low: &[u8; 32], high: &[u8; 32]) -> Self;

    /// `self + Σ w·a` over the four bytes of each lane, those of `w` unsigned and those of `a` signed, without saturation.
    fn dot_bytes(self, w: Self, a: Self) -> Self;

    /// `self + Σ x·y` over the two int16 of each lane, without saturation.
    fn dot_words(self, x: Self, y: Self) -> Self;

    /// Of the table the entries that the bytes, 0 … 15, name.
    fn look_up(self, table: &[i8; 16]) -> Self;

    /// Byte `i` of each lane, as a signed number.
    fn byte(self, i: u32) -> Self;

    /// The int32, rounded to nearest even.
    fn to_floats(self) -> Self::Floats;

    /// The half-precision numbers in the lower and in the upper halves of the lanes.
    fn halves(self) -> (Self::Floats, Self::Floats);

    /// Half-precision numbers.
    fn widen(token: Self::Token, bits: &[u16; ROWS]) -> Self::Floats;

    /// The same float in each lane.
    fn all_floats(token: Self::Token, x: f32) -> Self::Floats;

    /// The floats.
    fn get(x: Self::Floats) -> [f32; ROWS];

    /// The same four bytes in each lane.
    #[inline(always)]
    fn quad(token: Self::Token, [a, b, c, d]: [i8; 4]) -> Self {
        Self::all(token, i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]))
    }

    /// The same two int16 in each lane.
    #[inline(always)]
    fn pair(token: Self::Token, [a, b]: [i16; 2]) -> Self {
        Self::all(token, i32::from(a as u16) | i32::from(b) << 16)
    }
}
