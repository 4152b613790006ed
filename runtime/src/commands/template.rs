//! `qwren template`: conversations rendered by the file's chat template.

use qwren::template::Render;
use serde::Deserialize;
use serde_json::Value;

use crate::args::ModelArgs;
use crate::exit::Exit;
use crate::{jsonl, load};

/// Options of `qwren template`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Each line of stdin is {"messages":…,"tools":…,"enable_thinking":…,"add_generation_prompt":…}; print a JSON string
    /// for each. Only messages must be there; other keys are not read
    #[arg(long, required = true)]
    jsonl: bool,
}

/// One conversation.
#[derive(Debug, Deserialize)]
struct Request {
    messages: Vec<Value>,
    tools: Option<Value>,
    enable_thinking: Option<bool>,
    add_generation_prompt: Option<bool>,
}

/// Renders each line.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let path = &args.model.model;
    let template = load::template(path, load::file(path)?.header())?;
    jsonl::map("an object with messages", |request: Request| {
        let render = Render {
            messages: &request.messages,
            tools: request.tools.as_ref(),
            enable_thinking: request.enable_thinking,
            add_generation_prompt: request.add_generation_prompt.unwrap_or(false),
        };
        Ok(template.render(&render)?)
    })?;
    Ok(Exit::Done)
}
