//! A child's part of the KV cache, fetched to be kept on disk, and given back.
use super::child::patience;
use super::{Fault, NEVER, Remote};
use crate::kv::KvCache;
use qwren_offload::message::{Reply, Request, Rows};
use qwren_offload::shared::WORD;
use std::ops::Range;
use std::time::Duration;

/// Rows travel at least so fast, in bytes a second: from a slow card over a slow bus.
const SLOWEST: usize = 10 << 20;

impl Remote {
    /// Copies the first `n` positions of the child's layers to `kv`, which is of the same shape.
    ///
    /// # Errors
    /// The child is of no more use.
    pub fn fetch(&mut self, kv: &mut KvCache, n: usize) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        for (layer, positions) in self.pieces(kv, n) {
            let rows = rows(kv, layer, &positions);
            self.copied(rows, Request::Fetch)?;
            bytes.resize(rows.bytes, 0);
            self.child.shared.read_bytes(&mut bytes);
            kv.set_rows(layer, positions, &bytes);
        }
        Ok(())
    }

    /// Copies the first `n` positions of the child's layers from `kv`, which is of the same shape.
    ///
    /// # Errors
    /// As [`Remote::fetch`].
    pub fn store(&mut self, kv: &KvCache, n: usize) -> Result<(), Fault> {
        for (layer, positions) in self.pieces(kv, n) {
            self.settle(&NEVER)?;
            self.child.shared.write_bytes(&kv.rows(layer, positions.clone()));
            self.copied(rows(kv, layer, &positions), Request::Store)?;
        }
        Ok(())
    }

    /// The child's layers, each with as many positions as the shared memory takes at once.
    fn pieces(&self, kv: &KvCache, n: usize) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let most = (self.child.shared.len() * WORD / kv.row_bytes()).max(1);
        let of_a_layer = move || (0..n).step_by(most).map(move |start| start..n.min(start + most));
        (0..self.layers).flat_map(move |layer| of_a_layer().map(move |positions| (layer, positions)))
    }

    fn copied(&mut self, rows: Rows, request: fn(Rows) -> Request) -> Result<(), Fault> {
        self.settle(&NEVER)?;
        let limit = patience() + Duration::from_secs((rows.bytes / SLOWEST) as u64);
        match self.child.ask(&request(rows), limit)? {
            Reply::Done => Ok(()),
            Reply::Refused(refusal) => Err(Fault::Refused(refusal)),
            _ => Err(Fault::Alien),
        }
    }
}

fn rows(kv: &KvCache, layer: usize, positions: &Range<usize>) -> Rows {
    Rows { layer, start: positions.start, n: positions.len(), bytes: positions.len() * kv.row_bytes() }
}
