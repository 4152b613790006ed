//! Mixtures of experts. Who rounds otherwise chooses otherwise between two experts that are almost as good, and goes on from there:
//! so the processor is taken along to the device's choice in every layer, where results must be as close as without experts, and
//! the choice is judged by the processor's scores.
use qwren::gpu::start;
use qwren::model::Model;
use qwren::session::{Options, Session, engine};
use qwren_quant::dtype::DType;
use qwren_tests::models::{NEVER, max_difference, mean_kl};
use qwren_tests::offload::{floats, logits};
use qwren_tests::tiny::{Sizes, Tiny};

use crate::{APART, BLOCKS, IDS, command, mix, on_device, written};

/// How much better an expert left out may be, in standard deviations of a token's scores.
const REGRET: f32 = 0.1;
/// Tokens in a batch.
const BATCH: usize = 32;

/// What comes of [`IDS`] on both sides.
struct Together {
    /// `[n, vocab]` of the device.
    there: Vec<f32>,
    /// The processor's, with the device's experts.
    here: Vec<f32>,
    /// The worst of any layer and token: see [`qwren::ops::moe::Choice::regret`].
    regret: f32,
}

/// Runs all layers on the device, one by one, and takes the processor along.
fn together(model: &Model, (experts, used): (usize, usize)) -> Together {
    let options = Options { ctx: IDS.len(), batch: BATCH, ..Options::for_model(model) };
    let mut remote = start::start(model, &options, &on_device(), Box::new(|_| ())).expect("a device");
    let mut engine = engine(model, &options).expect("an engine");
    let layers = model.layers().len();
    let mut all = Together { there: Vec::new(), here: Vec::new(), regret: f32::NEG_INFINITY };
    for (i, ids) in IDS.chunks(BATCH).enumerate() {
        let embedded =
            Session::new(model, &options).expect("a session").hidden_states(ids).expect("a result").remove(0);
        let (mut there, mut here) = (embedded.clone(), embedded);
        for layer in 0..layers {
            remote.eval(layer..layer + 1, i * BATCH, &mut there, &NEVER).expect("a result");
            let choice = engine.choice().expect("experts");
            choice.experts = remote.experts(ids.len(), (experts, used)).expect("experts");
            choice.given = true;
            here = engine.layers(layer..layer + 1, i * BATCH, &here, &NEVER).expect("a result").to_vec();
            let choice = engine.choice().map(std::mem::take).expect("experts");
            all.regret = choice.regret.into_iter().fold(all.regret, f32::max);
        }
        all.there.extend(remote.logits(&there).expect("a result"));
        all.here.extend(engine.head(&here, &NEVER).expect("a result").logits);
    }
    all
}

#[test]
#[ignore = "needs qwren-gpu: scripts/test.sh --vulkan"]
fn the_same_experts_give_the_same_results() {
    // The weights of a token's experts sum to 1, or don't.
    for (layers, norm) in [(5, true), (1, false)] {
        let (count, used) = (8, 2);
        let mut tiny = Tiny::new(&Sizes { layers, experts: Some((count, used)), ..BLOCKS }, DType::Q8_0);
        for (name, _, dtype) in &mut tiny.tensors {
            *dtype = if name.contains("ffn_gate_inp") { DType::F32 } else { *dtype };
        }
        if norm {
            mix(&mut tiny, "_exps");
        }
        tiny.set("expert_weights_norm", norm);
        let (_dir, path) = written(&tiny);
        let model = Model::open(&path).expect("a model");
        let all = together(&model, (count as usize, used as usize));
        let apart = mean_kl(&all.here, &all.there, model.hparams().vocab);
        eprintln!("the same experts: mean KL {apart:.6}, worst regret {:.4}", all.regret);
        assert!(apart < APART && all.regret < REGRET && all.here != all.there);
        if norm {
            // All layers at once, as a program runs them.
            let whole = logits(command("logits", &path, &["-b", "32", "-ngl", "all"]), &IDS).0;
            assert_eq!(max_difference(&floats(&whole), &all.there), 0.0);
        }
    }
}
