//! `qwren chat`: a conversation, at a terminal or through a pipe.

mod args;
mod chronicle;
mod clipboard;
mod commands;
mod conversation;
mod editor;
mod external;
mod files;
mod history;
mod interactive;
mod markdown;
mod pipe;
mod render;
mod settings;
mod store;
mod talk;
mod terminal_guard;
mod tools;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use qwren::sampler::FileSampling;
use qwren::template::{ChatTemplate, Render, TemplateError};
use qwren::vocab::Vocab;
use qwren_quant::gguf::Header;
use serde_json::json;

pub use self::args::Args;
use self::chronicle::Chronicle;
use self::conversation::{Conversation, Setup};
use self::settings::{Asked, Settings};
use self::store::{Journal, Record};
use crate::console::Console;
use crate::exit::Exit;
use crate::{load, report};

/// Talks.
pub fn run(args: &Args, console: Console) -> anyhow::Result<Exit> {
    if args.list {
        return store::list();
    }
    let path = &args.run.model.model;
    let model = load::model(path)?;
    let vocab = Arc::new(load::vocab(path, model.gguf().header())?);
    let template = load::template(path, model.gguf().header())?;
    let options = args.run.options(args.context.resolve(model.hparams().ctx_train));
    let mover = args.run.prepare(&model, &options, console)?;
    let header = model.gguf().header();

    let asked = args.asked_to_think();
    let has_switch = template.has_thinking_switch();
    if asked.is_some() && !has_switch {
        console.note("this model has no thinking switch: its template takes no notice of --think and --no-think");
    }
    let file = FileSampling::from_gguf(header)?;
    if is_base_model(&vocab, &file) {
        console.note(
            "this looks like a base model (its end token is <|endoftext|>, and it recommends no sampling): it may not \
             answer, but go on with the text; `qwren complete` is made for that",
        );
    }
    let thinks = thinks(&template, asked).map_err(|err| load::naming(path, err.into()))?;
    let sentence = args.thinking_budget_message.clone();
    let how = Asked { asked, thinks };
    let settings = Settings::new(args.sampling.flags(), file, how, has_switch, args.thinking, sentence)?;
    let limits = args.limits()?;
    let tools = args.tools.as_deref().map(tools::read).transpose()?;
    let grammar = args.grammar.compile(&vocab)?;
    let chronicle = chronicle(args, &model_name(header), console)?;
    let mut session = args.run.session(&model, &options, console)?;
    console.note(report::start_line(&model, &options, settings.sampling().seed.value));

    let prompt_cache = args.prompt_cache.load(&mut session, console);
    let setup = Setup { vocab, template: &template, tools, grammar, draft: args.draft.most(), mover, console };
    let values = settings.sampling().sampling();
    let mut conversation = Conversation::new(setup, session, values, limits, args.context_full, chronicle);
    conversation.thinking = asked;
    let exit = if args.jsonl {
        pipe::lines(&mut conversation)
    } else if io::stdin().is_terminal() {
        interactive::run(&mut conversation, settings, args, console)
    } else {
        pipe::once(&mut conversation, args.thinking, console)
    }?;
    let mut session = conversation.into_session();
    let n = session.len();
    prompt_cache.save(&mut session, n, console);
    Ok(exit)
}

/// The conversation so far: an old one if that was asked for. Only those at a terminal are kept from the start; scripts
/// keep what they resume.
fn chronicle(args: &Args, model: &str, console: Console) -> anyhow::Result<Chronicle> {
    let Some(id) = &args.resume else {
        let keep = io::stdin().is_terminal() && !args.jsonl && !args.private;
        let model = model.to_owned();
        let journal = if keep { Journal::new(store::folder()?, model) } else { Journal::none(model) };
        return Ok(Chronicle::new(args.system.clone(), journal, console));
    };
    let path = store::find(id.as_deref())?;
    let loaded = store::load(&path)?;
    if loaded.head.model != model {
        console.note(format_args!("this conversation began with {}; it goes on with {model}", loaded.head.model));
    }
    let journal = Journal::resume(path, &loaded, model.to_owned())?;
    let mut chronicle = Chronicle::resumed(loaded, journal, console);
    if args.system.is_some() {
        chronicle.happen(Record::System(args.system.clone()));
    }
    Ok(chronicle)
}

/// The model's name, for the user's files.
fn model_name(header: &Header) -> String {
    header.str("general.name").ok().flatten().unwrap_or("a model without a name").to_owned()
}

/// Whether the file looks like a model that was never taught to talk.
fn is_base_model(vocab: &Vocab, sampling: &FileSampling) -> bool {
    vocab.eos().is_some_and(|eos| vocab.piece(eos) == b"<|endoftext|>") && sampling.is_empty()
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
