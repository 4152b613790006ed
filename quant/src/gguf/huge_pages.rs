//! Moving a mapped file into huge pages while others read it: a third more decoding speed, since far fewer page tables are
//! walked. A file system's own pages are small.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::Mmap;
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags, madvise, mmap_anonymous, mprotect};
use rustix::mm::{mremap_fixed, munmap};

/// Moved at a time: little memory on top of the file's, and few enough mappings for the largest model (Linux allows a
/// process 65,530).
const PIECE: usize = 8 << 20;

/// The files of a model and the maps of them that somebody reads.
pub struct HugePages {
    pub(super) parts: Vec<(File, Arc<Mmap>)>,
}

impl HugePages {
    /// Moves the files, piece by piece: reads each into huge pages of this process and puts these where the file is mapped,
    /// at the same addresses. So memory never holds much more than the files. `progress` hears how many bytes were moved.
    /// Ends early when `stop` is set, and does nothing where the system has no huge pages for programs.
    ///
    /// # Errors
    /// A file can't be read any more, or there is no memory; what was not moved stays mapped.
    pub fn fill(&self, stop: &AtomicBool, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let Some(huge) = huge_page_bytes().filter(|&huge| huge <= PIECE) else { return Ok(()) };
        let mut done = 0;
        for (file, map) in &self.parts {
            // The beginning and the end, where no whole huge page fits, stay mapped.
            let (mut at, end) = (map.as_ptr().align_offset(huge), map.len());
            while at + huge <= end {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let len = PIECE.min(end - at) / huge * huge;
                let mut copy = Anonymous::new(len, huge)?;
                file.read_exact_at(copy.bytes_mut(), at as u64)?;
                copy.replace(map, at)?;
                at += len;
                done += len as u64;
                progress(done);
            }
        }
        Ok(())
    }
}

/// The size of a huge page; none where programs can't have any.
fn huge_page_bytes() -> Option<usize> {
    let read = |name| std::fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{name}")).ok();
    if read("enabled")?.contains("[never]") {
        return None;
    }
    read("hpage_pmd_size")?.trim().parse().ok().filter(|n: &usize| n.is_power_of_two())
}

/// Zeroed memory of our own, in huge pages if the system has any left.
struct Anonymous {
    start: *mut c_void,
    len: usize,
}

impl Anonymous {
    /// `len` bytes at a multiple of `align`, both powers of two times the page size.
    fn new(len: usize, align: usize) -> io::Result<Anonymous> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the system finds room: nothing else is touched.
        let base = unsafe { mmap_anonymous(null_mut(), len + align, access, MapFlags::PRIVATE)? };
        let lead = base.align_offset(align);
        let start = base.wrapping_byte_add(lead);
        for (from, len) in [(base, lead), (start.wrapping_byte_add(len), align - lead)] {
            if len > 0 {
                // SAFETY: the ends of the mapping that was just made, outside of `start..start + len`; nobody knows them.
                unsafe { munmap(from, len)? };
            }
        }
        let memory = Anonymous { start, len };
        // SAFETY: memory of ours. A wish: in small pages it is a copy like any other.
        let _ = unsafe { madvise(start, len, Advice::LinuxHugepage) };
        Ok(memory)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len` readable, writable, zeroed bytes that only `self` knows, borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.len) }
    }

    /// Takes the place of the bytes `at..at + len` of `map`, which it holds a copy of.
    ///
    /// # Panics
    /// The map has no such bytes.
    fn replace(self, map: &Mmap, at: usize) -> io::Result<()> {
        let target = map[at..at + self.len].as_ptr().cast_mut().cast();
        // SAFETY: memory of ours; like the map that it becomes a part of, it will only be read.
        unsafe { mprotect(self.start, self.len, MprotectFlags::READ)? };
        // SAFETY: both ranges are whole pages: ours, which nobody else knows, and one inside `map`, which stays mapped with
        // its length and its access, and is unmapped with the rest of it (`munmap` takes a range of several mappings).
        // References into `map` stay true: the bytes at each address are those of the file before and after, which is all
        // that its readers rely on, and there is no moment between the two: the system changes the mapping under its lock,
        // and a thread that touches the range meanwhile waits for that in its page fault.
        unsafe { mremap_fixed(self.start, self.len, self.len, MremapFlags::MAYMOVE, target)? };
        // Its addresses are nobody's now, or soon somebody else's.
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Anonymous {
    fn drop(&mut self) {
        // SAFETY: memory of ours, which nothing borrows any more.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Many bytes that differ from page to page, and no whole number of huge pages.
    fn contents() -> Vec<u8> {
        (0..(21u32 << 20) + 12_345).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    #[test]
    fn readers_see_the_same_bytes_while_they_move() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes = contents();
        file.write_all(&bytes).unwrap();
        // SAFETY: nobody else knows the file.
        let map = Arc::new(unsafe { Mmap::map(&file) }.unwrap());
        let pages = HugePages { parts: vec![(file.try_clone().unwrap(), map.clone())] };
        let moved = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !moved.load(Ordering::Relaxed) {
                        assert!(map[..] == bytes[..]);
                    }
                });
            }
            let mut done = 0;
            pages.fill(&AtomicBool::new(false), &mut |n| done = n).unwrap();
            moved.store(true, Ordering::Relaxed);
            assert!(huge_page_bytes().is_none() || done >= 16 << 20, "{done}");
        });
        assert!(map[..] == bytes[..]);
        if huge_page_bytes().is_some() {
            // The file's own pages would show this.
            file.write_all_at(&[!bytes[10 << 20]], 10 << 20).unwrap();
            assert_eq!(map[10 << 20], bytes[10 << 20]);
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_and_its_map_stays() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes = contents();
        file.write_all(&bytes).unwrap();
        // SAFETY: nobody else knows the file.
        let map = Arc::new(unsafe { Mmap::map(&file) }.unwrap());
        let pages = HugePages { parts: vec![(file.try_clone().unwrap(), map.clone())] };
        file.set_len(5).unwrap();
        assert_eq!(pages.fill(&AtomicBool::new(false), &mut |_| ()).is_err(), huge_page_bytes().is_some());
        assert_eq!(map[..5], bytes[..5]);
        // Nothing to do is no error.
        assert!(pages.fill(&AtomicBool::new(true), &mut |_| ()).is_ok());
    }
}
