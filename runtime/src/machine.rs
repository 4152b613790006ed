//! What the operating system says about this machine: cores that this process may use, memory that is left. The one
//! module of the runtime that knows Linux's files.
use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// A logical CPU that this process may run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub id: usize,
    /// Package and core: logical CPUs of one physical core share both.
    pub core: (u64, u64),
    /// Relative speed, 1024 for the fastest kind; absent where all are equal.
    pub capacity: Option<u64>,
    /// One of the small cores of a hybrid x86 processor.
    pub efficiency: bool,
}

/// The logical CPUs that this process's affinity allows.
pub fn cpus() -> Vec<Cpu> {
    let allowed = rustix::thread::sched_getaffinity(None).ok();
    let count = std::thread::available_parallelism().map_or(1, |n| n.get());
    let sys = Path::new("/sys/devices/system/cpu");
    let small = list(Path::new("/sys/devices/cpu_atom/cpus"));
    let ids = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&i| allowed.as_ref().map_or(i < count, |set| set.is_set(i)));
    ids.map(|id| {
        let dir = sys.join(format!("cpu{id}"));
        let package = number(&dir.join("topology/physical_package_id")).unwrap_or(0);
        let core = number(&dir.join("topology/core_id")).unwrap_or(id as u64);
        Cpu { id, core: (package, core), capacity: number(&dir.join("cpu_capacity")), efficiency: small.contains(&id) }
    })
    .collect()
}

/// How many threads compute by default: one for each physical performance core that this process may use, and no more
/// than its quota of CPU time pays for.
pub fn default_threads() -> usize {
    choose_threads(&cpus(), cpu_quota())
}

/// The choice behind [`default_threads`]. A core counts as a performance core when it has at least half the capacity of the
/// fastest one and is no efficiency core of a hybrid processor (unless there are only such).
pub fn choose_threads(cpus: &[Cpu], quota: Option<f64>) -> usize {
    let fastest = cpus.iter().filter_map(|c| c.capacity).max().unwrap_or(0);
    let is_fast = |c: &&Cpu| !c.efficiency && c.capacity.is_none_or(|n| n * 2 >= fastest);
    let cores = |keep: &dyn Fn(&&Cpu) -> bool| cpus.iter().filter(keep).map(|c| c.core).collect::<BTreeSet<_>>().len();
    let fast = cores(&is_fast);
    let cores = if fast > 0 { fast } else { cores(&|_| true) };
    let paid = quota.map_or(usize::MAX, |q| q as usize);
    cores.min(paid).max(1)
}

/// The CPU time that the control groups around this process allow, in CPUs.
pub fn cpu_quota() -> Option<f64> {
    let v2 = cgroup_files("", "cpu.max").filter_map(|text| {
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.trim().parse::<f64>().ok()?)
    });
    let v1 = cgroup_dirs("cpu").filter_map(|dir| {
        let quota = read_to_string(dir.join("cpu.cfs_quota_us")).ok()?.trim().parse::<f64>().ok()?;
        let period = read_to_string(dir.join("cpu.cfs_period_us")).ok()?.trim().parse::<f64>().ok()?;
        Some(quota / period)
    });
    v2.chain(v1).filter(|q| q.is_finite() && *q > 0.0).min_by(f64::total_cmp)
}

/// Bytes of memory that this process could still take without swapping: what the system calls available, or what the
/// control groups leave if that is less. None when nothing can be read.
pub fn memory_available() -> Option<u64> {
    let meminfo = read_to_string("/proc/meminfo").ok().and_then(|text| field_kib(&text, "MemAvailable:"));
    let left = |limit: Option<u64>, used: Option<u64>| Some(limit?.saturating_sub(used?));
    let v2 = cgroup_dirs("").filter_map(|d| {
        // Page cache counts as used here but can be given up.
        let cache = read_to_string(d.join("memory.stat")).ok().and_then(|t| stat(&t, "inactive_file ")).unwrap_or(0);
        left(number(&d.join("memory.max")), number(&d.join("memory.current")).map(|n| n.saturating_sub(cache)))
    });
    let v1 = cgroup_dirs("memory").filter_map(|d| {
        let cache = read_to_string(d.join("memory.stat")).ok().and_then(|t| stat(&t, "total_inactive_file "));
        let used = number(&d.join("memory.usage_in_bytes")).map(|n| n.saturating_sub(cache.unwrap_or(0)));
        left(number(&d.join("memory.limit_in_bytes")), used)
    });
    v2.chain(v1).chain(meminfo).min()
}

