//! Where tensors lie: aligned, inside the file, and none on top of another.

use super::error::{GgufError, Quoted};
use super::header::TensorInfo;

/// Checks the spans of `tensors` in a file of `file_len` bytes whose data start at `data_offset`.
pub(super) fn check(tensors: &[TensorInfo], alignment: u64, data_offset: u64, file_len: u64) -> Result<(), GgufError> {
    let mut sum = data_offset;
    let mut last: Option<(u64, &TensorInfo)> = None;
    for t in tensors {
        let overflow = || GgufError::SizeOverflow { name: Quoted::new(&t.name) };
        if !t.offset.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned { name: Quoted::new(&t.name), offset: t.offset, alignment });
        }
        sum = sum.checked_add(t.bytes).ok_or_else(overflow)?;
        let end = data_offset.checked_add(t.offset).and_then(|start| start.checked_add(t.bytes));
        let end = end.ok_or_else(overflow)?;
        if last.is_none_or(|(furthest, _)| end > furthest) {
            last = Some((end, t));
        }
    }
    if let Some((end, t)) = last.filter(|&(end, _)| end > file_len) {
        return Err(GgufError::PastEnd { name: Quoted::new(&t.name), end, file_len });
    }

    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    for pair in order.windows(2) {
        // No end overflows: all were computed above.
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            return Err(GgufError::Overlap { first: Quoted::new(&pair[0].name), second: Quoted::new(&pair[1].name) });
        }
    }
    Ok(())
}
