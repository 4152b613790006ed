#!/usr/bin/env python3
"""Small matrices in every quantized form that qwren-convert reads, packed from scratch by the forms' definitions, with the
values that they stand for.

usage: make_quantized.py tests/data/quantized

Writes cases.json, a list of {name, head_dim, config: the quantization_config}, and cases.safetensors, which holds for each
case the tensors "NAME/MODULE.SUFFIX" as a checkpoint has them and "NAME/MODULE" float32 [rows, cols], what they decode to.
Matrices are weights of y = W x, W [out, in]. Random integers, scales and zero points are drawn and packed; nothing is
quantized. Needs numpy.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

rng = np.random.default_rng(20261125)
ATTENTION = "model.layers.0.self_attn."


def write_safetensors(path, tensors):
    header, at, body = {}, 0, []
    names = {"float32": "F32", "float16": "F16", "int32": "I32", "int64": "I64", "int8": "I8", "uint8": "F8_E4M3"}
    for name, a in tensors.items():
        a = np.ascontiguousarray(a) if np.ndim(a) else a
        header[name] = {"dtype": names[str(a.dtype)], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
        body.append(a.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(body))


def pack(q, bits, axis):
    """Consecutive integers along `axis` into little-endian 32-bit words, the first one in the lowest bits."""
    q = np.moveaxis(q.astype(np.uint32), axis, -1)
    per = 32 // bits
    q = np.pad(q, [(0, 0)] * (q.ndim - 1) + [(0, -q.shape[-1] % per)])
    q = q.reshape(*q.shape[:-1], -1, per)
    words = np.zeros(q.shape[:-1], np.uint32)
    for i in range(per):
        words |= q[..., i] << np.uint32(bits * i)
    return np.moveaxis(words, -1, axis).view(np.int32)


def scales(shape, dtype):
    return (rng.uniform(0.5, 2.0, shape) * 0.01).astype(dtype)


def gptq(out, cols, bits=4, group=16, act_order=False, symmetric=True, v2=False, index=True):
    """qweight [in·bits/32, out], qzeros [groups, out·bits/32], scales [groups, out], g_idx [in]. The older form's zero
    points are the packed words less a word of ones."""
    group = cols if group == -1 else group
    groups = -(-cols // group)
    q = rng.integers(0, 1 << bits, (cols, out))
    z = np.full((groups, out), 1 << (bits - 1)) if symmetric else rng.integers(0, 1 << bits, (groups, out))
    s = scales((groups, out), np.float16)
    g = np.arange(cols) // group
    if act_order:
        g = rng.permutation(g)
    stored = pack(z, bits, 1).view(np.uint32)
    if not v2:
        stored = stored - np.uint32(sum(1 << i for i in range(0, 32, bits)))
    tensors = {".qweight": pack(q, bits, 0), ".qzeros": stored.view(np.int32), ".scales": s}
    if index:
        tensors[".g_idx"] = g.astype(np.int32)
    return tensors, ((q - z[g]).astype(np.float32) * s[g].astype(np.float32)).T


def awq(out, cols, group=16):
    """qweight [in, out/8], qzeros [groups, out/8], scales [groups, out]: eight outputs in a word, in this order."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    group = cols if group == -1 else group
    g = np.arange(cols) // group
    q, z = rng.integers(0, 16, (cols, out)), rng.integers(0, 16, (g[-1] + 1, out))
    s = scales(z.shape, np.float16)
    interleave = lambda a: a.reshape(len(a), -1, 8)[:, :, order].reshape(a.shape)
    tensors = {".qweight": pack(interleave(q), 4, 1), ".qzeros": pack(interleave(z), 4, 1), ".scales": s}
    return tensors, ((q - z[g]).astype(np.float32) * s[g].astype(np.float32)).T


