//! How much arithmetic and memory traffic a token takes.

use std::time::Duration;

use qwren::model::{Ffn, Model, Weight};
use qwren::session::Options;

use super::report::{Decode, Limits, Prefill};
use crate::units::rate;

/// A model's work for one token.
pub struct Work {
    /// Multiply-adds with the layers' weight matrices; attention and the output head are left out.
    macs: f64,
    /// Bytes of weights read, output head included; of a mixture of experts those that a token uses.
    weight_bytes: f64,
    /// Bytes of cache read for each position before the token.
    position_bytes: f64,
    /// What the processor can do, where it does all of the work.
    limits: Option<Limits>,
}

impl Work {
    /// Adds up the matrices.
    pub fn of(model: &Model, options: &Options, limits: Option<Limits>) -> Work {
        let used = model.hparams().moe.map_or(1.0, |moe| moe.used as f64);
        let mut work = Work { macs: 0.0, weight_bytes: 0.0, position_bytes: 0.0, limits };
        let mut add = |weight: &Weight, times: f64| {
            work.macs += (weight.rows * weight.cols) as f64 * times;
            work.weight_bytes += weight.info.bytes as f64 / weight.count as f64 * times;
        };
        for layer in model.layers() {
            [&layer.q, &layer.k, &layer.v, &layer.o].into_iter().for_each(|w| add(w, 1.0));
            match &layer.ffn {
                Ffn::Dense { gate, up, down } => [gate, up, down].into_iter().for_each(|w| add(w, 1.0)),
                Ffn::Experts { router, gate, up, down } => {
                    add(router, 1.0);
                    [gate, up, down].into_iter().for_each(|w| add(w, used));
                }
            }
        }
        work.weight_bytes += model.output().info.bytes as f64;
        let hparams = model.hparams();
        work.position_bytes = hparams.kv_bytes_per_position(options.type_k, options.type_v) as f64;
        work
    }

    /// The figures of reading `tokens` tokens in `time`.
    pub fn prefill(&self, tokens: usize, time: Duration) -> Prefill {
        let tokens_per_s = rate(tokens, time);
        let macs_per_s = tokens_per_s * self.macs;
        let share_of_limit = self.limits.map(|limits| macs_per_s / limits.macs_per_s);
        Prefill { tokens, tokens_per_s, gmac_per_s: macs_per_s / 1e9, share_of_limit }
    }

    /// The figures of writing `n` tokens after `depth` others in `time`.
    pub fn decode(&self, depth: usize, n: usize, time: Duration) -> Decode {
        let tokens_per_s = rate(n, time);
        let mean_positions = depth as f64 + (n as f64 + 1.0) / 2.0;
        let bytes_per_s = tokens_per_s * (self.weight_bytes + self.position_bytes * mean_positions);
        Decode {
            depth,
            tokens_per_s,
            gb_per_s: bytes_per_s / 1e9,
            share_of_limit: self.limits.and_then(|limits| limits.read_bytes_per_s).map(|most| bytes_per_s / most),
        }
    }
}

#[cfg(test)]
mod tests {
    use qwren::session::Threads;

    use super::*;

    #[test]
    fn rates_follow_from_time_and_work() {
        let limits =
            Some(Limits { threads: Threads { decode: 1, prefill: 1 }, read_bytes_per_s: Some(4e9), macs_per_s: 4e11 });
        let work = Work { macs: 2e9, weight_bytes: 1e9, position_bytes: 1e6, limits };
        let prefill = work.prefill(100, Duration::from_secs(2));
        assert_eq!((prefill.tokens_per_s, prefill.gmac_per_s, prefill.share_of_limit), (50.0, 100.0, Some(0.25)));
        let decode = work.decode(1000, 63, Duration::from_secs(63));
        assert_eq!((decode.tokens_per_s, decode.gb_per_s, decode.share_of_limit), (1.0, 2.032, Some(0.508)));
    }
}
