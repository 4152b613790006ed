#!/usr/bin/env python3
"""Speed of qwren, llama.cpp and candle on the same files, side by side. Called by scripts/bench.sh peers."""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

import measure

PROMPT = "Once upon a time there was a small house in the"  # about ten tokens
PREFILL, DECODE = 512, 64
CANDLE_DEPTH = 2048  # it takes minutes to get deeper


def output(command):
    """What a command says on stdout, run at real-time priority where that is allowed."""
    command = measure.realtime(command)
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}: {' '.join(last)}")
    return done.stdout


def ours(args, model, depths, cache):
    """{figure: tokens/s} of one run of qwren bench, and its report."""
    command = [args.qwren, "bench", "--json", "--quiet", "-r", "1", "-m", model, "--prefill", str(PREFILL)]
    command += ["--decode", str(DECODE), "--depth", ",".join(map(str, depths)), "-ctk", cache, "-ctv", cache]
    report = json.loads(output(command))
    figures = {f"prefill {p['tokens']}": p["tokens_per_s"] for p in report["prefill"]}
    figures |= {decode_name(d["depth"], cache): d["tokens_per_s"] for d in report["decode"]}
    return figures, report


def theirs(args, model, depths, cache, repack, flash):
    """The same of one run of llama-bench."""
    command = [f"{args.peer_bin}/llama-bench", "-m", model, "-r", "1", "-o", "json", "-t", str(os.cpu_count())]
    command += ["--repack", str(repack), "-fa", flash, "-ctk", cache, "-ctv", cache, "-n", str(DECODE)]
    figures = {}
    # Prompts come out of the same program for each depth; once is enough.
    for depth in depths:
        rows = json.loads(output(command + ["-d", str(depth), "-p", str(PREFILL if depth == 0 else 0)]))
        for row in rows:
            name = f"prefill {PREFILL}" if row["n_prompt"] else decode_name(depth, cache)
            figures[name] = row["avg_ts"]
    return figures


def candles(args, model, depths):
    """The same of one run of candle, whose cache holds 32-bit floats."""
    shallow = ",".join(str(depth) for depth in depths if depth <= CANDLE_DEPTH)
    figures = json.loads(output([args.candle, model, str(PREFILL), str(DECODE if shallow else 0), shallow]))
    return {name if name.startswith("prefill") else f"{name}, f16 cache": value for name, value in figures.items()}


def decode_name(depth, cache):
    return f"decode at {depth}, {cache} cache"


def starts(args, model):
    """Seconds from nothing to the first token of a short prompt, and peak memory, of both sides."""
    one = ["-m", model, "-p", PROMPT, "-n", "1", "-c", "4096"]
    return dict(
        qwren=measure.run([args.qwren, "complete", "--quiet", "--temp", "0", *one]),
        peer=measure.run([f"{args.peer_bin}/llama-completion", "-no-cnv", "--no-warmup", *one], stdin=subprocess.DEVNULL),
    )


def compare(args, model):
    depths = [int(depth) for depth in args.depths.split(",")]
    deep = [depth for depth in depths if depth]
    mine, peers, candle, begun, report = {}, {}, {}, [], None

    def add(table, figures, setting):
        for name, value in figures.items():
            table.setdefault(name, {}).setdefault(setting, []).append(value)

    for _ in range(args.rounds):
        for cache in ["f16", "q8_0"]:
            # Only depth makes a difference to a cache.
            wanted = depths if cache == "f16" else deep
            if not wanted:
                continue
            figures, new = ours(args, model, wanted, cache)
            report = report or new
            add(mine, figures if cache == "f16" else {n: v for n, v in figures.items() if n.startswith("decode")}, "qwren")
            for repack in [0, 1]:
                for flash in ["on"] if cache == "q8_0" else ["on", "off"]:
                    setting = f"repack {repack}, flash attention {flash}"
                    add(peers, theirs(args, model, wanted, cache, repack, flash), setting)
        add(candle, candles(args, model, depths), "candle")
        begun.append(starts(args, model))

    rows = []
    for name, runs in mine.items():
        # A coarser cache is compared with the best that the peer has at that depth, whatever its cache.
        rivals = dict(peers.get(name, {}))
        if name.endswith("q8_0 cache"):
            rivals |= {f"{s}, f16": v for s, v in peers.get(name.replace("q8_0", "f16"), {}).items()}
        medians = {setting: statistics.median(values) for setting, values in rivals.items()}
        best = max(medians, key=medians.get)
        value = statistics.median(runs["qwren"])
        rows.append(dict(figure=name, qwren=value, peer=medians[best], setting=best, ratio=value / medians[best], peers=medians))
        if name in candle:
            rows[-1]["candle"] = statistics.median(candle[name]["candle"])
    for key, unit in [("seconds", "s to the first token"), ("peak_mib", "MiB of memory")]:
        value, peer = (statistics.median(run[side][key] for run in begun) for side in ["qwren", "peer"])
        rows.append(dict(figure=unit, qwren=value, peer=peer, setting="default", ratio=value / peer, peers={"default": peer}))
    return rows, report


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    for name in ["--qwren", "--peer-bin", "--peer-version", "--candle", "--depths"]:
        parser.add_argument(name, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    results = []
    for model in args.models:
        rows, report = compare(args, model)
        results.append(dict(model=Path(model).name, bytes=os.path.getsize(model), rows=rows, qwren=report))
        print(f"\n{Path(model).name}, {report['machine']['cpu']}, {os.cpu_count()} threads, medians of {args.rounds}")
        print(f"{'':<28}{'qwren':>10}{'llama.cpp':>12}{'ratio':>8}{'candle':>8}  llama.cpp's best setting")
        for row in rows:
            print(f"{row['figure']:<28}{row['qwren']:>10.4g}{row['peer']:>12.4g}{row['ratio']:>8.2f}{row.get('candle', ''):>8.4}  {row['setting']}")
    path = measure.record("peers", dict(peer=args.peer_version, rounds=args.rounds, results=results))
    print(f"\nrecord: {path}")


if __name__ == "__main__":
    main()
