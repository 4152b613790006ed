//! Memory in huge pages: large tables that are read from end to end, again and again, are read a third faster, since far fewer
//! page tables are walked.

use std::ffi::c_void;
use std::io;
use std::ops::Deref;
use std::ptr::null_mut;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Asked of the system at a time. What is not used of it takes no memory, up to a huge page.
const CHUNK: usize = 32 << 20;

/// Regions begin at cache lines.
const ALIGN: usize = 64;

/// The size of huge pages where the system tells none.
const USUAL_HUGE_PAGE: usize = 2 << 20;

/// Gives out memory that is freed when the last of what lies beside it is.
#[derive(Default)]
pub struct Arena {
    chunk: Option<Arc<Chunk>>,
    /// What was given out of it.
    used: usize,
}

impl Arena {
    /// `len` zeroed bytes.
    ///
    /// # Errors
    /// There is no memory.
    pub fn take(&mut self, len: usize) -> io::Result<Region> {
        let chunk = match &self.chunk {
            Some(chunk) if chunk.len - self.used >= len => chunk.clone(),
            _ => {
                self.used = 0;
                self.chunk.insert(Arc::new(Chunk::new(CHUNK.max(len))?)).clone()
            }
        };
        let start = chunk.start.wrapping_byte_add(self.used).cast();
        self.used = chunk.len.min((self.used + len).next_multiple_of(ALIGN));
        Ok(Region { start, len, _chunk: chunk })
    }
}

/// Memory of one owner.
pub struct Region {
    start: *mut u8,
    len: usize,
    /// Keeps the memory.
    _chunk: Arc<Chunk>,
}

// SAFETY: a region's bytes are its own (see `bytes_mut`), so that it may be used and dropped on any thread, like a Box.
unsafe impl Send for Region {}
// SAFETY: through a shared region bytes are only read.
unsafe impl Sync for Region {}

impl Region {
    /// Its bytes, to be set.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `Arena::take` gave these `len` bytes of the chunk, which is readable, writable and zeroed, to this region
        // alone: `used` never falls within a chunk. The chunk lives as long as the region; the borrow of `self` is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`; nobody writes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// Anonymous memory, in huge pages if the system has any left.
struct Chunk {
    start: *mut c_void,
    len: usize,
}

// SAFETY: nothing is done with the pointer but handing out parts of it; unmapping may happen on any thread.
unsafe impl Send for Chunk {}
// SAFETY: as above; a shared chunk can do nothing.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(len: usize) -> io::Result<Chunk> {
        let huge = huge_page_bytes();
        let len = len.next_multiple_of(huge);
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the system finds room: nothing else is touched.
        let base = unsafe { mmap_anonymous(null_mut(), len + huge, access, MapFlags::PRIVATE)? };
        let lead = base.align_offset(huge);
        let start = base.wrapping_byte_add(lead);
        for (from, len) in [(base, lead), (start.wrapping_byte_add(len), huge - lead)] {
            if len > 0 {
                // SAFETY: the ends of the mapping that was just made, outside of `start..start + len`; nobody knows them.
                unsafe { munmap(from, len)? };
            }
        }
        let chunk = Chunk { start, len };
        // SAFETY: memory of ours. A wish: small pages hold the same.
        let _ = unsafe { madvise(start, len, Advice::LinuxHugepage) };
        Ok(chunk)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: memory of ours; each region in it held a reference to this chunk, so there is none left.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}

/// The size of a huge page.
fn huge_page_bytes() -> usize {
    let read = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").ok();
    let bytes = read.and_then(|text| text.trim().parse().ok());
    bytes.filter(|n: &usize| n.is_power_of_two() && (1 << 16..=CHUNK).contains(n)).unwrap_or(USUAL_HUGE_PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zeroed_and_do_not_overlap() {
        let mut arena = Arena::default();
        let mut regions: Vec<Region> =
            [1, 100, 64, CHUNK - 4096, 0, CHUNK + 1, 7].into_iter().map(|len| arena.take(len).unwrap()).collect();
        for (i, region) in regions.iter_mut().enumerate() {
            assert!(region.iter().all(|&byte| byte == 0));
            region.bytes_mut().fill(i as u8 + 1);
        }
        for (i, region) in regions.iter().enumerate() {
            assert!(region.iter().all(|&byte| byte == i as u8 + 1), "region {i}");
            assert_eq!(region.as_ptr().align_offset(ALIGN), 0);
        }
        assert_eq!(regions.iter().map(|region| region.len()).collect::<Vec<_>>()[..3], [1, 100, 64]);
    }

    #[test]
    fn memory_is_kept_while_any_of_it_is_used() {
        let mut arena = Arena::default();
        let (first, mut second) = (arena.take(10).unwrap(), arena.take(10).unwrap());
        second.bytes_mut().fill(9);
        drop((first, arena));
        assert_eq!(*second, [9; 10]);
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        assert!(Arena::default().take(1 << 60).is_err());
    }
}
