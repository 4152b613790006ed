//! A child's results beside the processor's: drivers exist that compute wrong numbers without a word, for one type of weights
//! or one size of batch.
use super::{Fault, NEVER, Remote};
use crate::model::{Ffn, Layer};
use qwren_quant::dtype::DType;

/// Tokens computed together. Products with few columns, and with up to 32, 64 and more of them, are made by different shaders.
const SIZES: [usize; 8] = [96, 48, 24, 4, 1, 1, 1, 1];
/// Tokens in all.
pub const TOKENS: usize = 176;

/// How far a token's result may be off, of what the layer adds to it: the processor rounds activations to 8 bits, which makes
/// about one per cent.
const OFF: f64 = 0.1;
/// The same, where a token may have gone to other experts, since two were equally good.
const OFF_OTHER_EXPERTS: f64 = 0.6;

/// The types of a layer's matrices: layers that share them are computed by the same shaders.
fn types(layer: &Layer) -> Vec<DType> {
    let ffn = match &layer.ffn {
        Ffn::Dense { gate, up, down } => vec![gate, up, down],
        Ffn::Experts { router, gate, up, down } => vec![router, gate, up, down],
    };
    [&layer.q, &layer.k, &layer.v, &layer.o].into_iter().chain(ffn).map(|w| w.info.dtype).collect()
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

/// Runs a layer here, at a position, on a batch `[n, hidden]`.
pub type LayerHere<'a> = dyn FnMut(usize, usize, &[f32]) -> Result<Vec<f32>, Fault> + 'a;

/// Runs a layer of each kind on `x` `[TOKENS, hidden]` in batches of all sizes up to `batch`, there and here: `cpu` is given a
/// layer, a position and a batch. Positions lie in `ctx`.
///
/// # Errors
/// Results differ, or the child fails.
pub fn check(
    remote: &mut Remote,
    layers: &[Layer],
    x: &[f32],
    (batch, ctx): (usize, usize),
    cpu: &mut LayerHere<'_>,
) -> Result<(), Fault> {
    let hidden = remote.hidden;
    for i in kinds(&layers[..remote.layers]) {
        let experts = matches!(layers[i].ffn, Ffn::Experts { .. });
        let mut start = 0;
        let mut rest = x;
        for n in SIZES.map(|n| n.min(batch)) {
            let (now, later) = rest.split_at(n * hidden);
            rest = later;
            // A short context begins anew.
            start = if start + n > ctx { 0 } else { start };
            let mut there = now.to_vec();
            remote.eval(i..i + 1, start, &mut there, &NEVER)?;
            let here = cpu(i, start, now)?;
            let off = errors(now, &here, &there, hidden);
            let worst = off.iter().copied().fold(0.0, f64::max);
            let near = off.iter().filter(|&&e| e <= OFF).count();
            let right = if experts { worst <= OFF_OTHER_EXPERTS && (near * 2 >= n || n == 1) } else { near == n };
            if !right {
                return Err(wrong(remote, i, n, worst));
            }
            start += n;
        }
    }
    Ok(())
}

fn wrong(remote: &Remote, layer: usize, n: usize, off: f64) -> Fault {
    Fault::Wrong { device: remote.device.name.clone(), layer, n, off: off * 100.0 }
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
