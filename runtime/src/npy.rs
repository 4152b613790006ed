//! NumPy's .npy, format 1.0: little-endian float32, C order.

use std::io::{self, Write};

use zerocopy::IntoBytes;

/// The header of an array `[rows, cols]`.
pub fn header(rows: usize, cols: usize) -> Vec<u8> {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    // Magic, length, text and the final newline fill whole units of 64 bytes, so that the data is aligned.
    let unpadded = MAGIC.len() + 2 + dict.len() + 1;
    let padding = unpadded.next_multiple_of(64) - unpadded;
    let text = format!("{dict}{}\n", " ".repeat(padding));
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out
}

/// Appends values.
pub fn write_values(out: &mut impl Write, values: &[f32]) -> io::Result<()> {
    if cfg!(target_endian = "little") {
        return out.write_all(values.as_bytes());
    }
    values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_numpy_reads() {
        let header = header(16, 151_936);
        assert_eq!(header.len() % 64, 0);
        assert_eq!(&header[..8], b"\x93NUMPY\x01\x00");
        assert_eq!(u16::from_le_bytes([header[8], header[9]]) as usize, header.len() - 10);
        let text = std::str::from_utf8(&header[10..]).unwrap();
        assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (16, 151936), }"));
        assert!(text.ends_with(" \n"));
    }

    #[test]
    fn values_are_little_endian() {
        let mut out = Vec::new();
        write_values(&mut out, &[1.0, -2.0]).unwrap();
        assert_eq!(out, [0, 0, 128, 63, 0, 0, 0, 192]);
    }
}
