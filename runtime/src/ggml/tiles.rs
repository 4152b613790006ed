//! A node's output `[rows, cols]`, cut into tiles that several workers fill at once. The spans that share the work out are
//! also what proves that no two workers hold the same tile.
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The tiles of a row-major matrix: bands of rows times strips of columns, handed out once each. Each worker has a span of
/// consecutive tiles, so that it reads on where it left off, and takes from the end of another's when its own are done.
pub struct Tiles<'a> {
    base: *mut f32,
    cols: usize,
    /// Band `b` is the rows `bands[b]..bands[b + 1]`: starts at 0, never falls, ends at the number of rows.
    bands: Vec<usize>,
    strip: usize,
    strips: usize,
    /// One for each worker.
    spans: Vec<Span>,
    _out: PhantomData<&'a mut [f32]>,
}

/// The tiles that nobody has: the first and, in the upper half, the end. Alone in its cache lines (CPUs fetch them in pairs), since
/// a worker takes from its own span all the time and from another's seldom.
#[repr(align(128))]
struct Span(AtomicU64);

fn pack(span: Range<u32>) -> u64 {
    u64::from(span.start) | u64::from(span.end) << 32
}

fn unpack(span: u64) -> Range<u32> {
    span as u32..(span >> 32) as u32
}

// SAFETY: `base` comes from a `&mut [f32]` held for 'a; it can only be reached through a tile from
// `Worker::take`, which gives each to one caller (see there), and tiles don't overlap. f32 is Send.
unsafe impl Sync for Tiles<'_> {}
// SAFETY: as above; `Tiles` has no tie to the thread that made it.
unsafe impl Send for Tiles<'_> {}

impl<'a> Tiles<'a> {
    /// Cuts `out`, which is `[rows, cols]`, into the bands that `bands` bounds and strips of `strip` columns (the last one
    /// may be narrower). One worker has them all until they are shared out.
    ///
    /// # Panics
    /// When the bounds are no such list, `out` is not whole rows, or there are 2³² tiles.
    pub fn new(out: &'a mut [f32], cols: usize, bands: Vec<usize>, strip: usize) -> Tiles<'a> {
        assert!(cols > 0 && strip > 0 && bands.len() > 1 && bands[0] == 0, "tiles of nothing");
        assert!(bands.windows(2).all(|w| w[0] <= w[1]), "bands fall");
        assert!(bands[bands.len() - 1].checked_mul(cols) == Some(out.len()), "bands don't cover the output");
        let strips = cols.div_ceil(strip);
        let all = u32::try_from((bands.len() - 1) * strips).expect("a number of tiles");
        let spans = vec![Span(AtomicU64::new(pack(0..all)))];
        Tiles { base: out.as_mut_ptr(), cols, bands, strip, strips, spans, _out: PhantomData }
    }

    /// Gives each of `workers` an equal span. Before the first tile is taken.
    ///
    /// # Panics
    /// When tiles were taken or shared out already, or there are no workers.
    pub fn share_out(&mut self, workers: usize) {
        let all = self.len() as u64;
        assert!(self.spans.len() == 1 && *self.spans[0].0.get_mut() == pack(0..all as u32), "tiles were taken");
        let bound = |w: usize| (all * w as u64 / workers as u64) as u32;
        self.spans = (0..workers).map(|w| Span(AtomicU64::new(pack(bound(w)..bound(w + 1))))).collect();
        assert!(!self.spans.is_empty(), "nobody works");
    }

    /// The number of tiles.
    pub fn len(&self) -> usize {
        (self.bands.len() - 1) * self.strips
    }

    /// Never: there is at least one band and one strip.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The share of worker number `worker`.
    pub fn worker(&self, worker: usize) -> Worker<'_, 'a> {
        Worker { tiles: self, own: worker % self.spans.len(), taken: 0..0 }
    }

    /// Takes tiles out of span `i`: from its start for its own worker, from its end for others.
    fn cut(&self, i: usize, own: bool) -> Option<Range<u32>> {
        let mut found = self.spans[i].0.load(Ordering::Relaxed);
        loop {
            let span = unpack(found);
            // Others take a part of what is left, so that all end together, and neighbours, to read them in one go.
            let n = if own { 1 } else { (span.len() / (2 * self.spans.len())).max(1) as u32 };
            if span.is_empty() {
                return None;
            }
            let (rest, cut) = match own {
                true => (span.start + n..span.end, span.start..span.start + n),
                false => (span.start..span.end - n, span.end - n..span.end),
            };
            match self.spans[i].0.compare_exchange_weak(found, pack(rest), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(cut),
                Err(now) => found = now,
            }
        }
    }

    fn tile(&self, i: usize) -> Tile<'a> {
        let (band, start) = (i / self.strips, i % self.strips * self.strip);
        Tile {
            base: self.base,
            stride: self.cols,
            band,
            rows: self.bands[band]..self.bands[band + 1],
            cols: start..(start + self.strip).min(self.cols),
            _out: PhantomData,
        }
    }
}

