//! A layer's cache as ggml lays it out, for a process that computes the layer elsewhere: a row `[kv_heads * head_dim]` for each
//! position, q8_0 in blocks of a 16-bit scale and 32 integers.
use super::{KvCache, KvType, RANGE, Shape};
use qwren_quant::kernel::Q8_BLOCK;
use std::ops::Range;

/// Keys and values.
const PLANES: [usize; 2] = [0, 1];

impl Shape {
    /// Where the parts of a position's row lie, in ggml's order.
    fn row(self, layer: usize, plane: usize, position: usize) -> impl Iterator<Item = Range<usize>> {
        let (range, at) = (position / RANGE, position % RANGE);
        let (kind, start) = ([self.type_k, self.type_v][plane], self.spans(layer, range)[plane].start);
        let (room, widths) = (self.positions(range), kind.widths(self.head_dim));
        let blocks = match kind {
            KvType::F32 | KvType::F16 => 1,
            KvType::Q8_0 => self.head_dim / Q8_BLOCK,
        };
        let part = move |start: usize, width: usize, block: usize| {
            let from = start + width / blocks * block;
            from..from + width / blocks
        };
        (0..self.kv_heads).flat_map(move |head| {
            let [elements, scales] = widths.map(|width| (head * room + at) * width);
            let (elements, scales) = (start + elements, start + self.kv_heads * room * widths[0] + scales);
            (0..blocks).flat_map(move |block| [part(scales, widths[1], block), part(elements, widths[0], block)])
        })
    }

    fn rows(self, layer: usize, positions: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let rows = PLANES.into_iter().flat_map(move |plane| positions.clone().map(move |position| (plane, position)));
        rows.flat_map(move |(plane, position)| self.row(layer, plane, position))
    }
}

impl KvCache {
    /// Bytes of a position's keys and values in a layer.
    pub fn row_bytes(&self) -> usize {
        self.position_bytes() / self.shape.layers
    }

    /// The keys, then the values, of `positions` in a layer.
    ///
    /// # Panics
    /// When there is no such layer or position.
    pub fn rows(&self, layer: usize, positions: Range<usize>) -> Vec<u8> {
        let mut rows = Vec::with_capacity(positions.len() * self.row_bytes());
        self.shape.rows(layer, positions).for_each(|part| rows.extend_from_slice(&self.map[part]));
        rows
    }

    /// Replaces what [`KvCache::rows`] gives.
    ///
    /// # Panics
    /// When there is no such layer or position, or `rows` has another length.
    pub fn set_rows(&mut self, layer: usize, positions: Range<usize>, mut rows: &[u8]) {
        assert_eq!(rows.len(), positions.len() * self.row_bytes());
        for part in self.shape.rows(layer, positions) {
            let (now, later) = rows.split_at(part.len());
            self.map[part].copy_from_slice(now);
            rows = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::HeadMut;
    use super::*;
    use half::f16;

    #[test]
    fn rows_are_ggmls() {
        // Two heads; position 1 of the second range.
        let mut kv = KvCache::new(2, 2, RANGE + 3, 64, KvType::F16, KvType::Q8_0).unwrap();
        for (head, (keys, values)) in kv.heads_mut(1, 1).enumerate() {
            let (HeadMut::F16(keys), HeadMut::Q8(values)) = (keys, values) else { panic!("other types") };
            keys[64..128].fill(f16::from_f32(1.0 + head as f32));
            values.q[64..96].fill(3 + head as i8);
            values.q[96..128].fill(-5 - head as i8);
            values.scales[2..4].copy_from_slice(&[f16::from_f32(0.5), f16::from_f32(0.25)]);
        }
        let block = |scale: f32, q: i8| [&f16::from_f32(scale).to_le_bytes()[..], &[q as u8; 32]].concat();
        let keys = [1.0, 2.0].map(|x| f16::from_f32(x).to_le_bytes().repeat(64)).concat();
        let values = [block(0.5, 3), block(0.25, -5), block(0.5, 4), block(0.25, -6)].concat();
        let row = [keys, values].concat();
        assert_eq!(kv.row_bytes(), row.len());
        assert_eq!(kv.rows(1, RANGE + 1..RANGE + 2), row);
        // Nothing else was written.
        assert!(kv.rows(0, 0..RANGE + 3).iter().chain(&kv.rows(1, 0..RANGE + 1)).all(|&byte| byte == 0));
    }

    #[test]
    fn what_is_set_is_given() {
        for (type_k, type_v) in KvType::ALL.iter().flat_map(|k| KvType::ALL.map(|v| (*k, v))) {
            let mut kv = KvCache::new(3, 2, RANGE + 40, 32, type_k, type_v).unwrap();
            let positions = RANGE - 5..RANGE + 9;
            let rows: Vec<u8> = (0..positions.len() * kv.row_bytes()).map(|i| (i % 251) as u8).collect();
            kv.set_rows(2, positions.clone(), &rows);
            assert!(kv.rows(2, positions.clone()) == rows);
            let others = [(2, 0..positions.start), (2, positions.end..RANGE + 40), (1, positions), (0, 0..RANGE)];
            assert!(others.into_iter().all(|(layer, at)| kv.rows(layer, at).iter().all(|&byte| byte == 0)));
        }
    }
}
