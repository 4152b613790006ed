//! `qwren bench`: how fast a model reads prompts and writes answers on this machine, beside what its memory allows.

mod arithmetic_speed;
mod measure;
mod memory_speed;
mod report;
mod work;

use std::io::{self, Write};

use qwren::machine;
use qwren::session::Threads;
use qwren_quant::kernel::{Level, vec_ops};

use crate::args::RunArgs;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::load;
use crate::signals::{Interrupt, Second};

use report::{Decode, Prefill};

/// Options of `qwren bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,

    /// Prompt lengths to read, in tokens; 0: none
    ///
    /// Their GMAC/s are those with the layers' matrices: attention and the output take time and are not counted.
    #[arg(
        short = 'p',
        long,
        visible_alias = "n-prompt",
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "512",
        value_parser = length()
    )]
    prefill: Vec<u32>,

    /// Tokens to write at each depth; 0: none
    #[arg(short = 'n', long, visible_alias = "n-gen", value_name = "N", default_value = "64", value_parser = length())]
    decode: u32,

    /// Tokens that the context holds already when writing begins
    ///
    /// [default: 0,2048,8192 as far as the model was trained for them]
    #[arg(
        short,
        long,
        visible_alias = "n-depth",
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = length()
    )]
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
fn length() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=1 << 24)
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
                if depths.is_empty() {
                    let text = format!("a model of {trained} tokens can't write {decode}; choose --decode or --depth");
                    return Err(Failure::usage(text).into());
                }
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
    let deepest = depths.iter().copied().filter(|_| decode > 0).max().unwrap_or(0) as usize;
    // One position more: at depth 0 the first token is evaluated before the clock starts. The warm-up has two tokens at least.
    let options = args.run.options(prefill_ctx.max(deepest + decode + 1).max(2));
    let mover = args.run.prepare(&model, &options, console)?;

    let mut session = args.run.session(&model, &options, console)?;
    let threads = if options.stock_ops { Threads { decode: 1, prefill: 1 } } else { options.threads };
    // More threads than processors have the same limits; each would count what it did in its own time.
    let at_once = |threads: usize| threads.min(machine::cpus().len());
    let limits = report::Limits {
        threads,
        read_bytes_per_s: memory_speed::read_bytes_per_s(at_once(threads.decode), machine::memory_available()),
        macs_per_s: arithmetic_speed::macs_per_s(at_once(threads.prefill), vec_ops(Level::detect()?)),
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
    show(report.head())?;
    for (i, &tokens) in args.prefill.iter().filter(|&&tokens| tokens > 0).enumerate() {
        if i == 0 {
            show(Prefill::title())?;
        }
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
