//! The network against reference outputs (scripts/make_reference.py) for every checkpoint, dense and with experts.
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use qwren::model::Model;
use qwren::session::{EvalError, KvType, Options, Session, Threads};
use qwren_tests::fixtures::Reference;
use qwren_tests::models::{deviation, exact, greedy, log_softmax, logits, max_difference, mean_kl};
use qwren_tests::safetensors::Arrays;
use qwren_tests::{converted, reference_checkpoints};

/// Positions of the caches here: the longest input has 500.
const CTX: usize = 512;

/// Reference, model file of a type, and outputs, for every checkpoint.
fn each(dtype: &str, mut test: impl FnMut(&Reference, &Model, &Arrays)) {
    for reference in reference_checkpoints() {
        let model = open(&reference, dtype);
        test(&reference, &model, &Arrays::read(&reference.outputs));
    }
}

fn open(reference: &Reference, dtype: &str) -> Model {
    let path: PathBuf = converted(&reference.name, &reference.checkpoint, dtype);
    Model::open(&path).unwrap_or_else(|e| panic!("{e}"))
}

fn session<'m>(model: &'m Model, opts: &Options) -> Session<'m> {
    Session::new(model, opts).unwrap_or_else(|e| panic!("{e}"))
}

/// Largest difference over the standard deviation of what it should be.
fn relative(got: &[f32], want: &[f32]) -> f64 {
    max_difference(got, want) / deviation(want)
}

#[test]
fn f32_logits_equal_the_reference_in_any_split_and_on_any_number_of_threads() {
    each("f32", |reference, model, outputs| {
        for i in 0..4 {
            let ids = outputs.ids(&format!("p{i}.ids"));
            let want = outputs.f32(&format!("p{i}.logits"));
            let last = want.len() / model.hparams().vocab;
            let base = logits(&mut session(model, &exact(CTX)), &ids, &[ids.len()], last);
            let error = relative(&base, want);
            assert!(error <= 2e-3, "{} p{i}: logits off by {error:.1e} of their deviation", reference.name);
            for threads in 1..=3 {
                let threads = Threads { decode: threads, prefill: threads };
                let mut session = session(model, &Options { threads, ..exact(CTX) });
                for splits in [&[ids.len()][..], &[1], &[3, 1, 13, 2], &[64, 5]] {
                    let got = logits(&mut session, &ids, splits, last);
                    assert!(got == base, "{} p{i}: {threads:?} and {splits:?} change bits", reference.name);
                }
            }
        }
    });
}

#[test]
fn f32_hidden_states_equal_the_reference_after_every_layer() {
    each("f32", |reference, model, outputs| {
        let states = session(model, &exact(CTX)).hidden_states(&outputs.ids("p1.ids")).expect("evaluation");
        assert_eq!(states.len(), model.hparams().layers + 1);
        for (l, got) in states.iter().enumerate() {
            let error = relative(got, outputs.f32(&format!("p1.hidden.{l}")));
            assert!(error <= 1e-4, "{}: state {l} off by {error:.1e} of its deviation", reference.name);
        }
    });
}

/// Where the best two logits are closer than this, another order of summation may choose otherwise.
const MARGIN: f32 = 1e-3;

#[test]
fn f32_greedy_continuations_equal_the_reference() {
    let mut steps = 0;
    each("f32", |reference, model, outputs| {
        for i in 0..4 {
            let want = outputs.ids(&format!("p{i}.greedy"));
            let margins = outputs.f32(&format!("p{i}.greedy_margin"));
            let sure = margins.iter().position(|&m| m < MARGIN).unwrap_or(want.len());
            let got = greedy(&mut session(model, &exact(CTX)), &outputs.ids(&format!("p{i}.ids")), want.len());
            assert_eq!(got[..sure], want[..sure], "{} p{i}", reference.name);
            steps += sure;
        }
    });
    assert!(steps > 7 * 4 * 24, "only {steps} steps were decided clearly enough to compare");
}

/// Negative log-likelihoods of each token but the first, given those before.
fn likelihoods(session: &mut Session<'_>, ids: &[u32]) -> Vec<f32> {
    session.truncate(0);
    let mut out = Vec::new();
    let never = AtomicBool::new(false);
    let mut row = |i: usize, logits: &[f32]| {
        if let Some(&next) = ids.get(i + 1) {
            out.push(-log_softmax(logits)[next as usize] as f32);
        }
    };
    session.eval_each(ids, ids.len(), &never, &mut row).expect("evaluation");
    out
}

#[test]
fn f32_likelihoods_equal_the_reference() {
    each("f32", |reference, model, outputs| {
        let opts = Options { batch: 96, ..exact(CTX) };
        let got = likelihoods(&mut session(model, &opts), &outputs.ids("ppl.ids"));
        let error = max_difference(&got, outputs.f32("ppl.nll"));
        assert!(error <= 1e-3, "{}: a likelihood is off by {error:.1e}", reference.name);
    });
}

