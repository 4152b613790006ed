#!/usr/bin/env python3
"""Reference outputs of Qwen3 checkpoints, computed with numpy in float64 by a forward pass independent of the runtime.

usage: make_reference.py check CHECKPOINT_DIR REFERENCE.safetensors [ROPE_DTYPE]   compare with outputs that transformers made
       make_reference.py write CHECKPOINT_DIR|SPEC.json REFERENCE.safetensors      write outputs; an existing file's prompts are kept

transformers' model.to(bfloat16) rounds the RoPE frequencies as well, which loading a checkpoint does not: outputs made
that way are wrong by up to 5e-2. `check` with ROPE_DTYPE (bfloat16, float16) repeats the rounding and shows that nothing else differs.

A generated checkpoint is not stored: SPEC.json holds its config.json, dtype and seed, and its weights follow from
`weights()` below, which tests/src/generated.rs repeats bit by bit. Needs numpy.

Arrays, for prompts i = 0…3 of 1, 7, 33 and 150 tokens: p{i}.ids i32 [n]; p{i}.logits f32 [min(n, 16), vocab], the last
positions; p{i}.greedy i32 [32]; p{i}.greedy_margin f32 [32], best minus second logit; p1.hidden.{l} f32 [7, hidden]:
embedding, then after each layer, the last one after the final norm; ppl.ids i32 [500], ppl.nll f32 [499].
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

MASK = (1 << 64) - 1


def read_safetensors(path):
    raw = Path(path).read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8 : 8 + n]).items():
        if name == "__metadata__":
            continue
        a, b = t["data_offsets"]
        out[name] = (t["dtype"], t["shape"], raw[8 + n + a : 8 + n + b])
    return out


def to_f64(dtype, shape, raw):
    if dtype == "BF16":
        a = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    elif dtype == "F8_E4M3":
        a = e4m3_table()[np.frombuffer(raw, "u1")]
    else:
        a = np.frombuffer(raw, {"F16": "<f2", "F32": "<f4", "I32": "<i4"}[dtype])
    return a.astype(np.int64 if dtype == "I32" else np.float64).reshape(shape)


def e4m3_table():
    """OCP 8-bit floating point specification, section 5.1: bias 7, no infinities, S.1111.111 is NaN."""
    b = np.arange(256)
    sign, e, m = np.where(b & 128, -1.0, 1.0), (b >> 3) & 15, b & 7
    v = np.where(e == 0, m / 8 * 2.0**-6, (1 + m / 8) * 2.0 ** (e - 7.0))
    v[(b & 127) == 127] = np.nan
    return sign * v


def write_safetensors(path, arrays):
    header, at, body = {}, 0, []
    for name, a in sorted(arrays.items()):
        a = np.ascontiguousarray(a)
        dtype = {"float32": "F32", "int32": "I32"}[str(a.dtype)]
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
        body.append(a.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(body))


def load_checkpoint(folder):
    """Every tensor as float64; FP8 weights times their 128 x 128 block scales."""
    raw = {}
    for f in sorted(Path(folder).glob("*.safetensors")):
        raw.update(read_safetensors(f))
    w = {}
    for name, t in raw.items():
        if name.endswith("_scale_inv"):
            continue
        a = to_f64(*t)
        if name + "_scale_inv" in raw:
            s = to_f64(*raw[name + "_scale_inv"])
            a = a * np.kron(s, np.ones((128, 128)))[: a.shape[0], : a.shape[1]]
        w[name] = a
    return w


def tensor_shapes(c):
    """Name and shape of every tensor of a checkpoint with config `c`, in the order of generation."""
    h, d, q, kv = c["hidden_size"], c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
    yield "model.embed_tokens.weight", (c["vocab_size"], h)
    for l in range(c["num_hidden_layers"]):
        p = f"model.layers.{l}."
        yield p + "input_layernorm.weight", (h,)
        for n, rows in (("q", q * d), ("k", kv * d), ("v", kv * d)):
            yield p + f"self_attn.{n}_proj.weight", (rows, h)
        yield p + "self_attn.o_proj.weight", (h, q * d)
        yield p + "self_attn.q_norm.weight", (d,)
        yield p + "self_attn.k_norm.weight", (d,)
        yield p + "post_attention_layernorm.weight", (h,)
        if "num_experts" in c:
            yield p + "mlp.gate.weight", (c["num_experts"], h)
            mlps, ff = [f"mlp.experts.{e}." for e in range(c["num_experts"])], c["moe_intermediate_size"]
        else:
            mlps, ff = ["mlp."], c["intermediate_size"]
        for m in mlps:
            yield p + m + "gate_proj.weight", (ff, h)
            yield p + m + "up_proj.weight", (ff, h)
            yield p + m + "down_proj.weight", (h, ff)
    yield "model.norm.weight", (h,)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (c["vocab_size"], h)


def splitmix64(x):
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def fnv1a(text):
    h = 0xCBF29CE484222325
    for b in text.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def weights(spec):
    """Float32 weights from the seed: the four 16-bit lanes of a hash, summed and centred, are nearly normal; every step is
    exact or one float32 rounding, so that two languages agree on each bit. Then rounded to the checkpoint's dtype."""
    with np.errstate(over="ignore"):
        for name, shape in tensor_shapes(spec["config"]):
            key = np.uint64(fnv1a(name) ^ spec["seed"])
            bits = splitmix64(key + np.arange(np.prod(shape), dtype=np.uint64))
            lanes = sum(((bits >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.int64) for i in range(4)) - 131070
            if len(shape) == 1:
                std, offset = 0.15, 1.0
            elif "embed" in name:
                std, offset = 0.5, 0.0
            elif "lm_head" in name:
                std, offset = 0.12, 0.0
            else:
                std, offset = 1.3 / shape[-1] ** 0.5, 0.0
            scale = np.float32(std / 37837.2)  # sqrt(4 * (65536^2 - 1) / 12)
            a = (lanes.astype(np.float32) * scale + np.float32(offset)).reshape(shape)
            yield name, round_to(a, spec["dtype"]).astype(np.float64)


def round_to(a, dtype):
    if dtype == "float32":
        return a
    if dtype == "float16":
        return a.astype(np.float16).astype(np.float32)
    u = a.view(np.uint32).astype(np.uint64)
    u = (u + 0x7FFF + ((u >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return (u.astype(np.uint32) << 16).view(np.float32)


def rms_norm(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def rope(x, theta, dtype=None):
    """x [n, heads, d]; NeoX pairing: element i turns with element i + d/2 by position * theta^(-2i/d)."""
    n, _, d = x.shape
    freq = theta ** (-np.arange(0, d, 2) / d)
    if dtype:
        freq = round_to(freq.astype(np.float32), dtype).astype(np.float64)
    angle = np.arange(n)[:, None, None] * freq
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)


def moe(x, w, p, c):
    """Softmax over all experts, then the best k, renormalized only if norm_topk_prob says so."""
    probs = softmax(x @ w[p + "mlp.gate.weight"].T)  # [n, experts]
    best = np.argsort(-probs, -1, kind="stable")[:, : c["num_experts_per_tok"]]
    out = np.zeros_like(x)
    for t in range(len(x)):
        share = probs[t, best[t]]
        if c.get("norm_topk_prob"):
            share = share / share.sum()
        for s, e in zip(share, best[t]):
            out[t] += s * mlp(x[t], w, f"{p}mlp.experts.{e}.")
    return out


def mlp(x, w, p):
    gate, up = x @ w[p + "gate_proj.weight"].T, x @ w[p + "up_proj.weight"].T
    return (silu(gate) * up) @ w[p + "down_proj.weight"].T


def forward(w, c, ids):
    """Logits [n, vocab] and the hidden states [n, hidden] as transformers lists them."""
    q, kv, d, eps = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"], c["rms_norm_eps"]
    theta = c.get("rope_theta") or c["rope_parameters"]["rope_theta"]
    turn = lambda x: rope(x, theta, c.get("rope_dtype"))
    n = len(ids)
    x = w["model.embed_tokens.weight"][ids]  # [n, hidden]
    hidden, causal = [x], np.where(np.tri(n) > 0, 0.0, -np.inf)
    for l in range(c["num_hidden_layers"]):
        p = f"model.layers.{l}."
        h = rms_norm(x, w[p + "input_layernorm.weight"], eps)
        heads = lambda name, k: (h @ w[p + f"self_attn.{name}_proj.weight"].T).reshape(n, k, d)
        qs = turn(rms_norm(heads("q", q), w[p + "self_attn.q_norm.weight"], eps))  # [n, q, d]
        ks = turn(rms_norm(heads("k", kv), w[p + "self_attn.k_norm.weight"], eps))  # [n, kv, d]
        ks, vs = np.repeat(ks, q // kv, 1), np.repeat(heads("v", kv), q // kv, 1)
        att = softmax(np.einsum("nhd,mhd->hnm", qs, ks) / d**0.5 + causal)  # [q, n, n]
        x = x + np.einsum("hnm,mhd->nhd", att, vs).reshape(n, q * d) @ w[p + "self_attn.o_proj.weight"].T
        h = rms_norm(x, w[p + "post_attention_layernorm.weight"], eps)
        x = x + (moe(h, w, p, c) if p + "mlp.gate.weight" in w else mlp(h, w, p + "mlp."))
        hidden.append(x)
    x = rms_norm(x, w["model.norm.weight"], eps)
    hidden[-1] = x
    head = w["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
    return x @ head.T, hidden


def outputs(w, c, prompts, ppl_ids):
    out = {}
    for i, ids in enumerate(prompts):
        logits, hidden = forward(w, c, ids)
        out[f"p{i}.ids"] = np.array(ids, np.int32)
        out[f"p{i}.logits"] = logits[-16:].astype(np.float32)
        if i == 1:
            for l, h in enumerate(hidden):
                out[f"p1.hidden.{l}"] = h.astype(np.float32)
        seq, greedy, margin = list(ids), [], []
        for _ in range(32):
            last = forward(w, c, seq)[0][-1]
            second, best = np.sort(last)[-2:]
            greedy.append(int(last.argmax()))
            margin.append(best - second)
            seq.append(greedy[-1])
        out[f"p{i}.greedy"], out[f"p{i}.greedy_margin"] = np.array(greedy, np.int32), np.array(margin, np.float32)
    logits = forward(w, c, ppl_ids)[0][:-1]
    logp = logits - logits.max(-1, keepdims=True)
    logp = logp - np.log(np.exp(logp).sum(-1, keepdims=True))
    out["ppl.ids"] = np.array(ppl_ids, np.int32)
    out["ppl.nll"] = -logp[np.arange(len(ppl_ids) - 1), ppl_ids[1:]].astype(np.float32)
    return out


def read_config(folder):
    return json.loads((Path(folder) / "config.json").read_text())


def check(folder, reference, rope_dtype=None):
    c = read_config(folder) | {"rope_dtype": rope_dtype}
    ref = {n: to_f64(*t) for n, t in read_safetensors(reference).items()}
    ours = outputs(load_checkpoint(folder), c, [ref[f"p{i}.ids"] for i in range(4)], ref["ppl.ids"])
    worst = 0.0
    for name, a in sorted(ref.items()):
        scale = a.std() if name.endswith("logits") and a.std() > 0 else np.abs(a).max()
        if name.endswith("greedy"):
            sure = np.minimum.accumulate(ref[name + "_margin"] >= 1e-3).astype(bool)
            assert (ours[name][sure] == a[sure]).all(), name
        elif not name.endswith(("ids", "margin")):
            worst = max(worst, np.abs(ours[name] - a).max() / scale)
    print(f"{folder}: largest relative difference {worst:.1e}")
    return worst < 1e-4


def write(source, reference):
    if source.endswith(".json"):
        spec = json.loads(Path(source).read_text())
        w, c, seed = dict(weights(spec)), spec["config"], spec["seed"]
    else:
        w, c, seed = load_checkpoint(source), read_config(source), 1
    if Path(reference).exists():
        old = read_safetensors(reference)
        prompts, ppl_ids = [to_f64(*old[f"p{i}.ids"]) for i in range(4)], to_f64(*old["ppl.ids"])
    else:
        rng = np.random.default_rng(seed)
        prompts = [rng.integers(2, c["vocab_size"], n) for n in (1, 7, 33, 150)]
        ppl_ids = rng.integers(2, c["vocab_size"], 500)
    write_safetensors(reference, outputs(w, c, prompts, ppl_ids))


if __name__ == "__main__":
    command, *args = sys.argv[1:]
    if command == "check":
        sys.exit(0 if check(*args) else 1)
    write(*args)
