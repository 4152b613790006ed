//! The KV cache: keys and values of all positions so far, `[ranges, layers, keys and values, kv_heads, RANGE, head_dim]`. A
//! head's keys of a range lie in one run, to be streamed; the ranges of all layers lie together, so that huge pages fill up
//! as the context does. The memory is reserved at once and committed as positions are written.
mod rows;

use half::f16;
use memmap2::MmapMut;
use qwren_quant::kernel::{Ahead, Q8_BLOCK, Q8Rows, Q8RowsMut};
use std::ops::Range;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Positions that lie together.
pub const RANGE: usize = 512;

/// How the elements of a cache are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvType {
    /// 32-bit floats: exact, twice the memory.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers with a 16-bit scale per 32: about half the memory.
    Q8_0,
}

impl KvType {
    /// All types, the most exact first.
    pub const ALL: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Q8_0];

    /// Bytes of `elements` elements, whole heads of them.
    pub const fn bytes(self, elements: u64) -> u64 {
        match self {
            KvType::F32 => elements.saturating_mul(4),
            KvType::F16 => elements.saturating_mul(2),
            KvType::Q8_0 => elements.saturating_add(elements / Q8_BLOCK as u64 * 2),
        }
    }

    /// Bytes of a head's elements and of their scales at one position.
    const fn widths(self, head_dim: usize) -> [usize; 2] {
        match self {
            KvType::F32 => [4 * head_dim, 0],
            KvType::F16 => [2 * head_dim, 0],
            KvType::Q8_0 => [head_dim, head_dim / Q8_BLOCK * 2],
        }
    }

    /// Whether heads of `head_dim` elements can be stored: whole blocks.
    pub const fn fits(self, head_dim: usize) -> bool {
        match self {
            KvType::F32 | KvType::F16 => true,
            KvType::Q8_0 => head_dim.is_multiple_of(Q8_BLOCK),
        }
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<KvType> {
        KvType::ALL.into_iter().find(|t| t.name() == name)
    }
}

