//! A child that is ready to compute, and how long it may take.
use super::child::{Child, DRIVER, SHADERS, patience};
use super::{Device, Event, Fault, NEVER, Placement, Tell};
use qwren_offload::message::{Reply, Request};
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Rows whose logits are asked for at once at most.
pub const LOGITS_ROWS: usize = 16;

/// Layers in a child.
pub struct Remote {
    pub(super) child: Child,
    pub(super) device: Device,
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) vocab: usize,
    pub(super) pace: Pace,
    pub(super) output_pace: Pace,
    /// Of the last rows.
    pub(super) logits: Vec<f32>,
    /// When a reply that an interrupt left behind must have come.
    pub(super) due: Option<Instant>,
    pub(super) tell: Tell,
    pub(super) placement: Placement,
}

/// How fast the child was so far, and so how long it may take before it is taken to hang.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pace {
    /// For a token in a layer, by kinds of batches. The first of its kind, which waits for shaders to be translated, only tells
    /// that there was one.
    each: [Option<Duration>; KINDS],
    /// It passed its check.
    checked: bool,
}

/// A device slows down with heat, other work, and the length of the context.
const SLOWER: u32 = 10;
/// Kinds of batches.
const KINDS: usize = 11;

/// Batches of one kind are computed by much the same shaders, and a token takes much the same time in them.
fn kind(n: usize) -> usize {
    match n {
        0..=8 => n.saturating_sub(1),
        9..=32 => 8,
        33..=64 => 9,
        _ => 10,
    }
}

impl Pace {
    /// How long `n` tokens in `layers` layers may take.
    fn limit(self, n: usize, layers: usize) -> Duration {
        let work = u32::try_from(n.saturating_mul(layers)).unwrap_or(u32::MAX);
        let own = self.each[kind(n)];
        // Until a kind was timed: tokens take the longest when they come one by one.
        let each = own.filter(|each| !each.is_zero()).or(self.each.into_iter().flatten().max()).unwrap_or_default();
        let known = patience().saturating_add(each.saturating_mul(SLOWER).saturating_mul(work));
        // Batches of a kind may still differ in shaders, such as those for multiples of some width: the check meets most.
        let unknown = match (self.checked, own) {
            (false, _) => patience() * SHADERS,
            (true, None) => patience() * DRIVER,
            (true, Some(_)) => Duration::ZERO,
        };
        known.saturating_add(unknown)
    }

    /// What was slow for once, such as one more shader, is forgotten after some batches.
    fn learn(&mut self, took: Duration, n: usize, layers: usize) {
        let now = took / u32::try_from(n * layers).unwrap_or(u32::MAX).max(1);
        let each = &mut self.each[kind(n)];
        *each = Some(each.map_or(Duration::ZERO, |before| now.max(before * 3 / 4)));
    }

    /// From now on a kind of batch that wasn't seen yet is unusual.
    pub fn end_of_check(&mut self) {
        self.checked = true;
    }
}

impl Remote {
    /// How many layers are there: the first ones.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Which layers are computed where.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// What decides how the child's layers are rounded: which they are, the device, its driver.
    pub fn mark(&self) -> String {
        let (Device { description, driver, .. }, Placement { there, all, .. }) = (&self.device, &self.placement);
        format!("{there} of {all} layers by {description}, driver {driver}")
    }

    /// Says that the child was checked: what it does from now on should take no surprisingly long time.
    pub fn end_of_check(&mut self) {
        self.pace.end_of_check();
        self.output_pace.end_of_check();
    }

    /// Says something to whoever listens.
    pub fn tell(&mut self, event: Event) {
        (self.tell)(event);
    }

    /// Runs `range` on `x` `[n, hidden]`, tokens at positions from `start` on, in place. False when `stop` was set meanwhile: `x`
    /// is as it was, and the child goes on.
    ///
    /// # Errors
    /// The child is of no more use; `x` is as it was.
    pub fn eval(&mut self, range: Range<usize>, start: usize, x: &mut [f32], stop: &AtomicBool) -> Result<bool, Fault> {
        if !self.settle(stop)? {
            return Ok(false);
        }
        let (n, layers) = (x.len() / self.hidden, range.len());
        let limit = self.pace.limit(n, layers);
        let begin = Instant::now();
        self.child.shared.write(x);
        self.child.send(&Request::Eval { first: range.start, end: range.end, start, n })?;
        match self.child.receive(limit, stop)? {
            None => {
                self.due = Some(begin + limit);
                return Ok(false);
            }
            Some(Reply::Done) => {}
            Some(Reply::Refused(refusal)) => return Err(Fault::Refused(refusal)),
            Some(_) => return Err(Fault::Alien),
        }
        self.pace.learn(begin.elapsed(), n, layers);
        let mut y = vec![0.0; x.len()];
        self.child.shared.read(&mut y);
        self.finite(&y)?;
        x.copy_from_slice(&y);
        Ok(true)
    }

