//! Shorthand for tests that evaluate models, and measures of how far two results are apart.
use std::sync::atomic::AtomicBool;

use qwren::session::{KvType, Options, Session, Threads};

/// A flag that stays unset.
pub static NEVER: AtomicBool = AtomicBool::new(false);

/// Settings for exact comparisons: float32 KV cache, one thread.
pub fn exact(ctx: usize) -> Options {
    let threads = Threads { decode: 1, prefill: 1 };
    Options { ctx, batch: 512, threads, type_k: KvType::F32, type_v: KvType::F32, stock_ops: false }
}

/// Logits of the last `last` tokens, with the tokens evaluated in groups of the sizes `splits`, repeated as needed.
///
/// # Panics
/// When evaluation fails.
pub fn logits(session: &mut Session<'_>, tokens: &[u32], splits: &[usize], last: usize) -> Vec<f32> {
    session.truncate(0);
    let (mut out, mut rest, mut sizes) = (Vec::new(), tokens, splits.iter().cycle());
    while !rest.is_empty() {
        let (now, later) = rest.split_at((*sizes.next().expect("a split")).min(rest.len()));
        let wanted = last.saturating_sub(later.len());
        out.extend(session.eval_all(now, wanted).expect("evaluation"));
        rest = later;
    }
    out
}

/// The greedy continuation of `tokens` by `n` tokens.
///
/// # Panics
/// When evaluation fails.
pub fn greedy(session: &mut Session<'_>, tokens: &[u32], n: usize) -> Vec<u32> {
    session.truncate(0);
    let (mut out, mut next) = (Vec::new(), tokens.to_vec());
    while out.len() < n {
        let logits = session.eval(&next, &NEVER, &mut |_, _| ()).expect("evaluation");
        next = vec![argmax(logits)];
        out.push(next[0]);
    }
    out
}

/// The index of the largest value.
pub fn argmax(x: &[f32]) -> u32 {
    (0..x.len()).reduce(|a, b| if x[b] > x[a] { b } else { a }).expect("a value") as u32
}

/// Standard deviation.
pub fn deviation(x: &[f32]) -> f64 {
    let n = x.len() as f64;
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// Largest difference.
///
/// # Panics
/// When the lengths differ or something is not a number.
pub fn max_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, |m, d| if d.is_nan() { panic!("not a number") } else { m.max(d) })
}

/// Probabilities' logarithms from logits.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    logits.iter().map(|&x| f64::from(x - max) - sum.ln()).collect()
}

/// Mean Kullback-Leibler divergence of rows of logits `q` from rows `p`, `[n, vocab]` both, in nats.
///
/// # Panics
/// When the lengths differ.
pub fn mean_kl(p: &[f32], q: &[f32], vocab: usize) -> f64 {
    assert_eq!(p.len(), q.len());
    let rows = p.chunks_exact(vocab).zip(q.chunks_exact(vocab));
    let sum: f64 = rows
        .map(|(p, q)| {
            let (p, q) = (log_softmax(p), log_softmax(q));
            p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
        })
        .sum();
    sum / (p.len() / vocab) as f64
}
