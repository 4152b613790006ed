//! Whether a device is faster than the processor: a few tokens are timed on both.
use super::{Fault, NEVER, Remote};
use std::time::{Duration, Instant};

/// Tokens whose time decides.
const TIMED: usize = 5;

/// How long a token takes, there and here: the shortest of a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// On the device.
    pub there: Duration,
    /// On the processor.
    pub here: Duration,
}

impl Times {
    fn of(
        tokens: impl Iterator<Item = usize>,
        there: &mut dyn FnMut(usize) -> Result<(), Fault>,
        here: &mut dyn FnMut(usize) -> Result<(), Fault>,
    ) -> Result<Times, Fault> {
        let timed = |work: &mut dyn FnMut(usize) -> Result<(), Fault>, i| {
            let begin = Instant::now();
            work(i).map(|()| begin.elapsed())
        };
        let mut least = Times { there: Duration::MAX, here: Duration::MAX };
        for i in tokens.take(TIMED) {
            least = Times { there: least.there.min(timed(there, i)?), here: least.here.min(timed(here, i)?) };
        }
        Ok(least)
    }

    fn and(self, other: Times) -> Times {
        Times { there: self.there.saturating_add(other.there), here: self.here.saturating_add(other.here) }
    }
}

/// Runs the child's layers here, on the token at a position.
pub type LayersHere<'a> = dyn FnMut(usize, &[f32]) -> Result<(), Fault> + 'a;
/// Gives the logits of a row here.
pub type OutputHere<'a> = dyn FnMut(&[f32]) -> Result<(), Fault> + 'a;

/// Times the child's layers on the first tokens of `x` `[n, hidden]`.
///
/// # Errors
/// The child's, or the processor's.
pub fn layers(remote: &mut Remote, x: &[f32], cpu: &mut LayersHere<'_>) -> Result<Times, Fault> {
    let tokens: Vec<&[f32]> = x.chunks_exact(remote.hidden).collect();
    let mut there = |i: usize| remote.eval(0..remote.layers, i, &mut tokens[i].to_vec(), &NEVER).map(drop);
    Times::of(0..tokens.len(), &mut there, &mut |i| cpu(i, tokens[i]))
}

/// Times the output on the first rows of `x` `[n, hidden]`, where the child has it.
///
/// # Errors
/// As [`layers`].
pub fn output(remote: &mut Remote, x: &[f32], cpu: &mut OutputHere<'_>) -> Result<Option<Times>, Fault> {
    if !remote.placement.output {
        return Ok(None);
    }
    let rows: Vec<&[f32]> = x.chunks_exact(remote.hidden).collect();
    let mut there = |i: usize| remote.logits(rows[i]).map(drop);
    Times::of(0..rows.len(), &mut there, &mut |i| cpu(rows[i])).map(Some)
}

/// What is computed on the device.
#[derive(Debug, PartialEq, Eq)]
enum Faster {
    Nothing,
    Layers,
    LayersAndOutput,
}

/// The output can't be there without the layers.
fn faster(layers: Times, output: Option<Times>) -> Faster {
    let here = output.map_or(layers, |output| layers.and(output)).here;
    let layers_there = layers.there.saturating_add(output.map_or(Duration::ZERO, |output| output.here));
    let all_there = output.map_or(Duration::MAX, |output| layers.there.saturating_add(output.there));
    if here <= layers_there.min(all_there) {
        Faster::Nothing
    } else if layers_there <= all_there {
        Faster::Layers
    } else {
        Faster::LayersAndOutput
    }
}

/// Leaves on the device what is faster there.
///
/// # Errors
/// [`Fault::Slower`] when nothing is.
pub fn decide(remote: &mut Remote, layers: Times, output: Option<Times>) -> Result<(), Fault> {
    let all = output.map_or(layers, |output| layers.and(output));
    match faster(layers, output) {
        Faster::Nothing => {
            let with = if output.is_some() { " and the output" } else { "" };
            let part = format!("{} layers{with}", remote.layers);
            return Err(Fault::Slower { device: remote.device.name.clone(), part, times: all });
        }
        Faster::LayersAndOutput => remote.placement.times = Some(all),
        Faster::Layers => {
            remote.placement.times = Some(layers);
            if output.is_some() {
                remote.placement.output = false;
                remote.placement.limit = Some("the output takes longer there".to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_of_what_is_possible_is_chosen() {
        let ms = |there, here| Times { there: Duration::from_millis(there), here: Duration::from_millis(here) };
        for (layers, output, chosen) in [
            (ms(10, 20), None, Faster::Layers),
            (ms(20, 20), None, Faster::Nothing),
            (ms(10, 20), Some(ms(3, 5)), Faster::LayersAndOutput),
            (ms(10, 20), Some(ms(8, 5)), Faster::Layers),
            (ms(10, 20), Some(ms(30, 5)), Faster::Layers),
            (ms(20, 10), Some(ms(30, 5)), Faster::Nothing),
            (ms(22, 20), Some(ms(1, 5)), Faster::LayersAndOutput),
            (ms(24, 20), Some(ms(1, 5)), Faster::Nothing),
        ] {
            assert_eq!(faster(layers, output), chosen, "{layers:?} {output:?}");
        }
    }
}
