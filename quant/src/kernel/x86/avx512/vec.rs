//! Vector operations: AVX2's, but for those over float rows and what measures this level's speed.
use std::arch::x86_64::*;

use super::float::{dots_f16, dots_f32, dots_q8, weighted_rows_f16, weighted_rows_f32, weighted_rows_q8};
use crate::kernel::Level;
use crate::kernel::vec_ops::{Table, VecOps};
use crate::kernel::x86::{Avx2, Avx512Vnni, avx2};

/// The operations of this level; handed out against the token only.
pub(super) static OPS: VecOps = VecOps::new(
    Level::Avx512Vnni(Avx512Vnni(Avx2(()))),
    Table {
        dots_f32,
        dots_f16,
        dots_q8,
        weighted_rows_f32,
        weighted_rows_f16,
        weighted_rows_q8,
        multiply_adds,
        ..avx2::TABLE
    },
);

/// As the panels do.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn multiply_adds(rounds: usize) -> u64 {
    // Independent sums, more than hide the latency.
    let mut sums = [_mm512_setzero_si512(); 12];
    let (mut w, a) = (_mm512_set1_epi8(3), pin(_mm512_set1_epi8(5)));
    for _ in 0..rounds {
        w = pin(w);
        for sum in &mut sums {
            *sum = pin(_mm512_dpbusd_epi32(*sum, w, a));
        }
    }
    (12 * 64) * rounds as u64
}

/// `v`, which the compiler then knows nothing of.
#[inline]
#[target_feature(enable = "avx512f")]
fn pin(v: __m512i) -> __m512i {
    let pinned;
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(zmm_reg) v => pinned, options(nomem, nostack, preserves_flags));
    }
    pinned
}
