//! `qwren chat`: a conversation, at a terminal or through a pipe.

mod commands;
mod conversation;
mod editor;
mod history;
mod interactive;
mod render;

use std::io::{self, IsTerminal};

use qwren::sampler::Purpose;
use qwren::session::Session;
use qwren::stream::FinishReason;
use qwren::template::{ChatTemplate, Render, TemplateError};
use serde_json::json;

use self::conversation::Conversation;
use self::render::{Printer, Thinking};
use crate::args::{ContextArgs, LimitArgs, RunArgs, SamplingArgs, text};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::signals::{Interrupt, Second};
use crate::{load, report};

/// Options of `qwren chat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,

    #[command(flatten)]
    context: ContextArgs,

    /// System prompt: what the model is told before the conversation (also -sys)
    #[arg(long, visible_alias = "system-prompt", value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,

    /// Let the model think before it answers [default: as its template has it]
    #[arg(long, conflicts_with = "no_think")]
    think: bool,

    /// Answer without thinking
    #[arg(long)]
    no_think: bool,

    /// What becomes of thoughts
    #[arg(long, value_name = "HOW", default_value = "dim")]
    thinking: Thinking,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Talks.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    let path = &args.run.model.model;
    let model = load::model(path)?;
    let header = model.gguf().header();
    let vocab = load::vocab(path, header)?;
    let template = load::template(path, header)?;
    let options = args.run.options(args.context.resolve(model.hparams().ctx_train));
    args.run.check_memory(&model, &options)?;

    let asked = match (args.think, args.no_think) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let has_switch = template.has_thinking_switch();
    if asked.is_some() && !has_switch {
        console.note("this model has no thinking switch: its template takes no notice of --think and --no-think");
    }
    let thinking = thinks(&template, asked).map_err(|err| load::naming(path, err.into()))?;
    let sampling = args.sampling.resolve(header, Purpose::Chat { thinking })?;
    let (limits, system) = (args.limits.resolve()?, args.system.clone());
    let session = Session::new(&model, &options)?;
    console.note(report::start_line(&model, &options, sampling.seed.value));
    let values = sampling.sampling();
    let mut conversation = Conversation::new(&vocab, &template, session, values, limits, system, console);
    conversation.thinking = asked;

    if io::stdin().is_terminal() {
        interactive::run(&mut conversation, interactive::Settings { args, header, has_switch, sampling }, console)
    } else {
        once(&mut conversation, args.thinking, console)
    }
}

/// Whether the model will think before it answers: its template closes the thought in the prompt where it won't.
fn thinks(template: &ChatTemplate, asked: Option<bool>) -> Result<bool, TemplateError> {
    let messages = [json!({"role": "user", "content": "?"})];
    let render = Render { messages: &messages, tools: None, enable_thinking: asked, add_generation_prompt: true };
    let prompt = template.render(&render)?;
    let prompt = prompt.trim_end();
    let can_think = template.has_thinking_switch() || prompt.ends_with(qwren::thinking::OPEN);
    Ok(can_think && !prompt.ends_with(qwren::thinking::CLOSE))
}

/// All of stdin is one message (no line of a script's text is a command); it is answered, and that is all.
fn once(conversation: &mut Conversation<'_>, thinking: Thinking, console: Console) -> anyhow::Result<Exit> {
    let message = text::decode("stdin", text::stdin(console)?)?;
    if message.trim().is_empty() {
        return Err(Failure::usage("there is no message on stdin; pipe one in, or start at a terminal").into());
    }
    conversation.history.ask(message);
    let interrupt = Interrupt::listen(Second::Exits)?;
    let mut printer = Printer::stdout(thinking);
    let (reason, timings) = conversation.answer(interrupt.flag(), &mut |part| printer.put(part))?;
    printer.end()?;
    console.note(report::end_line(&timings, reason));
    Ok(if reason == FinishReason::Interrupt { Exit::Interrupted } else { Exit::Done })
}
