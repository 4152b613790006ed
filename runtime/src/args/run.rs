//! Options of every command that runs a model, and what they come to once the model is known.

use std::path::{Path, PathBuf};

use qwren::gpu::{Event, Settings, Wanted};
use qwren::kv::KvType;
use qwren::machine;
use qwren::model::Model;
use qwren::session::{DEFAULT_BATCH, DEFAULT_CTX, MAX_BATCH, Options, Session, SessionError, Threads, WORK_BYTES};
use qwren_quant::gguf::GgufPart;

use super::count;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::output_file::OutputFile;
use crate::units::bytes;
use crate::warm::{self, Mover};

/// The model file.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// GGUF file of a Qwen3 model
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
}

/// Options of every command that runs a model.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The file.
    #[command(flatten)]
    pub model: ModelArgs,

    /// Threads for one token at a time [default: fast physical cores that this process may use]
    #[arg(short, long, value_name = "N", value_parser = threads, help_heading = "Machine")]
    pub threads: Option<usize>,

    /// Threads for prompts (also -tb) [default: as -t]
    #[arg(long, value_name = "N", value_parser = threads, help_heading = "Machine")]
    pub threads_batch: Option<usize>,

    /// Prompt tokens evaluated at once
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_BATCH, value_parser = batch, help_heading = "Machine")]
    pub batch_size: usize,

    /// Type of cached keys (also -ctk)
    #[arg(long, value_name = "TYPE", default_value = "f16", help_heading = "Machine")]
    pub cache_type_k: CacheType,

    /// Type of cached values (also -ctv)
    #[arg(long, value_name = "TYPE", default_value = "f16", help_heading = "Machine")]
    pub cache_type_v: CacheType,

    /// Compute with ggml's own operations instead of ours: slower, for comparison
    #[arg(long, help_heading = "Machine")]
    pub stock_ops: bool,

    /// Layers to compute on a GPU (also -ngl), the first ones: a number, `all`, or `auto` for what fits it and is faster there
    #[arg(
        long,
        visible_alias = "n-gpu-layers",
        value_name = "N",
        value_parser = gpu_layers,
        conflicts_with = "stock_ops",
        help_heading = "Machine"
    )]
    pub gpu_layers: Option<Wanted>,

    /// The GPU (also -dev), as `qwren devices` lists it: its name, its number or a part of its description
    #[arg(long, value_name = "D", requires = "gpu_layers", help_heading = "Machine")]
    pub device: Option<String>,

    /// Don't read the whole file at the start: pages come as they are needed
    #[arg(long, help_heading = "Machine")]
    pub no_warm: bool,

    /// Leave the weights where the file is mapped, even where there is room to move them, which makes decoding faster
    #[arg(long, help_heading = "Machine")]
    pub mmap: bool,

    /// Run even if the memory looks too small; replace an output file that exists
    #[arg(long, help_heading = "Machine")]
    pub force: bool,
}

/// How cached keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CacheType {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// 8-bit integers with a scale per 32: half the memory, little less exact
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<CacheType> for KvType {
    fn from(t: CacheType) -> KvType {
        match t {
            CacheType::F32 => KvType::F32,
            CacheType::F16 => KvType::F16,
            CacheType::Q8_0 => KvType::Q8_0,
        }
    }
}

/// The context's length; `-c` of the commands that keep one.
#[derive(Debug, clap::Args)]
pub struct ContextArgs {
    /// Tokens that the context holds; 0: as many as the model was trained for [default: 4096 or the model's limit]
    #[arg(short = 'c', long, value_name = "N", value_parser = count)]
    pub ctx_size: Option<usize>,
}

impl ContextArgs {
    /// The length for a model trained for `trained` tokens.
    pub fn resolve(&self, trained: usize) -> usize {
        match self.ctx_size {
            None => DEFAULT_CTX.min(trained),
            Some(0) => trained,
            Some(n) => n,
        }
    }
}

fn threads(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1024)
}

fn batch(text: &str) -> Result<usize, String> {
    bounded(text, 1, MAX_BATCH)
}

fn gpu_layers(text: &str) -> Result<Wanted, String> {
    match text {
        "all" => Ok(Wanted::All),
        "auto" => Ok(Wanted::Auto),
        _ => text.parse().map(Wanted::Count).map_err(|_| "give a number of layers, `all` or `auto`".to_owned()),
    }
}

fn bounded(text: &str, least: usize, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(format!("give a number from {least} to {most}")),
    }
}

impl RunArgs {
    /// What the options mean for a context of `ctx` tokens.
    pub fn options(&self, ctx: usize) -> Options {
        let decode = self.threads.unwrap_or_else(machine::default_threads);
        let threads = Threads { decode, prefill: self.threads_batch.unwrap_or(decode) };
        let (type_k, type_v) = (self.cache_type_k.into(), self.cache_type_v.into());
        Options { ctx, batch: self.batch_size, threads, type_k, type_v, stock_ops: self.stock_ops }
    }

