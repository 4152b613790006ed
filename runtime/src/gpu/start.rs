//! From nothing to a child that holds layers: as many as were asked for, or fewer where the device has no room for them.
use super::child::{Child, DRIVER, SHADERS, patience};
use super::remote::{LOGITS_ROWS, Pace, Remote};
use super::{Device, Event, Fault, Placement, Settings, Tell, Wanted, fit, plan};
use crate::model::Model;
use crate::session::Options;
use qwren_offload::message::{Layer, Matrix, Open, Reply, Request};
use std::fs::File;
use std::time::Duration;

/// Layers are read at least so fast, in bytes a second: from a slow card over a slow bus.
const SLOWEST_READ: u64 = 10 << 20;
/// A driver may crash where others say that there is no memory; so many crashes are taken for that.
const CRASHES: usize = 3;

/// Why an attempt failed.
enum Attempt {
    /// Fewer layers may do: so many were loaded.
    Room(usize),
    /// The child ended, when so many were loaded.
    Crash(usize, Fault),
    /// Nothing else to try.
    Fault(Fault),
}

impl From<Fault> for Attempt {
    fn from(fault: Fault) -> Attempt {
        Attempt::Fault(fault)
    }
}

/// Starts a child and gives it layers of `model`.
///
/// # Errors
/// As [`Fault`] says; `tell` comes back too late to be of use.
pub fn start(model: &Model, options: &Options, settings: &Settings, mut tell: Tell) -> Result<Remote, Fault> {
    let layers: Vec<Layer> = model.layers().iter().map(|layer| plan::layer(model, layer)).collect();
    let open = Open {
        device: settings.device.clone(),
        ctx: options.ctx,
        batch: options.batch.min(options.ctx),
        rows: LOGITS_ROWS,
        type_k: plan::kv_type(options.type_k),
        type_v: plan::kv_type(options.type_v),
        shape: plan::shape(model.hparams()),
    };
    let mut crashes = 0;
    let (mut wanted, mut limit) = (None, None);
    loop {
        let (mut child, device) = opened(model, &open)?;
        let first = fit::first_try(model, options, settings.wanted, &device);
        if settings.wanted == Wanted::Auto && first != (layers.len(), true) {
            limit = Some("as many as its free memory holds".to_owned());
        }
        let (n, with_output) = *wanted.get_or_insert(first);
        if n == 0 {
            return Err(Fault::Room(device.name));
        }
        let output = with_output.then(|| plan::output(model));
        let (loaded, why) = match fill(&mut child, &device, model, &layers[..n], output, &mut tell) {
            Ok(output) => {
                let (there, all) = (n, layers.len());
                let name = format!("{} ({})", device.name, device.description);
                let placement = Placement { device: name, there, all, output, limit, times: None };
                let (hidden, vocab) = (open.shape.hidden, model.hparams().vocab);
                let (pace, output_pace, logits) = (Pace::default(), Pace::default(), Vec::new());
                let due = None;
                return Ok(Remote {
                    child,
                    device,
                    layers: n,
                    hidden,
                    vocab,
                    pace,
                    output_pace,
                    logits,
                    due,
                    tell,
                    placement,
                });
            }
            Err(Attempt::Fault(fault)) => return Err(fault),
            Err(Attempt::Room(loaded)) => (loaded, "more didn't fit its memory".to_owned()),
            Err(Attempt::Crash(loaded, fault)) => {
                crashes += 1;
                if crashes > CRASHES {
                    return Err(fault);
                }
                // As when the system takes memory back; but that isn't known.
                (loaded, format!("with more, {fault}"))
            }
        };
        // Where all layers were there, the output may have been too much.
        let next = if with_output && loaded == n { n } else { fit::next_try(n, loaded) };
        tell(Event::Step(format!("{}: {why}; trying {next} layers", device.name)));
        limit = Some(why);
        wanted = Some((next, false));
    }
}

/// A child with an open device.
fn opened(model: &Model, open: &Open) -> Result<(Child, Device), Fault> {
    let files: Vec<&File> = model.gguf().parts().iter().map(|part| part.file()).collect();
    // Activations of a batch, a layer's norms, logits, or keys and values of a position.
    let floats = (open.batch * open.shape.hidden).max(2 * (open.shape.hidden + open.shape.head_dim));
    let floats = floats.max(open.rows * model.hparams().vocab.max(open.shape.hidden));
    let floats = floats.max(2 * open.shape.kv_heads * open.shape.head_dim);
    let mut child = Child::start(&files, floats)?;
    match child.ask(&Request::Open(open.clone()), patience() * DRIVER)? {
        Reply::Opened(device) => Ok((child, device)),
        Reply::Refused(refusal) => Err(Fault::Refused(refusal)),
        _ => Err(Fault::Alien),
    }
}

/// Loads the layers and, where it can be taken, the output, and has the child get ready. Says whether the output is there.
fn fill(
    child: &mut Child,
    device: &Device,
    model: &Model,
    layers: &[Layer],
    output: Option<Matrix>,
    tell: &mut Tell,
) -> Result<bool, Attempt> {
    for (i, layer) in layers.iter().enumerate() {
        tell(Event::Step(format!("{}: layer {} of {}", device.name, i + 1, layers.len())));
        child.shared.write(&plan::norms(&model.layers()[i]));
        done(child.ask(&Request::Load(Box::new(layer.clone())), reading(plan::bytes(layer))), i)?;
    }
    let output = output.map(|output| {
        tell(Event::Step(format!("{}: the output", device.name)));
        child.shared.write(model.output_norm());
        let limit = reading(output.bytes);
        match child.ask(&Request::Output(output), limit) {
            Ok(Reply::Refused(_)) => Ok(false),
            reply => done(reply, layers.len()).map(|()| true),
        }
    });
    let output = output.transpose()?.unwrap_or(false);
    tell(Event::Step(format!("{}: getting ready, which takes longer the first time", device.name)));
    done(child.ask(&Request::Prepare, patience() * SHADERS), layers.len())?;
    Ok(output)
}

/// How long reading so many bytes into the device's memory may take.
fn reading(bytes: u64) -> Duration {
    patience() * DRIVER + Duration::from_secs(bytes / SLOWEST_READ)
}

fn done(reply: Result<Reply, Fault>, loaded: usize) -> Result<(), Attempt> {
    match reply {
        Ok(Reply::Done) => Ok(()),
        Ok(Reply::Refused(refusal)) if refusal.memory => Err(Attempt::Room(loaded)),
        Ok(Reply::Refused(refusal)) => Err(Fault::Refused(refusal).into()),
        Ok(_) => Err(Fault::Alien.into()),
        Err(fault @ Fault::Gone(_)) => Err(Attempt::Crash(loaded, fault)),
        Err(fault) => Err(fault.into()),
    }
}
