//! `qwren imatrix`: reads a text and sums the squares of what each matrix of the model is fed, column by column.
//!
//! As llama-imatrix does it: the text is cut into chunks of a context's length, each is evaluated on its own, and what is
//! left over at the end is dropped. The file is the same bytes for any number of threads.

use std::path::{Path, PathBuf};
use std::time::Instant;

use qwren::ops::fed::Fed;
use qwren::session::{EvalError, SessionError};
use qwren::vocab::{Specials, Vocab};
use qwren_quant::gguf::{Quoted, WriteError};
use qwren_quant::imatrix::{Origin, Sums, write_dat, write_gguf};

use crate::args::{RunArgs, text};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::load;
use crate::output_file::OutputFile;
use crate::signals::{Interrupt, Second};

/// Options of `qwren imatrix`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,

    /// The text, - for stdin: some 100 KB like those that the model will be used with
    #[arg(short, long, value_name = "TEXT")]
    file: PathBuf,

    /// Where the importance matrix goes
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// Form of the file
    #[arg(long, value_enum, default_value_t = Format::Gguf, alias = "output-format")]
    format: Format,

    /// Tokens in a chunk
    #[arg(short = 'c', long, value_name = "N", default_value = "512", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    ctx_size: u32,

    /// Read the first N chunks only [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,

    /// Sum for the output matrix too
    #[arg(long)]
    process_output: bool,

    /// Take the text's special tokens as such, not as text
    #[arg(long)]
    parse_special: bool,
}

/// The forms that llama.cpp has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// GGUF, with counts for each expert
    Gguf,
    /// The older form
    Dat,
}

/// Reads the text and writes the file. On Ctrl-C the file gets what was summed so far, if a chunk was whole.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    // Before a long wait for the model.
    if args.run.stock_ops || args.run.offloaded().is_some() {
        return Err(SessionError::Watch.into());
    }
    let path = &args.run.model.model;
    let model = load::model(path)?;
    let vocab = load::vocab(path, model.gguf().header())?;
    let ctx = args.ctx_size as usize;
    let ids = tokens(args, &vocab, console)?;
    let total = args.chunks.map_or(usize::MAX, |n| n as usize).min(ids.len() / ctx);
    if total == 0 {
        let text = format!(
            "{}: has {} tokens, and a chunk has {ctx}; give a longer text, or a smaller -c",
            text::source(&args.file),
            ids.len()
        );
        return Err(Failure::usage(text).into());
    }
    let options = args.run.options(ctx);
    args.run.prepare(&model, &options, console)?;
    let mut session = args.run.session(&model, &options, console)?;
    session.watch(Fed::new(&model, args.process_output))?;
    // Before there is a file that a signal could leave unfinished.
    let interrupt = Interrupt::listen(Second::Exits)?;
    let out = args.run.output(&args.output, &model, [&*args.file])?;
    let start = Instant::now();
    let (mut done, mut exit) = (0, Exit::Done);
    for chunk in ids.chunks_exact(ctx).take(total) {
        let mut chunk = chunk.to_vec();
        if let Some(bos) = vocab.bos().filter(|_| vocab.add_bos()) {
            chunk[0] = bos;
        }
        session.truncate(0);
        let read = match args.process_output {
            true => session.eval_each(&chunk, ctx, interrupt.flag(), &mut |_, _| ()),
            false => session.eval(&chunk, interrupt.flag(), &mut |_, _| ()).map(|_| ()),
        };
        match read {
            Ok(()) => done += 1,
            Err(EvalError::Interrupted) if done > 0 => {
                exit = Exit::Interrupted;
                break;
            }
            Err(err) => return Err(err.into()),
        }
        let left = start.elapsed().as_secs_f64() / done as f64 * (total - done) as f64;
        console.progress(format_args!("chunk {done} of {total}, {left:.0} s left"));
    }
    console.end_progress();

    let fed = session.fed().map_or(&[][..], Fed::entries);
    let dataset = text::source(&args.file);
    let origin = Origin { dataset: &dataset, chunks: done as u32, chunk_size: args.ctx_size };
    let sums: Vec<Sums<'_>> =
        fed.iter().flat_map(|e| e.names.iter().map(|name| Sums { name, squares: &e.squares, rows: &e.rows })).collect();
    // Sums of squares are finite unless a value is not, or all of them are absurd.
    if let Some(bad) = sums.iter().find(|s| s.squares.iter().any(|&x| !(x as f32).is_finite())) {
        let text =
            format!("gives values that are not finite to {}; check it with 'qwren verify'", Quoted::new(bad.name));
        return Err(Failure::usage(format!("{}: {text}", path.display())).into());
    }
    write(out, args, &sums, &origin)?;
    tell(console, &args.output, &sums, (done, total), exit);
    Ok(exit)
}

fn tokens(args: &Args, vocab: &Vocab, console: Console) -> anyhow::Result<Vec<u32>> {
    let specials = if args.parse_special { Specials::Parse } else { Specials::Plain };
    let ids = vocab.encode(&text::file_or_stdin(&args.file, console)?, specials)?;
    // The text begins with it, and then each chunk does.
    let bos = vocab.bos().filter(|_| vocab.add_bos());
    Ok(bos.into_iter().chain(ids).collect())
}

fn write(mut out: OutputFile, args: &Args, sums: &[Sums<'_>], origin: &Origin<'_>) -> anyhow::Result<()> {
    let written = match args.format {
        Format::Gguf => write_gguf(&mut out, sums, origin),
        Format::Dat => write_dat(&mut out, sums, origin).map_err(WriteError::from),
    };
    let naming = |err| load::naming(&args.output, err);
    written.map_err(|err| match err {
        WriteError::Io(err) => naming(err.into()),
        err => naming(err.into()),
    })?;
    out.finish()
}

/// Says what was made.
fn tell(console: Console, path: &Path, sums: &[Sums<'_>], (done, total): (usize, usize), exit: Exit) {
    let (mut experts, mut unseen) = (0, 0);
    for s in sums.iter().filter(|s| s.rows.len() > 1) {
        experts += s.rows.len();
        unseen += s.rows.iter().filter(|&&n| n == 0).count();
    }
    let missing = match unseen {
        0 => String::new(),
        n => format!("; {n} of {experts} matrices of experts were never used: a longer text would reach more"),
    };
    let how = if exit == Exit::Interrupted { ", interrupted" } else { "" };
    console.note(format_args!(
        "{}: {} entries from {done} of {total} chunks{how}{missing}",
        path.display(),
        sums.len()
    ));
}
