//! A context of more positions than a device looks at at once, many times over.
use qwren_quant::dtype::DType;
use qwren_tests::cli::qwren;
use qwren_tests::models::mean_kl;
use qwren_tests::offload::{floats, logits, told};
use qwren_tests::tiny::{Sizes, Tiny};

use crate::{APART, BLOCKS, SOFTWARE, command, device};

/// Three batches of 350 tokens and one of a single one.
const POSITIONS: u32 = 1051;
/// Of the last ones the logits are compared.
const LAST: &str = "40";

#[test]
#[ignore = "needs qwren-gpu: scripts/test.sh --vulkan"]
fn more_than_a_thousand_positions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    // Longer queries look at few positions each, wherever those are.
    Tiny::new(&Sizes { layers: 2, heads: 2, kv_heads: 1, ..BLOCKS }, DType::Q8_0).write(&path, 11, |name, values| {
        if name.contains("attn_q_norm") {
            values.iter_mut().for_each(|x| *x *= 2.0);
        }
    });
    let ids: Vec<u32> = (0..POSITIONS).map(|i| i * i % 199).collect();
    let other: Vec<u32> = ids.iter().enumerate().map(|(i, id)| if i < 500 { 199 - id } else { *id }).collect();
    // Without flash attention, which is slow to translate for the processor, a cache of 8 bits isn't taken.
    let types = if device() == SOFTWARE { &["f16"][..] } else { &["f16", "q8_0"] };
    for kind in types {
        let args = ["-b", "350", "-ctk", kind, "-ctv", kind, "--last", LAST];
        let mut here = qwren(["logits", "-m"]);
        here.arg(&path).args(args);
        let here = floats(&logits(here, &ids).0);
        let mut another = qwren(["logits", "-m"]);
        another.arg(&path).args(args);
        let another = floats(&logits(another, &other).0);
        let begin = std::time::Instant::now();
        let (there, ended) = logits(command("logits", &path, &[&args[..], &["-ngl", "all"]].concat()), &ids);
        assert!(told(&ended)[0].ends_with("layers and the output"), "{}", ended.stderr);
        let vocab = BLOCKS.vocab as usize;
        let (apart, far) = (mean_kl(&here, &floats(&there), vocab), mean_kl(&here, &another, vocab));
        eprintln!("{kind}: mean KL {apart:.6}; of another beginning {far:.6}; {:?}", begin.elapsed());
        assert!(apart < APART, "{kind}: mean KL {apart}");
        // The first positions matter.
        assert!(far > 10.0 * APART, "{kind}: mean KL {far}");
    }
}
