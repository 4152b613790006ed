//! Vector operations: AVX2's, but for what measures this level's speed.
use std::arch::x86_64::*;

use crate::kernel::Level;
use crate::kernel::vec_ops::{Table, VecOps};
use crate::kernel::x86::{Avx2, AvxVnni, avx2};

/// The operations of this level; handed out against the token only.
pub(super) static OPS: VecOps = VecOps::new(Level::AvxVnni(AvxVnni(Avx2(()))), Table { multiply_adds, ..avx2::TABLE });

/// As the panels do.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn multiply_adds(rounds: usize) -> u64 {
    // Independent sums, more than hide the latency.
    let mut sums = [_mm256_setzero_si256(); 12];
    let (mut w, a) = (_mm256_set1_epi8(3), avx2::lanes::pin(_mm256_set1_epi8(5)));
    for _ in 0..rounds {
        w = avx2::lanes::pin(w);
        for sum in &mut sums {
            *sum = avx2::lanes::pin(_mm256_dpbusd_avx_epi32(*sum, w, a));
        }
    }
    (12 * 32) * rounds as u64
}
