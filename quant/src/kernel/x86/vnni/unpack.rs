//! The formats: where a block's levels and scales lie, for sixteen rows at once.
use super::lanes::{Lanes, ROWS};
use super::panel_small::SmallBlock;
use super::panel_super::{SuperBlock, SuperPanel};
use crate::block::{
    Block, BlockIq4Nl, BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
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
    /// Sets the units and the 6-bit scales and minimums from the 16 bytes that blocks of Q4_K and Q5_K begin with; the
    /// packing is described in block/scales.rs.
    #[inline(always)]
    fn set_affine<B: Block>(&mut self, token: V::Token, rows: [&B; ROWS]) {
        let head = |r: usize| rows[r].as_bytes().first_chunk().expect("a block of more than 16 bytes");
        let [units, scale, min, low] = V::words(token, head);
        (self.d, self.dmin) = units.halves();
        let mask = |m| V::all(token, m);
        for j in 0..4 {
            let (scale, min, low) = (scale >> (8 * j), min >> (8 * j), low >> (8 * j));
            let top = |v: V| v >> 2 & mask(0x30);
            self.scales[j as usize] = scale & mask(63);
            self.mins[j as usize] = both_halves(min & mask(63));
            self.scales[j as usize + 4] = low & mask(15) | top(scale);
            self.mins[j as usize + 4] = both_halves(low >> 4 & mask(15) | top(min));
        }
    }

    /// Sets sixteen signed scales.
    #[inline(always)]
    fn set_signed<'a>(&mut self, token: V::Token, scales: impl Fn(usize) -> &'a [u8; 16]) {
        for (w, words) in V::words(token, scales).into_iter().enumerate() {
            for i in 0..4 {
                self.scales[4 * w + i] = words.byte(i as u32);
            }
        }
    }
}

/// The low int16 of each lane, below 2^16, in both its halves.
#[inline(always)]
fn both_halves<V: Lanes>(v: V) -> V {
    v | v << 16
}