    /// Refuses, with the numbers, what can't fit in memory; reads the model into it otherwise. Those who will decode for a
    /// while can have it moved.
    pub fn prepare(&self, model: &Model, options: &Options, console: Console) -> anyhow::Result<Mover> {
        self.check_memory(model, options)?;
        if !self.no_warm {
            warm::read_ahead(model, console);
        }
        // The stock operations know nothing of copies.
        let may_move = !self.no_warm && !self.mmap && !self.stock_ops;
        Ok(if may_move { Mover::new(model, cache_bytes(model, options)) } else { Mover::idle() })
    }

    /// A session, with layers on a GPU where that was asked for. That they can't be there is said, and no error.
    pub fn session<'m>(
        &self,
        model: &'m Model,
        options: &Options,
        console: Console,
    ) -> Result<Session<'m>, SessionError> {
        let mut session = Session::new(model, options)?;
        let Some(wanted) = self.offloaded() else { return Ok(session) };
        let settings = Settings { wanted, device: self.device.clone() };
        let tell = Box::new(move |event| match event {
            Event::Step(text) => console.progress(text),
            Event::Line(text) => console.note(text),
        });
        let placed = session.offload(options, &settings, tell).map(ToString::to_string);
        console.end_progress();
        match placed {
            Ok(placement) => console.note(placement),
            Err(fault) => console.note(format_args!("{fault}; the processor computes all layers")),
        }
        Ok(session)
    }

    /// How many layers a GPU is to have, where it is to have any.
    pub fn offloaded(&self) -> Option<Wanted> {
        self.gpu_layers.filter(|&wanted| wanted != Wanted::Count(0))
    }

    /// Begins a file for a command's results. Neither the model nor what else the command reads is replaced.
    pub fn output<'a>(
        &self,
        path: &Path,
        model: &'a Model,
        others: impl IntoIterator<Item = &'a Path>,
    ) -> anyhow::Result<OutputFile> {
        OutputFile::create(path, self.force, model.gguf().parts().iter().map(GgufPart::path).chain(others))
    }

    fn check_memory(&self, model: &Model, options: &Options) -> anyhow::Result<()> {
        let Some(room) = machine::memory_available().filter(|_| !self.force) else { return Ok(()) };
        let file = model.gguf().file_len();
        let cache = cache_bytes(model, options);
        let need = file.saturating_add(cache).saturating_add(WORK_BYTES);
        if need <= room {
            return Ok(());
        }
        let smaller = match tokens_that_fit(model, options, room) {
            Some(tokens) => format!("use a smaller context, of {tokens} tokens at most"),
            None => "use a smaller model".to_owned(),
        };
        let text = format!(
            "{}: needs {} of memory ({} model, {} cache for a context of {} tokens, {} work space), but only {} are \
             available; {smaller}, close other programs, or run anyway with --force",
            self.model.model.display(),
            bytes(need),
            bytes(file),
            bytes(cache),
            options.ctx,
            bytes(WORK_BYTES),
            bytes(room)
        );
        Err(Failure::new(Exit::NoRoom, text).into())
    }
}

/// Bytes of a full cache.
pub fn cache_bytes(model: &Model, options: &Options) -> u64 {
    position_bytes(model, options).saturating_mul(options.ctx as u64)
}

fn position_bytes(model: &Model, options: &Options) -> u64 {
    model.hparams().kv_bytes_per_position(options.type_k, options.type_v)
}

/// The longest context, in steps of 256 tokens, that leaves the rest of a run its place in `room` bytes; none when there is none.
fn tokens_that_fit(model: &Model, options: &Options, room: u64) -> Option<u64> {
    let rest = room.checked_sub(model.gguf().file_len())?.checked_sub(WORK_BYTES)?;
    Some(rest / position_bytes(model, options).max(1) / 256 * 256).filter(|&tokens| tokens > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_the_context_is_modest_unless_asked() {
        let ctx = |n| ContextArgs { ctx_size: n };
        assert_eq!(ctx(None).resolve(40_960), 4096);
        assert_eq!(ctx(None).resolve(512), 512);
        assert_eq!(ctx(Some(0)).resolve(40_960), 40_960);
        assert_eq!(ctx(Some(8192)).resolve(4096), 8192);
    }

    #[test]
    fn counts_have_bounds() {
        assert_eq!(threads("8"), Ok(8));
        assert!(threads("0").is_err() && threads("-1").is_err() && threads("1025").is_err() && batch("x").is_err());
    }
}