/// One head's keys or values in a range, `[RANGE, head_dim]`.
#[derive(Clone, Copy)]
pub enum Head<'a> {
    /// 32-bit.
    F32(&'a [f32]),
    /// 16-bit.
    F16(&'a [f16]),
    /// 8-bit.
    Q8(Q8Rows<'a>),
}

impl Head<'_> {
    /// The elements from position `position` of the range on, to be asked for.
    pub fn ahead(self, position: usize, head_dim: usize) -> Ahead {
        let at = position * head_dim;
        match self {
            Head::F32(x) => Ahead::of(&x[at..]),
            Head::F16(x) => Ahead::of(&x[at..]),
            Head::Q8(x) => Ahead::of(&x.q[at..]),
        }
    }
}

/// One head's keys or values in a range, to be written.
pub enum HeadMut<'a> {
    /// 32-bit.
    F32(&'a mut [f32]),
    /// 16-bit.
    F16(&'a mut [f16]),
    /// 8-bit.
    Q8(Q8RowsMut<'a>),
}

/// The whole cache.
pub struct KvCache {
    map: MmapMut,
    shape: Shape,
}

/// Where things lie.
#[derive(Clone, Copy)]
struct Shape {
    layers: usize,
    kv_heads: usize,
    ctx: usize,
    head_dim: usize,
    type_k: KvType,
    type_v: KvType,
}

/// Planes begin on cache lines.
const ALIGN: usize = 64;

impl Shape {
    /// Positions in a range: fewer in the last one.
    fn positions(&self, range: usize) -> usize {
        RANGE.min(self.ctx - range * RANGE)
    }

    /// Bytes of a layer's keys and of its values at `positions` positions; none when they are more than there are.
    fn planes(&self, positions: usize) -> Option<[usize; 2]> {
        let elements = self.kv_heads.checked_mul(self.head_dim)?.checked_mul(positions)? as u64;
        let bytes = |kind: KvType| usize::try_from(kind.bytes(elements)).ok()?.checked_next_multiple_of(ALIGN);
        Some([bytes(self.type_k)?, bytes(self.type_v)?])
    }

    /// Bytes of all layers at `positions` positions.
    fn slab(&self, positions: usize) -> Option<usize> {
        let [k, v] = self.planes(positions)?;
        k.checked_add(v)?.checked_mul(self.layers)
    }

    fn bytes(&self) -> Option<usize> {
        let (full, rest) = (self.ctx / RANGE, self.ctx % RANGE);
        self.slab(RANGE)?.checked_mul(full)?.checked_add(self.slab(rest)?)
    }

    /// A layer's keys and its values in a range, in the map.
    fn spans(&self, layer: usize, range: usize) -> [Range<usize>; 2] {
        // `bytes` has computed larger numbers.
        let [k, v] = self.planes(self.positions(range)).unwrap_or_default();
        let start = self.slab(RANGE).unwrap_or_default() * range + (k + v) * layer;
        [start..start + k, start + k..start + k + v]
    }

    /// Where the first `n` positions lie, in ascending order: in each range, for each layer, its keys and then its values, a run
    /// of elements for each head, then a run of scales for each head if there are such. With the range's number.
    fn runs(self, n: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let planes = move |range: usize| {
            (0..self.layers).flat_map(move |layer| {
                let [k, v] = self.spans(layer, range);
                [(self.type_k, k.start), (self.type_v, v.start)]
            })
        };
        (0..n.div_ceil(RANGE)).flat_map(move |range| {
            let (room, used) = (self.positions(range), RANGE.min(n - range * RANGE));
            planes(range).flat_map(move |(kind, start)| {
                let [elements, scales] = kind.widths(self.head_dim);
                let all_elements = self.kv_heads * room * elements;
                let parts = [(start, elements), (start + all_elements, scales)].into_iter().filter(|part| part.1 > 0);
                parts.flat_map(move |(start, width)| {
                    (0..self.kv_heads).map(move |head| {
                        let at = start + head * room * width;
                        (range, at..at + used * width)
                    })
                })
            })
        })
    }
}

impl KvCache {
    /// Room for `ctx` positions in each of `layers` layers.
    ///
    /// # Errors
    /// When the system refuses so much memory.
    pub fn new(
        layers: usize,
        kv_heads: usize,
        ctx: usize,
        head_dim: usize,
        type_k: KvType,
        type_v: KvType,
    ) -> std::io::Result<KvCache> {
        let shape = Shape { layers, kv_heads, ctx, head_dim, type_k, type_v };
        let bytes = shape.bytes().filter(|&n| n > 0).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let map = MmapMut::map_anon(bytes)?;
        // From the second range on: a short conversation should not have to fill the first pages of every head. A wish:
        // without it the cache is as large, and slower.
        #[cfg(target_os = "linux")]
        if let Some(first) = shape.slab(RANGE).filter(|&first| first < bytes) {
            let _ = map.advise_range(memmap2::Advice::HugePage, first, bytes - first);
        }
        Ok(KvCache { map, shape })
    }

    /// The bytes of the first `n` positions in runs, always in the same order, each with the number of its range.
    ///
    /// # Panics
    /// When there are not so many positions.
    pub fn prefix(&self, n: usize) -> impl Iterator<Item = (usize, &[u8])> {
        self.shape.runs(n).map(|(range, run)| (range, &self.map[run]))
    }

    /// As [`KvCache::prefix`], to be written.
    ///
    /// # Panics
    /// As [`KvCache::prefix`].
    pub fn prefix_mut(&mut self, n: usize) -> impl Iterator<Item = (usize, &mut [u8])> {
        let (mut rest, mut at) = (&mut self.map[..], 0);
        self.shape.runs(n).map(move |(range, run)| {
            let (bytes, later) = std::mem::take(&mut rest)[run.start - at..].split_at_mut(run.len());
            (rest, at) = (later, run.end);
            (range, bytes)
        })
    }

    /// Bytes of a position in all layers.
    pub fn position_bytes(&self) -> usize {
        let Shape { layers, kv_heads, head_dim, type_k, type_v, .. } = self.shape;
        layers * kv_heads * [type_k, type_v].iter().flat_map(|kind| kind.widths(head_dim)).sum::<usize>()
    }

    /// Heads of keys and values in a layer.
    pub fn heads(&self) -> usize {
        self.shape.kv_heads
    }

    /// The keys of a head in a layer at the positions `range * RANGE …`, after RoPE.
    ///
    /// # Panics
    /// When there is no such layer, head or range.
    pub fn keys(&self, layer: usize, head: usize, range: usize) -> Head<'_> {
        let [span, _] = self.shape.spans(layer, range);
        self.head(self.shape.type_k, span, head, range)
    }

    /// The values, as [`KvCache::keys`].
    ///
    /// # Panics
    /// As [`KvCache::keys`].
    pub fn values(&self, layer: usize, head: usize, range: usize) -> Head<'_> {
        let [_, span] = self.shape.spans(layer, range);
        self.head(self.shape.type_v, span, head, range)
    }

    fn head(&self, kind: KvType, span: Range<usize>, head: usize, range: usize) -> Head<'_> {
        let (bytes, len) = (&self.map[span], self.shape.positions(range) * self.shape.head_dim);
        let all = len * self.shape.kv_heads;
        match kind {
            KvType::F32 => Head::F32(&elements(&bytes[..4 * all])[head * len..][..len]),
            KvType::F16 => Head::F16(&elements(&bytes[..2 * all])[head * len..][..len]),
            KvType::Q8_0 => {
                let (q, scales) = bytes.split_at(all);
                let (scales, per_head) = (elements(&scales[..all / Q8_BLOCK * 2]), len / Q8_BLOCK);
                Head::Q8(Q8Rows {
                    q: &elements(q)[head * len..][..len],
                    scales: &scales[head * per_head..][..per_head],
                })
            }
        }
    }

    /// The keys and values of all heads in a layer and a range, to be written.
    ///
    /// # Panics
    /// When there is no such layer or range.
    pub fn heads_mut(&mut self, layer: usize, range: usize) -> impl Iterator<Item = (HeadMut<'_>, HeadMut<'_>)> {
        let (shape, [k, v]) = (self.shape, self.shape.spans(layer, range));
        let (keys, values) = self.map[k.start..v.end].split_at_mut(k.len());
        let len = shape.positions(range) * shape.head_dim;
        parts(shape.type_k, keys, shape.kv_heads, len).zip(parts(shape.type_v, values, shape.kv_heads, len))
    }
}

