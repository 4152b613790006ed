//! Stands in for qwren-gpu: computes layers on the processor, bit for bit as qwren does, and fails as `$STAND_IN` says. Nothing
//! of a GPU is needed to see what qwren makes of that.
//!
//! `start`, `greeting`, `version`, `silent`, `no-device`, `limits`; `room:K`, `crash-room:K`: more than K layers don't fit; `free:BYTES`;
//! `no-output`, `output-room`, `output-batch-room`: the output can't be computed, has no room, leaves none to a batch;
//! `wrong`, `wrong-output`; `tie`: tokens of one layer go to the twins of their experts, 1 for 0, 3 for 2 and so on; `choice`: to the
//! next ones; `twice`: to one twice; `slow`, `slow-output`; and `WHAT@prefill`, `WHAT@decode`, `WHAT@output` for WHAT among `kill`, `abort`, `hang`,
//! `refuse`, `nan`: in the second batch of a prompt, at the fourth single token, or at the second logits; and `WHAT@fetch`,
//! `WHAT@store` for WHAT among `kill`, `hang`, `refuse`, of fetch also `short`: when the second rows of the cache are asked for or given.
//! `$STAND_IN_DRIVER` is the driver's mark.
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{env, fs, process, thread};

use qwren::arch::Engine;
use qwren::kv::KvType;
use qwren::model::Model;
use qwren::session::{Options, engine};
use qwren_offload::message::{Device, Kind, Layer, Matrix, Open, Refusal, Reply, Rows};
use qwren_offload::worker::{Worker, descriptors, serve};

static NEVER: AtomicBool = AtomicBool::new(false);

struct StandIn {
    fault: String,
    path: PathBuf,
    model: Option<&'static Model>,
    engine: Option<Box<dyn Engine>>,
    loaded: usize,
    output: bool,
    outputs: usize,
    batches: usize,
    singles: usize,
    /// Rows of the cache that were asked for or given.
    rows: usize,
    /// Of the last batch's tokens.
    experts: Vec<usize>,
}

impl StandIn {
    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    /// The number behind `NAME:`.
    fn number(&self, name: &str) -> Option<u64> {
        self.fault.strip_prefix(name)?.strip_prefix(':')?.parse().ok()
    }

    fn fail(&self, what: &str, x: &mut [f32]) -> Result<(), Refusal> {
        match what {
            "kill" => drop(process::Command::new("kill").args(["-9", &process::id().to_string()]).status()),
            "abort" => {
                eprintln!("stand-in: the device was lost");
                process::abort();
            }
            "hang" => thread::sleep(Duration::from_secs(3600)),
            "refuse" => return Err(Refusal::new("the stand-in refuses")),
            "nan" => x[3] = f32::NAN,
            _ => {}
        }
        Ok(())
    }
}

impl Worker for StandIn {
    fn devices(&mut self) -> Result<Vec<Device>, Refusal> {
        if self.is("no-device") {
            return Err(Refusal::new("no Vulkan driver found"));
        }
        let bytes = self.number("free").unwrap_or(1 << 40);
        Ok(vec![Device {
            name: "Vulkan0".into(),
            description: "Stand-in".into(),
            driver: env::var("STAND_IN_DRIVER").unwrap_or_default(),
            kind: Kind::Discrete,
            total_bytes: 1 << 40,
            free_bytes: bytes,
        }])
    }

    fn open(&mut self, open: Open) -> Result<Device, Refusal> {
        let model: &'static Model = Box::leak(Box::new(Model::open(&self.path).expect("a model")));
        let kind = |id| match id {
            0 => KvType::F32,
            1 => KvType::F16,
            _ => KvType::Q8_0,
        };
        let (type_k, type_v) = (kind(open.type_k), kind(open.type_v));
        let options = Options { ctx: open.ctx, batch: open.batch, type_k, type_v, ..Options::for_model(model) };
        self.engine = Some(engine(model, &options).expect("an engine"));
        self.model = Some(model);
        Ok(self.devices()?.remove(0))
    }

