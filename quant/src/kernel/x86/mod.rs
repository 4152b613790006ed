//! x86-64. Each level has a token that only its detection makes.
pub(super) mod avx2;
pub(super) mod sse2;

/// Proof that this CPU has AVX2, FMA and F16C, and its system keeps their registers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The token, where the CPU has these instructions.
    pub(super) fn detect() -> Option<Avx2> {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        has.then_some(Avx2(()))
    }
}
