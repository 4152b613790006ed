//! ggml's own C code as a second opinion on blocks.
use std::ffi::c_void;
use std::sync::Once;

use ggml_sys_bleedingedge as ggml;
use qwren_quant::block::codec;
use qwren_quant::dtype::DType;

/// Fills the tables of half-precision numbers that ggml's C code reads.
fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let params = ggml::ggml_init_params { mem_size: 1 << 12, mem_buffer: std::ptr::null_mut(), no_alloc: true };
        // SAFETY: a small context of our own, freed once.
        unsafe { ggml::ggml_free(ggml::ggml_init(params)) };
    });
}

/// ggml's blocks for rows of `cols` columns, with a weight for each column.
///
/// # Panics
/// If `x` is no whole number of rows, or the weights are no row.
pub fn quantize(dtype: DType, cols: usize, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    init();
    assert!(x.len().is_multiple_of(cols) && importance.is_none_or(|w| w.len() == cols));
    let mut bytes = vec![0u8; dtype.row_bytes(x.len() as u64).expect("a size") as usize];
    // SAFETY: source and target hold whole rows of `cols` columns, the weights one row.
    let written = unsafe {
        ggml::ggml_quantize_chunk(
            dtype.ggml_id(),
            x.as_ptr(),
            bytes.as_mut_ptr().cast::<c_void>(),
            0,
            (x.len() / cols) as i64,
            cols as i64,
            importance.map_or(std::ptr::null(), <[f32]>::as_ptr),
        )
    };
    assert_eq!(written, bytes.len());
    bytes
}

/// The values of whole blocks, as ggml computes them.
///
/// # Panics
/// For a type that this ggml lacks.
pub fn dequantize(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    init();
    let mut y = vec![0f32; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    if dtype == DType::F32 {
        codec(dtype).expect("f32 has a codec").dequantize(bytes, &mut y);
        return y;
    }
    // SAFETY: the type is one that this ggml has; its row function reads whole blocks and writes their elements.
    unsafe {
        let traits = ggml::ggml_internal_get_type_traits(dtype.ggml_id());
        traits.to_float.expect("a type that ggml can read")(
            bytes.as_ptr().cast::<c_void>(),
            y.as_mut_ptr(),
            y.len() as i64,
        );
    }
    y
}
