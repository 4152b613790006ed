//! What a device read of a prompt is kept in a file and given back.
use qwren::gpu::child::Fault;
use qwren::model::Model;
use qwren::prompt_cache::{load, save};
use qwren::session::{KvType, Options, Session};
use qwren_quant::block::codec;
use qwren_quant::dtype::DType;
use qwren_tests::models::{NEVER, argmax};
use qwren_tests::tiny::Tiny;

use crate::{BLOCKS, IDS, SOFTWARE, device, on_device, written};

/// How far rows of the cache are from the processor's at most: of their length, in the last layer.
const OFF: f64 = 0.05;

/// Keys and values of the session's tokens, `[layers][n * …]`.
fn rows(session: &mut Session<'_>, kind: KvType) -> Vec<Vec<f32>> {
    let (n, layers) = (session.len(), session.model().layers().len());
    let dtype = match kind {
        KvType::F32 => DType::F32,
        KvType::F16 => DType::F16,
        KvType::Q8_0 => DType::Q8_0,
    };
    let kv = session.kv(n).expect("a device that answers").expect("a cache");
    let values = |rows: Vec<u8>| {
        let mut values = vec![0.0; rows.len() / dtype.block_bytes() * dtype.block_len()];
        codec(dtype).expect("a type that can be read").dequantize(&rows, &mut values);
        values
    };
    (0..layers).map(|layer| values(kv.rows(layer, 0..n))).collect()
}

fn eval(session: &mut Session<'_>, ids: &[u32]) -> Vec<f32> {
    session.eval(ids, &NEVER, &mut |_, _| ()).expect("a result").to_vec()
}

/// The six likeliest tokens, one after the other.
fn answer(session: &mut Session<'_>, last: u32) -> Vec<u32> {
    let mut tokens = vec![last];
    (0..6).for_each(|i| tokens.push(argmax(&eval(session, &tokens[i..]))));
    tokens
}

/// `|here - there| / |here|`, the lengths of vectors.
fn off(here: &[f32], there: &[f32]) -> f64 {
    let length = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    length(&mut here.iter().zip(there).map(|(a, b)| a - b)) / length(&mut here.iter().copied())
}

#[test]
#[ignore = "needs qwren-gpu: scripts/test.sh --vulkan"]
fn what_was_read_is_kept_and_given_back() -> Result<(), Fault> {
    let (dir, path) = written(&Tiny::new(&BLOCKS, DType::Q8_0));
    let model = Model::open(&path).expect("a model");
    // Without flash attention, which is slow to translate for the processor, a cache of 8 bits isn't taken.
    let kinds = if device() == SOFTWARE { &[KvType::F16][..] } else { &[KvType::F16, KvType::Q8_0] };
    let (prompt, last) = (&IDS[..IDS.len() - 1], IDS[IDS.len() - 1]);
    for &kind in kinds {
        let options = Options { ctx: 300, batch: 32, type_k: kind, type_v: kind, ..Options::for_model(&model) };
        let mut processor = Session::new(&model, &options).expect("a session");
        eval(&mut processor, prompt);
        let mut session = Session::new(&model, &options).expect("a session");
        session.offload(&options, &on_device(), Box::new(|_| ()))?;
        eval(&mut session, prompt);
        // They lie where the processor's do.
        let (here, there) = (rows(&mut processor, kind), rows(&mut session, kind));
        let apart: Vec<f64> = here.iter().zip(&there).map(|(here, there)| off(here, there)).collect();
        eprintln!("{} cache: off by {apart:.4?}", kind.name());
        assert!(apart.iter().all(|&apart| 0.0 < apart && apart < OFF));

        let file = dir.path().join(kind.name());
        save(&mut session, prompt.len(), &file).expect("a file");
        let first = answer(&mut session, last);
        // Something else takes the place of what the device holds.
        session.truncate(0);
        eval(&mut session, &[77; IDS.len()]);
        assert!(rows(&mut session, kind)[0][..there[0].len()] != there[0]);
        assert_eq!(load(&mut session, &file).expect("a sound file"), prompt.len());
        assert!(rows(&mut session, kind) == there, "every bit comes back");
        assert_eq!(answer(&mut session, last), first);
        assert!(load(&mut processor, &file).is_err(), "the processor's would be others");
    }
    Ok(())
}
