//! qwren-convert: the files that it writes, and what it does with folders that it can't convert.

mod bad_checkpoints;
mod bad_tokenizers;
mod dumps;
mod limits;
mod manifest;
mod program;
mod published;
mod quantized;
mod resume;
mod room;
mod running;
mod splits;
mod support;
mod values;
