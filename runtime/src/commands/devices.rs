//! `qwren devices`: what this machine offers, and what qwren makes of it.

use std::io::{self, Write};

use qwren::gpu::{self, Device, Kind};
use qwren::machine;
use qwren::terminal::escape;
use qwren_quant::kernel::{Level, kernels, select, vec_ops};
use serde::Serialize;

use crate::exit::Exit;
use crate::units::bytes;

/// Options of `qwren devices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One line of JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Devices {
    cpu: Cpu,
    memory: Memory,
    /// What qwren-gpu sees.
    gpus: Vec<Device>,
    /// Why that is nothing.
    gpu_fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct Cpu {
    model: Option<String>,
    features: Vec<&'static str>,
    level: &'static str,
    kernels: Vec<KernelChoice>,
    vectors: &'static str,
    /// Logical processors that this process may use, physical cores among them, and those of them that are fast.
    allowed: usize,
    physical: usize,
    quota: Option<f64>,
    default_threads: usize,
}

#[derive(Debug, Serialize)]
struct KernelChoice {
    weight: &'static str,
    kernel: &'static str,
}

#[derive(Debug, Serialize)]
struct Memory {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
}

/// Prints what was found.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let devices = survey()?;
    let text = if args.json { serde_json::to_string(&devices)? + "\n" } else { table(&devices) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

fn survey() -> anyhow::Result<Devices> {
    let level = Level::detect()?;
    let cpus = machine::cpus();
    let cores: std::collections::BTreeSet<_> = cpus.iter().map(|c| c.core).collect();
    let mut weights: Vec<_> = kernels().iter().map(|k| k.weight).collect();
    weights.sort_unstable();
    weights.dedup();
    let choice =
        |&w: &_| Some(KernelChoice { weight: qwren_quant::dtype::DType::name(w), kernel: select(level, w)?.name });
    let cpu = Cpu {
        model: machine::cpu_name(),
        features: features(),
        level: level.name(),
        kernels: weights.iter().filter_map(choice).collect(),
        vectors: vec_ops(level).name,
        allowed: cpus.len(),
        physical: cores.len(),
        quota: machine::cpu_quota(),
        default_threads: machine::default_threads(),
    };
    let memory = Memory { total_bytes: machine::memory_total(), available_bytes: machine::memory_available() };
    let (gpus, gpu_fault) = match gpu::devices() {
        Ok(gpus) => (gpus, None),
        Err(fault) => (Vec::new(), Some(fault.to_string())),
    };
    Ok(Devices { cpu, memory, gpus, gpu_fault })
}

/// Instruction sets that matter here and that this processor has.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ];
    #[cfg(target_arch = "aarch64")]
    let known = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: [(&str, bool); 0] = [];
    known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

fn table(d: &Devices) -> String {
    let (cpu, memory) = (&d.cpu, &d.memory);
    let size = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), bytes);
    let features = if cpu.features.is_empty() { "none that matter".to_owned() } else { cpu.features.join(" ") };
    let quota = cpu.quota.map_or(String::new(), |q| format!(", quota {q:.2} processors"));
    let mut out = format!(
        "processor  {}\nfeatures   {features}\ncores      {} physical, {} logical allowed{quota}; {} threads by default\n\
         memory     {} in all, {} available\nlevel      {} (QWREN_CPU chooses another)\n",
        cpu.model.as_deref().unwrap_or("unknown"),
        cpu.physical,
        cpu.allowed,
        cpu.default_threads,
        size(memory.total_bytes),
        size(memory.available_bytes),
        cpu.level,
    );
    for k in &cpu.kernels {
        out += &format!("kernel     {:<5} by {}\n", k.weight, k.kernel);
    }
    out += &format!("kernel     vectors by {}\n", cpu.vectors);
    for gpu in &d.gpus {
        let kind = match gpu.kind {
            Kind::Discrete => "memory of its own",
            Kind::Integrated => "the processor's memory",
            Kind::Other => "of an unknown kind",
            Kind::Cpu => "computes on the processor: used only when named",
        };
        let (free, total) = (bytes(gpu.free_bytes), bytes(gpu.total_bytes));
        let (name, description) = (one_line(&gpu.name), one_line(&gpu.description));
        out += &format!("gpu        {name}: {description}; {kind}; {free} of {total} free\n");
    }
    if let Some(fault) = &d.gpu_fault {
        out += &format!("gpu        none: {}\n", one_line(fault));
    } else if d.gpus.is_empty() {
        out += "gpu        none\n";
    }
    out
}

/// What another program said, for a line of the table.
fn one_line(text: &str) -> String {
    escape(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_says_is_shown_and_not_obeyed() {
        let device = |name: &str| Device {
            name: name.into(),
            description: "a\x1b]0;title\x07".into(),
            kind: Kind::Other,
            driver: String::new(),
            free_bytes: 0,
            total_bytes: 0,
        };
        let mut devices =
            Devices { gpus: vec![device("x\ny")], gpu_fault: Some("b\x1b[31m".into()), ..survey().unwrap() };
        let shown = table(&devices);
        let gpus: Vec<&str> = shown.lines().filter(|line| line.starts_with("gpu ")).collect();
        assert!(gpus[0].contains(r"x y: a\u{1b}]0;title\u{7}; ") && gpus[1].contains(r"none: b\u{1b}[31m"), "{gpus:?}");
        (devices.gpus, devices.gpu_fault) = (Vec::new(), None);
        assert!(table(&devices).ends_with("\ngpu        none\n"));
    }
}
