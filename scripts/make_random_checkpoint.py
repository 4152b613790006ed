#!/usr/bin/env python3
"""Write a random Qwen3 checkpoint folder: make_random_checkpoint.py SHAPE OUT_DIR [--tokenizer DIR] [--seed N] [--shards N]

It looks like a published one (config.json of the older style, bf16 safetensors, tokenizer files from --tokenizer)
but its numbers are noise. Tests that compare two programs need the *same choice* from both, so the noise is shaped:
the output rows of 64 plain English words are much longer than all others. Greedy text is then made of those words, valid
UTF-8 and free of stop tokens, and the best of 64 candidates leads by more than the best of 151936 would.

Needs numpy. Holds 64 MiB of weights at a time.
"""

import argparse
import gzip
import json
import re
import shutil
import struct
from pathlib import Path

import numpy as np

VOCAB = 151936
HEAD_DIM = 128
LOUD_TOKENS = 64
LOUD_FACTOR = 8.0
CHUNK = 1 << 24
TOKENIZER_FILES = ("tokenizer_config.json", "generation_config.json")

# The dense entries with "b" are the published sizes. "odd" has rows that are no multiple of 256, so that K-quants must fall
# back; "moe8" has the one expert count for which llama.cpp's recipe has rules of its own.
SHAPES = {
    "0.6b": dict(layers=28, hidden=1024, heads=16, kv_heads=8, ff=3072, tied=True),
    "1.7b": dict(layers=28, hidden=2048, heads=16, kv_heads=8, ff=6144, tied=True),
    "4b": dict(layers=36, hidden=2560, heads=32, kv_heads=8, ff=9728, tied=True),
    "8b": dict(layers=36, hidden=4096, heads=32, kv_heads=8, ff=12288, tied=False),
    "odd": dict(layers=4, hidden=192, heads=3, kv_heads=1, ff=320, tied=True, head_dim=64),
    "moe": dict(layers=4, hidden=512, heads=8, kv_heads=4, ff=1536, tied=False, experts=32, used=8, expert_ff=256),
    "moe8": dict(layers=4, hidden=256, heads=4, kv_heads=2, ff=768, tied=True, experts=8, used=2, expert_ff=256),
    # Nearly all of it experts of which a token uses a sixteenth: for running from the disk.
    "moe64": dict(layers=12, hidden=512, heads=8, kv_heads=4, ff=1536, tied=True, experts=64, used=4, expert_ff=512),
    "30b-a3b": dict(layers=48, hidden=2048, heads=32, kv_heads=4, ff=6144, tied=False, experts=128, used=8, expert_ff=768),
}


def config(s):
    moe = "experts" in s
    c = dict(
        architectures=["Qwen3MoeForCausalLM" if moe else "Qwen3ForCausalLM"],
        attention_bias=False,
        attention_dropout=0.0,
        bos_token_id=151643,
        eos_token_id=151645,
        head_dim=s.get("head_dim", HEAD_DIM),
        hidden_act="silu",
        hidden_size=s["hidden"],
        initializer_range=0.02,
        intermediate_size=s["ff"],
        max_position_embeddings=40960,
        max_window_layers=s["layers"],
        model_type="qwen3_moe" if moe else "qwen3",
        num_attention_heads=s["heads"],
        num_hidden_layers=s["layers"],
        num_key_value_heads=s["kv_heads"],
        rms_norm_eps=1e-06,
        rope_scaling=None,
        rope_theta=1000000,
        sliding_window=None,
        tie_word_embeddings=s["tied"],
        torch_dtype="bfloat16",
        transformers_version="4.51.0",
        use_cache=True,
        use_sliding_window=False,
        vocab_size=VOCAB,
    )
    if moe:
        c.update(
            decoder_sparse_step=1,
            mlp_only_layers=[],
            moe_intermediate_size=s["expert_ff"],
            norm_topk_prob=True,
            num_experts=s["experts"],
            num_experts_per_tok=s["used"],
            output_router_logits=False,
            router_aux_loss_coef=0.001,
        )
    return c


