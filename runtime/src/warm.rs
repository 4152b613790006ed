//! Reads a model's files into memory before they are used: in their order, in large pieces, as disks like it. Left to page
//! faults, a cold start reads a few KiB at a time, in the order of the computation.

use std::time::{Duration, Instant};

use qwren::machine;
use qwren::model::Model;
use qwren_quant::gguf::{GgufError, PIECE};

use crate::console::Console;
use crate::units::bytes;

/// Silence is fine for so long: what the system has cached takes less.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reads all of `model`, telling a terminal how far it is: into huge pages where there is room for them beside the `cache` bytes
/// of a full cache and the system's own copy of the file, else where it is mapped. A model that doesn't fit the memory is left
/// where it is: its end would push out its beginning.
pub fn warm(model: &mut Model, cache: u64, mapped: bool, console: Console) -> Result<(), GgufError> {
    let (start, total) = (Instant::now(), model.gguf().file_len());
    let mut shown = false;
    let mut progress = |done: u64| {
        if start.elapsed() > PATIENCE {
            shown = true;
            console.progress(format_args!("reading the model: {} of {}", bytes(done), bytes(total)));
        }
    };
    let mut read = Ok(());
    if !mapped && machine::has_room_for(total.saturating_mul(2).saturating_add(cache)) {
        read = model.copy_to_huge_pages(&mut progress);
    } else if machine::has_room_for(total) {
        let mut done = 0;
        for part in model.gguf().parts() {
            let len = part.bytes().len();
            for from in (0..len).step_by(PIECE) {
                let to = (from + PIECE).min(len);
                part.read_ahead(from..to);
                done += (to - from) as u64;
                progress(done);
            }
        }
    }
    if shown {
        console.end_progress();
    }
    read
}
