//! What qwren and a process that computes layers for it say to each other.
//!
//! qwren starts the worker with pipes as its standard input, output and error, and with open descriptors whose numbers stand
//! in its arguments: shared memory for activations, then the model's files. The worker greets; from then on each [`Request`]
//! is answered by one [`Reply`]. Messages are lines of JSON; activations, `[n, hidden]` in f32, lie in the shared memory,
//! where the reply's replace the request's, and so do rows of the KV cache. Whoever has the turn may touch it.
//!
//! * [`message`]: requests and replies
//! * [`line`]: lines over a pipe
//! * [`shared`]: the memory
//! * [`worker`]: the worker's side
#![deny(unsafe_code)]

pub mod line;
pub mod message;
#[expect(unsafe_code, reason = "memory that another process writes to")]
pub mod shared;
pub mod worker;

/// Changes whenever a message does: only programs of the same version work together.
pub const VERSION: u32 = 4;
