//! candle's quantized Qwen3 against the clock: prints tokens a second as JSON, as llama-bench and `qwren bench --json` do.
//!
//! candle-bench FILE PREFILL DECODE DEPTH,…
use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_qwen3::ModelWeights;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, prefill, decode, depths] = &args[..] else {
        return Err("usage: candle-bench FILE PREFILL DECODE DEPTH,…".into());
    };
    let (prefill, decode) = (prefill.parse()?, decode.parse::<usize>()?);
    let mut reader = BufReader::new(File::open(file)?);
    let content = Content::read(&mut reader)?;
    let mut model = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
    // Warm: the first run reads pages and starts threads.
    eval(&mut model, &tokens(16), 0)?;

    let mut figures = Vec::new();
    if prefill > 0 {
        model.clear_kv_cache();
        let start = Instant::now();
        eval(&mut model, &tokens(prefill), 0)?;
        figures.push(format!("\"prefill {prefill}\": {}", prefill as f64 / start.elapsed().as_secs_f64()));
    }
    for depth in depths.split(',').filter(|_| decode > 0) {
        let depth = depth.parse()?;
        model.clear_kv_cache();
        let all = tokens(depth + decode);
        // In pieces: its attention takes memory for all pairs of a piece's tokens and those before.
        for (i, piece) in all[..depth].chunks(512).enumerate() {
            eval(&mut model, piece, i * 512)?;
        }
        let start = Instant::now();
        for i in depth..all.len() {
            eval(&mut model, &all[i..=i], i)?;
        }
        figures.push(format!("\"decode at {depth}\": {}", decode as f64 / start.elapsed().as_secs_f64()));
    }
    println!("{{{}}}", figures.join(", "));
    Ok(())
}

fn eval(model: &mut ModelWeights, tokens: &[u32], offset: usize) -> Result<(), Error> {
    let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
    model.forward(&input, offset)?;
    Ok(())
}

/// Some tokens that every vocabulary of Qwen3 has.
fn tokens(n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7919 % 50_000) as u32).collect()
}
