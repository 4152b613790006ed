#!/usr/bin/env python3
"""Speed of qwren and llama.cpp beside busy neighbours, as a share of their speed without. Called by scripts/bench.sh busy."""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
from pathlib import Path

import measure

PREFILL, DECODE = 64, 8
NICE = -15  # as root, for both sides and their neighbours: others on a shared machine then hardly count


def output(command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def ours(args):
    command = [args.qwren, "bench", "--json", "--quiet", "-r", "1", "-m", args.model, "--depth", "0"]
    report = output(command + ["--prefill", str(PREFILL), "--decode", str(DECODE)])
    return dict(prefill=report["prefill"][0]["tokens_per_s"], decode=report["decode"][0]["tokens_per_s"])


def theirs(args):
    command = [f"{args.peer_bin}/llama-bench", "-m", args.model, "-r", "1", "-o", "json", "-t", str(os.cpu_count())]
    rows = output(command + ["-p", str(PREFILL), "-n", str(DECODE)])
    return {("prefill" if row["n_prompt"] else "decode"): row["avg_ts"] for row in rows}


@contextlib.contextmanager
def neighbours():
    """One process per core that is busy as long as this one lives."""
    work = f"while [ -d /proc/{os.getpid()} ]; do :; done"
    children = [subprocess.Popen(["sh", "-c", work]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    for name in ["--qwren", "--peer-bin", "--peer-version"]:
        parser.add_argument(name, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    if os.geteuid() == 0:
        os.nice(NICE)
    sides = dict(qwren=ours, peer=theirs)
    runs = {side: {"quiet": [], "busy": []} for side in sides}
    for _ in range(args.rounds):
        for side, run in sides.items():
            runs[side]["quiet"].append(run(args))
            with neighbours():
                runs[side]["busy"].append(run(args))
    rows = []
    print(f"{'tokens/s':<10}{'':<9}{'quiet':>9}{'busy':>9}{'kept':>8}")
    for figure in ["prefill", "decode"]:
        for side in sides:
            quiet, busy = (statistics.median(run[figure] for run in runs[side][when]) for when in ["quiet", "busy"])
            rows.append(dict(figure=figure, side=side, quiet=quiet, busy=busy, kept=busy / quiet))
            print(f"{figure:<10}{side:<9}{quiet:>9.4g}{busy:>9.4g}{busy / quiet:>8.0%}")
    data = dict(peer=args.peer_version, rounds=args.rounds, model=Path(args.model).name, rows=rows)
    print(f"record: {measure.record('busy', data)}")


if __name__ == "__main__":
    main()
