"""What the benchmarks share: running a command and counting what it used, the machine, records."""

import datetime
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

RECORDS = Path(__file__).parent / "records"

# What /proc/cpuinfo calls instructions that decide a CPU's speed here, best first.
EXTENSIONS = ["avx512_vnni", "avx_vnni", "avx2", "i8mm", "asimddp", "asimd"]


def realtime(command):
    """The command at real-time priority where that is allowed: neighbours on a shared machine then cost little."""
    return ["chrt", "-f", "50", *command] if os.geteuid() == 0 and shutil.which("chrt") else command


def run(command, **kwargs):
    """Runs a command to its end: {seconds, cpu_seconds, peak_mib} of it and its children. Output goes nowhere."""
    command = realtime(command)
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs)
    error = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - start
    if status:
        last = error.decode(errors="replace").strip().splitlines()[-1:]
        raise SystemExit(f"{' '.join(map(str, command))}: status {os.waitstatus_to_exitcode(status)}: {' '.join(last)}")
    return dict(seconds=seconds, cpu_seconds=usage.ru_utime + usage.ru_stime, peak_mib=usage.ru_maxrss / 1024)


def machine():
    """{cpu, extension, cores, memory_gb, kernel}."""
    info = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^(?:model name|Model)\s*: (.*)$", info, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return dict(
        cpu=found[1].strip() if found else os.uname().machine,
        extension=next((name for name in EXTENSIONS if name in info.split()), "none"),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(memory / 1e9, 1),
        kernel=os.uname().release,
    )


def record(name, data):
    """Writes a record under the machine, the date and the benchmark's name; returns its path."""
    here = machine()
    slug = re.sub(r"[^a-z0-9]+", "-", f"{here['cpu']} {here['extension']} {here['cores']} cores".lower()).strip("-")
    date = datetime.date.today().isoformat()
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{slug}-{date}-{name}.json"
    path.write_text(json.dumps(dict(benchmark=name, date=date, machine=here, **data), indent=1) + "\n")
    return path
