//! How many layers go to a device, and whether the output does.
use super::{Device, Kind, Wanted, plan};
use crate::machine;
use crate::model::Model;
use crate::session::Options;

/// Memory that is left alone: what a driver takes for itself, and what else is shown on a screen.
const SPARED: u64 = 256 << 20;

/// Bytes that a batch's activations take on a device, all steps of a layer together: an estimate from above.
fn work_bytes(model: &Model, options: &Options) -> u64 {
    let hp = model.hparams();
    let ff = hp.moe.map_or(hp.ff, |m| (m.ff + hp.hidden) * m.used);
    let width = 4 * hp.hidden + 3 * hp.heads * hp.head_dim + 3 * ff;
    (options.batch as u64) * (width as u64) * 4
}

/// Layers to try first, and whether to try the output too, which follows the last layer.
pub fn first_try(model: &Model, options: &Options, wanted: Wanted, device: &Device) -> (usize, bool) {
    let all = model.layers().len();
    match wanted {
        Wanted::Count(n) => (n.min(all), n >= all),
        Wanted::All => (all, true),
        Wanted::Auto => {
            // What shares the processor's memory can't have more of it than is left.
            let shared = match device.kind {
                Kind::Discrete => None,
                _ => machine::memory_available(),
            };
            let free = device.free_bytes.min(shared.unwrap_or(u64::MAX));
            let room = free.saturating_sub(SPARED).saturating_sub(work_bytes(model, options));
            let cache = model.hparams().kv_bytes_per_position(options.type_k, options.type_v) / all as u64;
            let cache = cache.saturating_mul(options.ctx as u64);
            let mut taken = 0_u64;
            let sizes =
                model.layers().iter().map(|layer| plan::bytes(&plan::layer(model, layer)).saturating_add(cache));
            let fits = sizes
                .take_while(|&size| {
                    taken = taken.saturating_add(size);
                    taken <= room
                })
                .count();
            (fits, fits == all && taken.saturating_add(plan::output(model).bytes) <= room)
        }
    }
}

/// Layers to try after `tried` found no room, `loaded` of which had been loaded.
pub fn next_try(tried: usize, loaded: usize) -> usize {
    loaded.min(tried * 3 / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_layers_end_with_none() {
        let mut tries = vec![36];
        while tries[tries.len() - 1] > 0 {
            tries.push(next_try(tries[tries.len() - 1], usize::MAX));
        }
        assert_eq!(tries, [36, 27, 20, 15, 11, 8, 6, 4, 3, 2, 1, 0]);
        assert_eq!(next_try(36, 10), 10);
    }
}
