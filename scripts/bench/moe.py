#!/usr/bin/env python3
"""Speed of a model with all the memory and with less than its size. Called by scripts/bench.sh moe."""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

import measure

PREFILL, DECODE = 32, 32
# A control group of the older hierarchy where the system has that, else of the unified one.
V1 = Path("/sys/fs/cgroup/memory")
GROUP = (V1 if V1.is_dir() else Path("/sys/fs/cgroup")) / f"qwren-bench-{os.getpid()}"


def run(command, limit):
    """What a command says as JSON, and the MiB that it read from the disk. `limit`: its memory in bytes, if it has a limit."""
    if limit:
        GROUP.mkdir()
        (GROUP / ("memory.limit_in_bytes" if V1.is_dir() else "memory.max")).write_text(str(limit))

    def enter():
        if limit:
            (GROUP / "cgroup.procs").write_text(str(os.getpid()))

    try:
        child = subprocess.Popen(
            measure.realtime(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, preexec_fn=enter
        )
        out, error = child.stdout.read(), child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
    finally:
        if limit:
            GROUP.rmdir()
    if status:
        raise SystemExit(f"{' '.join(command)}: status {os.waitstatus_to_exitcode(status)}: {error.strip()[-300:]}")
    return json.loads(out), usage.ru_inblock * 512 / 2**20


def drop(model):
    """Takes the file out of the system's cache: pages that another group read would not count in this one."""
    with open(model, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def ours(args, limit):
    command = [args.qwren, "bench", "--json", "--quiet", "-r", "1", "-m", args.model, "--depth", "0", "--force"]
    report, read = run(command + ["--prefill", str(PREFILL), "--decode", str(DECODE)], limit)
    return dict(prefill=report["prefill"][0]["tokens_per_s"], decode=report["decode"][0]["tokens_per_s"], read=read)


def theirs(args, limit):
    # Repacking would copy the weights out of the map.
    command = [f"{args.peer_bin}/llama-bench", "-m", args.model, "-r", "1", "-o", "json", "--repack", "0"]
    rows, read = run(command + ["-t", str(os.cpu_count()), "-p", str(PREFILL), "-n", str(DECODE)], limit)
    return {("prefill" if row["n_prompt"] else "decode"): row["avg_ts"] for row in rows} | dict(read=read)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    for name in ["--qwren", "--peer-bin", "--peer-version"]:
        parser.add_argument(name, required=True)
    for name in ["--limit", "--rounds"]:
        parser.add_argument(name, type=int, required=True)
    args = parser.parse_args()
    size = os.path.getsize(args.model)
    limits = {"all": None, f"{args.limit} % of the file": size * args.limit // 100}
    sides = dict(qwren=ours, peer=theirs)
    rows = []
    print(f"{Path(args.model).name}, {size >> 20} MiB\n{'memory':<20}{'':<8}{'prefill':>9}{'decode':>9}{'MiB read':>10}")
    for memory, limit in limits.items():
        runs = {side: [] for side in sides}
        for _ in range(args.rounds):
            for side, measured in sides.items():
                drop(args.model)
                runs[side].append(measured(args, limit))
        for side, all_runs in runs.items():
            row = {key: statistics.median(run[key] for run in all_runs) for key in ["prefill", "decode", "read"]}
            rows.append(dict(memory=memory, limit=limit, side=side, **row))
            print(f"{memory:<20}{side:<8}{row['prefill']:>9.4g}{row['decode']:>9.4g}{row['read']:>10.0f}")
    data = dict(peer=args.peer_version, rounds=args.rounds, model=Path(args.model).name, bytes=size, rows=rows)
    print(f"record: {measure.record('moe', data)}")


if __name__ == "__main__":
    main()
