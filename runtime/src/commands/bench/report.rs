//! The figures, as tables or as JSON.

use std::collections::BTreeSet;

use qwren::gpu::Placement;
use qwren::machine;
use qwren::model::{Layer, Model, Weight};
use qwren::session::{Options, Threads};
use qwren::terminal::escape;
use qwren_quant::kernel::{Level, select, select_interleaved, vec_ops};
use serde::Serialize;

use crate::units::{bytes, digits};

/// All that `qwren bench` found out.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    model: ModelFacts,
    gpu: Option<Gpu>,
    repetitions: u32,
    /// One entry a prompt length.
    pub prefill: Vec<Prefill>,
    /// One entry a depth.
    pub decode: Vec<Decode>,
}

/// In place of a figure.
const UNKNOWN: &str = "?";

/// What the machine can do at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Those that compute.
    pub threads: Threads,
    /// Bytes that the threads for one token read from memory together, if that could be measured.
    pub read_bytes_per_s: Option<f64>,
    /// int8 multiply-adds that the threads for prompts do together.
    pub macs_per_s: f64,
}

/// Reading a prompt.
#[derive(Debug, Serialize)]
pub struct Prefill {
    /// Its length.
    pub tokens: usize,
    /// Tokens a second.
    pub tokens_per_s: f64,
    /// 10⁹ multiply-adds a second with the layers' weights.
    pub gmac_per_s: f64,
    /// Of the int8 multiply-adds that this machine's processor can do, where that does it all.
    pub share_of_limit: Option<f64>,
}

/// Writing after a number of tokens.
#[derive(Debug, Serialize)]
pub struct Decode {
    /// That number.
    pub depth: usize,
    /// Tokens a second.
    pub tokens_per_s: f64,
    /// 10⁹ bytes of weights and cache a second.
    pub gb_per_s: f64,
    /// Of the speed at which this machine's processor reads memory, if that is known and it does it all.
    pub share_of_limit: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Machine {
    cpu: Option<String>,
    level: &'static str,
    threads: usize,
    threads_batch: usize,
    read_gb_per_s: Option<f64>,
    int8_gmac_per_s: f64,
}

#[derive(Debug, Serialize)]
struct ModelFacts {
    file: String,
    name: Option<String>,
    architecture: &'static str,
    bytes: u64,
    cache_type_k: &'static str,
    cache_type_v: &'static str,
    stock_ops: bool,
    kernels: Vec<String>,
}

/// What a GPU computes.
#[derive(Debug, Serialize)]
struct Gpu {
    device: String,
    /// The first ones of the model's.
    layers: usize,
    output: bool,
    /// All of this in words.
    #[serde(skip)]
    told: String,
}

impl Report {
    /// What is known before anything is measured; with the machine's limits, and the layers that are elsewhere.
    pub fn new(
        model: &Model,
        options: &Options,
        placement: Option<&Placement>,
        repetitions: u32,
        limits: Limits,
    ) -> anyhow::Result<Report> {
        let level = Level::detect()?;
        let header = model.gguf().header();
        let kernels = match options.stock_ops {
            true => vec!["ggml's own operations".into()],
            false => kernels(model, placement, level),
        };
        let machine = Machine {
            cpu: machine::cpu_name(),
            level: level.name(),
            threads: limits.threads.decode,
            threads_batch: limits.threads.prefill,
            read_gb_per_s: limits.read_bytes_per_s.map(|bytes| bytes / 1e9),
            int8_gmac_per_s: limits.macs_per_s / 1e9,
        };
        let model = ModelFacts {
            file: model.gguf().path().display().to_string(),
            name: header.str("general.name").ok().flatten().map(str::to_owned),
            architecture: model.hparams().arch.name(),
            bytes: model.gguf().file_len(),
            cache_type_k: options.type_k.name(),
            cache_type_v: options.type_v.name(),
            stock_ops: options.stock_ops,
            kernels,
        };
        let gpu = placement.map(|placement| Gpu {
            device: placement.device.clone(),
            layers: placement.there,
            output: placement.output,
            told: placement.to_string(),
        });
        Ok(Report { machine, model, gpu, repetitions, prefill: Vec::new(), decode: Vec::new() })
    }

    /// What stands above the tables.
    pub fn head(&self) -> String {
        let (machine, model) = (&self.machine, &self.model);
        let gpu = self.gpu.as_ref().map_or_else(String::new, |gpu| escape(&gpu.told).into_owned() + "\n");
        format!(
            "{} ({}, {}), cache {}/{}\n{}: {} threads, {} for prompts; memory reads {} GB/s, int8 {} GMAC/s\n{gpu}kernels: \
             {}\n\n",
            escape(model.name.as_deref().unwrap_or(&model.file)),
            model.architecture,
            bytes(model.bytes),
            model.cache_type_k,
            model.cache_type_v,
            machine.cpu.as_deref().unwrap_or("unknown processor"),
            machine.threads,
            machine.threads_batch,
            machine.read_gb_per_s.map_or(UNKNOWN.into(), digits),
            digits(machine.int8_gmac_per_s),
            model.kernels.join(", "),
        )
    }
}

/// A line of a table.
fn line(table: &str, cells: [&str; 4]) -> String {
    let [first, speed, rate, share] = cells;
    format!("{table:<10}{first:>8}  {speed:>10}  {rate:>8}  {share:>8}\n")
}

fn share(share: Option<f64>) -> String {
    share.map_or(UNKNOWN.into(), |share| format!("{:.0} %", share * 100.0))
}

impl Prefill {
    /// What stands above the rows.
    pub fn title() -> String {
        line("prefill", ["tokens", "tokens/s", "GMAC/s", "of limit"])
    }

    /// Its row.
    pub fn row(&self) -> String {
        let (speed, macs) = (digits(self.tokens_per_s), digits(self.gmac_per_s));
        line("", [&self.tokens.to_string(), &speed, &macs, &share(self.share_of_limit)])
    }
}

impl Decode {
    /// What stands above the rows.
    pub fn title() -> String {
        line("decode", ["depth", "tokens/s", "GB/s", "of limit"])
    }

    /// Its row.
    pub fn row(&self) -> String {
        let (speed, traffic) = (digits(self.tokens_per_s), digits(self.gb_per_s));
        line("", [&self.depth.to_string(), &speed, &traffic, &share(self.share_of_limit)])
    }
}

/// The kernels that the model's matrices here run on at `level`, where they lie now, then the vector operations.
fn kernels(model: &Model, placement: Option<&Placement>, level: Level) -> Vec<String> {
    let kernel = |weight: &Weight| {
        let interleaved = select_interleaved(level, weight.info.dtype).filter(|_| weight.copy.is_whole());
        Some(interleaved.or_else(|| select(level, weight.info.dtype))?.name.to_owned())
    };
    let (layers, output) = placement.map_or((0, false), |placement| (placement.there, placement.output));
    let layers = model.layers()[layers..].iter().flat_map(Layer::matrices);
    let matrices: BTreeSet<_> = layers.chain((!output).then(|| model.output())).filter_map(kernel).collect();
    matrices.into_iter().chain([format!("{} vectors", vec_ops(level).name)]).collect()
}
