//! The first layers of a model on a GPU: in a process of its own, `qwren-gpu`, so that a driver can end that process and
//! nothing else. This one holds the tokens and the weights; whatever happens, it computes those layers itself.
//!
//! * [`child`]: the process, its pipes, and what can go wrong with them
//! * [`plan`]: a model as the child is told of it
//! * [`fit`]: how many layers
//! * [`remote`]: a child that is ready, and how long it may take
//! * [`cache`]: its part of the KV cache, to and fro
//! * [`start`]: from nothing to a child that was checked
//! * [`check`]: its results beside ours
//! * [`compare`]: its speed beside ours
pub mod cache;
pub mod check;
pub mod child;
pub mod compare;
pub mod fit;
pub mod plan;
pub mod remote;
pub mod start;

pub use child::Fault;
pub use compare::Times;
pub use qwren_offload::message::{Device, Kind};
pub use remote::Remote;

use qwren_offload::message::{Reply, Request};
use std::fmt;
use std::sync::atomic::AtomicBool;

/// For what is not stopped.
pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

/// How many layers were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// So many, the first ones; all if there are fewer.
    Count(usize),
    /// All, and fewer if the device has no room for all.
    All,
    /// As many as fit, and none if that makes nothing faster.
    Auto,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Layers.
    pub wanted: Wanted,
    /// The device's name, its number, or a part of its description. Without it, one that computes on the CPU isn't taken.
    pub device: Option<String>,
}

/// What is heard of the work in the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What is being done at the start; the next one replaces it.
    Step(String),
    /// A line that stays.
    Line(String),
}

/// Who hears it.
pub type Tell = Box<dyn FnMut(Event)>;

/// Which layers are computed where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The device.
    pub device: String,
    /// Layers there: the first ones.
    pub there: usize,
    /// Layers of the model.
    pub all: usize,
    /// The output is there too.
    pub output: bool,
    /// Why there aren't more.
    pub limit: Option<String>,
    /// How long a token takes in what the device computes, where that decided.
    pub times: Option<Times>,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Placement { device, there, all, output, limit, times } = self;
        write!(f, "{device} computes {there} of {all} layers")?;
        match all - there {
            _ if *output => write!(f, " and the output")?,
            0 => write!(f, ", the processor the output")?,
            rest => write!(f, ", the processor {rest} and the output")?,
        }
        let times = times
            .map(|Times { there, here }| format!("a token takes {there:.1?} in them, on the processor {here:.1?}"));
        let notes: Vec<String> = limit.clone().into_iter().chain(times).collect();
        if notes.is_empty() { Ok(()) } else { write!(f, " ({})", notes.join("; ")) }
    }
}

/// The devices that `qwren-gpu` sees.
///
/// # Errors
/// It isn't there, or has none.
pub fn devices() -> Result<Vec<Device>, Fault> {
    let mut child = child::Child::start(&[], 1)?;
    match child.ask(&Request::Devices, child::patience() * child::DRIVER)? {
        Reply::Devices(devices) => Ok(devices),
        Reply::Refused(refusal) => Err(Fault::Refused(refusal)),
        _ => Err(Fault::Alien),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_placement_says_what_decided_it() {
        let mut placement =
            Placement { device: "GPU".into(), there: 3, all: 4, output: false, limit: None, times: None };
        assert_eq!(placement.to_string(), "GPU computes 3 of 4 layers, the processor 1 and the output");
        placement.times = Some(Times { there: Duration::from_micros(1500), here: Duration::from_millis(40) });
        let says = "(a token takes 1.5ms in them, on the processor 40.0ms)";
        assert!(placement.to_string().ends_with(&format!("output {says}")), "{placement}");
        placement.limit = Some("more didn't fit its memory".to_owned());
        assert!(
            placement
                .to_string()
                .ends_with("(more didn't fit its memory; a token takes 1.5ms in them, on the processor 40.0ms)")
        );
        placement.there = 4;
        assert!(placement.to_string().starts_with("GPU computes 4 of 4 layers, the processor the output ("));
        placement.output = true;
        assert!(placement.to_string().starts_with("GPU computes 4 of 4 layers and the output ("));
    }
}
