//! `qwren complete`: raw text completion.

mod output;

use std::sync::Arc;

use qwren::sampler::{Purpose, Sampler};
use qwren::stream::FinishReason;
use qwren::thinking::Part;
use qwren::vocab::{Specials, Vocab};

use self::output::{Completion, Output};
use crate::args::{ContextArgs, DraftArgs, GrammarArgs, LimitArgs, PromptCacheArgs, RunArgs, SamplingArgs, TextArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::generate::{Answer, Engine, Gate, Recorder};
use crate::load;
use crate::report;
use crate::signals::{Interrupt, Second};
use crate::units::count;

/// The most tokens that `--logprobs` lists for each position.
const MAX_LOGPROBS: u16 = 1000;

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
    draft: DraftArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    grammar: GrammarArgs,

    #[command(flatten)]
    prompt_cache: PromptCacheArgs,

    /// Special tokens in the prompt, such as <|im_start|>, are text like any other
    #[arg(long)]
    no_special: bool,

    /// Leave out the beginning of a prompt that does not fit the context, instead of refusing it
    #[arg(long)]
    truncate: bool,

    /// Print the prompt before the completion
    #[arg(long)]
    echo: bool,

    /// One line of JSON when all is done, instead of text as it comes
    #[arg(long)]
    json: bool,

    /// With --json: the log-probability of each token and of the K most likely ones, as the model gives them
    #[arg(long, value_name = "K", requires = "json", value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_LOGPROBS)))]
    logprobs: Option<u16>,
}

/// Completes the prompt.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    let path = &args.run.model.model;
    let model = load::model(path)?;
    let vocab = Arc::new(load::vocab(path, model.gguf().header())?);
    let options = args.run.options(args.context.resolve(model.hparams().ctx_train));
    let mut mover = args.run.prepare(&model, &options, console)?;

    let text = args.text.read(console)?;
    let limits = args.limits.resolve()?;
    let mut prompt = encode(&vocab, &text, args.no_special)?;
    if args.truncate {
        truncate(&mut prompt, &vocab, options.ctx, limits.tokens, console);
    }
    check_length(prompt.len(), options.ctx)?;
    let sampling = args.sampling.resolve(model.gguf().header(), Purpose::Complete)?.sampling();
    let grammar = args.grammar.compile(&vocab)?;
    let mut session = args.run.session(&model, &options, console)?;
    console.note(report::start_line(&model, &options, sampling.seed));

    let prompt_cache = args.prompt_cache.load(&mut session, console);

    let interrupt = Interrupt::listen(Second::Exits)?;
    let mut engine = Engine {
        session: &mut session,
        vocab: &vocab,
        interrupt: interrupt.flag(),
        draft: args.draft.most(),
        mover: &mut mover,
        console,
    };
    let mut output = Output::new(args.json);
    if args.echo {
        output.put(&text)?;
    }
    let mut answer = Answer::raw(limits, Sampler::new(sampling), &vocab, &prompt);
    answer.recorder = Recorder::new(args.logprobs.map(usize::from));
    if let Some(grammar) = &grammar {
        answer.constrain(Gate::new(grammar.start(), None));
    }
    let mut sink = |part: Part| match part {
        Part::Answer(text) | Part::Thought(text) => output.put(&text),
        Part::WasThought => Ok(()),
    };
    let reason = answer.run(&mut engine, &prompt, &mut sink)?;
    answer.finish(&mut sink)?;
    prompt_cache.save(&mut session, prompt.len(), console);
    if args.json {
        Completion::of(&output, &answer, &vocab, prompt.len(), reason, sampling.seed).print()?;
    } else {
        output.end()?;
    }
    console.note(report::end_line(&answer.timings, reason, answer.thought_cut));
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

/// Takes as much from the front of a prompt that is too long that `tokens` more fit behind it, or a quarter of the context.
/// A start token stays.
fn truncate(prompt: &mut Vec<u32>, vocab: &Vocab, ctx: usize, tokens: Option<usize>, console: Console) {
    if prompt.len() <= ctx {
        return;
    }
    let room = tokens.unwrap_or(usize::MAX).min(ctx / 4);
    let kept = usize::from(vocab.add_bos() && ctx > room);
    let cut = prompt.len() - (ctx - room);
    let all = prompt.len();
    prompt.drain(kept..kept + cut);
    console.note(format_args!("the first {} of the prompt's {all} are left out (--truncate)", count(cut, "token")));
}

fn check_length(tokens: usize, ctx: usize) -> Result<(), Failure> {
    if tokens == 0 {
        return Err(Failure::usage("the prompt is empty; give one with -p, -f or on stdin"));
    }
    if tokens > ctx {
        let text = format!(
            "the prompt has {tokens} tokens, the context holds {ctx}; shorten it, enlarge the context with -c, or cut its \
             beginning with --truncate"
        );
        return Err(Failure::usage(text));
    }
    Ok(())
}
