//! Block formats, the GGUF container and the CPU kernels of qwren. Knows nothing of models, tokenizers or ggml.
pub mod act;
pub mod block;
pub mod dtype;
pub mod gguf;
pub mod huge_pages;
pub mod imatrix;
pub mod kernel;
pub mod manifest;
