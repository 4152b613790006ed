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

/// Where the system's files lie; elsewhere only for tests.
const ROOT: &str = "/";

/// The logical CPUs that this process's affinity allows.
pub fn cpus() -> Vec<Cpu> {
    let allowed = rustix::thread::sched_getaffinity(None).ok();
    let count = std::thread::available_parallelism().map_or(1, |n| n.get());
    let ids = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&i| allowed.as_ref().map_or(i < count, |set| set.is_set(i)));
    describe(Path::new(ROOT), ids)
}

/// What the system under `root` says about the logical CPUs `ids`.
fn describe(root: &Path, ids: impl Iterator<Item = usize>) -> Vec<Cpu> {
    let small = list(&root.join("sys/devices/cpu_atom/cpus"));
    ids.map(|id| {
        let dir = root.join(format!("sys/devices/system/cpu/cpu{id}"));
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
    cpu_quota_under(Path::new(ROOT))
}

fn cpu_quota_under(root: &Path) -> Option<f64> {
    let v2 = cgroup_dirs(root, "").filter_map(|dir| {
        let text = read_to_string(dir.join("cpu.max")).ok()?;
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.trim().parse::<f64>().ok()?)
    });
    let v1 = cgroup_dirs(root, "cpu").filter_map(|dir| {
        let quota = read_to_string(dir.join("cpu.cfs_quota_us")).ok()?.trim().parse::<f64>().ok()?;
        let period = read_to_string(dir.join("cpu.cfs_period_us")).ok()?.trim().parse::<f64>().ok()?;
        Some(quota / period)
    });
    v2.chain(v1).filter(|q| q.is_finite() && *q > 0.0).min_by(f64::total_cmp)
}

/// Bytes of memory that this process could still take without swapping: what the system calls available, or what the
/// control groups leave if that is less. None when nothing can be read.
pub fn memory_available() -> Option<u64> {
    memory_available_under(Path::new(ROOT))
}

fn memory_available_under(root: &Path) -> Option<u64> {
    let meminfo = read_to_string(root.join("proc/meminfo")).ok().and_then(|text| field_kib(&text, "MemAvailable:"));
    let left = |limit: Option<u64>, used: Option<u64>| Some(limit?.saturating_sub(used?));
    let v2 = cgroup_dirs(root, "").filter_map(|d| {
        // Page cache counts as used here but can be given up.
        let cache = read_to_string(d.join("memory.stat")).ok().and_then(|t| stat(&t, "inactive_file ")).unwrap_or(0);
        left(number(&d.join("memory.max")), number(&d.join("memory.current")).map(|n| n.saturating_sub(cache)))
    });
    let v1 = cgroup_dirs(root, "memory").filter_map(|d| {
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
fn cgroup_dirs(root: &Path, controller: &str) -> impl Iterator<Item = PathBuf> {
    let text = read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let path = cgroup_path(&text, controller);
    let top = root.join("sys/fs/cgroup").join(controller);
    let dir = path.map(|p| top.join(p.trim_start_matches('/'))).filter(|d| d.is_dir()).unwrap_or_else(|| top.clone());
    let all: Vec<PathBuf> = dir.ancestors().take_while(|d| d.starts_with(&top)).map(Path::to_path_buf).collect();
    all.into_iter()
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

    /// A system with these files.
    fn system(files: &[(String, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const NUMBERS: [&str; 8] = ["0\n", "1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n"];

    /// Files of logical CPU `id`.
    fn cpu_files(id: usize, core: &'static str, capacity: Option<&'static str>) -> Vec<(String, &'static str)> {
        let dir = format!("sys/devices/system/cpu/cpu{id}");
        let mut files =
            vec![(format!("{dir}/topology/core_id"), core), (format!("{dir}/topology/physical_package_id"), "0\n")];
        files.extend(capacity.map(|capacity| (format!("{dir}/cpu_capacity"), capacity)));
        files
    }

    fn chosen(root: &Path, ids: impl Iterator<Item = usize>) -> usize {
        choose_threads(&describe(root, ids), cpu_quota_under(root))
    }

    #[test]
    fn p1_threads_follow_the_systems_files() {
        // A hybrid laptop: two performance cores with two threads each, four efficiency cores.
        let cores = ["0\n", "0\n", "4\n", "4\n", "8\n", "9\n", "10\n", "11\n"];
        let mut files: Vec<_> = (0..8).flat_map(|id| cpu_files(id, cores[id], None)).collect();
        files.push(("sys/devices/cpu_atom/cpus".into(), "4-7\n"));
        let laptop = system(&files);
        assert_eq!(chosen(laptop.path(), 0..8), 2);
        // Tied to the threads of one core; to efficiency cores.
        assert_eq!(chosen(laptop.path(), [0, 1].into_iter()), 1);
        assert_eq!(chosen(laptop.path(), 5..8), 3);

        // big.LITTLE: four cores at 40 % and two fast ones. A system that says nothing.
        let files: Vec<_> =
            (0..6).flat_map(|id| cpu_files(id, NUMBERS[id], Some(if id < 4 { "414\n" } else { "1024\n" }))).collect();
        assert_eq!(chosen(system(&files).path(), 0..6), 2);
        assert_eq!(chosen(system(&files).path(), 0..4), 4);
        assert_eq!(chosen(tempfile::tempdir().unwrap().path(), 0..3), 3);
    }

    #[test]
    fn p1_threads_follow_the_groups_quota() {
        let cpus = || (0..8).flat_map(|id| cpu_files(id, NUMBERS[id], None));
        let with = |files: &[(&str, &'static str)]| {
            let files: Vec<_> = cpus().chain(files.iter().map(|(path, text)| (path.to_string(), *text))).collect();
            chosen(system(&files).path(), 0..8)
        };
        let v2 = ("proc/self/cgroup", "0::/user.slice/app\n");
        assert_eq!(with(&[v2]), 8);
        // The tightest of the groups around holds; 2.5 CPUs pay for two threads, a tenth of one for one.
        let own = ("sys/fs/cgroup/user.slice/app/cpu.max", "max 100000\n");
        assert_eq!(with(&[v2, own, ("sys/fs/cgroup/user.slice/cpu.max", "250000 100000\n")]), 2);
        assert_eq!(with(&[v2, ("sys/fs/cgroup/user.slice/app/cpu.max", "10000 100000\n")]), 1);
        // In a container the path is the host's, and the hierarchy begins with the container's own group.
        assert_eq!(with(&[("proc/self/cgroup", "0::/docker/1234\n"), ("sys/fs/cgroup/cpu.max", "300000 100000\n")]), 3);
        // The older hierarchies; −1 is no limit.
        let v1 = ("proc/self/cgroup", "3:cpu,cpuacct:/job\n");
        let period = ("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "50000\n");
        assert_eq!(with(&[v1, period, ("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "200000\n")]), 4);
        assert_eq!(with(&[v1, period, ("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n")]), 8);
    }

    #[test]
    fn p5_memory_is_what_the_groups_leave() {
        let with = |files: &[(&str, &'static str)]| {
            let files: Vec<_> = files.iter().map(|(path, text)| (path.to_string(), *text)).collect();
            memory_available_under(system(&files).path())
        };
        let machine = ("proc/meminfo", "MemTotal: 16 kB\nMemAvailable: 8 kB\n");
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[machine]), Some(8192));
        let group = ("proc/self/cgroup", "0::/job\n");
        let max = ("sys/fs/cgroup/job/memory.max", "5000\n");
        let used = ("sys/fs/cgroup/job/memory.current", "3000\n");
        assert_eq!(with(&[machine, group, max, used]), Some(2000));
        // Cached files can be given up.
        let stat = ("sys/fs/cgroup/job/memory.stat", "anon 100\ninactive_file 1500\n");
        assert_eq!(with(&[machine, group, max, used, stat]), Some(3500));
        assert_eq!(with(&[machine, group, ("sys/fs/cgroup/job/memory.max", "max\n"), used]), Some(8192));
    }

    #[test]
    fn this_machine_answers() {
        assert!(default_threads() >= 1 && !cpus().is_empty());
        assert!(memory_available().unwrap() <= memory_total().unwrap());
    }
}
