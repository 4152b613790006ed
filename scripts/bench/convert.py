#!/usr/bin/env python3
"""The measurement of `scripts/bench.sh convert`, which prepares what this is given."""

import argparse
import shutil
import statistics
from pathlib import Path

import measure

FIGURES = ("seconds", "cpu_seconds", "peak_mib")


def together(runs):
    """Programs that run one after the other."""
    return dict(
        seconds=sum(r["seconds"] for r in runs),
        cpu_seconds=sum(r["cpu_seconds"] for r in runs),
        peak_mib=max(r["peak_mib"] for r in runs),
    )


def sides(a):
    """{type: {side: a function that converts once and returns its figures}}"""
    whole, middle = a.scratch / "out.gguf", a.scratch / "bf16.gguf"

    def clean():
        for path in a.scratch.iterdir():
            path.unlink()

    def qwren(type_):
        clean()
        return measure.run([a.qwren, a.checkpoint, "-o", whole, "--type", type_, "--quiet"])

    def script(out, type_):
        return measure.run([a.peer_python, a.peer_script, a.checkpoint, "--outfile", out, "--outtype", type_])

    def peer_q4_k_m():
        clean()
        threads = str(measure.machine()["cores"])
        return together([script(middle, "bf16"), measure.run([a.peer_quantize, middle, whole, "Q4_K_M", threads])])

    def peer_q8_0():
        clean()
        return script(whole, "q8_0")

    return {
        "q4_k_m": {"qwren": lambda: qwren("q4_k_m"), "llama.cpp": peer_q4_k_m},
        "q8_0": {"qwren": lambda: qwren("q8_0"), "llama.cpp": peer_q8_0},
    }


def copy(a):
    """What the disk alone would cost: the checkpoint copied."""
    target = a.scratch / "copy"
    figures = measure.run(["cp", a.checkpoint / "model.safetensors", target])
    target.unlink()
    return figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shape")
    parser.add_argument("--rounds", type=int, required=True)
    for name in ("checkpoint", "scratch", "qwren", "peer-python", "peer-script", "peer-quantize"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--peer-version", required=True)
    a = parser.parse_args()
    a.scratch.mkdir(parents=True, exist_ok=True)

    runs = {"copy": {"cp": []}, **{t: {side: [] for side in s} for t, s in sides(a).items()}}
    copy(a)  # The checkpoint into the page cache, for both sides alike.
    for _ in range(a.rounds):
        runs["copy"]["cp"].append(copy(a))
        for type_, both in sides(a).items():
            for side, convert in both.items():
                runs[type_][side].append(convert())
    shutil.rmtree(a.scratch)

    medians = {
        type_: {side: {f: round(statistics.median(r[f] for r in rs), 2) for f in FIGURES} for side, rs in both.items()}
        for type_, both in runs.items()
    }
    ratios = {
        type_: {f: round(both["qwren"][f] / both["llama.cpp"][f], 3) for f in FIGURES}
        for type_, both in medians.items()
        if "qwren" in both
    }
    path = measure.record(
        f"convert-{a.shape}",
        dict(shape=a.shape, rounds=a.rounds, peer=a.peer_version, medians=medians, ratios=ratios, runs=runs),
    )

    print(f"{'':8} {'':10} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9}")
    for type_, both in medians.items():
        for side, m in both.items():
            print(f"{type_:8} {side:10} {m['seconds']:8.1f} {m['cpu_seconds']:8.1f} {m['peak_mib']:9.0f}")
        if type_ in ratios:
            r = ratios[type_]
            print(f"{type_:8} {'ratio':10} {r['seconds']:8.2f} {r['cpu_seconds']:8.2f} {r['peak_mib']:9.2f}")
    print(f"record: {path}")


if __name__ == "__main__":
    main()
