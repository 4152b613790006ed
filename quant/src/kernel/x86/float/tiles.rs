//! Dot products of rows with vectors, some of both at a time.
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{Element, Register};
use crate::act::ActView;
use crate::kernel::Ahead;
use crate::kernel::x86::Stream;

/// Rows taken through all vectors before the next ones: at most 128 KiB of 4,096 columns in F16, so that they stay in
/// the second-level cache.
const ROWS: usize = 16;

/// Rows that few vectors meet are asked for at least so many bytes before they are read: what arrives in the time that
/// memory takes to answer.
const AHEAD: usize = 8192;

/// Vectors up to which reading the rows takes longer than the arithmetic.
const FEW: usize = 4;

/// `out[t * rows + r]` for rows of elements `E`.
#[inline(always)]
pub(in crate::kernel::x86) fn multiply<R: Register<L>, E, const L: usize>(
    token: R::Token,
    w: &[u8],
    acts: ActView<'_>,
    out: &mut [f32],
) where
    E: Element + FromBytes + Immutable + KnownLayout,
{
    let w = <[E]>::ref_from_bytes(w).expect("whole elements at any alignment");
    let cols = acts.cols();
    let rows = w.len() / cols;
    for first in (0..rows).step_by(ROWS) {
        let n = ROWS.min(rows - first);
        let row = |r: usize| &w[(first + r) * cols..][..cols];
        // Whole tiles further: their rows are being read already.
        let distance = AHEAD.next_multiple_of(4 * size_of_val(row(0)));
        let stream = Stream((acts.tokens() <= FEW).then(|| Ahead::of(row(0)).skip(distance)));
        let put = |r: usize, t: usize, dots: &[f32]| out[t * rows + first + r..][..dots.len()].copy_from_slice(dots);
        tiles::<R, E, L>(token, n, row, acts.tokens(), |t| acts.floats(t), stream, put);
    }
}

/// `out[j * n + i]` = row i · query j.
#[inline(always)]
pub(in crate::kernel::x86) fn dots<R: Register<L>, E: Element, const L: usize>(
    token: R::Token,
    k: &[E],
    stride: usize,
    q: &[f32],
    dim: usize,
    out: &mut [f32],
    ahead: Option<Ahead>,
) {
    let queries = q.len() / dim;
    let n = out.len() / queries;
    let row = |i: usize| &k[i * stride..][..dim];
    let query = |j: usize| &q[j * dim..][..dim];
    let put = |i: usize, j: usize, dots: &[f32]| out[j * n + i..][..dots.len()].copy_from_slice(dots);
    tiles::<R, E, L>(token, n, row, queries, query, Stream(ahead), put);
}

/// Row · vector.
#[inline(always)]
fn dot<R: Register<L>, E: Element, const L: usize>(token: R::Token, row: &[E], vector: &[f32]) -> f32 {
    let mut sum = R::all(token, 0.0);
    let ((rows, row_rest), (vectors, vector_rest)) = (row.as_chunks(), vector.as_chunks());
    for (w, x) in rows.iter().zip(vectors) {
        sum = sum.add_product(E::load(token, w), f32::load(token, x));
    }
    if !row_rest.is_empty() {
        sum = sum.add_product(E::load(token, &padded(row_rest)), f32::load(token, &padded(vector_rest)));
    }
    sum.sum()
}

