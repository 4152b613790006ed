//! What a session's cache holds, to be kept elsewhere, and taken from there.
use super::{KvType, Session};
use crate::gpu::{Event, Fault};
use crate::kv::KvCache;

impl Session<'_> {
    /// Types of keys and values, where the cache can be kept: not with stock operations.
    pub fn kv_types(&self) -> Option<(KvType, KvType)> {
        self.engine.kv().map(|_| self.kv_types)
    }

    /// What computed the cache, which decides how it was rounded: our instructions, and a device with its layers. None with stock
    /// operations, and where a part was computed by a device that is gone.
    pub fn computed_by(&self) -> Option<String> {
        let level = self.level.filter(|_| !self.mixed)?.name();
        Some(self.remote.as_ref().map_or_else(|| level.to_owned(), |remote| format!("{level}; {}", remote.mark())))
    }

    /// The cache, with its first `n` positions complete; none with stock operations.
    ///
    /// # Errors
    /// What a device computed can't be had any more. The session goes on without it, and is empty.
    pub fn kv(&mut self, n: usize) -> Result<Option<&KvCache>, Fault> {
        if let (Some(remote), Some(kv)) = (&mut self.remote, self.engine.kv_mut())
            && let Err(fault) = remote.fetch(kv, n)
        {
            self.remote = None;
            self.truncate(0);
            return Err(fault);
        }
        Ok(self.engine.kv())
    }

    /// The cache, to be filled from elsewhere; [`Session::hold`] says with what. The session is empty from then on. None with
    /// stock operations.
    pub fn kv_mut(&mut self) -> Option<&mut KvCache> {
        self.truncate(0);
        self.engine.kv_mut()
    }

    /// Takes `tokens`, which are the model's and fit the context, as those that the cache was filled with.
    ///
    /// # Panics
    /// When they are more than the context.
    pub fn hold(&mut self, tokens: &[u32]) {
        assert!(tokens.len() <= self.ctx, "the cache has room for the context");
        self.tokens = tokens.to_vec();
        let (Some(remote), Some(kv)) = (&mut self.remote, self.engine.kv()) else { return };
        if let Err(fault) = remote.store(kv, tokens.len()) {
            // Ours has all of it.
            remote.tell(Event::Line(format!("{fault}; the processor goes on with its layers")));
            self.remote = None;
            self.mixed = true;
        }
    }
}