/// Whether `bytes` of a file can stay in memory.
pub fn has_room_for(bytes: u64) -> bool {
    memory_available().is_none_or(|room| bytes <= room)
}

/// All memory of the machine in bytes.
pub fn memory_total() -> Option<u64> {
    field_kib(&read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// The processor's name.
pub fn cpu_name() -> Option<String> {
    let text = read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name") || l.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    read_to_string(path).ok()?.trim().parse().ok()
}

/// `1234 kB` after `name`, in bytes.
fn field_kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|l| l.strip_prefix(name))?;
    rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn stat(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name))?.trim().parse().ok()
}

/// A list such as `0-3,8`.
fn list(path: &Path) -> BTreeSet<usize> {
    read_to_string(path).map_or(BTreeSet::new(), |text| parse_list(&text))
}

fn parse_list(text: &str) -> BTreeSet<usize> {
    let ranges = text.trim().split(',').filter_map(|part| {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        Some(a.parse::<usize>().ok()?..=b.parse::<usize>().ok()?.min(1 << 16))
    });
    ranges.flatten().collect()
}

/// The folder of this process's control group for `controller` ("" is the unified hierarchy) and those around it. Inside
/// a container the path of /proc/self/cgroup may not exist; then the root of the hierarchy is what counts.
fn cgroup_dirs(controller: &str) -> impl Iterator<Item = PathBuf> {
    let text = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = cgroup_path(&text, controller);
    let root = Path::new("/sys/fs/cgroup").join(controller);
    let dir = path.map(|p| root.join(p.trim_start_matches('/'))).filter(|d| d.is_dir()).unwrap_or_else(|| root.clone());
    let all: Vec<PathBuf> = dir.ancestors().take_while(|d| d.starts_with(&root)).map(Path::to_path_buf).collect();
    all.into_iter()
}

/// The texts of a file in all these folders.
fn cgroup_files(controller: &str, file: &str) -> impl Iterator<Item = String> {
    let file = file.to_owned();
    cgroup_dirs(controller).filter_map(move |d| read_to_string(d.join(&file)).ok())
}

fn cgroup_path<'a>(proc_self_cgroup: &'a str, controller: &str) -> Option<&'a str> {
    proc_self_cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|c| c == controller).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(id: usize, core: u64, capacity: Option<u64>, efficiency: bool) -> Cpu {
        Cpu { id, core: (0, core), capacity, efficiency }
    }

    #[test]
    fn threads_are_physical_performance_cores() {
        // Two cores with two threads each.
        let smt: Vec<Cpu> = (0..4).map(|i| cpu(i, i as u64 / 2, None, false)).collect();
        assert_eq!(choose_threads(&smt, None), 2);
        assert_eq!(choose_threads(&smt, Some(1.9)), 1);
        assert_eq!(choose_threads(&smt, Some(0.3)), 1);
        // Four small cores of capacity 400, two large.
        let arm: Vec<Cpu> = (0..6).map(|i| cpu(i, i as u64, Some(if i < 4 { 400 } else { 1024 }), false)).collect();
        assert_eq!(choose_threads(&arm, None), 2);
        assert_eq!(choose_threads(&arm[..4], None), 4);
        // A hybrid x86 processor; and a process that may use its small cores only.
        let hybrid: Vec<Cpu> = (0..6).map(|i| cpu(i, i as u64, None, i >= 2)).collect();
        assert_eq!(choose_threads(&hybrid, Some(8.0)), 2);
        assert_eq!(choose_threads(&hybrid[2..], None), 4);
        assert_eq!(choose_threads(&[], None), 1);
    }

    #[test]
    fn files_parse() {
        assert_eq!(parse_list("0-2,5\n"), BTreeSet::from([0, 1, 2, 5]));
        assert_eq!(parse_list(""), BTreeSet::new());
        assert_eq!(field_kib("MemTotal:  8 kB\nMemAvailable:  123 kB\n", "MemAvailable:"), Some(123 * 1024));
        let text = "4:memory:/a/b\n3:cpu,cpuacct:/c\n0::/d\n";
        assert_eq!(cgroup_path(text, "cpu"), Some("/c"));
        assert_eq!(cgroup_path(text, ""), Some("/d"));
        assert_eq!(cgroup_path(text, "pids"), None);
    }

    #[test]
    fn this_machine_answers() {
        assert!(default_threads() >= 1 && !cpus().is_empty());
        assert!(memory_available().unwrap() <= memory_total().unwrap());
    }
}
