//! `qwren-gpu`: computes layers of Qwen3 models for qwren on a Vulkan device. qwren starts it (`qwren -ngl N`); what the two say to
//! each other stands in the crate `qwren-offload`.
//!
//! ggml and the drivers below it end the process when something is wrong. That is what this process is for.
#![deny(unsafe_code)]

mod device;
#[expect(unsafe_code, reason = "the one place that calls ggml")]
mod ggml;
mod graph;
mod layers;
mod output;
#[expect(unsafe_code, reason = "the one place that calls the Vulkan loader")]
mod vulkan;
mod worker;

use std::env;
use std::process::ExitCode;

use qwren_offload::worker::{descriptors, serve};

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let ended = match args.next().as_deref() {
        Some("serve") => descriptors(args).and_then(|(memory, files)| {
            ggml::quiet();
            serve(&mut worker::Gpu::default(), memory, &files)
        }),
        Some("--version") => {
            println!("qwren-gpu {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("qwren-gpu is started by qwren: see `qwren complete --help`, -ngl, and `qwren devices`");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("qwren-gpu: {err}");
            ExitCode::FAILURE
        }
    }
}
