//! Reading a prompt: what the cache holds is kept, the rest is evaluated while somebody may watch.

use std::time::{Duration, Instant};

use qwren::session::EvalError;

use super::Engine;
use crate::progress::PromptProgress;
use crate::units::rate;

/// Where somebody watches, no part of a prompt takes much longer than this on a slow machine.
const STEP: Duration = Duration::from_secs(1);
/// The least that is evaluated at once: below it reading loses speed.
const LEAST: usize = 64;

/// Brings the cache to the end of `ids`, which has a token at least, and gives the logits of the last one, `[vocab]`, and
/// how many tokens the cache held already.
///
/// The last token is evaluated in any case, since its logits are wanted.
pub(super) fn read(engine: &mut Engine<'_, '_>, ids: &[u32]) -> (Result<Vec<f32>, EvalError>, usize) {
    let reused = common_prefix(engine.session.tokens(), ids).min(ids.len().saturating_sub(1));
    engine.session.truncate(reused);
    let mut rest = &ids[reused..];
    let total = rest.len();
    let mut progress = PromptProgress::new(engine.console);
    // How a prompt is cut changes no bit of the result, so a watched one is cut by time.
    let mut size = if engine.console.shows_progress() { LEAST } else { total.max(1) };
    loop {
        let (now, later) = rest.split_at(size.min(rest.len()));
        let (done, start) = (total - rest.len(), Instant::now());
        let mut report = |part, _| progress.update(done + part, total);
        let logits = match engine.session.eval(now, engine.interrupt, &mut report) {
            Ok(logits) => logits,
            Err(err) => return (Err(err), reused),
        };
        if later.is_empty() {
            return (Ok(logits.to_vec()), reused);
        }
        rest = later;
        size = ((rate(now.len(), start.elapsed()) * STEP.as_secs_f64()) as usize).max(LEAST);
    }
}

/// How many tokens two sequences begin with in common.
fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
