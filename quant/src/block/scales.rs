//! The packing that Q4_K and Q5_K share: eight 6-bit scales and eight 6-bit minimums in 12 bytes.
//!
//! Bytes 0–3 hold scales 0–3 and bytes 4–7 minimums 0–3 in their low 6 bits. Bytes 8–11 hold the low 4 bits of scales
//! 4–7 (low half) and minimums 4–7 (high half), whose upper 2 bits lie on top of bytes 0–3 and 4–7.

/// (scales, minimums) of the eight sub-blocks, each below 64.
pub(crate) fn unpack(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        let (scale, min, low) = (packed[j], packed[j + 4], packed[j + 8]);
        scales[j] = scale & 63;
        mins[j] = min & 63;
        scales[j + 4] = low & 15 | scale >> 6 << 4;
        mins[j + 4] = low >> 4 | min >> 6 << 4;
    }
    (scales, mins)
}

/// Inverse of [`unpack`], for values below 64.
pub(super) fn pack(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = scales[j] | scales[j + 4] >> 4 << 6;
        packed[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
        packed[j + 8] = scales[j + 4] & 15 | (mins[j + 4] & 15) << 4;
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_reversible() {
        let scales = [0, 63, 1, 32, 47, 16, 15, 62];
        let mins = [63, 0, 33, 31, 5, 60, 17, 48];
        assert_eq!(unpack(&pack(&scales, &mins)), (scales, mins));
    }
}
