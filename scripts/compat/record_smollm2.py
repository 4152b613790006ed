#!/usr/bin/env python3
"""Records what llama.cpp answers on SmolLM2-135M-Instruct, as tests/data/smollm2/golden.json.

    scripts/compat/record_smollm2.py COMPAT_GREEDY MODEL

COMPAT_GREEDY is the program that scripts/compat.sh builds; MODEL is what scripts/fetch_smollm2.sh fetches. For each prompt:
its ids, greedy tokens, by how much each led the runner-up, and the eight likeliest tokens of each step with the logarithm
of their probability.
"""
import array
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 32
TOP = 8


def top(logits):
    most = max(logits)
    norm = most + math.log(sum(math.exp(x - most) for x in logits))
    best = sorted(range(len(logits)), key=lambda i: -logits[i])[:TOP]
    return [[i, round(logits[i] - norm, 4)] for i in best]


def main():
    greedy, model = sys.argv[1:]
    data = Path(__file__).resolve().parents[2] / "tests/data/smollm2"
    prompts = sorted(data.glob("prompts/*.txt"))
    with tempfile.TemporaryDirectory() as dumps:
        run = subprocess.run([greedy, model, str(STEPS), dumps, *map(str, prompts)], check=True, capture_output=True, text=True)
        cases = []
        for i, (prompt, line) in enumerate(zip(prompts, run.stdout.splitlines(), strict=True)):
            answer = json.loads(line)
            logits = array.array("f", Path(dumps, f"{i}.f32").read_bytes())
            vocab = len(logits) // STEPS
            cases.append({
                "prompt": prompt.name,
                "ids": answer["prompt"],
                "tokens": answer["tokens"],
                "margins": [round(m, 4) for m in answer["margins"]],
                "top": [top(logits[s * vocab:][:vocab]) for s in range(STEPS)],
            })
    lines = ",\n".join(json.dumps(case) for case in cases)
    (data / "golden.json").write_text(f"[\n{lines}\n]\n")


main()
