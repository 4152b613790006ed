//! Models of unusual shapes and with broken weights: right or an error, never a crash.
use qwren::model::Model;
use qwren::session::{KvType, Options, Session, Threads};
use qwren_quant::dtype::DType;
use qwren_tests::models::{NEVER, deviation, exact, logits, max_difference};
use qwren_tests::tiny::{PLAIN, Sizes, Tiny};

fn with_model(tiny: &Tiny, edit: impl FnMut(&str, &mut [f32]), test: impl FnOnce(&Model)) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    tiny.write(file.path(), 7, edit);
    test(&Model::open(file.path()).unwrap_or_else(|e| panic!("{e}")));
}

const IDS: [u32; 40] = {
    let mut ids = [0; 40];
    let mut i = 0;
    while i < 40 {
        ids[i] = (i * i * 7 % 31) as u32;
        i += 1;
    }
    ids
};

/// Sizes at their smallest, odd ones, one KV head, as many KV heads as heads, all experts in use, one expert.
#[test]
fn odd_shapes_agree_with_stock_operations_and_with_themselves() {
    let shapes = [
        Sizes { layers: 1, hidden: 1, heads: 1, kv_heads: 1, head_dim: 2, ff: 1, vocab: 31, experts: None },
        Sizes { hidden: 33, heads: 3, kv_heads: 1, head_dim: 6, ff: 37, vocab: 101, ..PLAIN },
        Sizes { hidden: 20, heads: 5, kv_heads: 5, head_dim: 10, ff: 17, ..PLAIN },
        Sizes { heads: 2, kv_heads: 1, head_dim: 512, ..PLAIN },
        Sizes { hidden: 24, ff: 19, experts: Some((1, 1)), ..PLAIN },
        Sizes { hidden: 24, ff: 19, experts: Some((5, 5)), ..PLAIN },
        Sizes { hidden: 40, ff: 8, experts: Some((9, 3)), ..PLAIN },
    ];
    let llamas = shapes[..4].iter().map(|sizes| (sizes, Tiny::llama(sizes, DType::F32)));
    for (sizes, tiny) in shapes.iter().map(|sizes| (sizes, Tiny::new(sizes, DType::F32))).chain(llamas) {
        with_model(
            &tiny,
            |_, _| (),
            |model| {
                let open = |opts: &Options| Session::new(model, opts).expect("a session");
                let base = logits(&mut open(&exact(64)), &IDS, &[40], 40);
                for threads in [1, 3] {
                    let opts = Options { threads: Threads { decode: threads, prefill: threads }, ..exact(64) };
                    for splits in [&[1][..], &[9, 2, 17]] {
                        assert!(
                            logits(&mut open(&opts), &IDS, splits, 40) == base,
                            "{sizes:?}, {threads} threads, {splits:?}"
                        );
                    }
                }
                let stock = logits(&mut open(&Options { stock_ops: true, ..exact(64) }), &IDS, &[13, 1], 40);
                let error = max_difference(&base, &stock) / deviation(&stock);
                assert!(error < 2e-2, "{sizes:?}: {error:.1e} from stock operations");
            },
        );
    }
}

/// Every type that runs, with experts and without, in any split to the same bits.
#[test]
fn every_type_gives_the_same_bits_in_any_split() {
    use DType::*;
    for dtype in [F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4NL, Q2K, Q3K, IQ4XS, Q4K, Q5K, Q6K] {
        for experts in [None, Some((6, 2))] {
            let sizes = Sizes { hidden: 256, ff: 256, heads: 4, head_dim: 64, experts, ..PLAIN };
            with_model(
                &Tiny::new(&sizes, dtype),
                |_, _| (),
                |model| {
                    let opts = Options { type_k: KvType::F16, type_v: KvType::F16, ..exact(64) };
                    let mut session = Session::new(model, &opts).expect("a session");
                    let base = logits(&mut session, &IDS, &[40], 40);
                    assert!(deviation(&base) > 0.1);
                    for splits in [&[1][..], &[19, 2]] {
                        assert!(logits(&mut session, &IDS, splits, 40) == base, "{dtype:?}, {experts:?}, {splits:?}");
                    }
                },
            );
        }
    }
}

/// A type for the tied embedding alone, and norms in half precision.
#[test]
fn tied_embeddings_and_half_precision_norms_run() {
    let mut tiny = Tiny::new(&Sizes { hidden: 256, ..PLAIN }, DType::F32);
    tiny.tensors.retain(|(name, ..)| name != "output.weight");
    tiny.tensor("token_embd.weight").2 = DType::Q6K;
    tiny.tensor("output_norm.weight").2 = DType::F16;
    with_model(
        &tiny,
        |_, _| (),
        |model| {
            assert!(model.hparams().tied);
            let mut session = Session::new(model, &exact(64)).expect("a session");
            assert!(deviation(session.eval(&IDS, &NEVER, &mut |_, _| ()).expect("evaluation")) > 0.01);
        },
    );
}

/// YaRN by a factor of 1 is no scaling; by 4 it changes far positions; stock operations refuse it.
#[test]
fn yarn_applies() {
    let run = |factor: Option<f32>| {
        let mut tiny = Tiny::new(&PLAIN, DType::F32);
        if let Some(factor) = factor {
            tiny.set("rope.scaling.type", "yarn");
            tiny.set("rope.scaling.factor", factor);
            tiny.set("rope.scaling.original_context_length", 16u32);
        }
        let mut out = Vec::new();
        with_model(
            &tiny,
            |_, _| (),
            |model| {
                out = logits(&mut Session::new(model, &exact(64)).expect("a session"), &IDS, &[40], 1);
                let stock = Session::new(model, &Options { stock_ops: true, ..exact(64) });
                assert_eq!(stock.is_err(), factor.is_some());
            },
        );
        out
    };
    let plain = run(None);
    let apart = |other: &[f32]| max_difference(&plain, other) / deviation(&plain);
    assert!(apart(&run(Some(1.0))) < 1e-4);
    assert!(apart(&run(Some(4.0))) > 1e-2);
}

/// Weights that are no numbers give logits that are none: no panic, no abort. A debug build of ggml asserts on them, so
/// that its operations join in release builds only.
#[test]
fn non_finite_weights_do_no_harm() {
    for experts in [None, Some((4, 2))] {
        let tiny = Tiny::new(&Sizes { experts, ..PLAIN }, DType::F32);
        for target in ["blk.0.attn_norm.weight", "blk.1.attn_k.weight", "blk.0.ffn_gate", "token_embd.weight"] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
                let edit = |name: &str, values: &mut [f32]| {
                    if name.starts_with(target) {
                        values.fill(bad);
                    }
                };
                with_model(&tiny, edit, |model| {
                    for stock_ops in [false, true].into_iter().filter(|&stock| !stock || !cfg!(debug_assertions)) {
                        let opts = Options { stock_ops, ..exact(64) };
                        let mut session = Session::new(model, &opts).expect("a session");
                        let logits = session.eval(&IDS, &NEVER, &mut |_, _| ()).expect("evaluation");
                        assert_eq!(logits.len(), 100);
                    }
                });
            }
        }
    }
}