/// A plane's heads of `len` elements each.
fn parts(kind: KvType, plane: &mut [u8], heads: usize, len: usize) -> impl Iterator<Item = HeadMut<'_>> {
    let all = heads * len;
    let list: Vec<HeadMut<'_>> = match kind {
        KvType::F32 => elements_mut(&mut plane[..4 * all]).chunks_exact_mut(len).map(HeadMut::F32).collect(),
        KvType::F16 => elements_mut(&mut plane[..2 * all]).chunks_exact_mut(len).map(HeadMut::F16).collect(),
        KvType::Q8_0 => {
            let (q, scales) = plane.split_at_mut(all);
            let scales = elements_mut(&mut scales[..all / Q8_BLOCK * 2]).chunks_exact_mut(len / Q8_BLOCK);
            let heads = elements_mut(q).chunks_exact_mut(len).zip(scales);
            heads.map(|(q, scales)| HeadMut::Q8(Q8RowsMut { q, scales })).collect()
        }
    };
    list.into_iter()
}

/// Bytes of a plane as elements. A plane begins on a cache line and the bytes are whole elements, so this can't fail.
fn elements<T: FromBytes + Immutable>(bytes: &[u8]) -> &[T] {
    <[T]>::ref_from_bytes(bytes).unwrap_or(&[])
}

