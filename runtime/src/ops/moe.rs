//! The mixture of experts: softmax over all experts' scores, the best few for each token, their SwiGLUs, weighted sum.
//! Tokens are grouped by expert, so that an expert's weights are read once a batch; with one token only its experts are read.
use super::State;
use super::crew::sized;
use super::linear::{Mat, multiply, strip};
use crate::ggml::{Fault, Io, Op, Tiles};
use qwren_quant::gguf::GgufFile;

/// From `h` `[n, hidden]` and the residual stream `[n, hidden]` to the new residual stream.
pub struct Experts<'m> {
    /// `[experts, hidden]`
    pub router: Mat<'m>,
    /// An expert each, `[ff, hidden]`
    pub gate: Vec<Mat<'m>>,
    /// An expert each, `[ff, hidden]`
    pub up: Vec<Mat<'m>>,
    /// An expert each, `[hidden, ff]`
    pub down: Vec<Mat<'m>>,
    /// Experts for a token.
    pub used: usize,
    /// Scale a token's weights to sum to 1.
    pub norm_weights: bool,
    /// Entries of [`State::fed`] for the inputs of `gate` (and `up`) and `down`, where they are summed.
    pub watched: Option<[usize; 2]>,
    /// The model's file, when it is larger than the memory: the chosen experts are asked for before the first one is read,
    /// so that the disk works on all of them at once.
    pub ahead: Option<&'m GgufFile>,
}

/// Which experts tokens go to.
#[derive(Default)]
pub struct Choice {
    /// Those of the last batch's tokens in its last layer, a token's best first: `[n, used]`.
    pub experts: Vec<usize>,
    /// `experts` was chosen elsewhere: in range, each token's all different. Batches go there in place of where they would.
    pub given: bool,
    /// How much better than the worst expert of a given choice the best one outside it is, by our scores, in standard
    /// deviations of the token's scores: `[n]`. Below 0 where we would choose the same.
    pub regret: Vec<f32>,
}

/// Buffers of the expert layers.
#[derive(Default)]
pub struct MoeScratch {
    /// The last choice, or the next.
    pub choice: Choice,
    /// Scores, then probabilities: `[n, experts]`
    probs: Vec<f32>,
    /// What `down` is fed: `[n * used, ff]`, grouped by expert
    mid: Vec<f32>,
}

/// The weights of a token's experts, best first; then the experts' tokens.
struct Routing {
    /// `[n, used]`
    weights: Vec<f32>,
    /// Experts that have tokens.
    active: Vec<usize>,
    /// Active expert `i` has the grouped rows `bounds[i]..bounds[i + 1]`.
    bounds: Vec<usize>,
    /// The token of each grouped row.
    token_of: Vec<usize>,
    /// The grouped row of each choice, `[n, used]`.
    row_of: Vec<usize>,
}

impl Op<State> for Experts<'_> {
    fn run(&self, st: &mut State, io: Io<'_>) -> Result<(), Fault> {
        let mut scratch = std::mem::take(&mut st.moe);
        let result = self.forward(st, io, &mut scratch);
        st.moe = scratch;
        result
    }
}

