//! `qwren complete`: raw text completion.

use std::io::{self, IsTerminal, Write};

use qwren::sampler::{Purpose, Sampler};
use qwren::session::Session;
use qwren::stream::FinishReason;
use qwren::terminal::shown;
use qwren::thinking::Part;
use qwren::vocab::{Specials, Vocab};
use serde::Serialize;

use crate::args::{ContextArgs, LimitArgs, RunArgs, SamplingArgs, TextArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::generate::{Answer, Engine};
use crate::load;
use crate::report;
use crate::signals::{Interrupt, Second};

/// Options of `qwren complete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,

    #[command(flatten)]
    context: ContextArgs,

    #[command(flatten)]
    text: TextArgs,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    /// Special tokens in the prompt, such as <|im_start|>, are text like any other
    #[arg(long)]
    no_special: bool,

    /// Print the prompt before the completion
    #[arg(long)]
    echo: bool,

    /// One line of JSON when all is done, instead of text as it comes
    #[arg(long)]
    json: bool,
}

/// The result with --json.
#[derive(Debug, Serialize)]
struct Completion<'a> {
    text: &'a str,
    tokens: &'a [u32],
    prompt_tokens: usize,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<&'a str>,
    seed: u64,
    timings: report::Rates,
}

/// Completes the prompt.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    let path = &args.run.model.model;
    let model = load::model(path)?;
    let vocab = load::vocab(path, model.gguf().header())?;
    let options = args.run.options(args.context.resolve(model.hparams().ctx_train));
    args.run.check_memory(&model, &options)?;

    let text = args.text.read(console)?;
    let prompt = encode(&vocab, &text, args.no_special)?;
    check_length(prompt.len(), options.ctx)?;
    let limits = args.limits.resolve()?;
    let sampling = args.sampling.resolve(model.gguf().header(), Purpose::Complete)?.sampling();
    let mut session = Session::new(&model, &options)?;
    console.note(report::start_line(&model, &options, sampling.seed));

    let interrupt = Interrupt::listen(Second::Exits)?;
    let mut engine = Engine { session: &mut session, vocab: &vocab, interrupt: interrupt.flag(), console };
    let mut output = Output::new(args.json);
    if args.echo {
        output.put(&text)?;
    }
    let mut answer = Answer::raw(limits, Sampler::new(sampling));
    let mut sink = |part: Part| match part {
        Part::Answer(text) | Part::Thought(text) => output.put(&text),
        Part::WasThought => Ok(()),
    };
    let reason = answer.run(&mut engine, &prompt, &mut sink)?;
    answer.finish(&mut sink)?;
    if args.json {
        let line = serde_json::to_string(&Completion {
            text: &output.text,
            tokens: &answer.tokens,
            prompt_tokens: prompt.len(),
            reason: reason.name(),
            stop: answer.stop(),
            seed: sampling.seed,
            timings: report::Rates::of(&answer.timings),
        })?;
        writeln!(io::stdout(), "{line}")?;
    } else {
        output.end()?;
    }
    console.note(report::end_line(&answer.timings, reason));
    Ok(if reason == FinishReason::Interrupt { Exit::Interrupted } else { Exit::Done })
}

/// The prompt's tokens, with the start token of models that want one.
fn encode(vocab: &Vocab, text: &str, no_special: bool) -> anyhow::Result<Vec<u32>> {
    let specials = if no_special { Specials::Plain } else { Specials::Parse };
    let mut ids = vocab.encode(text, specials)?;
    // A template's text may begin with the start token already.
    if let Some(bos) = vocab.bos().filter(|bos| vocab.add_bos() && ids.first() != Some(bos)) {
        ids.insert(0, bos);
    }
    Ok(ids)
}

fn check_length(tokens: usize, ctx: usize) -> Result<(), Failure> {
    if tokens == 0 {
        return Err(Failure::usage("the prompt is empty; give one with -p, -f or on stdin"));
    }
    if tokens > ctx {
        let text = format!(
            "the prompt has {tokens} tokens, the context holds {ctx}; shorten it or enlarge the context with -c"
        );
        return Err(Failure::usage(text));
    }
    Ok(())
}

/// Where the text goes: to stdout as it comes, or together for JSON.
struct Output {
    text: String,
    collect: bool,
    terminal: bool,
    at_line_start: bool,
}

impl Output {
    fn new(collect: bool) -> Output {
        Output { text: String::new(), collect, terminal: io::stdout().is_terminal(), at_line_start: true }
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        if self.collect {
            self.text.push_str(text);
            return Ok(());
        }
        if text.is_empty() {
            return Ok(());
        }
        self.at_line_start = text.ends_with('\n');
        let mut out = io::stdout().lock();
        out.write_all(shown(text, self.terminal).as_bytes())?;
        out.flush()
    }

    /// Completes a terminal's line; a pipe's bytes are left as they are.
    fn end(&self) -> io::Result<()> {
        if self.terminal && !self.at_line_start { writeln!(io::stdout()) } else { Ok(()) }
    }
}
