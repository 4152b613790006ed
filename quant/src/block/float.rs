//! F32, F16 and BF16: little-endian elements, no blocks.
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::kernel::Level;

pub(super) fn quantize_f32(_: Level, src: &[f32], dst: &mut [u8], _importance: Option<&[f32]>) {
    for (bytes, x) in dst.chunks_exact_mut(4).zip(src) {
        bytes.copy_from_slice(&x.to_le_bytes());
    }
}

pub(super) fn dequantize_f32(src: &[u8], dst: &mut [f32]) {
    for (y, bytes) in dst.iter_mut().zip(src.chunks_exact(4)) {
        *y = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
}

/// Elements converted at once: half's slice conversion uses the CPU's instructions, and works on aligned halves.
const CHUNK: usize = 64;

/// Round to nearest, ties to even; values beyond 65504 become infinite, as everywhere in this format.
pub(super) fn quantize_f16(_: Level, src: &[f32], dst: &mut [u8], _importance: Option<&[f32]>) {
    let mut halves = [f16::ZERO; CHUNK];
    for (x, bytes) in src.chunks(CHUNK).zip(dst.chunks_mut(2 * CHUNK)) {
        let halves = &mut halves[..x.len()];
        halves.convert_from_f32_slice(x);
        for (bytes, h) in bytes.chunks_exact_mut(2).zip(halves) {
            bytes.copy_from_slice(&h.to_le_bytes());
        }
    }
}

pub(super) fn dequantize_f16(src: &[u8], dst: &mut [f32]) {
    let mut halves = [f16::ZERO; CHUNK];
    for (bytes, y) in src.chunks(2 * CHUNK).zip(dst.chunks_mut(CHUNK)) {
        let halves = &mut halves[..y.len()];
        for (h, bytes) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
            *h = f16::from_le_bytes([bytes[0], bytes[1]]);
        }
        halves.convert_to_f32_slice(y);
    }
}

/// Round to nearest, ties to even; a NaN stays one (quiet), whatever its payload.
pub(super) fn quantize_bf16(_: Level, src: &[f32], dst: &mut [u8], _importance: Option<&[f32]>) {
    for (bytes, x) in dst.chunks_exact_mut(2).zip(src) {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let high = if x.is_nan() { bits >> 16 | 0x40 } else { rounded };
        bytes.copy_from_slice(&(high as u16).to_le_bytes());
    }
}

pub(super) fn dequantize_bf16(src: &[u8], dst: &mut [f32]) {
    for (y, bytes) in dst.iter_mut().zip(src.chunks_exact(2)) {
        *y = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
    }
}
