//! The formats: where a block's levels and scales lie, for sixteen rows at once. Words are those of 32 bits that a block is made of.
use super::lanes::Lanes;
use super::panel_small::SmallBlock;
use super::panel_super::{SuperBlock, SuperPanel};
use super::source::Source;
use crate::block::{
    BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, NON_LINEAR,
};

/// The levels of IQ4_NL and IQ4_XS with 128 added.
const LEVELS: [i8; 16] = {
    let mut levels = NON_LINEAR;
    let mut i = 0;
    while i < 16 {
        levels[i] ^= -128;
        i += 1;
    }
    levels
};

/// The low halves of the bytes, and the high ones.
#[inline(always)]
fn nibbles<V: Lanes>(token: V::Token, qs: V) -> [V; 2] {
    let low = V::all(token, 0x0f0f_0f0f);
    [qs & low, qs >> 4 & low]
}

/// Bit `j` of each byte, moved to bit `to`.
#[inline(always)]
fn bit<V: Lanes>(token: V::Token, v: V, j: u32, to: u32) -> V {
    (v >> j & V::all(token, 0x0101_0101)) << to
}

impl<V: Lanes> SuperPanel<V> {
    /// Sets the units and the 6-bit scales and minimums from the four words that blocks of Q4_K and Q5_K begin with; the packing
    /// is described in block/scales.rs.
    #[inline(always)]
    fn set_affine(&mut self, token: V::Token, [units, scale, min, low]: [V; 4]) {
        (self.d, self.dmin) = units.halves();
        let mask = |m| V::all(token, m);
        let mut mins = [min; 8];
        for j in 0..4 {
            let (scale, min, low) = (scale >> (8 * j), min >> (8 * j), low >> (8 * j));
            let top = |v: V| v >> 2 & mask(0x30);
            self.scales[j as usize] = scale & mask(63);
            mins[j as usize] = min & mask(63);
            self.scales[j as usize + 4] = low & mask(15) | top(scale);
            mins[j as usize + 4] = low >> 4 & mask(15) | top(min);
        }
        for p in 0..4 {
            self.mins[p] = mins[2 * p] | mins[2 * p + 1] << 16;
        }
    }

    /// Sets sixteen signed scales, one a byte, from words with `zero` added to each of them.
    #[inline(always)]
    fn set_signed(&mut self, token: V::Token, scales: [V; 4], zero: i32) {
        for (w, words) in scales.into_iter().enumerate() {
            for i in 0..4 {
                let scale = words.byte(i as u32);
                self.scales[4 * w + i] = if zero == 0 { scale } else { scale + V::all(token, -zero) };
            }
        }
    }
}

impl SuperBlock for BlockQ4K {
    const SUB: usize = 8;
    const WORDS: bool = false;
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize, panel: &mut SuperPanel<V>) {
        panel.set_affine(token, rows.words(token, b, 0));
        for p in 0..8 {
            let qs = rows.words(token, b, 4 + 4 * p);
            for k in 0..4 {
                // 64 columns take 32 bytes.
                let g = 16 * (p / 2) + 4 * (p % 2) + k;
                [panel.q[g], panel.q[g + 8]] = nibbles(token, qs[k]);
            }
        }
    }
}

impl SuperBlock for BlockQ5K {
    const SUB: usize = 8;
    const WORDS: bool = false;
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize, panel: &mut SuperPanel<V>) {
        panel.set_affine(token, rows.words(token, b, 0));
        for half in 0..2 {
            let qh = rows.words(token, b, 4 + 4 * half);
            for i in 0..4 {
                let qs = rows.words(token, b, 12 + 8 * i + 4 * half);
                for k in 0..4 {
                    let g = 16 * i + 4 * half + k;
                    let [low, high] = nibbles(token, qs[k]);
                    panel.q[g] = low | bit(token, qh[k], 2 * i as u32, 4);
                    panel.q[g + 8] = high | bit(token, qh[k], 2 * i as u32 + 1, 4);
                }
            }
        }
    }
}

impl SuperBlock for BlockQ6K {
    const SUB: usize = 4;
    const WORDS: bool = false;
    const ZERO: i32 = 32;
    const MIN: bool = false;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize, panel: &mut SuperPanel<V>) {
        panel.d = rows.half(token, b);
        panel.set_signed(token, rows.words(token, b, 48), 0);
        let high = V::all(token, 0x3030_3030);
        for p in 0..4 {
            // 128 columns take 16 words of low bits and 8 of high ones.
            let (n, half) = (p / 2, p % 2);
            let low = rows.words(token, b, 16 * n + 4 * half);
            let low_next = rows.words(token, b, 16 * n + 8 + 4 * half);
            let qh = rows.words(token, b, 32 + 4 * p);
            for k in 0..4 {
                let g = 32 * n + 4 * half + k;
                let ([a, c], [b, d]) = (nibbles(token, low[k]), nibbles(token, low_next[k]));
                panel.q[g] = a | qh[k] << 4 & high;
                panel.q[g + 8] = b | qh[k] << 2 & high;
                panel.q[g + 16] = c | qh[k] & high;
                panel.q[g + 24] = d | qh[k] >> 2 & high;
            }
        }
    }
}

