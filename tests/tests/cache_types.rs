//! Long contexts: whatever the threads and the batches, and in each type of cache, the same bits.
use qwren::model::Model;
use qwren::session::{KvType, Options, Session, SessionError, Threads};
use qwren_quant::dtype::DType;
use qwren_tests::models::{deviation, exact, logits, max_difference};
use qwren_tests::tiny::{PLAIN, Sizes, Tiny};

fn with_model(sizes: &Sizes, test: impl FnOnce(&Model)) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    Tiny::new(sizes, DType::F32).write(file.path(), 7, |_, _| ());
    test(&Model::open(file.path()).unwrap_or_else(|e| panic!("{e}")));
}

/// More positions than two ranges of the attention hold.
const N: usize = 1100;

fn ids(vocab: usize) -> Vec<u32> {
    (0..N).map(|i| (i * i * 7 % vocab) as u32).collect()
}

/// The last positions' logits with a cache of these types.
fn last(model: &Model, type_k: KvType, type_v: KvType, threads: usize, splits: &[usize]) -> Vec<f32> {
    let threads = Threads { decode: threads, prefill: threads };
    let opts = Options { type_k, type_v, threads, ..exact(N) };
    let mut session = Session::new(model, &opts).expect("a session");
    logits(&mut session, &ids(model.hparams().vocab), splits, 12)
}

#[test]
fn threads_and_batches_change_no_bit() {
    with_model(&PLAIN, |model| {
        for kind in KvType::ALL {
            let base = last(model, kind, kind, 1, &[512]);
            // Around the bounds of ranges, in small batches and one by one near the end.
            for (threads, splits) in [(3, &[512][..]), (2, &[509, 7, 1, 506, 5, 1, 1, 60, 1, 1]), (4, &[1])] {
                assert!(last(model, kind, kind, threads, splits) == base, "{kind:?}, {threads} threads, {splits:?}");
            }
        }
    });
}

#[test]
fn coarser_caches_stay_close() {
    for heads in [(4, 2), (8, 1)] {
        with_model(&Sizes { heads: heads.0, kv_heads: heads.1, head_dim: 64, ..PLAIN }, |model| {
            let exact = last(model, KvType::F32, KvType::F32, 1, &[512]);
            use KvType::*;
            // The largest of some hundred differences, on random weights: about twice what was measured.
            for (k, v, most) in [(F16, F16, 2e-3), (Q8_0, F16, 4e-2), (F16, Q8_0, 6e-2), (Q8_0, Q8_0, 7e-2)] {
                let error = max_difference(&exact, &last(model, k, v, 2, &[300])) / deviation(&exact);
                assert!(error > 0.0 && error < most, "{k:?}, {v:?}: off by {error:.1e}");
            }
        });
    }
}

#[test]
fn heads_that_are_no_whole_blocks_are_refused() {
    with_model(&Sizes { head_dim: 48, ..PLAIN }, |model| {
        for (type_k, type_v) in [(KvType::Q8_0, KvType::F16), (KvType::F16, KvType::Q8_0)] {
            let opts = Options { type_k, type_v, ..exact(64) };
            assert!(matches!(Session::new(model, &opts), Err(SessionError::CacheBlocks(48))));
        }
    });
    with_model(&PLAIN, |model| {
        let opts = Options { type_k: KvType::Q8_0, stock_ops: true, ..exact(64) };
        let text = Session::new(model, &opts).err().expect("a refusal").to_string();
        assert!(text.contains("q8_0") && text.contains("-ctk f16"), "{text}");
    });
}
