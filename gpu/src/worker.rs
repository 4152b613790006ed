//! What qwren asks for, done on a device.
use crate::device;
use crate::ggml::{self, Arena, Backend};
use crate::graph::{Built, Plan};
use crate::layers::{self, OnDevice, RUN};
use crate::output::Output;
use qwren_offload::message::{Device, Kind, Layer, Matrix, Open, Refusal, Rows};
use qwren_offload::worker::Worker;
use std::fs::File;
use std::ops::Range;

/// Tokens that are computed at once without flash attention: what they see of each other takes `n * kv * heads` floats.
const WITHOUT_FLASH: usize = 32;
/// Graphs that are kept: for decoding, and for a batch.
const KEPT: usize = 2;

/// The worker: nothing at first.
#[derive(Default)]
pub struct Gpu {
    work: Option<Work>,
}

/// A device that was opened, and what it holds.
struct Work {
    device: Device,
    open: Open,
    plan: Plan,
    /// Tokens that are computed at once.
    batch: usize,
    /// The experts of the last batch's tokens, where one layer was computed: `[n, used]`.
    experts: Vec<u32>,
    built: Vec<Built>,
    layers: Vec<OnDevice>,
    output: Option<Output>,
    arena: Arena,
    backend: Backend,
}

impl Worker for Gpu {
    fn devices(&mut self) -> Result<Vec<Device>, Refusal> {
        device::list()
    }

    fn open(&mut self, open: Open) -> Result<Device, Refusal> {
        let (device, backend) = device::take(open.device.as_deref())?;
        // Where it is computed on the CPU, flash attention's shaders take minutes to translate.
        let flash = device.kind != Kind::Cpu;
        if !flash && [open.type_k, open.type_v].iter().any(|t| ![ggml::F32, ggml::F16].contains(t)) {
            let name = &device.description;
            return Err(Refusal::new(format!(
                "{name} has no flash attention, which -ctk and -ctv other than f16 and f32 want"
            )));
        }
        let batch = if flash { open.batch } else { open.batch.min(WITHOUT_FLASH) };
        let plan = Plan { shape: open.shape.clone(), flash };
        let arena = Arena::new(&backend);
        let taken = device.clone();
        self.work = Some(Work {
            device,
            open,
            plan,
            batch,
            experts: Vec::new(),
            built: Vec::new(),
            layers: Vec::new(),
            output: None,
            arena,
            backend,
        });
        Ok(taken)
    }

    fn load(&mut self, layer: &Layer, norms: &[f32], files: &[File]) -> Result<(), Refusal> {
        let work = self.work()?;
        work.layers.push(OnDevice::load(&work.backend, &work.open, layer, norms, files)?);
        let last = work.layers.len() - 1;
        // Before the next one is read: what the device can't compute, it can't compute for any of this kind.
        for n in [work.batch, 1] {
            let built = work.build(last..last + 1, n, work.all_positions());
            work.check(&built)?;
        }
        Ok(())
    }

    fn output(&mut self, matrix: &Matrix, norm: &[f32], files: &[File]) -> Result<(), Refusal> {
        let work = self.work()?;
        work.output = Some(Output::load(&work.backend, &work.open, matrix, norm, files)?);
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), Refusal> {
        let work = self.work()?;
        // The largest first: what is claimed for it serves all others, and nothing has to be freed.
        let (batch, ctx) = (work.batch, work.open.ctx);
        let mut x = vec![0.1; batch * work.plan.shape.hidden];
        work.eval(0..work.layers.len(), ctx - batch, &mut x)?;
        work.eval(0..work.layers.len(), ctx - 1, &mut x[..work.plan.shape.hidden])?;
        let Some(output) = &mut work.output else { return Ok(()) };
        let mut logits = Vec::new();
        let hidden = work.plan.shape.hidden;
        output.logits(&work.backend, &x[..batch.min(work.open.rows) * hidden], &mut logits)?;
        output.logits(&work.backend, &x[..hidden], &mut logits)
    }

