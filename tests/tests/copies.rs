//! Weights that are copied into memory of the process, interleaved or not: the results are the same bits.
use qwren::model::{Copier, Model};
use qwren::session::Session;
use qwren_quant::dtype::DType;
use qwren_tests::models::{NEVER, exact};
use qwren_tests::tiny::{PLAIN, Sizes, Tiny};
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows of 256 for the K types, numbers of rows that are no multiple of 8, and more rows than a piece of 64 has.
const WIDE: Sizes = Sizes { hidden: 256, heads: 4, kv_heads: 2, head_dim: 64, ff: 512, vocab: 333, ..PLAIN };
const EXPERTS: Sizes = Sizes { ff: 256, experts: Some((6, 3)), ..WIDE };

/// Logits of 40 tokens together, of three and of one: each batch goes its own way through the kernels.
fn logits(session: &mut Session<'_>) -> Vec<f32> {
    let ids: Vec<u32> = (0..44).map(|i| i * 7 % 333).collect();
    qwren_tests::models::logits(session, &ids, &[40, 3, 1], ids.len())
}

fn model(sizes: &Sizes, dtype: DType) -> (tempfile::NamedTempFile, Model) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    Tiny::new(sizes, dtype).write(file.path(), 3, |_, _| ());
    let model = Model::open(file.path()).unwrap_or_else(|e| panic!("{e}"));
    (file, model)
}

#[test]
fn copies_give_the_same_bits() {
    for dtype in [DType::Q4K, DType::Q5K, DType::Q6K, DType::Q8_0, DType::Q4_0, DType::Q3K, DType::F16, DType::F32] {
        for sizes in [WIDE, EXPERTS] {
            let (_file, model) = model(&sizes, dtype);
            let mut session = Session::new(&model, &exact(64)).expect("a session");
            let want = logits(&mut session);
            let copier =
                Copier::new(&model, session.level().expect("a level"), session.weights_here()).expect("a copier");
            copier.run(&NEVER, &mut |_| ()).expect("copies");
            assert!(model.matrices().all(|weight| weight.copy.is_whole()), "{dtype:?}");
            let got = logits(&mut session);
            assert!(want.iter().zip(&got).all(|(w, g)| w.to_bits() == g.to_bits()), "{dtype:?} {sizes:?}");
        }
    }
}

#[test]
fn copies_may_be_made_while_the_model_computes() {
    let (_file, model) = model(&Sizes { layers: 6, vocab: 5000, ..WIDE }, DType::Q4K);
    let mut session = Session::new(&model, &exact(64)).expect("a session");
    let want = logits(&mut session);
    let copier = Copier::new(&model, session.level().expect("a level"), session.weights_here()).expect("a copier");
    let whole = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pause = &mut |_| std::thread::sleep(std::time::Duration::from_millis(2));
            copier.run(&NEVER, pause).expect("copies");
            whole.store(true, Ordering::Relaxed);
        });
        // Before, between and after any two pieces.
        while !whole.load(Ordering::Relaxed) {
            assert_eq!(logits(&mut session), want);
        }
    });
    assert_eq!(logits(&mut session), want);
}

#[test]
fn a_file_that_became_shorter_is_an_error_and_its_map_serves() {
    let (file, model) = model(&WIDE, DType::Q8_0);
    let mut session = Session::new(&model, &exact(64)).expect("a session");
    let level = session.level().expect("a level");
    let want = logits(&mut session);
    let copier = Copier::new(&model, level, model.matrices()).expect("a copier");
    let stopped = AtomicBool::new(true);
    Copier::new(&model, level, model.matrices())
        .and_then(|copier| copier.run(&stopped, &mut |_| ()))
        .expect("nothing to do");
    assert_eq!(logits(&mut session), want);
    // Nobody computes with what is gone.
    drop(session);
    file.as_file().set_len(model.gguf().file_len() / 2).expect("a shorter file");
    assert!(copier.run(&NEVER, &mut |_| ()).is_err());
    assert!(model.matrices().any(|weight| !weight.copy.is_whole()));
}
