//! The model's chat template: a program in the file that turns a conversation into the text the model was trained on.
//!
//! It comes from the file, so it is not trusted: work, memory, output and recursion are bounded, it sees the
//! conversation and nothing else, and a failure is an error that tells the line. There is no fallback to another one.

mod date;
mod error;
mod json;
mod protect;
mod scan;

pub use error::TemplateError;

use crate::vocab::Vocab;
use json::to_value;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, ErrorKind, syntax::SyntaxConfig};
use protect::{Author, Guard};
use qwren_quant::gguf::{GgufError, Header};
use serde_json::Value as Json;

/// Longest template. The longest that models are published with have some 30 KB.
const MAX_SOURCE: usize = 128 << 10;
/// Work for a template: a unit is an instruction or 64 bytes of data. Qwen3's takes some 100 for a message.
const FUEL: u64 = 200_000;
/// More of it for each message.
const FUEL_PER_MESSAGE: u64 = 500;
/// And for each so many bytes of the conversation: they may be copied eight times.
const BYTES_PER_FUEL: usize = 8;
/// Longest prompt text: ten times what the longest context of Qwen3 holds.
const MAX_OUTPUT: usize = 16 << 20;
/// The engine recurses on the depth of expressions (at most one level a byte of source) and of values (at most one a
/// unit of work). Memory that is not touched costs nothing.
const STACK: usize = 256 << 20;
/// The engine needs less than 500 bytes of stack a level, so no template gets more work than that leaves room for.
const MAX_FUEL: usize = STACK / 512;
const NAME: &str = "chat";

/// A conversation to be rendered.
#[derive(Clone, Copy, Debug)]
pub struct Render<'a> {
    /// Objects with `role`, `content` and what else the template reads (`reasoning_content`, `tool_calls`).
    pub messages: &'a [Json],
    /// Array of function definitions.
    pub tools: Option<&'a Json>,
    /// None: the template's default.
    pub enable_thinking: Option<bool>,
    /// Whether the text ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
}

/// A rendered conversation, ready for the model.
#[derive(Clone, Debug)]
pub struct EncodedPrompt {
    /// Tokens of the prompt.
    pub ids: Vec<u32>,
    /// The same as text.
    pub text: String,
    /// The prompt ends inside `<think>`: the model's first words are a thought.
    pub thinking_open: bool,
}