    fn load(&mut self, layer: &Layer, norms: &[f32], files: &[File]) -> Result<(), Refusal> {
        let model = self.model.expect("an open model");
        let weights = &model.layers()[self.loaded];
        assert_eq!(norms[..weights.attn_norm.len()], weights.attn_norm[..]);
        assert_eq!(norms[norms.len() - weights.ffn_norm.len()..], weights.ffn_norm[..]);
        let mut bytes = vec![0; layer.down.bytes as usize];
        let file = &files[layer.down.file];
        std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, layer.down.offset).expect("readable");
        let down = match &weights.ffn {
            qwren::model::Ffn::Dense { down, .. } | qwren::model::Ffn::Experts { down, .. } => down,
        };
        assert!(bytes == model.bytes(down), "the file holds what the model holds");
        if self.is("limits") {
            return Err(Refusal::new("Vulkan0: buffers of 64 KiB are too small for this model"));
        }
        if self.number("room").is_some_and(|room| self.loaded as u64 >= room) {
            return Err(Refusal::memory("no memory"));
        }
        self.loaded += 1;
        Ok(())
    }

    fn output(&mut self, matrix: &Matrix, norm: &[f32], files: &[File]) -> Result<(), Refusal> {
        let model = self.model.expect("an open model");
        assert_eq!(norm, model.output_norm());
        let mut bytes = vec![0; matrix.bytes as usize];
        std::os::unix::fs::FileExt::read_exact_at(&files[matrix.file], &mut bytes, matrix.offset).expect("readable");
        assert!(bytes == model.bytes(model.output()), "the file holds what the model holds");
        match self.fault.as_str() {
            "no-output" => return Err(Refusal::new("the output is too large")),
            "output-room" => return Err(Refusal::memory("no memory")),
            _ => {}
        }
        self.output = true;
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), Refusal> {
        if self.number("crash-room").is_some_and(|room| self.loaded as u64 > room) {
            self.fail("abort", &mut [])?;
        }
        if self.is("output-batch-room") && self.output {
            return Err(Refusal::memory("no memory"));
        }
        Ok(())
    }

    fn eval(&mut self, layers: Range<usize>, start: usize, x: &mut [f32]) -> Result<(), Refusal> {
        let model = self.model.expect("an open model");
        let whole = layers.len() == self.loaded && self.loaded > 1;
        let single = x.len() == model.hparams().hidden;
        let engine = self.engine.as_mut().expect("an engine");
        let mut y = engine.layers(layers.clone(), start, x, &NEVER).expect("a result").to_vec();
        if let (false, Some(choice), Some(moe)) = (whole, engine.choice(), model.hparams().moe) {
            let other: Option<&dyn Fn(usize) -> usize> = match self.fault.as_str() {
                "tie" => Some(&|e| e ^ 1),
                "choice" => Some(&|e| (e + 1) % moe.experts),
                _ => None,
            };
            if let Some(other) = other {
                choice.experts.iter_mut().for_each(|e| *e = other(*e));
                choice.given = true;
                y = engine.layers(layers, start, x, &NEVER).expect("a result").to_vec();
            }
        }
        self.experts = engine.choice().map_or_else(Vec::new, |choice| std::mem::take(choice).experts);
        x.copy_from_slice(&y);
        if self.is("wrong") {
            x.iter_mut().for_each(|v| *v *= 1.5);
        }
        if self.is("slow") {
            thread::sleep(Duration::from_millis(100));
        }
        if !whole {
            return Ok(());
        }
        let (count, time, when) = match single {
            true => (&mut self.singles, 4, "decode"),
            false => (&mut self.batches, 2, "prefill"),
        };
        *count += 1;
        match self.fault.split_once('@') {
            Some((what, at)) if at == when && *count == time => self.fail(what, x),
            _ => Ok(()),
        }
    }

    fn logits(&mut self, x: &[f32], logits: &mut Vec<f32>) -> Result<(), Refusal> {
        let engine = self.engine.as_mut().filter(|_| self.output).expect("an engine with the output");
        *logits = engine.head(x, &NEVER).expect("a result").logits.to_vec();
        if self.is("wrong-output") {
            logits.iter_mut().for_each(|v| *v *= 1.5);
        }
        if self.is("slow-output") {
            thread::sleep(Duration::from_millis(100));
        }
        self.outputs += 1;
        match self.fault.split_once('@') {
            // Four are compared at the start.
            Some((what, "output")) if self.outputs == 6 => self.fail(what, logits),
            _ => Ok(()),
        }
    }

    fn experts(&mut self) -> Result<Vec<u32>, Refusal> {
        if self.is("twice") {
            self.experts.fill(0);
        }
        Ok(self.experts.iter().map(|&e| e as u32).collect())
    }

    fn fetch(&mut self, rows: Rows, bytes: &mut Vec<u8>) -> Result<(), Refusal> {
        let kv = self.engine.as_ref().and_then(|engine| engine.kv()).expect("a cache");
        *bytes = kv.rows(rows.layer, rows.start..rows.start + rows.n);
        self.rows += 1;
        match self.fault.split_once('@') {
            Some(("short", "fetch")) if self.rows == 2 => drop(bytes.pop()),
            Some((what, "fetch")) if self.rows == 2 => self.fail(what, &mut [])?,
            _ => {}
        }
        Ok(())
    }

    fn store(&mut self, rows: Rows, bytes: &[u8]) -> Result<(), Refusal> {
        self.rows += 1;
        match self.fault.split_once('@') {
            Some((what, "store")) if self.rows == 2 => self.fail(what, &mut [])?,
            _ => {}
        }
        let kv = self.engine.as_mut().and_then(|engine| engine.kv_mut()).expect("a cache");
        kv.set_rows(rows.layer, rows.start..rows.start + rows.n, bytes);
        Ok(())
    }
}

fn main() {
    let fault = env::var("STAND_IN").unwrap_or_default();
    match fault.as_str() {
        "start" => {
            eprintln!("error while loading shared libraries: libvulkan.so.1: cannot open shared object file");
            process::exit(127);
        }
        "greeting" => println!("good morning"),
        "version" => println!("{}", serde_json::json!(Reply::Hello { version: 9999 })),
        "silent" => thread::sleep(Duration::from_secs(3600)),
        _ => {}
    }
    let (memory, files) = descriptors(env::args().skip(2)).expect("descriptors");
    let first = env::args().nth(3);
    let path = first.and_then(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok()).unwrap_or_default();
    let mut worker = StandIn {
        fault,
        path,
        model: None,
        engine: None,
        loaded: 0,
        output: false,
        outputs: 0,
        batches: 0,
        singles: 0,
        rows: 0,
        experts: Vec::new(),
    };
    serve(&mut worker, memory, &files).expect("pipes that last");
}