impl Experts<'_> {
    fn forward(&self, st: &mut State, io: Io<'_>, scratch: &mut MoeScratch) -> Result<(), Fault> {
        let (h, residual, stop) = (io.src(0), io.src(1), io.stop);
        let (hidden, ff) = (self.router.cols, self.gate[0].rows);
        let n = h.len() / hidden;

        let probs = sized(&mut scratch.probs, n * self.router.rows);
        multiply(st, stop, &[self.router], h, vec![probs], None)?;
        let choice = &mut scratch.choice;
        if choice.given {
            let each = probs.chunks_exact(self.router.rows).zip(choice.experts.chunks_exact(self.used));
            choice.regret = each.map(|(scores, experts)| regret(scores, experts)).collect();
        }
        probs.chunks_exact_mut(self.router.rows).for_each(|row| st.vec.softmax(row));
        if !choice.given {
            choice.experts.clear();
            probs.chunks_exact(self.router.rows).for_each(|row| top_k(row, self.used, &mut choice.experts));
        }
        let routing = self.route(probs, &choice.experts);
        let rows = routing.token_of.len();
        if let Some(file) = self.ahead {
            for mats in [&self.gate, &self.up, &self.down] {
                routing.active.iter().for_each(|&expert| file.will_need(mats[expert].bytes()));
            }
        }

        // mid = silu(gate · h) * (up · h), each row by its expert. One token is quantized once for all its experts.
        let (gate_kind, up_kind) = (self.gate[0].kernel.act, self.up[0].kernel.act);
        for kind in [gate_kind, up_kind].into_iter().take(1 + (gate_kind != up_kind) as usize) {
            if n == 1 {
                st.acts.fill(&mut st.crew, st.level, stop, kind, hidden, [h].into_iter())?;
            } else {
                let gathered = routing.token_of.iter().map(|&t| &h[t * hidden..][..hidden]);
                st.acts.fill(&mut st.crew, st.level, stop, kind, hidden, gathered)?;
            }
        }
        let mid = sized(&mut scratch.mid, rows * ff);
        let tiles = Tiles::new(mid, ff, routing.bounds.clone(), strip(ff, n, st.crew.active()));
        let (acts, vec) = (&st.acts, st.vec);
        st.crew.tiles(stop, &mut [tiles], |scratch, _, mut tile| {
            let (expert, range, count) = (routing.active[tile.band()], tile.cols(), tile.rows().len());
            let rows = if n == 1 { 0..1 } else { tile.rows() };
            let g = sized(&mut scratch.a, count * range.len());
            let u = sized(&mut scratch.b, count * range.len());
            self.gate[expert].multiply(range.clone(), acts.view(gate_kind).slice(rows.clone()), g);
            self.up[expert].multiply(range.clone(), acts.view(up_kind).slice(rows), u);
            vec.silu_mul(g, u);
            g.chunks_exact(range.len()).enumerate().for_each(|(t, row)| tile.row_mut(t).copy_from_slice(row));
        })?;

        if let (Some([first, second]), Some(fed)) = (self.watched, &mut st.fed) {
            for (i, &expert) in routing.active.iter().enumerate() {
                let span = routing.bounds[i]..routing.bounds[i + 1];
                let inputs = routing.token_of[span.clone()].iter().map(|&t| &h[t * hidden..][..hidden]);
                fed.add(&mut st.crew, (first, expert), hidden, inputs)?;
                fed.add(&mut st.crew, (second, expert), ff, mid[span.start * ff..span.end * ff].chunks_exact(ff))?;
            }
        }

        // out = residual + Σ weight · down · mid, each token's experts from best to worst.
        let kind = self.down[0].kernel.act;
        st.acts.fill(&mut st.crew, st.level, stop, kind, ff, mid.chunks_exact(ff))?;
        let tiles = Tiles::new(io.dst, hidden, vec![0, n], strip(hidden, n, st.crew.active()));
        let acts = &st.acts;
        st.crew.tiles(stop, &mut [tiles], |scratch, _, mut tile| {
            let (range, width) = (tile.cols(), tile.cols().len());
            let parts = sized(&mut scratch.a, rows * width);
            for (i, &expert) in routing.active.iter().enumerate() {
                let span = routing.bounds[i]..routing.bounds[i + 1];
                let out = &mut parts[span.start * width..span.end * width];
                self.down[expert].multiply(range.clone(), acts.view(kind).slice(span), out);
            }
            for t in 0..n {
                let out = tile.row_mut(t);
                out.fill(0.0);
                for choice in t * self.used..(t + 1) * self.used {
                    let part = &parts[routing.row_of[choice] * width..][..width];
                    let weight = routing.weights[choice];
                    out.iter_mut().zip(part).for_each(|(y, p)| *y += weight * p);
                }
                let residual = &residual[t * hidden + range.start..][..width];
                out.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
            }
        })
    }

    /// Weighs the experts `chosen` `[n, used]` by `probs` `[n, experts]` and groups the choices.
    fn route(&self, probs: &[f32], chosen: &[usize]) -> Routing {
        let (experts, used) = (self.router.rows, self.used);
        let mut weights = Vec::with_capacity(chosen.len());
        for (probs, chosen) in probs.chunks_exact(experts).zip(chosen.chunks_exact(used)) {
            let first = weights.len();
            weights.extend(chosen.iter().map(|&e| probs[e]));
            if self.norm_weights {
                let sum: f32 = weights[first..].iter().sum();
                weights[first..].iter_mut().for_each(|w| *w /= sum);
            }
        }
        // Counting sort by expert; within an expert, tokens stay in order.
        let mut starts = vec![0; experts + 1];
        chosen.iter().for_each(|&e| starts[e + 1] += 1);
        let active: Vec<usize> = (0..experts).filter(|&e| starts[e + 1] > 0).collect();
        (0..experts).for_each(|e| starts[e + 1] += starts[e]);
        let bounds = active.iter().map(|&e| starts[e]).chain([chosen.len()]).collect();
        let (mut token_of, mut row_of) = (vec![0; chosen.len()], Vec::with_capacity(chosen.len()));
        for (choice, &e) in chosen.iter().enumerate() {
            let row = starts[e];
            starts[e] += 1;
            token_of[row] = choice / used;
            row_of.push(row);
        }
        Routing { weights, active, bounds, token_of, row_of }
    }
}