    fn eval(&mut self, layers: Range<usize>, start: usize, x: &mut [f32]) -> Result<(), Refusal> {
        let work = self.work()?;
        let piece = work.batch * work.plan.shape.hidden;
        work.experts.clear();
        for (i, x) in x.chunks_mut(piece).enumerate() {
            work.eval(layers.clone(), start + i * work.batch, x)?;
        }
        Ok(())
    }

    fn logits(&mut self, x: &[f32], logits: &mut Vec<f32>) -> Result<(), Refusal> {
        let work = self.work()?;
        let output = work.output.as_mut().ok_or_else(|| Refusal::new("the output is not here"))?;
        output.logits(&work.backend, x, logits)
    }

    fn experts(&mut self) -> Result<Vec<u32>, Refusal> {
        Ok(self.work()?.experts.clone())
    }

    fn fetch(&mut self, rows: Rows, bytes: &mut Vec<u8>) -> Result<(), Refusal> {
        let (layer, range, ctx) = self.work()?.rows(rows)?;
        layer.fetch(ctx, range, bytes);
        Ok(())
    }

    fn store(&mut self, rows: Rows, bytes: &[u8]) -> Result<(), Refusal> {
        let (layer, range, ctx) = self.work()?.rows(rows)?;
        let stored = layer.store(ctx, range, bytes);
        stored.then_some(()).ok_or_else(|| Refusal::new("rows of the cache are of another size"))
    }
}

impl Gpu {
    fn work(&mut self) -> Result<&mut Work, Refusal> {
        self.work.as_mut().ok_or_else(|| Refusal::new("no device is open"))
    }
}

impl Work {
    fn all_positions(&self) -> usize {
        layers::positions(self.open.ctx)
    }

    fn build(&self, layers: Range<usize>, n: usize, kv: usize) -> Built {
        self.plan.build(&self.layers[layers.clone()], layers.start, n, kv)
    }

    fn check(&self, built: &Built) -> Result<(), Refusal> {
        self.backend.unsupported(&built.graph).map_or(Ok(()), |what| {
            Err(Refusal::new(format!("{} ({}) can't compute {what}", self.device.name, self.device.description)))
        })
    }

    /// The layer, the positions and the context of some rows of the cache.
    fn rows(&self, rows: Rows) -> Result<(&OnDevice, Range<usize>, usize), Refusal> {
        let end = rows.start.checked_add(rows.n).filter(|&end| rows.n > 0 && end <= self.open.ctx);
        match (self.layers.get(rows.layer), end) {
            (Some(layer), Some(end)) => Ok((layer, rows.start..end, self.open.ctx)),
            _ => Err(Refusal::new("there are no such rows of the cache")),
        }
    }

    /// Runs `layers` on at most one batch.
    fn eval(&mut self, layers: Range<usize>, start: usize, x: &mut [f32]) -> Result<(), Refusal> {
        let n = x.len() / self.plan.shape.hidden;
        if n == 0 || layers.is_empty() || layers.end > self.layers.len() || start + n > self.open.ctx {
            return Err(Refusal::new("there are no such layers or positions"));
        }
        let key = (layers.start, layers.end, n, (start + n).next_multiple_of(RUN));
        match self.built.iter().position(|built| built.key == key) {
            Some(i) => self.built[i..].rotate_left(1),
            None => {
                if self.built.len() == KEPT {
                    self.built.remove(0);
                }
                let built = self.build(layers, n, key.3);
                self.check(&built)?;
                self.built.push(built);
            }
        }
        let Some(built) = self.built.last() else { return Err(Refusal::new("no graph")) };
        if !self.arena.allot(&built.graph) {
            return Err(Refusal::memory(format!("{} has no memory for a batch of {n} tokens", self.device.name)));
        }
        built.fill(start, x);
        if !self.backend.compute(&built.graph) {
            return Err(Refusal::new(format!("{} failed to compute", self.device.name)));
        }
        built.read(x);
        self.experts.extend(built.read_experts());
        Ok(())
    }
}