#[test]
fn f16_cache_stays_close() {
    each("f32", |reference, model, outputs| {
        let ids = outputs.ids("p3.ids");
        let want = outputs.f32("p3.logits");
        for (type_k, type_v) in [(KvType::F16, KvType::F16), (KvType::F16, KvType::F32), (KvType::F32, KvType::F16)] {
            let opts = Options { type_k, type_v, ..exact(CTX) };
            let got = logits(&mut session(model, &opts), &ids, &[100, 1], want.len() / model.hparams().vocab);
            let error = relative(&got, want);
            assert!(error <= 1e-2 && error > 0.0, "{}: {type_k:?}, {type_v:?}: off by {error:.1e}", reference.name);
        }
    });
}

/// The oracle is loose: ggml's silu and softmax go through f16 tables.
#[test]
fn stock_operations_agree() {
    for dtype in ["f32", "bf16"] {
        each(dtype, |reference, model, outputs| {
            for kind in [KvType::F32, KvType::F16] {
                let (ours, theirs) = both(model, &outputs.ids("p2.ids"), kind);
                let error = relative(&ours, &theirs);
                assert!(error <= 1e-2, "{} {dtype} {kind:?}: {error:.1e} apart", reference.name);
            }
        });
    }
}

/// Both sides round activations to int8, each in its own way, and these random weights amplify that: distributions are
/// compared, not single logits.
#[test]
fn stock_operations_agree_on_quantized_weights() {
    for dtype in ["q8_0", "q4_k_m"] {
        each(dtype, |reference, model, outputs| {
            let (ours, theirs) = both(model, &outputs.ids("p2.ids"), KvType::F16);
            let kl = mean_kl(&theirs, &ours, model.hparams().vocab);
            assert!(kl <= 0.05, "{} {dtype}: divergence {kl:.1e}", reference.name);
        });
    }
}

/// Logits by our operations and by ggml's.
fn both(model: &Model, ids: &[u32], kind: KvType) -> (Vec<f32>, Vec<f32>) {
    let opts = Options { type_k: kind, type_v: kind, ..exact(CTX) };
    let ours = logits(&mut session(model, &opts), ids, &[20, 1], 16);
    let stock = Options { stock_ops: true, ..opts };
    (ours, logits(&mut session(model, &stock), ids, &[20, 1], 16))
}

/// What each type may lose on these random weights, as mean divergence from F32 in nats: about twice what was measured.
#[test]
fn quantized_files_stay_close_to_f32() {
    for (dtype, most) in [("bf16", 2e-4), ("f16", 2e-6), ("q8_0", 0.04), ("q4_k_m", 1.2)] {
        each(dtype, |reference, model, outputs| {
            let ids = outputs.ids("p3.ids");
            let vocab = model.hparams().vocab;
            let exact_model = open(reference, "f32");
            let want = logits(&mut session(&exact_model, &exact(CTX)), &ids, &[ids.len()], ids.len());
            let got = logits(&mut session(model, &exact(CTX)), &ids, &[ids.len()], ids.len());
            let kl = mean_kl(&want, &got, vocab);
            assert!(kl <= most, "{} {dtype}: divergence {kl:.2e}", reference.name);
        });
    }
}

#[test]
fn wrong_tokens_and_full_caches_are_errors() {
    let reference = &reference_checkpoints()[0];
    let model = open(reference, "f32");
    let mut session = session(&model, &exact(8));
    let vocab = model.hparams().vocab;
    assert!(matches!(session.eval_all(&[], 1), Err(EvalError::Empty)));
    let alien = session.eval_all(&[0, vocab as u32], 1);
    assert!(matches!(alien, Err(EvalError::Token { token, .. }) if token == vocab as u32));
    session.eval_all(&[1, 2, 3, 4, 5], 1).expect("evaluation");
    let full = session.eval_all(&[1, 2, 3, 4], 1);
    assert!(matches!(full, Err(EvalError::Full { held: 5, more: 4, ctx: 8 })), "{full:?}");
    assert_eq!(session.tokens(), [1, 2, 3, 4, 5]);
    session.truncate(4);
    session.eval_all(&[1, 2, 3, 4], 1).expect("evaluation");
    assert_eq!(session.tokens(), [1, 2, 3, 4, 1, 2, 3, 4]);
}

/// An interrupt between batches leaves whole batches, from which evaluation goes on to the same logits.
#[test]
fn an_interrupted_prompt_can_be_finished() {
    let reference = &reference_checkpoints()[0];
    let (model, outputs) = (open(reference, "f32"), Arrays::read(&reference.outputs));
    let ids = outputs.ids("p3.ids");
    let opts = Options { batch: 32, ..exact(CTX) };
    let want = logits(&mut session(&model, &opts), &ids, &[ids.len()], 1);
    for stock_ops in [false, true] {
        let mut session = session(&model, &Options { stock_ops, ..opts.clone() });
        let stop = AtomicBool::new(false);
        let result = session.eval(&ids, &stop, &mut |done, total| {
            assert_eq!(total, ids.len());
            stop.store(done >= 64, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(matches!(result, Err(EvalError::Interrupted)));
        assert_eq!(session.tokens(), &ids[..64]);
        let never = AtomicBool::new(false);
        let got = session.eval(&ids[64..], &never, &mut |_, _| ()).expect("evaluation");
        assert!(stock_ops || got == want);
    }
}