def tensors(s):
    """(name, shape, mean, standard deviation) in file order."""
    h, hd = s["hidden"], s.get("head_dim", HEAD_DIM)
    # Each layer should move the residual stream by about as much whatever the width is: deviation 1/sqrt(inputs).
    dev = lambda inputs: inputs**-0.5
    # Attention weighs less than the MLP: an average over all positions, 28 times over, would make every position the same,
    # and the text one word repeated. Sharper attention would help too, but it blows up the rounding of 16-bit activations.
    quiet = 0.3
    out = [("model.embed_tokens.weight", (VOCAB, h), 0, 0.02)]
    for i in range(s["layers"]):
        p = f"model.layers.{i}."
        out += [
            (p + "input_layernorm.weight", (h,), 1, 0.1),
            (p + "self_attn.q_proj.weight", (s["heads"] * hd, h), 0, dev(h)),
            (p + "self_attn.k_proj.weight", (s["kv_heads"] * hd, h), 0, dev(h)),
            (p + "self_attn.v_proj.weight", (s["kv_heads"] * hd, h), 0, dev(h)),
            (p + "self_attn.o_proj.weight", (h, s["heads"] * hd), 0, quiet * dev(s["heads"] * hd)),
            (p + "self_attn.q_norm.weight", (hd,), 1, 0.1),
            (p + "self_attn.k_norm.weight", (hd,), 1, 0.1),
            (p + "post_attention_layernorm.weight", (h,), 1, 0.1),
        ]
        if "experts" in s:
            # A sharp router: where two experts nearly tie for the last place, their share is a thousandth of the first one's,
            # and a choice that differs between two programs hardly moves the result. With a flat one it moved it by half.
            out.append((p + "mlp.gate.weight", (s["experts"], h), 0, 5 * dev(h)))
            for e in range(s["experts"]):
                q = f"{p}mlp.experts.{e}."
                out += [
                    (q + "gate_proj.weight", (s["expert_ff"], h), 0, dev(h)),
                    (q + "up_proj.weight", (s["expert_ff"], h), 0, dev(h)),
                    (q + "down_proj.weight", (h, s["expert_ff"]), 0, dev(s["expert_ff"])),
                ]
        else:
            out += [
                (p + "mlp.gate_proj.weight", (s["ff"], h), 0, dev(h)),
                (p + "mlp.up_proj.weight", (s["ff"], h), 0, dev(h)),
                (p + "mlp.down_proj.weight", (h, s["ff"]), 0, dev(s["ff"])),
            ]
    out.append(("model.norm.weight", (h,), 1, 0.1))
    if not s["tied"]:
        out.append(("lm_head.weight", (VOCAB, h), 0, 0.02))
    return out


def loud_rows(tokenizer_json):
    """Ids of whole lower-case words with a leading space (U+0120 in byte-level BPE)."""
    vocab = json.loads(tokenizer_json.read_text(encoding="utf-8"))["model"]["vocab"]
    ids = sorted(i for t, i in vocab.items() if re.fullmatch("\u0120[a-z]{4,9}", t))
    return np.array(ids[:LOUD_TOKENS])


def bf16(x):
    """Round to nearest even; no value here is a NaN."""
    u = x.view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype("<u2")


def chunks(shape, mean, dev, rng, loud):
    """The tensor's bytes, whole rows at a time. loud: rows to scale up."""
    rows, width = (1, shape[0]) if len(shape) == 1 else shape
    step = max(1, CHUNK // width)
    for first in range(0, rows, step):
        n = min(step, rows - first)
        x = rng.standard_normal((n, width), dtype=np.float32)
        x = np.float32(mean) + np.float32(dev) * x
        if loud is not None:
            x[loud[(loud >= first) & (loud < first + n)] - first] *= LOUD_FACTOR
        yield bf16(x).tobytes()


def write_shard(path, entries, rng, loud):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, *_ in entries:
        size = 2 * int(np.prod(shape))
        header[name] = dict(dtype="BF16", shape=list(shape), data_offsets=[offset, offset + size])
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape, mean, dev in entries:
            f.writelines(chunks(shape, mean, dev, rng, loud.get(name)))


def split(entries, shards):
    total = sum(int(np.prod(shape)) for _, shape, *_ in entries)
    parts, size = [[]], 0
    for e in entries:
        n = int(np.prod(e[1]))
        if parts[-1] and size + n > total / shards and len(parts) < shards:
            parts.append([])
            size = 0
        parts[-1].append(e)
        size += n
    return parts


def main():
    here = Path(__file__).resolve().parent.parent
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("shape", choices=SHAPES)
    a.add_argument("out", type=Path)
    a.add_argument("--tokenizer", type=Path, default=here / "tests/data/qwen3-tokenizer")
    a.add_argument("--seed", type=int, default=7)
    a.add_argument("--shards", type=int, default=1)
    a = a.parse_args()

    s = SHAPES[a.shape]
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "config.json").write_text(json.dumps(config(s), indent=2) + "\n")
    for f in TOKENIZER_FILES:
        shutil.copyfile(a.tokenizer / f, a.out / f)
    packed = a.tokenizer / "tokenizer.json.gz"
    text = gzip.decompress(packed.read_bytes()) if packed.exists() else (a.tokenizer / "tokenizer.json").read_bytes()
    (a.out / "tokenizer.json").write_bytes(text)

    loud = {"model.embed_tokens.weight" if s["tied"] else "lm_head.weight": loud_rows(a.out / "tokenizer.json")}
    rng = np.random.default_rng(a.seed)
    parts = split(tensors(s), a.shards)
    index = {}
    for i, entries in enumerate(parts, 1):
        name = "model.safetensors" if len(parts) == 1 else f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        write_shard(a.out / name, entries, rng, loud)
        index.update((e[0], name) for e in entries)
    if len(parts) > 1:
        size = sum(2 * int(np.prod(e[1])) for part in parts for e in part)
        text = json.dumps({"metadata": {"total_size": size}, "weight_map": index}, indent=2)
        (a.out / "model.safetensors.index.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
