//! The only place that touches ggml, and with `pool.rs` the only unsafe code of the runtime.
//!
//! ggml aborts the process on a wrong shape and reads foreign memory on a wrong index, so everything is checked here
//! before ggml sees it: a caller of this module can get an error and nothing else.
//!
//! * [`graph`]: building, allocating and computing a graph; weights that lie in a mapped file
//! * [`custom`]: our own code as nodes of a graph
//! * [`stock`]: ggml's own operations, for `--stock-ops`
//! * [`tiles`]: disjoint parts of a node's output, for workers that fill it together
//!
//! Shapes in ggml's order: `[cols, rows, …]`, the first dimension is the contiguous one. `n_threads` is always 1: ggml's
//! own threads spin at barriers without end, ours (`pool.rs`) work inside the custom nodes.
pub mod custom;
pub mod graph;
pub mod stock;
#[allow(non_camel_case_types, missing_docs)]
mod sys;
#[cfg(test)]
mod tests;
pub mod tiles;

pub use custom::{Fault, Io, Op};
pub use graph::{Backend, Builder, Graph, Region, Tensor};
pub use tiles::{Tile, Tiles};

/// Why a graph can't be built.
#[derive(Debug, thiserror::Error)]
pub enum GgmlError {
    /// ggml gave no context, graph or backend.
    #[error("ggml could not allocate its {0}")]
    Init(&'static str),
    /// The graph got more tensors than its builder was made for.
    #[error("a graph has more than {0} tensors")]
    Full(usize),
    /// Operands whose types or shapes don't fit together: a fault of ours.
    #[error("{op} can't take tensors of these shapes: {shapes:?}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The operands' shapes in ggml's order.
        shapes: Vec<[usize; 4]>,
    },
    /// A tensor of another graph: a fault of ours.
    #[error("a tensor belongs to another graph")]
    Foreign,
    /// The memory for a graph's tensors is not there.
    #[error("no memory for the tensors of a graph")]
    Memory,
    /// A type that this version of ggml lacks.
    #[error("ggml's stock operations can't read tensors of type {0}; run without --stock-ops")]
    Type(&'static str),
    /// A type of cache that its operations can't fill.
    #[error(
        "ggml's stock operations can't keep a cache of type {0}; run with -ctk f16 -ctv f16 or without --stock-ops"
    )]
    Cache(&'static str),
    /// RoPE scaling, which this version of ggml computes wrongly.
    #[error("ggml's stock operations can't stretch positions as this model does; run without --stock-ops")]
    RopeScaling,
}
