//! `qwren bench`: how fast a model reads prompts and writes answers on this machine, beside what its memory allows.

mod arithmetic_speed;
mod measure;
mod memory_speed;
mod report;
mod work;

use std::io::{self, Write};

use qwren::machine;
use qwren_quant::kernel::{Level, vec_ops};

use crate::args::RunArgs;
use crate::console::Console;
use crate::exit::Exit;
use crate::load;
use crate::signals::{Interrupt, Second};

use report::{Decode, Prefill};

/// Options of `qwren bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,

    /// Prompt lengths to read, in tokens
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "512", value_parser = length(1))]
    prefill: Vec<u32>,

    /// Tokens to write at each depth; 0: none
    #[arg(long, value_name = "N", default_value = "64", value_parser = length(0))]
    decode: u32,

    /// Tokens that the context holds already when writing begins
    ///
    /// [default: 0,2048,8192 as far as the model was trained for them]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = length(0))]
    depth: Vec<u32>,

    /// Repetitions; medians are reported
    #[arg(short, long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,

    /// One line of JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Depths when none are asked for.
const DEPTHS: [u32; 3] = [0, 2048, 8192];

/// Lengths: positions of a context at most.
fn length(least: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(least..=1 << 24)
}

/// Warms up, measures, reports.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    let model = load::model(&args.run.model.model)?;
    let decode = args.decode as usize;
    let prefill_ctx = args.prefill.iter().copied().max().unwrap_or(1) as usize;
    let trained = model.hparams().ctx_train;
    let depths = match &args.depth[..] {
        [] => {
            let (depths, beyond) =
                DEPTHS.into_iter().partition::<Vec<_>, _>(|&depth| depth as usize + decode <= trained);
            if decode > 0 && !beyond.is_empty() {
                let left: Vec<String> = beyond.iter().map(u32::to_string).collect();
                let left = left.join(", ");
                console.note(format_args!(
                    "a model of {trained} tokens: nothing is written at depth {left}; --depth chooses"
                ));
            }
            depths
        }
        asked => {
            if decode > 0 && asked.iter().any(|&depth| depth as usize + decode > trained) {
                console.note(format_args!("a model of {trained} tokens: beyond them it writes nonsense"));
            }
            asked.to_vec()
        }
    };
    let decode_ctx = depths.iter().copied().max().unwrap_or(0) as usize + decode;
    // One position more: at depth 0 the first token is evaluated before the clock starts.
    let options = args.run.options(prefill_ctx.max(decode_ctx + 1));
    let mover = args.run.prepare(&model, &options, console)?;

    let mut session = args.run.session(&model, &options, console)?;
    // More threads than processors have the same limits; each would count what it did in its own time.
    let threads = options.threads.decode.max(options.threads.prefill).min(machine::cpus().len());
    let limits = report::Limits {
        read_bytes_per_s: memory_speed::read_bytes_per_s(threads, machine::memory_available()),
        macs_per_s: arithmetic_speed::macs_per_s(threads, vec_ops(Level::detect()?)),
    };
    // What is measured is how it runs in the long run.
    mover.finish(&session);
    let interrupt = Interrupt::listen(Second::Exits)?;
    let mut bench = measure::Bench::new(&mut session, interrupt.flag(), args.repetitions);
    let times = if args.repetitions == 1 { "once" } else { &format!("{} times", args.repetitions) };
    console.note(format_args!("warming up, then each {times}"));

    bench.warm_up()?;
    // Behind the warm-up, in which a device may be lost.
    let work = work::Work::of(&model, &options, bench.placement().is_none().then_some(limits));
    let mut report = report::Report::new(&model, &options, bench.placement(), args.repetitions, limits)?;
    // A table's rows come as they are found.
    let show = |text: String| if args.json { Ok(()) } else { io::stdout().write_all(text.as_bytes()) };
    show(report.head() + &Prefill::title())?;
    for &tokens in &args.prefill {
        let found = work.prefill(tokens as usize, bench.prefill(tokens as usize)?);
        show(found.row())?;
        report.prefill.push(found);
    }
    for (i, &depth) in depths.iter().filter(|_| decode > 0).enumerate() {
        if i == 0 {
            show(Decode::title())?;
        }
        let found = work.decode(depth as usize, decode, bench.decode(depth as usize, decode)?);
        show(found.row())?;
        report.decode.push(found);
    }
    if args.json {
        io::stdout().write_all((serde_json::to_string(&report)? + "\n").as_bytes())?;
    }
    Ok(Exit::Done)
}
