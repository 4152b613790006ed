//! `qwren perplexity`: how well a model predicts a text, and how far it is from another one.
//!
//! As llama.cpp does it: the text is cut into chunks of a context's length, each is evaluated on its own, and the
//! predictions in its second half are scored, where every one has at least half a context before it.

mod base;
mod score;

use std::io::{self, Write};
use std::path::PathBuf;

use qwren::vocab::Specials;

use self::base::{BaseReader, BaseWriter, Shape};
use self::score::Score;
use crate::args::{RunArgs, text};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::load;
use crate::signals::{Interrupt, Second};

/// Options of `qwren perplexity`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,

    /// The text, - for stdin
    #[arg(short, long, value_name = "TEXT")]
    file: PathBuf,

    /// Tokens in a chunk; the second half of each is scored
    #[arg(short = 'c', long, value_name = "N", default_value = "512", value_parser = clap::value_parser!(u32).range(4..=1 << 24))]
    ctx_size: u32,

    /// Save this run's predictions, for --base-logits of another
    #[arg(long, value_name = "F", conflicts_with = "base_logits")]
    save_logits: Option<PathBuf>,

    /// Predictions saved from another model: report the Kullback-Leibler divergence from it
    #[arg(long, value_name = "F")]
    base_logits: Option<PathBuf>,

    /// One line of JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Scores the text.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    let path = &args.run.model.model;
    let model = load::model(path)?;
    let vocab = load::vocab(path, model.gguf().header())?;
    let name = text::source(&args.file);
    let ids = vocab.encode(&text::file_or_stdin(&args.file, console)?, Specials::Parse)?;
    let bos = vocab.bos().filter(|_| vocab.add_bos());
    let chunks = cut(ids, args.ctx_size as usize, bos).ok_or_else(|| {
        Failure::usage(format!("{name}: is too short to be scored, 4 tokens are the least; give a longer text"))
    })?;

    let options = args.run.options(chunks[0].len());
    args.run.prepare(&model, &options, console)?;
    let shape = Shape::of(model.hparams().vocab, &chunks);
    let mut session = args.run.session(&model, &options, console)?;
    // Before there is a file that a signal could leave unfinished.
    let interrupt = Interrupt::listen(Second::Exits)?;
    let mut writer = match &args.save_logits {
        Some(path) => {
            let read = [&*args.file].into_iter().chain(args.base_logits.as_deref());
            Some(BaseWriter::create(args.run.output(path, &model, read)?, &shape, &chunks)?)
        }
        None => None,
    };
    let mut reader = match &args.base_logits {
        Some(path) => Some(BaseReader::open(path, &shape, &chunks)?),
        None => None,
    };

    let mut score = Score::default();
    let not_finite = || {
        let text = "gives values that are not finite; check it with 'qwren verify'";
        Failure::usage(format!("{}: {text}", path.display()))
    };
    for (number, chunk) in chunks.iter().enumerate() {
        session.truncate(0);
        let mut failed = None;
        // The last token's own prediction lies outside the chunk.
        let inputs = &chunk[..chunk.len() - 1];
        session.eval_each(inputs, shape.scored, interrupt.flag(), &mut |index, logits| {
            if failed.is_none() {
                let row = score::log_softmax(logits);
                let next = chunk[index + 1];
                failed = match row[next as usize].is_nan() {
                    true => Some(not_finite().into()),
                    false => step(&row, next, &mut score, &mut writer, &mut reader).err(),
                };
            }
        })?;
        if let Some(err) = failed {
            return Err(err);
        }
        console.progress(format_args!(
            "chunk {} of {}: perplexity {:.4}",
            number + 1,
            chunks.len(),
            score.perplexity()
        ));
    }
    console.end_progress();
    if let Some(writer) = writer {
        writer.finish()?;
    }
    let text = if args.json { serde_json::to_string(&score.summary())? } else { score.to_string() };
    writeln!(io::stdout(), "{text}")?;
    Ok(Exit::Done)
}

/// One prediction: its log-probabilities, and the token that came.
fn step(
    row: &[f32],
    next: u32,
    score: &mut Score,
    writer: &mut Option<BaseWriter>,
    reader: &mut Option<BaseReader>,
) -> anyhow::Result<()> {
    score.add(row, next);
    if let Some(writer) = writer {
        writer.push(row)?;
    }
    if let Some(reader) = reader {
        score.compare(reader.next_row()?, row);
    }
    Ok(())
}

/// Chunks of `len` tokens, the first of each replaced by `bos` if there is one; what is left over at the end is dropped. A
/// shorter text is one chunk. None when nothing can be scored.
fn cut(ids: Vec<u32>, len: usize, bos: Option<u32>) -> Option<Vec<Vec<u32>>> {
    let len = len.min(ids.len());
    if len < 4 {
        return None;
    }
    let mut chunks: Vec<Vec<u32>> = ids.chunks_exact(len).map(<[u32]>::to_vec).collect();
    if let Some(bos) = bos {
        chunks.iter_mut().for_each(|chunk| chunk[0] = bos);
    }
    Some(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_into_whole_chunks() {
        let chunks = cut((0..11).collect(), 5, Some(99)).unwrap();
        assert_eq!(chunks, [[99, 1, 2, 3, 4], [99, 6, 7, 8, 9]]);
        assert_eq!(cut((0..6).collect(), 512, None).unwrap(), [[0, 1, 2, 3, 4, 5]]);
        assert_eq!(cut((0..3).collect(), 512, None), None);
    }
}
