//! The KV cache: for each layer the keys and values of all positions so far, `[kv_heads, ctx, head_dim]`, so that one head's
//! keys lie in one run. The memory is reserved at once and committed page by page as positions are written.
use half::f16;
use memmap2::MmapMut;
use qwren_quant::kernel::{Q8_BLOCK, Q8Rows, Q8RowsMut};
use zerocopy::{FromBytes, Immutable, IntoBytes};

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

/// The keys or the values of one layer, `[kv_heads, ctx, head_dim]`.
pub struct Plane {
    store: Store,
    heads: usize,
}

enum Store {
    F32(MmapMut),
    F16(MmapMut),
    /// Scales lie apart: `[kv_heads, ctx, head_dim / 32]`.
    Q8 {
        q: MmapMut,
        scales: MmapMut,
    },
}

/// One head's part of a plane, `[ctx, head_dim]`.
#[derive(Clone, Copy)]
pub enum Head<'a> {
    /// 32-bit.
    F32(&'a [f32]),
    /// 16-bit.
    F16(&'a [f16]),
    /// 8-bit.
    Q8(Q8Rows<'a>),
}

/// One head's part of a plane, to be written.
pub enum HeadMut<'a> {
    /// 32-bit.
    F32(&'a mut [f32]),
    /// 16-bit.
    F16(&'a mut [f16]),
    /// 8-bit.
    Q8(Q8RowsMut<'a>),
}

/// Memory of a map as elements. A map starts on a page and was made for whole elements, so this can't fail.
fn elements<T: FromBytes + Immutable>(map: &MmapMut) -> &[T] {
    <[T]>::ref_from_bytes(map).unwrap_or(&[])
}

fn elements_mut<T: FromBytes + IntoBytes>(map: &mut MmapMut) -> &mut [T] {
    <[T]>::mut_from_bytes(map).unwrap_or(&mut [])
}

/// Part `h` of `n` equal ones.
fn part<T>(all: &[T], h: usize, n: usize) -> &[T] {
    let len = all.len() / n;
    &all[h * len..(h + 1) * len]
}

impl Plane {
    fn new(kind: KvType, kv_heads: usize, head_len: usize) -> std::io::Result<Plane> {
        let too_much = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let all = head_len.checked_mul(kv_heads).ok_or_else(too_much)?;
        let map = |elements: usize, bytes: usize| {
            MmapMut::map_anon(elements.checked_mul(bytes).filter(|&n| n > 0).ok_or_else(too_much)?)
        };
        let store = match kind {
            KvType::F32 => Store::F32(map(all, 4)?),
            KvType::F16 => Store::F16(map(all, 2)?),
            KvType::Q8_0 => Store::Q8 { q: map(all, 1)?, scales: map(all / Q8_BLOCK, 2)? },
        };
        Ok(Plane { store, heads: kv_heads })
    }

    /// Head `h`.
    ///
    /// # Panics
    /// When there is no such head.
    pub fn head(&self, h: usize) -> Head<'_> {
        match &self.store {
            Store::F32(map) => Head::F32(part(elements(map), h, self.heads)),
            Store::F16(map) => Head::F16(part(elements(map), h, self.heads)),
            Store::Q8 { q, scales } => {
                Head::Q8(Q8Rows { q: part(elements(q), h, self.heads), scales: part(elements(scales), h, self.heads) })
            }
        }
    }

    /// How many heads it has.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// All heads, to be written.
    pub fn heads_mut(&mut self) -> Vec<HeadMut<'_>> {
        fn parts<T>(all: &mut [T], n: usize) -> impl Iterator<Item = &mut [T]> {
            let len = all.len() / n;
            all.chunks_exact_mut(len)
        }
        match &mut self.store {
            Store::F32(map) => parts(elements_mut(map), self.heads).map(HeadMut::F32).collect(),
            Store::F16(map) => parts(elements_mut(map), self.heads).map(HeadMut::F16).collect(),
            Store::Q8 { q, scales } => {
                let scales = parts(elements_mut(scales), self.heads);
                let heads = parts(elements_mut(q), self.heads).zip(scales);
                heads.map(|(q, scales)| HeadMut::Q8(Q8RowsMut { q, scales })).collect()
            }
        }
    }
}

/// One layer of the cache.
pub struct LayerKv {
    /// Keys, after RoPE.
    pub k: Plane,
    /// Values.
    pub v: Plane,
}

/// The whole cache.
pub struct KvCache {
    /// One entry a layer.
    pub layers: Vec<LayerKv>,
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
        let head_len = ctx.checked_mul(head_dim).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let layer =
            |_| Ok(LayerKv { k: Plane::new(type_k, kv_heads, head_len)?, v: Plane::new(type_v, kv_heads, head_len)? });
        Ok(KvCache { layers: (0..layers).map(layer).collect::<std::io::Result<_>>()? })
    }
}

impl Plane {
    /// Its memory: `[kv_heads, ctx, …]` each.
    fn maps(&self) -> impl Iterator<Item = &MmapMut> {
        let (first, second) = match &self.store {
            Store::F32(map) | Store::F16(map) => (map, None),
            Store::Q8 { q, scales } => (q, Some(scales)),
        };
        std::iter::once(first).chain(second)
    }

    fn maps_mut(&mut self) -> impl Iterator<Item = &mut MmapMut> {
        let (first, second) = match &mut self.store {
            Store::F32(map) | Store::F16(map) => (map, None),
            Store::Q8 { q, scales } => (q, Some(scales)),
        };
        std::iter::once(first).chain(second)
    }
}

impl KvCache {
    /// The bytes of the first `n` of `ctx` positions: a run for each head of each plane, always in the same order.
    ///
    /// # Panics
    /// When `n` is more than `ctx`.
    pub fn prefix(&self, n: usize, ctx: usize) -> impl Iterator<Item = &[u8]> {
        self.layers.iter().flat_map(|layer| [&layer.k, &layer.v]).flat_map(move |plane| {
            let heads = plane.heads();
            plane.maps().flat_map(move |map| {
                let head = map.len() / heads;
                map.chunks_exact(head).map(move |run| &run[..head / ctx * n])
            })
        })
    }

    /// As [`KvCache::prefix`], to be written.
    ///
    /// # Panics
    /// As [`KvCache::prefix`].
    pub fn prefix_mut(&mut self, n: usize, ctx: usize) -> impl Iterator<Item = &mut [u8]> {
        self.layers.iter_mut().flat_map(|layer| [&mut layer.k, &mut layer.v]).flat_map(move |plane| {
            let heads = plane.heads();
            plane.maps_mut().flat_map(move |map| {
                let head = map.len() / heads;
                map.chunks_exact_mut(head).map(move |run| &mut run[..head / ctx * n])
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_apart_and_start_at_zero() {
        let mut kv = KvCache::new(2, 3, 5, 4, KvType::F16, KvType::F32).unwrap();
        for (h, head) in kv.layers[1].k.heads_mut().into_iter().enumerate() {
            let HeadMut::F16(head) = head else { panic!("keys are f16") };
            assert_eq!((head.len(), head[19]), (20, f16::ZERO));
            head.fill(f16::from_f32(h as f32));
        }
        let Head::F16(head) = kv.layers[1].k.head(2) else { panic!("keys are f16") };
        assert!(head.iter().all(|x| x.to_f32() == 2.0));
        let Head::F32(head) = kv.layers[1].v.head(2) else { panic!("values are f32") };
        assert_eq!(head, [0.0; 20]);
    }

    #[test]
    fn int8_heads_have_their_scales() {
        let mut kv = KvCache::new(1, 2, 3, 64, KvType::Q8_0, KvType::F16).unwrap();
        let HeadMut::Q8(mut head) = kv.layers[0].k.heads_mut().remove(1) else { panic!("keys are int8") };
        assert_eq!((head.q.len(), head.scales.len()), (3 * 64, 3 * 2));
        let row = head.rows(2..3, 64);
        (row.q[63], row.scales[1]) = (5, f16::ONE);
        let Head::Q8(head) = kv.layers[0].k.head(1) else { panic!("keys are int8") };
        assert_eq!((head.q[3 * 64 - 1], head.scales[5]), (5, f16::ONE));
        assert_eq!(head.rows(2..3, 64).q[63], 5);
        assert_eq!((KvType::Q8_0.bytes(64), KvType::F16.bytes(64)), (68, 128));
        assert!(KvType::Q8_0.fits(128) && !KvType::Q8_0.fits(80) && KvType::F16.fits(80));
        assert_eq!(KvType::parse("q8_0"), Some(KvType::Q8_0));
    }

    #[test]
    fn a_prefix_is_the_first_positions_of_every_head() {
        let mut kv = KvCache::new(2, 3, 5, 4, KvType::F16, KvType::F32).unwrap();
        for (i, run) in kv.prefix_mut(2, 5).enumerate() {
            run.fill(i as u8 + 1);
        }
        let runs: Vec<(usize, u8)> = kv.prefix(2, 5).map(|run| (run.len(), run[0])).collect();
        // Two positions of four elements, of 2 bytes and of 4.
        assert_eq!(runs[..6], [(16, 1), (16, 2), (16, 3), (32, 4), (32, 5), (32, 6)]);
        assert_eq!(runs.len(), 12);
        let Head::F16(head) = kv.layers[0].k.head(1) else { panic!("keys are f16") };
        assert!(head[7].to_bits() == 0x0202 && head[8] == f16::ZERO);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(KvCache::new(1, usize::MAX / 4, 1 << 20, 128, KvType::F16, KvType::F16).is_err());
        assert!(KvCache::new(1, 8, usize::MAX, 128, KvType::F16, KvType::F16).is_err());
    }
}