impl SuperBlock for BlockQ3K {
    const SUB: usize = 4;
    /// 4 · 127 · 16 fits int16.
    const WORDS: bool = true;
    const ZERO: i32 = 4;
    const MIN: bool = false;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize, panel: &mut SuperPanel<V>) {
        panel.d = rows.half(token, b);
        // Four low bits of each scale in two words, two high ones in the third; 32 added.
        let [_, low, low_next, high] = rows.words(token, b, 23);
        let high = |j: u32| (high >> (2 * j) & V::all(token, 0x0303_0303)) << 4;
        let ([s0, s2], [s1, s3]) = (nibbles(token, low), nibbles(token, low_next));
        panel.set_signed(token, [s0 | high(0), s1 | high(1), s2 | high(2), s3 | high(3)], 32);
        for scale in &mut panel.scales {
            *scale = *scale & V::all(token, 0xffff);
        }
        for p in 0..4 {
            let (n, half) = (p / 2, p % 2);
            let qs = rows.words(token, b, 8 + 4 * p);
            let hmask = rows.words(token, b, 4 * half);
            for k in 0..4 {
                for i in 0..4 {
                    let low = qs[k] >> (2 * i) & V::all(token, 0x0303_0303);
                    let g = 32 * n + 8 * i as usize + 4 * half + k;
                    panel.q[g] = low | bit(token, hmask[k], 4 * n as u32 + i, 2);
                }
            }
        }
    }
}

impl SuperBlock for BlockQ2K {
    const SUB: usize = 4;
    /// 3 · 127 · 16 fits int16.
    const WORDS: bool = true;
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize, panel: &mut SuperPanel<V>) {
        // The last word.
        (panel.d, panel.dmin) = rows.words(token, b, 17)[3].halves();
        for (w, words) in rows.words(token, b, 0).into_iter().enumerate() {
            let nibble = |at: u32| words >> at & V::all(token, 15);
            for i in 0..4 {
                panel.scales[4 * w + i] = nibble(8 * i as u32);
            }
            for i in 0..2 {
                let at = 16 * i as u32;
                panel.mins[2 * w + i] = nibble(at + 4) | nibble(at + 12) << 16;
            }
        }
        for p in 0..4 {
            let qs = rows.words(token, b, 4 + 4 * p);
            for k in 0..4 {
                for i in 0..4 {
                    let g = 32 * (p / 2) + 8 * i as usize + 4 * (p % 2) + k;
                    panel.q[g] = qs[k] >> (2 * i) & V::all(token, 0x0303_0303);
                }
            }
        }
    }
}

impl SuperBlock for BlockIq4Xs {
    const SUB: usize = 8;
    const WORDS: bool = false;
    const ZERO: i32 = 128;
    const MIN: bool = false;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize, panel: &mut SuperPanel<V>) {
        // The unit and two high bits of each scale; four low ones. 32 is added.
        let [head, low, ..] = rows.words(token, b, 0);
        panel.d = head.halves().0;
        for j in 0..8 {
            let (low, high) = (low >> (4 * j) & V::all(token, 15), head >> (16 + 2 * j) & V::all(token, 3));
            panel.scales[j as usize] = (low | high << 4) + V::all(token, -32);
        }
        for j in 0..8 {
            let qs = rows.words(token, b, 2 + 4 * j);
            for k in 0..4 {
                let [low, high] = nibbles(token, qs[k]);
                panel.q[8 * j + k] = low.look_up(&LEVELS);
                panel.q[8 * j + 4 + k] = high.look_up(&LEVELS);
            }
        }
    }
}

/// 32 levels of 4 bits: the low halves of four words, then the high ones.
#[inline(always)]
fn levels_4_bits<V: Lanes>(token: V::Token, qs: [V; 4]) -> [V; 8] {
    let mut levels = [qs[0]; 8];
    for k in 0..4 {
        [levels[k], levels[k + 4]] = nibbles(token, qs[k]);
    }
    levels
}

/// 32 levels of 5 bits, the fifth ones in `qh`.
#[inline(always)]
fn levels_5_bits<V: Lanes>(token: V::Token, qs: [V; 4], qh: V) -> [V; 8] {
    let mut levels = levels_4_bits(token, qs);
    for (k, level) in levels.iter_mut().enumerate() {
        // Bit i of four to byte i: the product has it there, and no other bit meets it.
        let four = qh >> (4 * k as u32) & V::all(token, 15);
        *level = *level | ((four * V::all(token, 0x0020_4081)) & V::all(token, 0x0101_0101)) << 4;
    }
    levels
}

impl SmallBlock for BlockQ8_0 {
    const ZERO: i32 = 128;
    const MIN: bool = false;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize) -> [V; 8] {
        let mut levels = [V::all(token, 0); 8];
        for half in 0..2 {
            let qs = rows.words(token, b, 4 * half);
            for k in 0..4 {
                // Adds 128 to each byte.
                levels[4 * half + k] = qs[k] ^ V::quad(token, [-128; 4]);
            }
        }
        levels
    }
}

impl SmallBlock for BlockIq4Nl {
    const ZERO: i32 = 128;
    const MIN: bool = false;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize) -> [V; 8] {
        let mut levels = levels_4_bits(token, rows.words(token, b, 0));
        for level in &mut levels {
            *level = level.look_up(&LEVELS);
        }
        levels
    }
}

impl SmallBlock for BlockQ4_0 {
    const ZERO: i32 = 8;
    const MIN: bool = false;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize) -> [V; 8] {
        levels_4_bits(token, rows.words(token, b, 0))
    }
}

impl SmallBlock for BlockQ4_1 {
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize) -> [V; 8] {
        levels_4_bits(token, rows.words(token, b, 1))
    }
}

impl SmallBlock for BlockQ5_0 {
    const ZERO: i32 = 16;
    const MIN: bool = false;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize) -> [V; 8] {
        levels_5_bits(token, rows.words(token, b, 1), rows.words(token, b, 0)[0])
    }
}

impl SmallBlock for BlockQ5_1 {
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: impl Source<V>, b: usize) -> [V; 8] {
        levels_5_bits(token, rows.words(token, b, 2), rows.words(token, b, 0)[1])
    }
}