impl SuperBlock for BlockQ4K {
    const SUB: usize = 8;
    /// 15 · 127 · 16 fits int16.
    const RUN: usize = 4;
    const WORDS: bool = true;
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: [&Self; ROWS], panel: &mut SuperPanel<V>) {
        panel.set_affine(token, rows);
        for p in 0..8 {
            let qs = V::words(token, |r| &rows[r].qs.as_chunks().0[p]);
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
    const RUN: usize = 8;
    const WORDS: bool = false;
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: [&Self; ROWS], panel: &mut SuperPanel<V>) {
        panel.set_affine(token, rows);
        for half in 0..2 {
            let qh = V::words(token, |r| &rows[r].qh.as_chunks().0[half]);
            for i in 0..4 {
                let qs = V::words(token, |r| &rows[r].qs.as_chunks().0[2 * i + half]);
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
    const RUN: usize = 4;
    const WORDS: bool = false;
    const ZERO: i32 = 32;
    const MIN: bool = false;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: [&Self; ROWS], panel: &mut SuperPanel<V>) {
        let mut bits = [0; ROWS];
        for r in 0..ROWS {
            bits[r] = rows[r].d.bits();
        }
        panel.d = V::widen(token, &bits);
        panel.set_signed(token, |r| zerocopy::transmute_ref!(&rows[r].scales));
        let high = V::all(token, 0x3030_3030);
        for p in 0..4 {
            // 128 columns take 64 bytes of low bits and 32 of high ones.
            let (n, half) = (p / 2, p % 2);
            let low = V::words(token, |r| &rows[r].ql.as_chunks().0[4 * n + half]);
            let low_next = V::words(token, |r| &rows[r].ql.as_chunks().0[4 * n + 2 + half]);
            let qh = V::words(token, |r| &rows[r].qh.as_chunks().0[p]);
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
    const RUN: usize = 4;
    const WORDS: bool = true;
    const ZERO: i32 = 4;
    const MIN: bool = false;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: [&Self; ROWS], panel: &mut SuperPanel<V>) {
        let (mut bits, mut scales) = ([0; ROWS], [[0; 16]; ROWS]);
        for r in 0..ROWS {
            (bits[r], scales[r]) = (rows[r].d.bits(), rows[r].unpack_scales());
        }
        panel.d = V::widen(token, &bits);
        panel.set_signed(token, |r| zerocopy::transmute_ref!(&scales[r]));
        for scale in &mut panel.scales {
            *scale = *scale & V::all(token, 0xffff);
        }
        for p in 0..4 {
            let (n, half) = (p / 2, p % 2);
            let qs = V::words(token, |r| &rows[r].qs.as_chunks().0[p]);
            let hmask = V::words(token, |r| &rows[r].hmask.as_chunks().0[half]);
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
    const RUN: usize = 4;
    const WORDS: bool = true;
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: [&Self; ROWS], panel: &mut SuperPanel<V>) {
        let (mut d, mut dmin) = ([0; ROWS], [0; ROWS]);
        for r in 0..ROWS {
            (d[r], dmin[r]) = (rows[r].d.bits(), rows[r].dmin.bits());
        }
        (panel.d, panel.dmin) = (V::widen(token, &d), V::widen(token, &dmin));
        for (w, words) in V::words(token, |r| &rows[r].scales).into_iter().enumerate() {
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
            let qs = V::words(token, |r| &rows[r].qs.as_chunks().0[p]);
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
    const RUN: usize = 8;
    const WORDS: bool = false;
    const ZERO: i32 = 128;
    const MIN: bool = false;

    #[inline(always)]
    fn unpack<V: Lanes>(token: V::Token, rows: [&Self; ROWS], panel: &mut SuperPanel<V>) {
        let (mut bits, mut scales) = ([0; ROWS], [[0; 16]; ROWS]);
        for r in 0..ROWS {
            bits[r] = rows[r].d.bits();
            for (out, scale) in scales[r].iter_mut().zip(rows[r].unpack_scales()) {
                *out = scale as u8;
            }
        }
        panel.d = V::widen(token, &bits);
        panel.set_signed(token, |r| &scales[r]);
        for j in 0..8 {
            let qs = V::words(token, |r| &rows[r].qs[j]);
            for k in 0..4 {
                let [low, high] = nibbles(token, qs[k]);
                panel.q[8 * j + k] = low.look_up(&LEVELS);
                panel.q[8 * j + 4 + k] = high.look_up(&LEVELS);
            }
        }
    }
}

/// 32 levels of 4 bits: the low halves of 16 bytes, then the high ones.
#[inline(always)]
fn levels_4_bits<'a, V: Lanes>(token: V::Token, qs: impl Fn(usize) -> &'a [u8; 16]) -> [V; 8] {
    let qs = V::words(token, qs);
    let mut levels = [qs[0]; 8];
    for k in 0..4 {
        [levels[k], levels[k + 4]] = nibbles(token, qs[k]);
    }
    levels
}

/// 32 levels of 5 bits, the fifth ones in `qh`.
#[inline(always)]
fn levels_5_bits<'a, V: Lanes>(
    token: V::Token,
    qs: impl Fn(usize) -> &'a [u8; 16],
    qh: impl Fn(usize) -> [u8; 4],
) -> [V; 8] {
    let mut spread = [[[0; 16]; 2]; ROWS];
    for r in 0..ROWS {
        let bits = u32::from_le_bytes(qh(r));
        for (i, byte) in spread[r].as_flattened_mut().iter_mut().enumerate() {
            *byte = ((bits >> i & 1) << 4) as u8;
        }
    }
    let mut levels = levels_4_bits(token, qs);
    for half in 0..2 {
        let fifth = V::words(token, |r| &spread[r][half]);
        for k in 0..4 {
            levels[4 * half + k] = levels[4 * half + k] | fifth[k];
        }
    }
    levels
}

impl SmallBlock for BlockQ8_0 {
    const ZERO: i32 = 128;
    const MIN: bool = false;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: &[&Self; ROWS]) -> [V; 8] {
        let mut levels = [V::all(token, 0); 8];
        for half in 0..2 {
            let qs = V::words(token, |r| {
                let qs: &[u8; 32] = zerocopy::transmute_ref!(&rows[r].qs);
                &qs.as_chunks().0[half]
            });
            for k in 0..4 {
                // Adds 128 to each byte.
                levels[4 * half + k] = qs[k] ^ V::quad(token, [-128; 4]);
            }
        }
        levels
    }

    #[inline(always)]
    fn unit(&self) -> u16 {
        self.d.bits()
    }
}

impl SmallBlock for BlockIq4Nl {
    const ZERO: i32 = 128;
    const MIN: bool = false;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: &[&Self; ROWS]) -> [V; 8] {
        let mut levels = levels_4_bits::<V>(token, |r| &rows[r].qs);
        for k in 0..8 {
            levels[k] = levels[k].look_up(&LEVELS);
        }
        levels
    }

    #[inline(always)]
    fn unit(&self) -> u16 {
        self.d.bits()
    }
}

impl SmallBlock for BlockQ4_0 {
    const ZERO: i32 = 8;
    const MIN: bool = false;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: &[&Self; ROWS]) -> [V; 8] {
        levels_4_bits(token, |r| &rows[r].qs)
    }

    #[inline(always)]
    fn unit(&self) -> u16 {
        self.d.bits()
    }
}

impl SmallBlock for BlockQ4_1 {
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: &[&Self; ROWS]) -> [V; 8] {
        levels_4_bits(token, |r| &rows[r].qs)
    }

    #[inline(always)]
    fn unit(&self) -> u16 {
        self.d.bits()
    }

    #[inline(always)]
    fn min(&self) -> u16 {
        self.m.bits()
    }
}

impl SmallBlock for BlockQ5_0 {
    const ZERO: i32 = 16;
    const MIN: bool = false;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: &[&Self; ROWS]) -> [V; 8] {
        levels_5_bits(token, |r| &rows[r].qs, |r| rows[r].qh)
    }

    #[inline(always)]
    fn unit(&self) -> u16 {
        self.d.bits()
    }
}

impl SmallBlock for BlockQ5_1 {
    const ZERO: i32 = 0;
    const MIN: bool = true;

    #[inline(always)]
    fn levels<V: Lanes>(token: V::Token, rows: &[&Self; ROWS]) -> [V; 8] {
        levels_5_bits(token, |r| &rows[r].qs, |r| rows[r].qh)
    }

    #[inline(always)]
    fn unit(&self) -> u16 {
        self.d.bits()
    }

    #[inline(always)]
    fn min(&self) -> u16 {
        self.m.bits()
    }
}
