#!/usr/bin/env python3
"""The comparisons of compat.sh. Each subcommand prints one line, what it found, and exits 1 when that is a failure.

Runs with the peer's gguf-py on PYTHONPATH: the files are read by their code, not by ours.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

# Text of kinds that tokenizers have been wrong about: contractions, digits, runs of spaces, other scripts, special tokens. All in
# Unicode's composed form: the peer doesn't compose, Hugging Face's tokenizer and qwren do. No final newline: -f drops it.
PROMPTS = [
    "The quick brown fox jumps over the lazy dog. I'll say it again: THEY'RE 3.14159 and 1234567 apart",
    "def main(args):\n    for i in range(10):\n\t\tprint(f\"{i:>4}\")  # done\n\n\n\nmain(  )",
    "床前明月光，疑是地上霜。 Übergrößenträger, наконец-то, नमस्ते, 👩‍👩‍👧 ",
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy is the sky blue?<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\nThe sky",
]


def fail(text):
    print(text)
    sys.exit(1)


def read_lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line]


def prompts(a):
    a.dir.mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(PROMPTS):
        (a.dir / f"{i}.txt").write_bytes(text.encode())
    (a.dir / "all.jsonl").write_text("".join(json.dumps(t) + "\n" for t in PROMPTS))
    print(f"{len(PROMPTS)} prompts")


def rss(a):
    """Run a command and bound the largest resident set of it and its children."""
    start = time.monotonic()
    code = subprocess.run(a.command, check=False).returncode
    # Kibibytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    text = f"peak {peak:.0f} MiB, {time.monotonic() - start:.0f} s"
    if code:
        fail(f"exit code {code}, {text}")
    if peak > a.limit:
        fail(f"{text}: over the limit of {a.limit} MiB")
    print(text)


def tensor_table(path):
    from gguf import GGUFReader

    return {t.name: t for t in GGUFReader(path).tensors}


def types(a):
    """Both files have the same tensors with the same types and shapes."""
    x, y = tensor_table(a.ours), tensor_table(a.peers)
    kind = lambda t: f"{t.tensor_type.name} {[int(n) for n in t.shape]}"
    wrong = [f"{n}: only in the peer's file" for n in y if n not in x]
    wrong += [f"{n}: not in the peer's file" for n in x if n not in y]
    wrong += [f"{n}: {kind(x[n])}, peer {kind(y[n])}" for n in x if n in y and kind(x[n]) != kind(y[n])]
    if wrong:
        fail(f"{len(wrong)} tensors differ; {'; '.join(wrong[:3])}")
    used = sorted({t.tensor_type.name for t in x.values()})
    print(f"{len(x)} tensors: {' '.join(used)}")


def same_bytes(a):
    """Tensors of both files are equal bit for bit."""
    x, y = tensor_table(a.ours), tensor_table(a.peers)
    wrong = [n for n in x if n not in y or x[n].tensor_type != y[n].tensor_type or not np.array_equal(x[n].data, y[n].data)]
    if wrong:
        fail(f"{len(wrong)} of {len(x)} tensors differ, first {wrong[0]}")
    print(f"{len(x)} tensors, bit for bit")


def imatrix(a):
    """Both files have the same entries, counts and, within rounding, sums."""
    x, y = tensor_table(a.ours), tensor_table(a.peers)
    if list(x) != list(y):
        fail(f"{len(x)} tensors, peer {len(y)}: {sorted(set(x) ^ set(y))[:3]}")
    worst = 0.0
    for name, t in x.items():
        p, q = t.data.ravel(), y[name].data.ravel()
        if name.endswith(".counts"):
            # Where an expert's place hangs on rounding, the two programs may choose differently for a token.
            off = np.abs(p - q).sum() / q.sum()
        else:
            off = np.abs(p - q).sum() / np.abs(q).sum()
        worst = max(worst, float(off))
    text = f"{len(x) // 2} entries, sums differ by {worst:.2e} at most"
    if worst > a.tol:
        fail(f"{text}: over {a.tol}")
    print(text)


def ids(a):
    peer, ours = [p["prompt"] for p in read_lines(a.peer)], read_lines(a.ours)
    if len(peer) != len(ours):
        fail(f"{len(ours)} answers for {len(peer)} prompts")
    for i, (p, q) in enumerate(zip(peer, ours)):
        if p != q:
            at = next((k for k, (u, v) in enumerate(zip(p, q)) if u != v), min(len(p), len(q)))
            fail(f"prompt {i}, token {at}: peer {p[at:at + 4]}, qwren {q[at:at + 4]}")
    print(f"{sum(map(len, peer))} tokens of {len(peer)} prompts")


def teacher(a):
    """The ids that qwren is to evaluate: the prompt and all but the last of the peer's tokens, comma separated."""
    p = read_lines(a.peer)[a.index]
    print(",".join(map(str, p["prompt"] + p["tokens"][:-1])))


