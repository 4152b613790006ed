//! Q4_K, Q5_K, Q6_K times one token: integer sums of eight rows at a time, straight from the blocks.
use std::arch::x86_64::*;

use super::affine::{self, twice};
use super::lanes::{self, *};
use crate::act::ActView;
use crate::block::{Block, BlockQ4K, BlockQ5K, BlockQ6K, SUPER, blocks};
use crate::kernel::x86::prefetch_to;

/// Rows whose sums are reduced together: eight vectors of eight lanes make one of eight totals.
pub(in crate::kernel::x86) const ROWS: usize = 8;

/// One block of a token's row.
pub(in crate::kernel::x86) struct ActBlock<'a> {
    /// The 256 values, 32 at a time.
    pub(in crate::kernel::x86) q: &'a [[i8; 32]; 8],
    /// Sums per 16.
    pub(in crate::kernel::x86) sums: &'a [i16; 16],
}

/// How far ahead weights are asked for, at least: memory has the time to answer.
const AHEAD: usize = 16 << 10;

/// Asks for the weights to come, a few lines with each step of the work: a burst of requests would hold up the loads
/// behind it. The rows after these eight lie right behind them in the file; asked for in that order, they look to the
/// memory like one sequential reader, whatever order the eight are read in. They wait in the second-level cache: the first
/// doesn't hold eight long rows beside the eight at hand. (Choosing by length costs more than it wins.)
pub(in crate::kernel::x86) struct Ahead<'a, B> {
    w: &'a [B],
    /// In bytes from the start of `w`.
    at: usize,
}

