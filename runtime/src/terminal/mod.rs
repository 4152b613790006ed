//! What may reach a terminal.

mod escape;

pub use escape::{escape, shown};