/// Appends the indexes of the `k` largest values, largest first, the lower index first among equals.
fn top_k(values: &[f32], k: usize, out: &mut Vec<usize>) {
    let first = out.len();
    for _ in 0..k {
        let free = (0..values.len()).filter(|i| !out[first..].contains(i));
        // A total order, so that even NaN leads to k different experts.
        let best = free.reduce(|a, b| if values[b].total_cmp(&values[a]).is_gt() { b } else { a });
        out.extend(best);
    }
}

/// See [`Choice::regret`].
fn regret(scores: &[f32], chosen: &[usize]) -> f32 {
    let n = scores.len() as f32;
    let mean = scores.iter().sum::<f32>() / n;
    let deviation = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f32>() / n).sqrt();
    let worst = chosen.iter().map(|&e| scores[e]).fold(f32::INFINITY, f32::min);
    let outside = scores.iter().enumerate().filter(|(e, _)| !chosen.contains(e));
    let best = outside.map(|(_, &s)| s).fold(f32::NEG_INFINITY, f32::max);
    // Where all scores are the same, any choice is as good.
    if best == worst { 0.0 } else { (best - worst) / deviation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_k_is_ordered_and_without_repeats() {
        let mut out = vec![7];
        top_k(&[0.1, 0.4, 0.2, 0.4, f32::NAN], 4, &mut out);
        assert_eq!(out, [7, 4, 1, 3, 2]);
    }

    #[test]
    fn regret_is_what_a_worse_choice_loses() {
        let scores = [1.0, 5.0, 3.0, 3.0]; // mean 3, deviation √2
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(regret(&scores, &[1, 2]), 0.0);
        near(regret(&scores, &[1, 3]), 0.0);
        near(regret(&scores, &[1]), -2.0 / 2.0_f32.sqrt());
        near(regret(&scores, &[1, 0]), 2.0 / 2.0_f32.sqrt());
        near(regret(&[2.0; 4], &[3, 0]), 0.0);
        assert_eq!(regret(&scores, &[0, 1, 2, 3]), f32::NEG_INFINITY);
        assert!(regret(&[f32::NAN, 1.0], &[1]).is_nan());
    }
}