impl<B> Ahead<'_, B> {
    /// Asks for `1 / parts` of a block of each row.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::kernel::x86) fn step(&mut self, parts: usize) {
        let bytes = ROWS * size_of::<B>() / parts;
        prefetch_to::<B, _MM_HINT_T1>(self.w, self.at, bytes);
        self.at += bytes;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q4_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    gemv(w, acts, out, |w: [&BlockQ4K; ROWS], a, ahead| {
        affine(w, a, |scales| scaled_dots(w, a, ahead, scales, |w, i| levels_q4_k(w, i)))
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q5_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    gemv(w, acts, out, |w: [&BlockQ5K; ROWS], a, ahead| {
        affine(w, a, |scales| scaled_dots(w, a, ahead, scales, |w, i| levels_q5_k(w, i)))
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn q6_k(w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
    let repeat = Repeat::new();
    gemv(w, acts, out, |w: [&BlockQ6K; ROWS], a, ahead| {
        let sums = load_i16(a.sums);
        let mut dots = [_mm256_setzero_si256(); ROWS];
        for r in 0..ROWS {
            ahead.step(ROWS);
            dots[r] = dot_q6_k(w[r], a, sums, &repeat);
        }
        let d = halves8(w.map(|w| w.d.bits()));
        _mm256_mul_ps(d, _mm256_cvtepi32_ps(sum8_i32(dots)))
    });
}

/// `sum += da · value` block by block, as the scalar definition has it; `value` gives eight rows' at once.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn gemv<B: Block>(
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
    value: impl Fn([&B; ROWS], &ActBlock<'_>, &mut Ahead<'_, B>) -> __m256,
) {
    let per_row = acts.cols() / SUPER;
    let w = blocks::<B>(w);
    let rows = w.len() / per_row;
    let q = &acts.quants(0).as_chunks::<32>().0.as_chunks::<8>().0[..per_row];
    let sums = &acts.sums(0).as_chunks::<16>().0[..per_row];
    let scales = &acts.scales(0)[..per_row];
    let group = ROWS * per_row * size_of::<B>();
    prefetch(w, 0, group);
    for first in (0..rows).step_by(ROWS) {
        let mut ahead = Ahead { w, at: first * per_row * size_of::<B>() + group.max(AHEAD) };
        let w: [&[B]; ROWS] = lanes::rows(w, per_row, first);
        let mut total = _mm256_setzero_ps();
        for b in 0..per_row {
            let a = ActBlock { q: &q[b], sums: &sums[b] };
            // SAFETY: `lanes::rows` gives rows of `per_row` blocks, and b is less.
            let block = |r: usize| unsafe { w[r].get_unchecked(b) };
            let w = [block(0), block(1), block(2), block(3), block(4), block(5), block(6), block(7)];
            total = _mm256_add_ps(total, _mm256_mul_ps(_mm256_set1_ps(scales[b]), value(w, &a, &mut ahead)));
        }
        let mut totals = [0.0; ROWS];
        store_f32(&mut totals, total);
        let n = ROWS.min(rows - first);
        out[first..][..n].copy_from_slice(&totals[..n]);
    }
}

/// `d · Σ scale·(q·a) − dmin · Σ min·(Σ a)` of eight rows. `dots` gives the lanes of the first sum; it gets the scale of each
/// sub-block and row, twice in the 32 bits that a broadcast from memory reads.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel::x86) fn affine<B: Block>(
    w: [&B; ROWS],
    a: &ActBlock<'_>,
    dots: impl FnOnce(&[[i32; ROWS]; 8]) -> [__m256i; ROWS],
) -> __m256 {
    let [units, scale, min, low] = head_words(w.map(head));
    let scales = affine::scales(scale, low);
    let mut pairs = [[0; ROWS]; 8];
    for j in 0..8 {
        store_i32(&mut pairs[j], twice(scales[j / 4], j % 4));
    }
    affine::value(units, min, low, a.sums, sum8_i32(dots(&pairs)))
}

/// The sums of products of a level with `$features`; `$add(sum, x, y)` is `sum + Σ x·y` over the two int16 of each lane. A macro,
/// since a closure with more features than the function that calls it would not be inlined.
macro_rules! scaled_sums {
    ($features:literal, $add:ident) => {
        /// The lanes of Σ scale·(q·a) of eight rows; `levels(w, i)` are a block's values 64·i …, in two vectors.
        #[inline]
        #[target_feature(enable = $features)]
        fn scaled_dots<B>(
            w: [&B; ROWS],
            a: &ActBlock<'_>,
            ahead: &mut Ahead<'_, B>,
            scales: &[[i32; ROWS]; 8],
            levels: impl Fn(&B, usize) -> [__m256i; 2],
        ) -> [__m256i; ROWS] {
            let mut dots = [_mm256_setzero_si256(); ROWS];
            for i in 0..4 {
                ahead.step(4);
                let (a_low, a_high) = (load_i8(&a.q[2 * i]), load_i8(&a.q[2 * i + 1]));
                for r in 0..ROWS {
                    let [low, high] = levels(w[r], i);
                    let (low, high) = (_mm256_maddubs_epi16(low, a_low), _mm256_maddubs_epi16(high, a_high));
                    let dot = $add(dots[r], low, _mm256_set1_epi32(scales[2 * i][r]));
                    dots[r] = $add(dot, high, _mm256_set1_epi32(scales[2 * i + 1][r]));
                }
            }
            dots
        }

        /// The lanes of Σ scale·(q·a). Levels are taken as 0 … 63 and 32 times the scaled sums of the activations subtracted.
        #[inline]
        #[target_feature(enable = $features)]
        fn dot_q6_k(w: &BlockQ6K, a: &ActBlock<'_>, sums: __m256i, repeat: &Repeat) -> __m256i {
            let scales = load_u8_half(zerocopy::transmute_ref!(&w.scales));
            let offset = _mm256_madd_epi16(_mm256_cvtepi8_epi16(scales), sums);
            let mut dot = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32::<5>(offset));
            let scales = _mm256_cvtepi8_epi16(even_odd(scales));
            let (ql, qh) = (w.ql.as_chunks::<32>().0, w.qh.as_chunks::<32>().0);
            for n in 0..2 {
                let levels = levels_q6_k(load_u8(&ql[2 * n]), load_u8(&ql[2 * n + 1]), load_u8(&qh[n]));
                for (i, levels) in levels.into_iter().enumerate() {
                    let j = 4 * n + i;
                    let products = _mm256_maddubs_epi16(levels, load_i8(&a.q[j]));
                    dot = $add(dot, products, repeat.scale(scales, j));
                }
            }
            dot
        }
    };
}
pub(in crate::kernel::x86) use scaled_sums;

scaled_sums!("avx2", add_products);

#[inline]
#[target_feature(enable = "avx2")]
fn add_products(sum: __m256i, x: __m256i, y: __m256i) -> __m256i {
    pin(_mm256_add_epi32(sum, _mm256_madd_epi16(x, y)))
}

/// Shuffles that put the int16 number j of each half in every place of the half.
pub(in crate::kernel::x86) struct Repeat(&'static [[u8; 32]; 8]);

impl Repeat {
    pub(in crate::kernel::x86) fn new() -> Repeat {
        static PLACES: [[u8; 32]; 8] = {
            let mut places = [[0; 32]; 8];
            let mut i = 0;
            while i < 8 * 32 {
                places[i / 32][i % 32] = (2 * (i / 32) + i % 2) as u8;
                i += 1;
            }
            places
        };
        // Hidden from the compiler, which makes two instructions of a shuffle that it knows.
        Repeat(std::hint::black_box(&PLACES))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::kernel::x86) fn scale(&self, scales: __m256i, j: usize) -> __m256i {
        _mm256_shuffle_epi8(scales, load_u8(&self.0[j]))
    }
}

/// The levels 64·i … of a block.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn levels_q4_k(w: &BlockQ4K, i: usize) -> [__m256i; 2] {
    let qs = load_u8(&w.qs.as_chunks().0[i]);
    [low_nibbles(qs), high_nibbles(qs)]
}

/// As `levels_q4_k`.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn levels_q5_k(w: &BlockQ5K, i: usize) -> [__m256i; 2] {
    let (qs, qh) = (load_u8(&w.qs.as_chunks().0[i]), load_u8(&w.qh));
    let (low, high) = (fifth_bit(qh, 2 * i), fifth_bit(qh, 2 * i + 1));
    [_mm256_or_si256(low_nibbles(qs), low), _mm256_or_si256(high_nibbles(qs), high)]
}

/// A vector of 32 values is two sub-blocks of 16: the even scales go to the low half, the odd ones to the high half.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn even_odd(scales: __m128i) -> __m128i {
    _mm_shuffle_epi8(scales, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15))
}

/// The levels 0 … 63 of 128 values, 32 at a time, from their low and high bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::kernel::x86) fn levels_q6_k(low: __m256i, low_next: __m256i, high: __m256i) -> [__m256i; 4] {
    let bits = |high: __m256i| _mm256_and_si256(high, _mm256_set1_epi8(0x30));
    [
        _mm256_or_si256(low_nibbles(low), bits(_mm256_slli_epi16::<4>(high))),
        _mm256_or_si256(low_nibbles(low_next), bits(_mm256_slli_epi16::<2>(high))),
        _mm256_or_si256(high_nibbles(low), bits(high)),
        _mm256_or_si256(high_nibbles(low_next), bits(_mm256_srli_epi16::<2>(high))),
    ]
}