def greedy(a):
    """Qwren's choices are the peer's, and its logits are close.

    Both sum in another order, and the peer rounds activations to the type of the weights, so a step whose two best candidates are
    closer than that noise has no right answer. A step counts when the peer's margin is over `tol` times the spread of its 64 best
    logits (1e-3 at least). In counted steps the best token must be the same; the text of the free run must be the same up to the
    first step that doesn't count, since after it the two runs may be about different texts.
    """
    counted = steps = text_tokens = 0
    square = spread_square = 0.0
    for i, p in enumerate(read_lines(a.peer)):
        n = len(p["tokens"])
        theirs = np.fromfile(a.logits / f"{i}.f32", dtype=np.float32).reshape(n, -1)
        ours = np.load(a.npy / f"{i}.npy")
        if ours.shape != theirs.shape:
            fail(f"prompt {i}: logits of shape {ours.shape}, peer {theirs.shape}")
        if not np.isfinite(theirs).all() or not np.isfinite(ours).all():
            fail(f"prompt {i}: a logit is not finite")
        top = np.argpartition(theirs, -64, axis=1)[:, -64:]
        t, o = np.take_along_axis(theirs, top, 1), np.take_along_axis(ours, top, 1)
        square += float(((o - t) ** 2).sum())
        spread_square += float(t.var(axis=1).sum()) * 64
        clear = np.array(p["margins"]) > np.maximum(1e-3, a.tol * t.std(axis=1))
        same = ours.argmax(axis=1) == np.array(p["tokens"])
        if (clear & ~same).any():
            k = int(np.flatnonzero(clear & ~same)[0])
            fail(f"prompt {i}, step {k}: peer chose {p['tokens'][k]} by {p['margins'][k]:.3g}, qwren {int(ours[k].argmax())}")
        counted += int(clear.sum())
        steps += n
        if a.text:
            upto = n if clear.all() else int(np.flatnonzero(~clear)[0])
            text_tokens += check_text(i, p, upto, a.text / f"{i}.txt")
    if counted < steps * a.least:
        fail(f"only {counted} of {steps} steps have a clear margin: this checkpoint shows nothing")
    error = (square / spread_square) ** 0.5
    text = f"{counted} of {steps} steps clear, all equal; logits off by {100 * error:.2f} %"
    if a.text:
        text += f"; text equal for {text_tokens} tokens"
    if error > a.rms:
        fail(f"{text}: over {100 * a.rms:g} %")
    print(text)


def errors(a):
    """Qwren's logits of quantized weights are as near to those of the same weights at 16 bits as the peer's."""
    square = {"qwren": 0.0, "peer": 0.0}
    spread_square = 0.0
    for i, p in enumerate(read_lines(a.peer)):
        exact = np.load(a.dir / f"exact-{i}.npy")
        both = {"qwren": np.load(a.dir / f"{i}.npy"), "peer": np.fromfile(a.dir / f"{i}.f32", np.float32).reshape(exact.shape)}
        top = np.argpartition(exact, -64, axis=1)[:, -64:]
        e = np.take_along_axis(exact, top, 1)
        spread_square += float(e.var(axis=1).sum()) * 64
        for who, x in both.items():
            if not np.isfinite(x).all():
                fail(f"prompt {i}: a logit of {who}'s is not finite")
            square[who] += float(((np.take_along_axis(x, top, 1) - e) ** 2).sum())
    q, p = ((square[who] / spread_square) ** 0.5 for who in ("qwren", "peer"))
    text = f"logits off by {100 * q:.2f} %, the peer's by {100 * p:.2f} %"
    # A fifth more: both are samples of the same rounding. Half a per cent: the 16-bit run's own.
    if not q <= 1.2 * p + 0.005:
        fail(text)
    print(text)


