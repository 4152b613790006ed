//! x86-64. Each level has a token that only its detection makes.
use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

use super::Ahead;

pub(super) mod avx2;
pub(super) mod avx512;
pub(super) mod avxvnni;
mod float;
mod groups;
pub(super) mod sse2;
pub(super) mod vnni;

/// Proof that this CPU has AVX2, FMA and F16C, and its system keeps their registers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The token, where the CPU has these instructions.
    pub(super) fn detect() -> Option<Avx2> {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        has.then_some(Avx2(()))
    }
}

/// Proof that this CPU has AVX-VNNI too: int8 dot products in 256-bit registers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AvxVnni(Avx2);

impl AvxVnni {
    /// The token, where the CPU has these instructions.
    pub(super) fn detect(avx2: Avx2) -> Option<AvxVnni> {
        is_x86_feature_detected!("avxvnni").then_some(AvxVnni(avx2))
    }

    /// What it includes.
    pub(super) fn avx2(self) -> Avx2 {
        self.0
    }
}

/// Proof that this CPU has AVX-512 F, BW, DQ, VL and VNNI too, and its system keeps their registers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Avx512Vnni(Avx2);

impl Avx512Vnni {
    /// The token, where the CPU has these instructions.
    pub(super) fn detect(avx2: Avx2) -> Option<Avx512Vnni> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        has.then_some(Avx512Vnni(avx2))
    }

    /// What it includes.
    pub(super) fn avx2(self) -> Avx2 {
        self.0
    }
}

/// Asks for the cache lines of `len` bytes that lie `offset` bytes after the start of `w`, within it or beyond.
#[inline(always)]
fn prefetch<B>(w: &[B], offset: usize, len: usize) {
    prefetch_to::<B, _MM_HINT_T0>(w, offset, len);
}

/// As [`prefetch`], into the cache that the hint names.
#[inline(always)]
fn prefetch_to<B, const HINT: i32>(w: &[B], offset: usize, len: usize) {
    ask::<HINT>(Ahead::of(w).skip(offset), len);
}

/// Asks for `len` bytes at `ahead`, into the cache that the hint names.
#[inline(always)]
fn ask<const HINT: i32>(ahead: Ahead, len: usize) {
    for line in (0..len).step_by(64) {
        // SAFETY: a hint: no address faults. (Newer compilers know.)
        #[allow(unused_unsafe)]
        unsafe {
            _mm_prefetch::<HINT>(ahead.skip(line).address().cast());
        }
    }
}

/// What a kernel asks for while it reads other rows: with each step as many bytes as it reads, so that all that it does not
/// ask for itself streams at the speed of its arithmetic. They go to the second-level cache: rows that are at work fill the
/// first.
#[derive(Clone, Copy)]
struct Stream(Option<Ahead>);

impl Stream {
    /// From `bytes` after the start on.
    #[inline(always)]
    fn skip(self, bytes: usize) -> Stream {
        Stream(self.0.map(|ahead| ahead.skip(bytes)))
    }

    /// Asks for the next `len` bytes.
    #[inline(always)]
    fn next(&mut self, len: usize) {
        if let Some(ahead) = &mut self.0 {
            ask::<_MM_HINT_T1>(*ahead, len);
            *ahead = ahead.skip(len);
        }
    }
}
