//! A node's output `[rows, cols]`, cut into tiles that several workers fill at once. The atomic counter that shares the
//! work out is also what proves that no two workers hold the same tile.
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The tiles of a row-major matrix: bands of rows times strips of columns, handed out once each, a band's strips in a
/// row so that what belongs to the band stays in the cache.
pub struct Tiles<'a> {
    base: *mut f32,
    cols: usize,
    /// Band `b` is the rows `bands[b]..bands[b + 1]`: starts at 0, never falls, ends at the number of rows.
    bands: Vec<usize>,
    strip: usize,
    strips: usize,
    next: AtomicUsize,
    _out: PhantomData<&'a mut [f32]>,
}

// SAFETY: `base` comes from a `&mut [f32]` held for 'a; through a shared `Tiles` it can only be reached by `take`, whose
// counter gives each tile to one caller, and tiles don't overlap. f32 is Send.
unsafe impl Sync for Tiles<'_> {}
// SAFETY: as above; `Tiles` has no tie to the thread that made it.
unsafe impl Send for Tiles<'_> {}

impl<'a> Tiles<'a> {
    /// Cuts `out`, which is `[rows, cols]`, into the bands that `bands` bounds and strips of `strip` columns (the last one
    /// may be narrower).
    ///
    /// # Panics
    /// When the bounds are no such list or `out` is not whole rows.
    pub fn new(out: &'a mut [f32], cols: usize, bands: Vec<usize>, strip: usize) -> Tiles<'a> {
        assert!(cols > 0 && strip > 0 && bands.len() > 1 && bands[0] == 0, "tiles of nothing");
        assert!(bands.windows(2).all(|w| w[0] <= w[1]), "bands fall");
        assert!(bands[bands.len() - 1].checked_mul(cols) == Some(out.len()), "bands don't cover the output");
        let strips = cols.div_ceil(strip);
        Tiles { base: out.as_mut_ptr(), cols, bands, strip, strips, next: AtomicUsize::new(0), _out: PhantomData }
    }

    /// The number of tiles.
    pub fn len(&self) -> usize {
        (self.bands.len() - 1) * self.strips
    }

    /// Never: there is at least one band and one strip.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next tile that nobody has.
    pub fn take(&self) -> Option<Tile<'a>> {
        let i = self.next.fetch_add(1, Ordering::Relaxed);
        if i >= self.len() {
            // Far below usize::MAX: each worker stops at its first None.
            return None;
        }
        let (band, start) = (i / self.strips, i % self.strips * self.strip);
        Some(Tile {
            base: self.base,
            stride: self.cols,
            band,
            rows: self.bands[band]..self.bands[band + 1],
            cols: start..(start + self.strip).min(self.cols),
            _out: PhantomData,
        })
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
        // borrowed for the tile's lifetime; `Tiles::take` gave these rows and columns to this tile alone, and the
        // borrow of `self` keeps two rows of one tile from being held at once.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(row * self.stride + cols.start), cols.end - cols.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_output_once() {
        let (rows, cols) = (7, 10);
        let mut out = vec![0f32; rows * cols];
        let tiles = Tiles::new(&mut out, cols, vec![0, 3, 3, 7], 4);
        assert_eq!(tiles.len(), 9);
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    while let Some(mut t) = tiles.take() {
                        for r in 0..t.rows().len() {
                            let (row, cols) = (t.rows().start + r, t.cols());
                            for (c, x) in cols.zip(t.row_mut(r)) {
                                *x += (row * 10 + c) as f32;
                            }
                        }
                    }
                });
            }
        });
        assert!(out.iter().enumerate().all(|(i, &x)| x == i as f32));
    }

    #[test]
    #[should_panic(expected = "bands don't cover")]
    fn bands_must_cover() {
        Tiles::new(&mut [0.0; 6], 3, vec![0, 1], 1);
    }
}