    /// The logits `[n, vocab]` of rows `x` `[n, hidden]` that the last layer gave, where the output is there.
    ///
    /// # Errors
    /// The child is of no more use.
    pub fn logits(&mut self, x: &[f32]) -> Result<&[f32], Fault> {
        // What an interrupt left behind is awaited: it takes no longer than its deadline.
        self.settle(&NEVER)?;
        self.logits.resize(x.len() / self.hidden * self.vocab, 0.0);
        let logits = &mut self.logits;
        for (x, y) in x.chunks(LOGITS_ROWS * self.hidden).zip(logits.chunks_mut(LOGITS_ROWS * self.vocab)) {
            let n = x.len() / self.hidden;
            let begin = Instant::now();
            self.child.shared.write(x);
            match self.child.ask(&Request::Logits { n }, self.output_pace.limit(n, 1))? {
                Reply::Done => {}
                Reply::Refused(refusal) => return Err(Fault::Refused(refusal)),
                _ => return Err(Fault::Alien),
            }
            self.output_pace.learn(begin.elapsed(), n, 1);
            self.child.shared.read(y);
        }
        self.finite(&self.logits)?;
        Ok(&self.logits)
    }

    /// What [`Remote::logits`] gave last.
    pub fn last_logits(&self) -> &[f32] {
        &self.logits
    }

    /// One that isn't finite makes all that follow so: a sum tells of each.
    fn finite(&self, y: &[f32]) -> Result<(), Fault> {
        let finite = y.iter().map(|v| v * 0.0).sum::<f32>() == 0.0;
        finite.then_some(()).ok_or_else(|| Fault::Nan(self.device.name.clone()))
    }

    /// Which experts the tokens of the last call went to, which ran one layer: `[n, used]`.
    ///
    /// # Errors
    /// The child is of no more use, or these are no such numbers.
    pub fn experts(&mut self, n: usize, (experts, used): (usize, usize)) -> Result<Vec<usize>, Fault> {
        let numbers = match self.child.ask(&Request::Experts, patience())? {
            Reply::Experts(numbers) => numbers,
            Reply::Refused(refusal) => return Err(Fault::Refused(refusal)),
            _ => return Err(Fault::Alien),
        };
        let numbers: Vec<usize> = numbers.into_iter().map(|e| e as usize).collect();
        let different = |of: &[usize]| of.iter().enumerate().all(|(i, e)| *e < experts && !of[..i].contains(e));
        let sound = numbers.len() == n * used && numbers.chunks_exact(used).all(different);
        sound.then_some(numbers).ok_or_else(|| Fault::Experts(self.device.name.clone()))
    }

    /// Waits for what an interrupt left behind; false when there is another.
    pub(super) fn settle(&mut self, stop: &AtomicBool) -> Result<bool, Fault> {
        let Some(due) = self.due else { return Ok(true) };
        let left = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match self.child.receive(left, stop)? {
            None => Ok(false),
            Some(_) => {
                self.due = None;
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_grow_with_the_work_and_leave_time_for_shaders() {
        let mut pace = Pace::default();
        assert_eq!(pace.limit(1, 4), patience() * (1 + SHADERS));
        // Shaders took most of it.
        pace.learn(Duration::from_secs(100), 1, 4);
        assert_eq!(pace.limit(1, 4), patience() * (1 + SHADERS));
        pace.end_of_check();
        assert_eq!(pace.limit(1, 4), patience());
        let ms = Duration::from_millis;
        pace.learn(ms(40), 1, 4);
        assert_eq!(pace.limit(1, 4), patience() + ms(40 * 10));
        pace.learn(ms(4), 1, 4);
        assert_eq!(pace.limit(1, 4), patience() + ms(30 * 10), "slow for once");
        (0..20).for_each(|_| pace.learn(ms(4), 1, 4));
        assert_eq!(pace.limit(1, 4), patience() + ms(4 * 10));
        // A kind that was not seen, then one that was not timed, by the slowest of the others; then by its own.
        assert_eq!(pace.limit(512, 4), patience() * (1 + DRIVER) + ms(512 * 4 * 10));
        pace.learn(Duration::from_secs(100), 512, 4);
        assert_eq!(pace.limit(512, 4), patience() + ms(512 * 4 * 10));
        pace.learn(ms(512), 512, 4);
        assert_eq!(pace.limit(256, 4), patience() + ms(256 * 10), "grows with the tokens");
        assert_eq!(pace.limit(256, 2), patience() + ms(128 * 10), "and with the layers");
        assert_eq!(pace.limit(1, 4), patience() + ms(4 * 10));
    }
}
