//! Which device computes.
use crate::ggml::{self, Backend};
use crate::vulkan::{self, Physical};
use qwren_offload::message::{Device, Kind, Refusal};

/// ggml's shaders keep tiles of matrices in memory that the threads of a group share; Vulkan promises half of that.
const SHARED_BYTES: u32 = 32 << 10;

/// All devices.
///
/// # Errors
/// There are none.
pub fn list() -> Result<Vec<Device>, Refusal> {
    let found = vulkan::devices()?;
    let numbers: Vec<usize> = (0..found.len()).collect();
    let memory = ggml::memory(&numbers);
    let devices = found.iter().zip(numbers).zip(memory.iter().chain(std::iter::repeat(&(0, 0))));
    Ok(devices.map(|((physical, number), &(free, total))| device(physical, number, free, total)).collect())
}

/// Takes the device that `asked` names, or the best one.
///
/// # Errors
/// There is none, or it is unfit.
pub fn take(asked: Option<&str>) -> Result<(Device, Backend), Refusal> {
    let found = vulkan::devices()?;
    let number = choose(&found, asked)?;
    let physical = &found[number];
    if physical.shared_bytes < SHARED_BYTES {
        return Err(Refusal::new(format!(
            "{} is too small: it has {} KiB of shared memory, {} are needed",
            physical.description,
            physical.shared_bytes >> 10,
            SHARED_BYTES >> 10
        )));
    }
    let (free, total) = ggml::memory(&[number]).first().copied().unwrap_or((0, 0));
    let backend = Backend::open().ok_or_else(|| {
        Refusal::new(format!("{} can't be used: it needs Vulkan 1.2 with 16-bit storage", physical.description))
    })?;
    Ok((device(physical, number, free, total), backend))
}

fn device(physical: &Physical, number: usize, free_bytes: u64, total_bytes: u64) -> Device {
    Device {
        name: name(number),
        description: physical.description.clone(),
        driver: physical.driver.clone(),
        kind: physical.kind,
        total_bytes,
        free_bytes,
    }
}

fn name(number: usize) -> String {
    format!("Vulkan{number}")
}

/// The number of the device.
fn choose(found: &[Physical], asked: Option<&str>) -> Result<usize, Refusal> {
    let Some(asked) = asked else {
        let rank = |physical: &Physical| match physical.kind {
            Kind::Discrete => Some(0),
            Kind::Integrated => Some(1),
            Kind::Other => Some(2),
            Kind::Cpu => None,
        };
        let best = found.iter().enumerate().filter_map(|(i, p)| Some((rank(p)?, i))).min();
        let text =
            || format!("no GPU found, only {}; name it with --device to use it all the same", found[0].description);
        return best.map(|(_, i)| i).ok_or_else(|| Refusal::new(text()));
    };
    let wanted = asked.to_lowercase();
    let by_name = (0..found.len()).find(|&i| name(i).to_lowercase() == wanted || i.to_string() == wanted);
    // Digits stand in descriptions, too; and nothing is a part of each.
    let is_number = wanted.bytes().all(|byte| byte.is_ascii_digit());
    let is_described = |p: &Physical| !is_number && p.description.to_lowercase().contains(&wanted);
    let by_description = || found.iter().position(is_described);
    by_name
        .or_else(by_description)
        .ok_or_else(|| Refusal::new(format!("no device {asked:?}; `qwren devices` lists them")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn physical(kind: Kind, description: &str) -> Physical {
        Physical { kind, description: description.into(), driver: String::new(), shared_bytes: 65536 }
    }

    #[test]
    fn v6_a_cpu_is_taken_only_when_it_is_named() {
        let all = [
            physical(Kind::Cpu, "llvmpipe (LLVM 15)"),
            physical(Kind::Integrated, "Intel UHD"),
            physical(Kind::Discrete, "AMD Radeon"),
        ];
        let chosen = |found: &[Physical], asked| choose(found, asked).ok();
        assert_eq!(chosen(&all, None), Some(2));
        assert_eq!(chosen(&all[..2], None), Some(1));
        assert_eq!(chosen(&all[..1], None), None);
        assert_eq!(chosen(&all, Some("llvm")), Some(0));
        assert_eq!(chosen(&all, Some("vulkan1")), Some(1));
        assert_eq!(chosen(&all, Some("2")), Some(2));
        for unknown in ["nvidia", "15", ""] {
            assert_eq!(chosen(&all, Some(unknown)), None, "{unknown:?}");
        }
    }
}
