//! `qwren logits`: the model's raw output for given tokens, as a NumPy array.

use std::io;
use std::path::PathBuf;

use crate::args::RunArgs;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::signals::{Interrupt, Second};
use crate::{load, npy};

/// Options of `qwren logits`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,

    /// Token ids, separated by commas
    #[arg(long, value_name = "ID,…", value_delimiter = ',', required = true)]
    ids: Vec<u32>,

    /// Where the array goes: float32 [positions, vocabulary]
    #[arg(short, long, value_name = "F.npy")]
    output: PathBuf,

    /// Only the last K positions
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
}

/// Evaluates the ids and writes the logits of the wanted positions.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    let model = load::model(&args.run.model.model)?;
    let vocab = model.hparams().vocab;
    if let Some(id) = args.ids.iter().find(|&&id| id as usize >= vocab) {
        return Err(Failure::usage(format!("--ids: token {id} is not among the model's {vocab}")).into());
    }
    let options = args.run.options(args.ids.len());
    args.run.prepare(&model, &options, console)?;
    let rows = args.last.map_or(args.ids.len(), |k| args.ids.len().min(k as usize));
    let mut session = args.run.session(&model, &options, console)?;
    // Before there is a file that a signal could leave unfinished.
    let interrupt = Interrupt::listen(Second::Exits)?;
    let mut file = args.run.output(&args.output, &model, [])?;
    let mut written = io::Write::write_all(&mut file, &npy::header(rows, vocab));
    session.eval_each(&args.ids, rows, interrupt.flag(), &mut |_, logits| {
        if written.is_ok() {
            written = npy::write_values(&mut file, logits);
        }
    })?;
    written.map_err(|err| load::naming(&args.output, anyhow::Error::from(err)))?;
    file.finish()?;
    console.note(format_args!("{}: float32 [{rows}, {vocab}]", args.output.display()));
    Ok(Exit::Done)
}
