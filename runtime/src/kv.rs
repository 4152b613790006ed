//! The KV cache: for each layer the keys and values of all positions so far, `[kv_heads, ctx, head_dim]`, so that one head's
//! keys lie in one run. The memory is reserved at once and committed page by page as positions are written.
use half::f16;
use memmap2::MmapMut;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// How the elements of a cache are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvType {
    /// 32-bit floats: exact, twice the memory.
    F32,
    /// 16-bit floats.
    F16,
}

impl KvType {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            KvType::F32 => 4,
            KvType::F16 => 2,
        }
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<KvType> {
        [KvType::F32, KvType::F16].into_iter().find(|t| t.name() == name)
    }
}

/// The keys or the values of one layer, `[kv_heads, ctx, head_dim]`.
pub struct Plane {
    kind: KvType,
    map: MmapMut,
    head_len: usize,
}

/// One head's part of a plane, `[ctx, head_dim]`.
#[derive(Clone, Copy)]
pub enum Head<'a> {
    /// 32-bit.
    F32(&'a [f32]),
    /// 16-bit.
    F16(&'a [f16]),
}

/// One head's part of a plane, to be written.
pub enum HeadMut<'a> {
    /// 32-bit.
    F32(&'a mut [f32]),
    /// 16-bit.
    F16(&'a mut [f16]),
}

/// Memory of a map as elements. A map starts on a page and was made for whole elements, so this can't fail.
fn elements<T: FromBytes + Immutable>(map: &MmapMut) -> &[T] {
    <[T]>::ref_from_bytes(map).unwrap_or(&[])
}

fn elements_mut<T: FromBytes + IntoBytes>(map: &mut MmapMut) -> &mut [T] {
    <[T]>::mut_from_bytes(map).unwrap_or(&mut [])
}

impl Plane {
    fn new(kind: KvType, kv_heads: usize, head_len: usize) -> std::io::Result<Plane> {
        let bytes = head_len.checked_mul(kv_heads).and_then(|n| n.checked_mul(kind.bytes()));
        let bytes = bytes.ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Plane { kind, map: MmapMut::map_anon(bytes)?, head_len })
    }

    /// Head `h`.
    ///
    /// # Panics
    /// When there is no such head.
    pub fn head(&self, h: usize) -> Head<'_> {
        let span = h * self.head_len..(h + 1) * self.head_len;
        match self.kind {
            KvType::F32 => Head::F32(&elements(&self.map)[span]),
            KvType::F16 => Head::F16(&elements(&self.map)[span]),
        }
    }

    /// How many heads it has.
    pub fn heads(&self) -> usize {
        self.map.len() / (self.head_len * self.kind.bytes())
    }

    /// All heads, to be written.
    pub fn heads_mut(&mut self) -> Vec<HeadMut<'_>> {
        match self.kind {
            KvType::F32 => elements_mut(&mut self.map).chunks_exact_mut(self.head_len).map(HeadMut::F32).collect(),
            KvType::F16 => elements_mut(&mut self.map).chunks_exact_mut(self.head_len).map(HeadMut::F16).collect(),
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
    fn absurd_sizes_are_refused() {
        assert!(KvCache::new(1, usize::MAX / 4, 1 << 20, 128, KvType::F16, KvType::F16).is_err());
        assert!(KvCache::new(1, 8, usize::MAX, 128, KvType::F16, KvType::F16).is_err());
    }
}
