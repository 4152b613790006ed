//! The kernels: what multiplies, and the one table that chooses.
//!
//! `scalar.rs` and `scalar_vec.rs` define every result; the arch folders compute the same faster. For quantized weights
//! all levels give the same bits: sums within a block are integers, and the float operations after it are the same
//! ones, unfused, in the order of the blocks. For float weights and the vector operations one level gives the same
//! bits whatever the number of tokens, rows or positions in a call; between levels their rounding differs.
#[cfg(target_arch = "aarch64")]
mod aarch64;
mod ahead;
mod floats;
mod interleaved;
mod level;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod portable;
mod q8_rows;
mod scalar;
mod scalar_vec;
#[cfg(test)]
mod testing;
mod vec_ops;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::LazyLock;

pub use ahead::Ahead;
pub(crate) use floats::{Floats, Work, run};
pub use interleaved::{GROUP, RowLayout, interleave};
pub use level::{Level, LevelError};
pub use q8_rows::{Q8_BLOCK, Q8Rows, Q8RowsMut};
pub use vec_ops::{VecOps, vec_ops};

use crate::act::{ActKind, ActView};
use crate::dtype::DType;

/// The matrix product of one weight format at one level.
pub struct Kernel {
    /// For people: level and format.
    pub name: &'static str,
    /// Format of the weights.
    pub weight: DType,
    /// Form of the activations.
    pub act: ActKind,
    /// The instructions that it needs.
    pub level: Level,
    /// How the rows lie in memory.
    pub layout: RowLayout,
    /// Called with whole rows and matching lengths only.
    run: Run,
}

/// Out of weight rows, token rows: `out[t * rows + r]`. Unsafe to call on a CPU without the instructions it is made for.
type Run = unsafe fn(&[u8], ActView<'_>, &mut [f32]);

impl Kernel {
    /// `out[t * rows + r]` = weight row r · token t, for the whole weight rows in `w`. The bits of a result depend on
    /// nothing but its row and token.
    ///
    /// # Panics
    /// If the activations are of another kind, `w` is no whole number of rows, or `out` has another length.
    pub fn mul_mat(&self, w: &[u8], acts: ActView<'_>, out: &mut [f32]) {
        assert_eq!(acts.kind(), self.act, "{} wants other activations", self.name);
        let cols = acts.cols();
        assert!(cols > 0 && cols.is_multiple_of(self.weight.block_len()), "{cols} columns are no row of {}", self.name);
        let row_bytes = cols / self.weight.block_len() * self.weight.block_bytes();
        let group = if self.layout == RowLayout::Interleaved { GROUP } else { 1 };
        assert!(w.len().is_multiple_of(group * row_bytes), "{} bytes are no rows of {row_bytes}", w.len());
        assert_eq!(out.len(), w.len() / row_bytes * acts.tokens(), "room for another number of results");
        if !out.is_empty() {
            // SAFETY: `run` needs the instructions of `self.level`, and a level exists only on a CPU that has them.
            unsafe { (self.run)(w, acts, out) }
        }
    }
}

/// Every kernel that this CPU can run, best first.
pub fn kernels() -> &'static [Kernel] {
    static KERNELS: LazyLock<Vec<Kernel>> = LazyLock::new(|| {
        let mut kernels = Vec::new();
        for level in Level::available() {
            match level {
                Level::Scalar => kernels.extend(scalar::kernels()),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(token) => kernels.extend(x86::avx2::kernels(token)),
                #[cfg(target_arch = "x86_64")]
                Level::AvxVnni(token) => kernels.extend(x86::avxvnni::kernels(token)),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512Vnni(token) => kernels.extend(x86::avx512::kernels(token)),
                #[cfg(target_arch = "aarch64")]
                Level::Neon(token) => kernels.extend(aarch64::order::neon(token)),
                #[cfg(target_arch = "aarch64")]
                Level::Dotprod(token) => kernels.extend(aarch64::order::dotprod(token)),
                #[cfg(target_arch = "aarch64")]
                Level::I8mm(token) => kernels.extend(aarch64::order::i8mm(token)),
            }
        }
        kernels
    });
    &KERNELS
}

/// The best kernel for a weight format up to a level; `None` for a format that can't be computed with.
pub fn select(level: Level, weight: DType) -> Option<&'static Kernel> {
    find(level, weight, RowLayout::Plain)
}

/// The kernel of a level for interleaved rows of a format, if they are worth it there.
pub fn select_interleaved(level: Level, weight: DType) -> Option<&'static Kernel> {
    find(level, weight, RowLayout::Interleaved).filter(|kernel| kernel.level == level)
}

fn find(level: Level, weight: DType, layout: RowLayout) -> Option<&'static Kernel> {
    kernels().iter().find(|kernel| kernel.weight == weight && kernel.layout == layout && kernel.level <= level)
}
