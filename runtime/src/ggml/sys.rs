//! Raw declarations. The bindings of `ggml_sys_bleedingedge` cover ggml.h; ggml-alloc.h and ggml-backend.h are in its
//! static library but not bound, so the few functions needed are declared here, as those headers have them at b2757.
pub use ggml_sys_bleedingedge::*;
use std::os::raw::{c_int, c_void};

/// A device that computes graphs.
#[repr(C)]
pub struct ggml_backend {
    _opaque: [u8; 0],
}
/// A kind of memory.
#[repr(C)]
pub struct ggml_backend_buffer_type {
    _opaque: [u8; 0],
}
/// Gives the tensors of a graph their memory, reusing it between tensors that are not alive together.
#[repr(C)]
pub struct ggml_gallocr {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    pub fn ggml_backend_cpu_init() -> *mut ggml_backend;
    pub fn ggml_backend_free(backend: *mut ggml_backend);
    pub fn ggml_backend_cpu_set_n_threads(backend: *mut ggml_backend, n_threads: c_int);
    pub fn ggml_backend_cpu_set_abort_callback(
        backend: *mut ggml_backend,
        callback: ggml_abort_callback,
        data: *mut c_void,
    );
    pub fn ggml_backend_graph_compute(backend: *mut ggml_backend, graph: *mut ggml_cgraph) -> ggml_status;
    pub fn ggml_backend_cpu_buffer_type() -> *mut ggml_backend_buffer_type;
    pub fn ggml_backend_buffer_clear(buffer: *mut ggml_backend_buffer, value: u8);
    pub fn ggml_gallocr_new(buffer_type: *mut ggml_backend_buffer_type) -> *mut ggml_gallocr;
    pub fn ggml_gallocr_free(allocator: *mut ggml_gallocr);
    pub fn ggml_gallocr_alloc_graph(allocator: *mut ggml_gallocr, graph: *mut ggml_cgraph) -> bool;
}