/// Calls `put(row, vector, dot products)` for some rows from `row` on, until every pair was there; meanwhile asks for as many
/// bytes of `stream` as the rows have.
#[inline(always)]
pub(super) fn tiles<'a, R: Register<L>, E: Element + 'a, const L: usize>(
    token: R::Token,
    rows: usize,
    row: impl Fn(usize) -> &'a [E],
    vectors: usize,
    vector: impl Fn(usize) -> &'a [f32],
    mut stream: Stream,
    mut put: impl FnMut(usize, usize, &[f32]),
) {
    if !row(0).len().is_multiple_of(L) {
        // Beside a tile's loop this would put its sums on the stack, and no model has such heads.
        for t in 0..vectors {
            (0..rows).for_each(|r| put(r, t, &[dot::<R, E, L>(token, row(r), vector(t))]));
        }
        return;
    }
    // Tiles of 2 × 6, then 4 × 2, then 4 × 1: the sums and operands of each fit 16 registers, and a row's conversion serves
    // six vectors. 32 registers hold 4 × 6.
    let mut t = 0;
    while t + 6 <= vectors {
        let six = [vector(t), vector(t + 1), vector(t + 2), vector(t + 3), vector(t + 4), vector(t + 5)];
        let mut r = 0;
        while R::WIDE && r + 4 <= rows {
            let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
            tile::<R, E, L, 4, 6>(token, four, six, &mut stream, |j, dots| put(r, t + j, dots));
            r += 4;
        }
        while r + 2 <= rows {
            tile::<R, E, L, 2, 6>(token, [row(r), row(r + 1)], six, &mut stream, |j, dots| put(r, t + j, dots));
            r += 2;
        }
        if r < rows {
            tile::<R, E, L, 1, 6>(token, [row(r)], six, &mut stream, |j, dots| put(r, t + j, dots));
        }
        t += 6;
        stream = Stream(None);
    }
    while t < vectors {
        let pair = t + 2 <= vectors;
        let mut r = 0;
        while r + 4 <= rows {
            let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
            if pair {
                let two = [vector(t), vector(t + 1)];
                tile::<R, E, L, 4, 2>(token, four, two, &mut stream, |j, dots| put(r, t + j, dots));
            } else {
                tile::<R, E, L, 4, 1>(token, four, [vector(t)], &mut stream, |_, dots| put(r, t, dots));
            }
            r += 4;
        }
        for r in r..rows {
            if pair {
                let two = [vector(t), vector(t + 1)];
                tile::<R, E, L, 1, 2>(token, [row(r)], two, &mut stream, |j, dots| put(r, t + j, dots));
            } else {
                tile::<R, E, L, 1, 1>(token, [row(r)], [vector(t)], &mut stream, |_, dots| put(r, t, dots));
            }
        }
        t += if pair { 2 } else { 1 };
        stream = Stream(None);
    }
}

/// The dot products of `M` rows with `T` vectors of the same length, whole registers: `put(vector, those of the rows)`.
#[inline(always)]
fn tile<R: Register<L>, E: Element, const L: usize, const M: usize, const T: usize>(
    token: R::Token,
    rows: [&[E]; M],
    vectors: [&[f32]; T],
    stream: &mut Stream,
    mut put: impl FnMut(usize, &[f32; M]),
) {
    let len = rows[0].len();
    let mut whole_rows: [&[[E; L]]; M] = [&[]; M];
    let mut whole_vectors: [&[[f32; L]]; T] = [&[]; T];
    for r in 0..M {
        whole_rows[r] = &rows[r].as_chunks().0[..len / L];
    }
    for t in 0..T {
        whole_vectors[t] = &vectors[t].as_chunks().0[..len / L];
    }
    let mut sums = [[R::all(token, 0.0); T]; M];
    for c in 0..len / L {
        stream.next(M * size_of::<[E; L]>());
        let mut w = [R::all(token, 0.0); M];
        for r in 0..M {
            w[r] = E::load(token, &whole_rows[r][c]);
        }
        for t in 0..T {
            let x: R = f32::load(token, &whole_vectors[t][c]);
            for r in 0..M {
                sums[r][t] = sums[r][t].add_product(w[r], x);
            }
        }
    }
    put_sums(&sums, |t, dots| put(t, dots));
}

/// `put(vector, dot products of the rows)` of their sums.
#[inline(always)]
pub(super) fn put_sums<R: Register<L>, const L: usize, const M: usize, const T: usize>(
    sums: &[[R; T]; M],
    mut put: impl FnMut(usize, &[f32; M]),
) {
    // By indices known at compile time, so that the sums stay in registers; four of them are added up at once.
    if M == 4 {
        for t in 0..T {
            let four = R::sums([sums[0][t], sums[1 % M][t], sums[2 % M][t], sums[3 % M][t]]);
            put(t, four.first_chunk().expect("four rows"));
        }
    } else if M == 2 && T.is_multiple_of(2) {
        for t in (0..T / 2).map(|pair| 2 * pair) {
            let four = R::sums([sums[0][t], sums[1 % M][t], sums[0][t + 1], sums[1 % M][t + 1]]);
            put(t, four.first_chunk().expect("two rows"));
            put(t + 1, four.last_chunk().expect("two rows"));
        }
    } else {
        for t in 0..T {
            let mut each = [0.0; M];
            for r in 0..M {
                each[r] = sums[r][t].sum();
            }
            put(t, &each);
        }
    }
}

/// `rest`, then zeros.
#[inline(always)]
fn padded<E: Element, const L: usize>(rest: &[E]) -> [E; L] {
    let mut out = [E::default(); L];
    out[..rest.len()].copy_from_slice(rest);
    out
}