/// One worker's way to its tiles.
pub struct Worker<'t, 'a> {
    tiles: &'t Tiles<'a>,
    own: usize,
    /// Tiles that it has but hasn't begun.
    taken: Range<u32>,
}

impl<'a> Worker<'_, 'a> {
    /// The next tile; none when nobody has one left that isn't begun or about to be.
    pub fn take(&mut self) -> Option<Tile<'a>> {
        // A tile is in one span, in one worker's `taken`, or was handed out: the spans begin disjoint, and by one exchange,
        // which fails when another came first, tiles leave a span (it never grows again) for the `taken` of one worker.
        if self.taken.is_empty() {
            let all = self.tiles.spans.len();
            let others = (1..all).map(|i| (self.own + i) % all);
            let own = self.tiles.cut(self.own, true);
            self.taken = own.or_else(|| others.into_iter().find_map(|i| self.tiles.cut(i, false)))?;
        }
        self.taken.next().map(|i| self.tiles.tile(i as usize))
    }
}

/// One tile: exclusive access to some columns of some rows.
pub struct Tile<'a> {
    base: *mut f32,
    stride: usize,
    band: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    _out: PhantomData<&'a mut [f32]>,
}

impl Tile<'_> {
    /// The number of its band.
    pub fn band(&self) -> usize {
        self.band
    }

    /// Its rows in the whole matrix.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Its columns in the whole matrix.
    pub fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// The tile's part of its `i`-th row.
    ///
    /// # Panics
    /// When the tile has no such row.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows.end - self.rows.start, "no such row in the tile");
        let (row, cols) = (self.rows.start + i, &self.cols);
        // SAFETY: `row < bands[band + 1]` and `cols.end ≤ stride`, so the range lies in the slice that `Tiles::new`
        // borrowed for the tile's lifetime; `Worker::take` gave these rows and columns to this tile alone, and the
        // borrow of `self` keeps two rows of one tile from being held at once.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(row * self.stride + cols.start), cols.end - cols.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_output_once() {
        let (rows, cols) = (7, 100);
        // More and fewer workers than spans, one that never comes.
        for (spans, workers) in [(1, 3), (3, 3), (5, 2), (2, 6), (40, 3)] {
            let mut out = vec![0f32; rows * cols];
            let mut tiles = Tiles::new(&mut out, cols, vec![0, 3, 3, 7], 4);
            assert_eq!(tiles.len(), 75);
            tiles.share_out(spans);
            std::thread::scope(|s| {
                for worker in 0..workers {
                    let mut worker = tiles.worker(worker);
                    s.spawn(move || {
                        while let Some(mut t) = worker.take() {
                            for r in 0..t.rows().len() {
                                let (row, cols) = (t.rows().start + r, t.cols());
                                for (c, x) in cols.zip(t.row_mut(r)) {
                                    *x += (row * 100 + c) as f32;
                                }
                            }
                        }
                    });
                }
            });
            assert!(out.iter().enumerate().all(|(i, &x)| x == i as f32), "{spans} spans, {workers} workers");
        }
    }

    #[test]
    fn a_worker_reads_on_and_then_helps() {
        let mut out = [0f32; 16];
        let mut tiles = Tiles::new(&mut out, 16, vec![0, 1], 1);
        tiles.share_out(2);
        let starts = |worker: &mut Worker<'_, '_>, n| -> Vec<usize> {
            (0..n).filter_map(|_| worker.take()).map(|t| t.cols().start).collect()
        };
        let (mut a, mut b) = (tiles.worker(0), tiles.worker(1));
        assert_eq!(starts(&mut b, 2), [8, 9]);
        // Eight of its own, then the other's, from the end.
        assert_eq!(starts(&mut a, 20), [0, 1, 2, 3, 4, 5, 6, 7, 15, 14, 13, 12, 11, 10]);
        assert!(b.take().is_none());
    }

    #[test]
    #[should_panic(expected = "bands don't cover")]
    fn bands_must_cover() {
        Tiles::new(&mut [0.0; 6], 3, vec![0, 1], 1);
    }
}