fn elements_mut<T: FromBytes + IntoBytes>(bytes: &mut [u8]) -> &mut [T] {
    <[T]>::mut_from_bytes(bytes).unwrap_or(&mut [])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_apart_and_start_at_zero() {
        let mut kv = KvCache::new(2, 3, 5, 4, KvType::F16, KvType::F32).unwrap();
        for (h, (keys, _)) in kv.heads_mut(1, 0).enumerate() {
            let HeadMut::F16(keys) = keys else { panic!("keys are f16") };
            assert_eq!((keys.len(), keys[19]), (20, f16::ZERO));
            keys.fill(f16::from_f32(h as f32));
        }
        let Head::F16(head) = kv.keys(1, 2, 0) else { panic!("keys are f16") };
        assert!(head.iter().all(|x| x.to_f32() == 2.0));
        let Head::F32(head) = kv.values(1, 2, 0) else { panic!("values are f32") };
        assert_eq!(head, [0.0; 20]);
        let Head::F16(head) = kv.keys(0, 2, 0) else { panic!("keys are f16") };
        assert!(head.iter().all(|x| *x == f16::ZERO));
    }

    #[test]
    fn ranges_layers_heads_and_types_share_no_element() {
        for (type_k, type_v) in KvType::ALL.iter().flat_map(|k| KvType::ALL.map(|v| (*k, v))) {
            // Two full ranges and a short one.
            let mut kv = KvCache::new(2, 3, 2 * RANGE + 7, 32, type_k, type_v).unwrap();
            let number = |layer: usize, range: usize, head: usize| (layer * 9 + range * 3 + head + 1) as i8;
            for (layer, range) in (0..2).flat_map(|l| (0..3).map(move |r| (l, r))) {
                let positions = if range == 2 { 7 } else { RANGE };
                for (head, planes) in kv.heads_mut(layer, range).enumerate() {
                    let n = number(layer, range, head);
                    for (sign, plane) in [(1, planes.0), (-1, planes.1)] {
                        let len = match plane {
                            HeadMut::F32(x) => (x.fill(f32::from(sign * n)), x.len()).1,
                            HeadMut::F16(x) => (x.fill(f16::from(sign * n)), x.len()).1,
                            HeadMut::Q8(x) => {
                                x.scales.fill(f16::from(sign * n));
                                (x.q.fill(sign * n), x.q.len()).1
                            }
                        };
                        assert_eq!(len, positions * 32);
                    }
                }
            }
            for (layer, range, head) in (0..2).flat_map(|l| (0..9).map(move |i| (l, i / 3, i % 3))) {
                let n = number(layer, range, head);
                for (n, plane) in [(n, kv.keys(layer, head, range)), (-n, kv.values(layer, head, range))] {
                    assert!(match plane {
                        Head::F32(x) => x.iter().all(|x| *x == f32::from(n)),
                        Head::F16(x) => x.iter().all(|x| *x == f16::from(n)),
                        Head::Q8(x) => x.q.iter().all(|q| *q == n) && x.scales.iter().all(|s| *s == f16::from(n)),
                    });
                }
            }
        }
    }

    #[test]
    fn a_prefix_is_the_first_positions_of_every_head() {
        let mut kv = KvCache::new(2, 3, RANGE + 5, 32, KvType::F16, KvType::Q8_0).unwrap();
        let n = RANGE + 2;
        for (i, (_, run)) in kv.prefix_mut(n).enumerate() {
            run.fill(i as u8 % 100 + 1);
        }
        let runs: Vec<(usize, usize, u8)> = kv.prefix(n).map(|(range, run)| (range, run.len(), run[0])).collect();
        // In a range and a layer three heads of keys, of values and of the values' scales.
        assert_eq!(runs.len(), 2 * 2 * 9);
        assert_eq!(runs[2..4], [(0, 64 * RANGE, 3), (0, 32 * RANGE, 4)]);
        assert_eq!(runs[26..29], [(1, 2 * 2, 27), (1, 64 * 2, 28), (1, 64 * 2, 29)]);
        assert_eq!(runs.iter().map(|run| run.1).sum::<usize>(), n * kv.position_bytes());
        let Head::F16(keys) = kv.keys(1, 1, 1) else { panic!("keys are f16") };
        assert!(keys[63].to_bits() == 0x1d1d && keys[64] == f16::ZERO);
        let Head::Q8(values) = kv.values(0, 2, 1) else { panic!("values are int8") };
        assert_eq!(
            (values.q[63], values.q[64], values.scales[1].to_bits(), values.scales[2].to_bits()),
            (24, 0, 0x1b1b, 0)
        );
    }

    #[test]
    fn types_have_sizes_and_names() {
        assert_eq!(KvType::ALL.map(|t| t.bytes(64)), [256, 128, 68]);
        assert!(KvType::ALL.iter().all(|t| t.bytes(64) == t.widths(64).iter().sum::<usize>() as u64));
        assert!(KvType::Q8_0.fits(128) && !KvType::Q8_0.fits(80) && KvType::F16.fits(80));
        assert!(KvType::ALL.iter().all(|t| KvType::parse(t.name()) == Some(*t)));
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(KvCache::new(1, usize::MAX / 4, 1 << 20, 128, KvType::F16, KvType::F16).is_err());
        assert!(KvCache::new(1, 8, usize::MAX, 128, KvType::F16, KvType::F16).is_err());
        assert!(KvCache::new(usize::MAX / 2, 8, 4096, 128, KvType::Q8_0, KvType::F32).is_err());
    }
}
