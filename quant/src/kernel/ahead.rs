//! Memory that is asked for before it is read.

/// Where the bytes lie that will be read after those at hand. A kernel asks for as many of them as it reads meanwhile, a few
/// with each step: asked for all at once they would keep its own loads waiting.
#[derive(Clone, Copy, Debug)]
pub struct Ahead(#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "nobody asks there"))] *const u8);

impl Ahead {
    /// The start of `next`.
    pub fn of<T>(next: &[T]) -> Ahead {
        Ahead(next.as_ptr().cast())
    }

    /// `bytes` further on. Nothing is ever read there, so it may lie beyond the end.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn skip(self, bytes: usize) -> Ahead {
        Ahead(self.0.wrapping_add(bytes))
    }

    /// The address.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn address(self) -> *const u8 {
        self.0
    }
}
