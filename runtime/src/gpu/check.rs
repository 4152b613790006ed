//! A child's results beside the processor's: drivers exist that compute wrong numbers without a word, for one type of weights
//! or one size of batch.
use super::remote::LOGITS_ROWS;
use super::{Fault, NEVER, Remote};
use crate::model::{Ffn, Layer, Model};
use qwren_quant::dtype::DType;

/// Tokens computed together. Products with few columns, and with up to 32, 64 and more of them, are made by different shaders; the
/// last three see more positions than a device looks at at once.
const SIZES: [usize; 11] = [96, 48, 24, 4, 1, 1, 1, 1, 96, 4, 1];
/// Tokens in all.
pub const TOKENS: usize = 277;

/// How far a token's result may be off, of what the layer adds to it: the processor rounds activations to 8 bits, which makes
/// about one per cent.
const OFF: f64 = 0.1;
/// How much better an expert left out may be by our scores, in their standard deviations: where two are almost as good as each
/// other, that one per cent decides. A choice without reason misses the best by more.
const REGRET: f32 = 0.25;

/// The types of a layer's matrices: layers that share them are computed by the same shaders.
fn types(layer: &Layer) -> Vec<DType> {
    layer.matrices().into_iter().map(|w| w.info.dtype).collect()
}

/// One layer of each kind among `layers`.
pub fn kinds(layers: &[Layer]) -> Vec<usize> {
    let mut seen: Vec<Vec<DType>> = Vec::new();
    let mut kinds = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let types = types(layer);
        if !seen.contains(&types) {
            seen.push(types);
            kinds.push(i);
        }
    }
    kinds
}

/// A batch for one layer.
pub struct Batch<'a> {
    /// The layer.
    pub layer: usize,
    /// Position of the first token.
    pub start: usize,
    /// `[n, hidden]`
    pub x: &'a [f32],
    /// The experts that its tokens go to, `[n, used]`, where the layer has any.
    pub experts: Option<Vec<usize>>,
}

/// What comes of a batch on the processor.
pub struct Here {
    /// `[n, hidden]`
    pub y: Vec<f32>,
    /// See [`crate::ops::moe::Choice::regret`]; empty without experts.
    pub regret: Vec<f32>,
}

/// Runs a batch here.
pub type LayerHere<'a> = dyn FnMut(Batch<'_>) -> Result<Here, Fault> + 'a;

/// Runs a layer of each kind of `model` on `x` `[TOKENS, hidden]` in batches of all sizes up to `batch`, there and here.
/// Positions lie in `ctx`. Where there are experts, tokens go here to those that were chosen there, and the choice is judged
/// apart: who rounds otherwise chooses otherwise between two that are almost as good.
///
/// # Errors
/// Results differ, or the child fails.
pub fn check(
    remote: &mut Remote,
    model: &Model,
    x: &[f32],
    (batch, ctx): (usize, usize),
    cpu: &mut LayerHere<'_>,
) -> Result<(), Fault> {
    let (hidden, layers) = (remote.hidden, model.layers());
    for i in kinds(&layers[..remote.layers]) {
        let experts = match &layers[i].ffn {
            Ffn::Experts { router, .. } => model.hparams().moe.map(|moe| (router.rows, moe.used)),
            Ffn::Dense { .. } => None,
        };
        let mut start = 0;
        let mut rest = x;
        for n in SIZES.map(|n| n.min(batch)) {
            let (now, later) = rest.split_at(n * hidden);
            rest = later;
            // A short context begins anew.
            start = if start + n > ctx { 0 } else { start };
            let mut there = now.to_vec();
            remote.eval(i..i + 1, start, &mut there, &NEVER)?;
            let experts = experts.map(|sizes| remote.experts(n, sizes)).transpose()?;
            let here = cpu(Batch { layer: i, start, x: now, experts })?;
            let device = || remote.device.name.clone();
            if !here.regret.iter().all(|&regret| regret <= REGRET) {
                return Err(Fault::Choice { device: device(), layer: i, n });
            }
            let off = errors(now, &here.y, &there, hidden);
            if !off.iter().all(|&off| off <= OFF) {
                let worst = off.into_iter().fold(0.0, f64::max);
                return Err(Fault::Wrong { device: device(), part: format!("layer {i}"), n, off: worst * 100.0 });
            }
            start += n;
        }
    }
    Ok(())
}

/// Gives the logits `[n, vocab]` of rows `[n, hidden]` here.
pub type OutputHere<'a> = dyn FnMut(&[f32]) -> Result<Vec<f32>, Fault> + 'a;

/// Rows that logits are compared for at once.
const ROWS: [usize; 4] = [LOGITS_ROWS, 4, 1, 1];

/// Compares the output, where the child has it, on rows of `x` `[TOKENS, hidden]` in batches of several sizes, with the logits
/// that `cpu` gives for rows.
///
/// # Errors
/// As [`check`].
pub fn output(remote: &mut Remote, x: &[f32], cpu: &mut OutputHere<'_>) -> Result<(), Fault> {
    if !remote.placement().output {
        return Ok(());
    }
    let mut rest = x;
    for n in ROWS {
        let (now, later) = rest.split_at(n * remote.hidden);
        rest = later;
        let here = cpu(now)?;
        let there = remote.logits(now)?;
        let vocab = here.len() / n;
        let off = errors(&vec![0.0; here.len()], &here, there, vocab);
        if !off.iter().all(|&off| off <= OFF) {
            let (device, worst) = (remote.device.name.clone(), off.into_iter().fold(0.0, f64::max));
            return Err(Fault::Wrong { device, part: "the output".into(), n, off: worst * 100.0 });
        }
    }
    Ok(())
}

/// For each token `|there - here| / |here - x|`, the lengths of vectors: the error of what the layer adds.
fn errors(x: &[f32], here: &[f32], there: &[f32], hidden: usize) -> Vec<f64> {
    let length = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    let rows = |v: &'_ [f32]| v.chunks_exact(hidden).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let (x, here, there) = (rows(x), rows(here), rows(there));
    let added: Vec<f64> = x.iter().zip(&here).map(|(x, h)| length(h, x)).collect();
    // Tokens to which almost nothing is added, such as unused ones whose embedding is zero, are measured by the others.
    let least = added.iter().sum::<f64>() / added.len() as f64 * 1e-2;
    let apart = here.iter().zip(&there).map(|(h, t)| length(h, t));
    apart.zip(added).map(|(e, a)| if e == 0.0 { 0.0 } else { e / a.max(least) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_of_what_a_layer_adds() {
        let x = [100.0, 0.0, 0.0, 50.0, 1.0, 1.0];
        let here = [101.0, 0.0, 0.0, 52.0, 1.0, 1.0];
        let there = [101.1, 0.0, 0.0, 51.0, 1.0, 1.0];
        let off = errors(&x, &here, &there, 2);
        assert!((off[0] - 0.1).abs() < 1e-3 && (off[1] - 0.5).abs() < 1e-3 && off[2] == 0.0, "{off:?}");
    }

    #[test]
    fn the_sizes_are_all_tokens() {
        assert_eq!(SIZES.iter().sum::<usize>(), TOKENS);
    }
}