def packed(out, cols, bits=4, group=None, symmetric=True, act_order=False, plain_zeros=False):
    """weight_packed [out, in·bits/32], weight_scale [out, groups], weight_shape; signed integers are raised by half of
    their range before packing; zero points likewise, packed along the outputs."""
    half = 1 << (bits - 1)
    g = np.arange(cols) // (group or cols)
    if act_order:
        g = rng.permutation(g)
    groups = g.max() + 1
    q = rng.integers(-half, half, (out, cols))
    z = np.zeros((out, groups), int) if symmetric else rng.integers(-half, half, (out, groups))
    s = scales((out, groups), np.float32)
    tensors = {
        ".weight_packed": pack(q + half, bits, 1),
        ".weight_scale": s,
        ".weight_shape": np.array([out, cols], np.int64),
    }
    if act_order:
        tensors[".weight_g_idx"] = g.astype(np.int32)
    if not symmetric:
        tensors[".weight_zero_point"] = z.astype(np.int8) if plain_zeros else pack(z + half, bits, 0)
    return tensors, (q - z[:, g]).astype(np.float32) * s[:, g]


def e4m3(shape):
    """Random finite FP8 bytes and their values: OCP 8-bit floating point specification, section 5.1."""
    b = rng.integers(0, 256, shape).astype(np.uint8)
    b[(b & 127) == 127] = 0
    e, m = (b >> 3) & 15, (b & 7).astype(np.float64)
    value = np.where(e == 0, m / 8 * 2.0**-6, (1 + m / 8) * 2.0 ** (e - 7.0)) * np.where(b & 128, -1, 1)
    return b, value.astype(np.float32)