def check_text(i, p, upto, path):
    """The first upto tokens are known. Our run ends before a token that ends a text, the peer's doesn't."""
    end = p["ends"].index(1) if 1 in p["ends"] else len(p["ends"])
    known = min(upto, end)
    want = b"".join(bytes.fromhex(h) for h in p["hex"][:known])
    got = path.read_bytes()
    # A final newline for the terminal's sake is not part of the answer.
    ok = got in (want, want + b"\n") if known == end else got.startswith(want)
    if not ok:
        fail(f"prompt {i}: qwren complete wrote {got[:80]!r}, peer {want[:80]!r}")
    return known


def speed(a):
    """Medians of alternating runs. Each argument is a folder of qwren-N.json and peer-N.json."""
    ours, peer = {"prefill": [], "decode": []}, {"prefill": [], "decode": []}
    for f in sorted(a.dir.glob("qwren-*.json")):
        j = json.loads(f.read_text())
        for kind in ours:
            ours[kind].append(j[kind][0]["tokens_per_s"])
    for f in sorted(a.dir.glob("peer-*.json")):
        for j in json.loads(f.read_text()):
            peer["prefill" if j["n_prompt"] else "decode"].append(j["avg_ts"])
    if not all(ours.values()) or not all(peer.values()):
        fail("a run is missing")
    q, p = statistics.median(ours[a.kind]), statistics.median(peer[a.kind])
    spread = lambda v: f"{min(v):.1f}-{max(v):.1f}"
    text = f"{q:.1f} tokens/s ({spread(ours[a.kind])}), peer {p:.1f} ({spread(peer[a.kind])}), ratio {q / p:.2f}"
    if q / p < a.least:
        fail(f"{text}: under {a.least}")
    print(text)


def disk(a):
    free = shutil.disk_usage(a.dir).free / 1e9
    if free < a.need:
        fail(f"{free:.1f} GB free, {a.need} needed")
    print(f"{free:.1f} GB free")


def main():
    top = argparse.ArgumentParser(description=__doc__)
    sub = top.add_subparsers(required=True)

    def command(f, *arguments):
        c = sub.add_parser(f.__name__.replace("_", "-"))
        c.set_defaults(run=f)
        for flags, options in arguments:
            c.add_argument(*flags.split(), **options)

    path, number = {"type": Path}, {"type": float}
    command(prompts, ("dir", path))
    command(rss, ("--limit", number | {"required": True}), ("command", {"nargs": argparse.REMAINDER}))
    command(types, ("ours", {}), ("peers", {}))
    command(same_bytes, ("ours", {}), ("peers", {}))
    command(imatrix, ("ours", {}), ("peers", {}), ("--tol", number))
    command(ids, ("peer", path), ("ours", path))
    command(teacher, ("peer", path), ("index", {"type": int}))
    command(greedy, ("peer", path), ("--logits", path), ("--npy", path), ("--text", path), ("--tol", number), ("--rms", number),
            ("--least", number | {"default": 0.5}))
    command(errors, ("peer", path), ("dir", path))
    command(speed, ("dir", path), ("kind", {"choices": ["prefill", "decode"]}), ("--least", number))
    command(disk, ("dir", path), ("need", number))
    a = top.parse_args()
    if getattr(a, "command", None) and a.command[0] == "--":
        a.command = a.command[1:]
    a.run(a)


if __name__ == "__main__":
    main()