/// A compiled chat template.
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The template of a file; None if it has none, as base models may (see [`TemplateError::Absent`]).
    ///
    /// # Errors
    /// A template that does not compile.
    pub fn from_gguf(h: &Header) -> Result<Option<ChatTemplate>, TemplateError> {
        let Some(source) = h.str("tokenizer.chat_template")? else {
            return Ok(None);
        };
        let mut template = ChatTemplate::new(source)?;
        let tokens = h.strings("tokenizer.ggml.tokens")?.unwrap_or_default();
        let text = |key| -> Result<String, GgufError> {
            Ok(h.u32(key)?.and_then(|id| tokens.get(id as usize)).cloned().unwrap_or_default())
        };
        template.bos = text("tokenizer.ggml.bos_token_id")?;
        template.eos = text("tokenizer.ggml.eos_token_id")?;
        Ok(Some(template))
    }

    /// Compiles a template.
    ///
    /// # Errors
    /// Text that is no template, or one that can't be run safely.
    pub fn new(source: &str) -> Result<ChatTemplate, TemplateError> {
        if source.len() > MAX_SOURCE {
            return Err(TemplateError::TooLong(source.len()));
        }
        // keep_trailing_newline is false by default, as in Jinja.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        scan::check_namespaces(source, syntax.clone())?;
        // The compiler recurses, so it gets the large stack too.
        let env = on_large_stack(|| environment(source, syntax))??;
        Ok(ChatTemplate { env, source: source.to_owned(), bos: String::new(), eos: String::new() })
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt's text, byte for byte what transformers' `apply_chat_template` gives.
    ///
    /// # Errors
    /// Whatever the template refuses, and work beyond any honest template's.
    pub fn render(&self, r: &Render) -> Result<String, TemplateError> {
        self.render_with(r, &|text, _| text.to_owned())
    }

    /// Whether `enable_thinking` makes a difference.
    pub fn has_thinking_switch(&self) -> bool {
        let messages = [serde_json::json!({"role": "user", "content": "Hi"})];
        let text = |on| {
            self.render(&Render {
                messages: &messages,
                tools: None,
                enable_thinking: Some(on),
                add_generation_prompt: true,
            })
        };
        matches!((text(true), text(false)), (Ok(on), Ok(off)) if on != off)
    }

    /// The prompt as tokens. Special tokens typed in messages or tools stay plain text; in an assistant's message this
    /// holds for control tokens (`<|im_end|>`), while `<think>` and the like are its own.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render`] and [`Vocab::encode`].
    pub fn encode_chat(&self, vocab: &Vocab, r: &Render) -> Result<EncodedPrompt, TemplateError> {
        let mut texts = vec![self.source.as_str()];
        for json in r.messages.iter().chain(r.tools) {
            collect_texts(json, &mut texts);
        }
        let guard = Guard::new(vocab, texts.into_iter()).ok_or(TemplateError::NoMark)?;
        let marked = self.render_with(r, &|text, author| guard.protect(text, author))?;
        Ok(EncodedPrompt {
            ids: vocab.encode_marked(&marked, guard.mark())?,
            // A tag that someone typed has a mark inside.
            thinking_open: marked.trim_end().ends_with(protect::OPEN),
            text: marked.replace(guard.mark(), ""),
        })
    }

    /// Renders with `text` applied to every string of the messages and tools.
    fn render_with(&self, r: &Render, text: &dyn Fn(&str, Author) -> String) -> Result<String, TemplateError> {
        let person = |s: &str| text(s, Author::Person);
        let assistant = |s: &str| text(s, Author::Assistant);
        let message = |m: &Json| match m.get("role").and_then(Json::as_str) {
            Some("assistant") => to_value(m, &assistant, 0),
            _ => to_value(m, &person, 0),
        };
        let messages: Option<Vec<Value>> = r.messages.iter().map(message).collect();
        let tools = match r.tools {
            Some(tools) => to_value(tools, &person, 0).ok_or(TemplateError::TooDeep)?,
            None => Value::from(()),
        };
        let mut context = vec![
            ("messages", Value::from(messages.ok_or(TemplateError::TooDeep)?)),
            ("tools", tools),
            ("add_generation_prompt", Value::from(r.add_generation_prompt)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ];
        if let Some(on) = r.enable_thinking {
            context.push(("enable_thinking", Value::from(on)));
        }
        let mut env = self.env.clone();
        env.set_fuel(Some(fuel(r)));
        let context = Value::from_pairs(context);
        let out = on_large_stack(move || -> Result<Vec<u8>, minijinja::Error> {
            let mut out = Limited(Vec::new());
            env.get_template(NAME)?.render_captured_to(context, &mut out)?;
            Ok(out.0)
        })??;
        // The engine writes strings; their concatenation is one.
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

/// Work that the template may take for a conversation.
fn fuel(r: &Render) -> u64 {
    let mut texts = Vec::new();
    r.messages.iter().chain(r.tools).for_each(|json| collect_texts(json, &mut texts));
    let bytes: usize = texts.iter().map(|t| t.len()).sum();
    let extra = FUEL_PER_MESSAGE.saturating_mul(r.messages.len() as u64) + (bytes / BYTES_PER_FUEL) as u64;
    FUEL.saturating_add(extra).min(MAX_FUEL as u64)
}

/// Output up to [`MAX_OUTPUT`] bytes.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(std::io::Error::other(format!("the prompt is longer than {} MiB", MAX_OUTPUT >> 20)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The engine, set up as transformers sets up Jinja.
fn environment(source: &str, syntax: SyntaxConfig) -> Result<Environment<'static>, minijinja::Error> {
    let mut env = Environment::new();
    env.set_syntax(syntax);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_filter("tojson", json::tojson);
    env.add_function("strftime_now", date::strftime_now);
    env.add_function("raise_exception", |reason: &str| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason.to_owned()))
    });
    // Python's names where the engine has its own.
    env.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(out.write_str("None")?),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(f) => Ok(out.write_str(&json::float(f))?),
            Err(_) => minijinja::escape_formatter(out, state, value),
        },
        _ => minijinja::escape_formatter(out, state, value),
    });
    env.add_template_owned(NAME, source.to_owned())?;
    Ok(env)
}

/// Every string and key of a JSON value.
fn collect_texts<'a>(json: &'a Json, out: &mut Vec<&'a str>) {
    match json {
        Json::String(s) => out.push(s),
        Json::Array(items) => items.iter().for_each(|v| collect_texts(v, out)),
        Json::Object(map) => {
            for (key, value) in map {
                out.push(key);
                collect_texts(value, out);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// Runs `work` on a thread with [`STACK`] bytes of stack.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("template".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(TemplateError::Thread)?;
        thread.join().map_err(|_| TemplateError::Engine)
    })
}

#[cfg(test)]
mod tests;