def scaled(out, cols, block, suffix="_scale", shape=None, int8=False, symmetric=True, dtype=np.float32):
    """weight [out, in] of FP8 or int8 and a scale for each block; `shape` is how the scales are stored."""
    if int8:
        stored = rng.integers(-128, 128, (out, cols)).astype(np.int8)
        value = stored.astype(np.float32)
    else:
        stored, value = e4m3((out, cols))
    blocks = (-(-out // block[0]), -(-cols // block[1]))
    spread = lambda a: np.kron(a, np.ones(block, a.dtype))[:out, :cols]
    s = scales(blocks, dtype)
    tensors = {".weight": stored, ".weight" + suffix: s.reshape(shape if shape is not None else blocks)}
    if not symmetric:
        z = rng.integers(-128, 128, blocks).astype(np.int8)
        tensors[".weight_zero_point"] = z.reshape(tensors[".weight" + suffix].shape)
        value = value - spread(z.astype(np.float32))
    return tensors, value * spread(s.astype(np.float32))


def gptq_config(bits=4, group=16, **more):
    return {"quant_method": "gptq", "bits": bits, "group_size": group, **more}


def awq_config(group=16):
    return {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}


def ct_config(form, bits, strategy, group=None, kind="int", symmetric=True, **more):
    weights = {"num_bits": bits, "type": kind, "strategy": strategy, "group_size": group, "symmetric": symmetric, **more}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": groups, "ignore": ["lm_head"]}


PACK, FLOAT, INT, NAIVE = "pack-quantized", "float-quantized", "int-quantized", "naive-quantized"

# Name, head_dim, config, form. The matrices are q_proj [3·head_dim, 48] and o_proj [48, 3·head_dim]: with head_dim 8 whole
# words in both directions but ragged groups, with head_dim 10 ragged words too, which only compressed-tensors allows.
CASES = [
    ("gptq4", 8, gptq_config(), lambda r, c: gptq(r, c)),
    ("gptq4-no-index", 8, gptq_config(), lambda r, c: gptq(r, c, index=False)),
    ("gptq4-act-order", 8, gptq_config(desc_act=True, sym=False), lambda r, c: gptq(r, c, act_order=True, symmetric=False)),
    ("gptq4-v2", 8, gptq_config(checkpoint_format="gptq_v2"), lambda r, c: gptq(r, c, symmetric=False, v2=True)),
    ("gptq4-one-group", 8, gptq_config(group=-1), lambda r, c: gptq(r, c, group=-1, symmetric=False)),
    ("gptq8", 8, gptq_config(8, checkpoint_format="gptq"), lambda r, c: gptq(r, c, bits=8)),
    ("gptq8-act-order", 8, gptq_config(8), lambda r, c: gptq(r, c, bits=8, act_order=True, symmetric=False)),
    ("awq", 8, awq_config(), lambda r, c: awq(r, c)),
    ("awq-one-group", 8, awq_config(-1), lambda r, c: awq(r, c, group=-1)),
    ("pack4-group", 10, ct_config(PACK, 4, "group", 16), lambda r, c: packed(r, c, group=16)),
    (
        "pack4-group-asymmetric",
        10,
        ct_config(PACK, 4, "group", 16, symmetric=False),
        lambda r, c: packed(r, c, group=16, symmetric=False),
    ),
    (
        "pack4-plain-zeros",
        10,
        ct_config(PACK, 4, "group", 16, symmetric=False),
        lambda r, c: packed(r, c, group=16, symmetric=False, plain_zeros=True),
    ),
    (
        "pack4-act-order",
        10,
        ct_config(PACK, 4, "group", 16, actorder="group"),
        lambda r, c: packed(r, c, group=16, act_order=True),
    ),
    ("pack8-channel", 10, ct_config(PACK, 8, "channel"), lambda r, c: packed(r, c, bits=8)),
    (
        "pack8-channel-asymmetric",
        10,
        ct_config(PACK, 8, "channel", symmetric=False),
        lambda r, c: packed(r, c, bits=8, symmetric=False),
    ),
    ("float-tensor", 10, ct_config(FLOAT, 8, "tensor", kind="float"), lambda r, c: scaled(r, c, (r, c), shape=(1,))),
    ("float-channel", 10, ct_config(FLOAT, 8, "channel", kind="float"), lambda r, c: scaled(r, c, (1, c))),
    (
        "float-block",
        10,
        ct_config(FLOAT, 8, "block", kind="float", block_structure=[16, 32]),
        lambda r, c: scaled(r, c, (16, 32)),
    ),
    ("naive-float", 10, ct_config(NAIVE, 8, "tensor", kind="float"), lambda r, c: scaled(r, c, (r, c), shape=())),
    ("int8-channel", 10, ct_config(INT, 8, "channel"), lambda r, c: scaled(r, c, (1, c), int8=True)),
    (
        "int8-group-asymmetric",
        10,
        ct_config(INT, 8, "group", 16, symmetric=False),
        lambda r, c: scaled(r, c, (1, 16), int8=True, symmetric=False),
    ),
    (
        "fp8-block",
        10,
        {"quant_method": "fp8", "weight_block_size": [16, 32]},
        lambda r, c: scaled(r, c, (16, 32), suffix="_scale_inv"),
    ),
    ("fp8-tensor", 10, {"quant_method": "fp8", "activation_scheme": "static"}, lambda r, c: scaled(r, c, (r, c), shape=())),
    ("fbgemm-fp8", 10, {"quant_method": "fbgemm_fp8"}, lambda r, c: scaled(r, c, (1, c))),
    (
        "auto-round",
        8,
        {"quant_method": "auto-round", "bits": 4, "group_size": 16, "data_type": "int", "packing_format": "auto_round"},
        lambda r, c: gptq(r, c, symmetric=False, v2=True, index=False),
    ),
    ("modelopt-fp8", 10, {"quant_method": "modelopt", "quant_algo": "FP8"}, lambda r, c: scaled(r, c, (r, c), shape=())),
]


def main(folder):
    cases, tensors = [], {}
    for name, head_dim, config, form in CASES:
        cases.append({"name": name, "head_dim": head_dim, "config": config})
        for module, (rows, cols) in (("q_proj", (3 * head_dim, 48)), ("o_proj", (48, 3 * head_dim))):
            stored, values = form(rows, cols)
            tensors[f"{name}/{ATTENTION}{module}"] = np.ascontiguousarray(values, np.float32)
            for suffix, a in stored.items():
                tensors[f"{name}/{ATTENTION}{module}{suffix}"] = a
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    write_safetensors(folder / "cases.safetensors", tensors)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
