#!/usr/bin/env python3
"""Trains the bundled demo checkpoint: a Qwen3-architecture model of 2.7 M parameters in Hugging Face layout.

    python3 -m pip install jax==0.10.2 numpy==2.4.6 tokenizers==0.23.3 jinja2==3.1.6 countryinfo==1.0.1
    python3 scripts/train_demo.py [--out tests/data/demo] [--minutes 30] [--seed 0]

Writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json, model.safetensors (bf16) and
questions.jsonl (held-out questions: no training chat contains any of them), then scores the checkpoint on the
latter, greedily, with thinking off and on. --resume 1 goes on with an existing checkpoint, --eval only scores it.

The learning rate follows the clock, so that a run ends well in the minutes it is given whatever the machine;
--steps N makes the run a function of the seed alone. The text comes from demo_data.py.
"""
import argparse
import json
import math
import random
import re
import struct
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jinja2
import ml_dtypes
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import demo_data

ROOT = Path(__file__).resolve().parent.parent

# hidden and intermediate sizes are multiples of 256, the block of the K quantizations
VOCAB, HIDDEN, FF, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 1280, 256, 512, 4, 4, 2, 64
EPS, THETA = 1e-6, 1e6
BATCH, SEQ = 8, 256  # tokens in one step: 8 rows of 256


# ---- tokenizer and chat template ----------------------------------------------------------------------------------

# Qwen3's pipeline: NFC, its split pattern (every digit on its own), byte-level BPE, its special tokens in its order
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
    <|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>
    <tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>
    <tool_response> </tool_response> <think> </think>""".split()
NOT_SPECIAL = {"<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"} | {
    t for t in SPECIAL if "fim_" in t or t in ("<|repo_name|>", "<|file_sep|>")}  # added, but decoded as text


def train_tokenizer(texts):
    tok = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCAB - len(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tok.add_tokens([AddedToken(t, normalized=False, special=t not in NOT_SPECIAL) for t in SPECIAL])
    assert tok.get_vocab_size() == VOCAB
    as_json = json.loads(tok.to_str())
    as_json["decoder"] = as_json["post_processor"]  # decoders.ByteLevel takes no options; Qwen3 writes these
    return Tokenizer.from_str(json.dumps(as_json))


def chat_template(path):
    """Qwen3's own template, from a tokenizer_config.json that carries it."""
    source = json.loads(Path(path).read_text())["chat_template"]
    return source, jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)


# ---- training rows ------------------------------------------------------------------------------------------------

def loss_weights(ids, tok, thinking):
    """1 for the tokens that the model has to produce in a chat, 0 for those it is given."""
    header = tok.encode("<|im_start|>assistant\n").ids
    end = tok.token_to_id("<|im_end|>")
    starts = [i + len(header) for i in range(len(ids)) if ids[i:i + len(header)] == header]
    weights = np.zeros(len(ids), np.float32)
    for start in starts:
        stop = ids.index(end, start) + 1
        if start != starts[-1]:
            start += 1  # earlier turns have lost their <think>, which must still come first when thinking
        elif not thinking:
            start += len(tok.encode("<think>\n\n</think>\n\n").ids)  # part of the prompt
        weights[start:stop] = 1
    return weights


def documents(chats, tok, template):
    """Endless (ids, weights); about one document in ten is plain prose."""
    eot = tok.token_to_id("<|endoftext|>")
    while True:
        if chats.rng.random() < 0.1:
            ids = tok.encode(chats.prose()).ids + [eot]
            yield ids[:SEQ], np.full(len(ids[:SEQ]), 0.3, np.float32)
        else:
            messages, thinking = chats.chat()
            ids = tok.encode(template.render(messages=messages)).ids
            if len(ids) <= SEQ:
                yield ids, loss_weights(ids, tok, thinking)


def batches(docs):
    """Packs documents first-fit into rows: ids, segment (documents do not see each other), weights, [BATCH, SEQ]."""
    open_rows = [[] for _ in range(BATCH)]
    while True:
        ids, weights = next(docs)
        row = next((r for r in open_rows if sum(len(i) for i, _ in r) + len(ids) <= SEQ), None)
        if row is not None:
            row.append((ids, weights))
            continue
        out = np.zeros((BATCH, SEQ), np.int32), np.zeros((BATCH, SEQ), np.int32), np.zeros((BATCH, SEQ), np.float32)
        for b, packed in enumerate(open_rows):
            at = 0
            for segment, (i, w) in enumerate(packed, 1):
                for array, values in zip(out, (i, segment, w)):
                    array[b, at:at + len(i)] = values
                out[2][b, at] = 0  # nothing predicts the first token of a document
                at += len(i)
        yield out
        open_rows = [[] for _ in range(BATCH)]
        open_rows[0].append((ids, weights))


# ---- model --------------------------------------------------------------------------------------------------------

def init(rng):
    """Weights as the checkpoint names and lays them out: a projection is [out, in]."""
    def normal(*shape):
        return jnp.asarray(rng.normal(0, 0.02, shape), jnp.float32)
    w = {"model.embed_tokens.weight": normal(VOCAB, HIDDEN), "model.norm.weight": jnp.ones(HIDDEN)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"] = jnp.ones(HIDDEN)
        w[p + "self_attn.q_proj.weight"] = normal(HEADS * HEAD_DIM, HIDDEN)
        w[p + "self_attn.k_proj.weight"] = normal(KV_HEADS * HEAD_DIM, HIDDEN)
        w[p + "self_attn.v_proj.weight"] = normal(KV_HEADS * HEAD_DIM, HIDDEN)
        w[p + "self_attn.o_proj.weight"] = normal(HIDDEN, HEADS * HEAD_DIM)
        w[p + "self_attn.q_norm.weight"] = jnp.ones(HEAD_DIM)
        w[p + "self_attn.k_norm.weight"] = jnp.ones(HEAD_DIM)
        w[p + "post_attention_layernorm.weight"] = jnp.ones(HIDDEN)
        w[p + "mlp.gate_proj.weight"] = normal(FF, HIDDEN)
        w[p + "mlp.up_proj.weight"] = normal(FF, HIDDEN)
        w[p + "mlp.down_proj.weight"] = normal(HIDDEN, FF)
    return w


def rms_norm(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * weight


def rope(x, positions):
    """x: [batch, time, heads, HEAD_DIM]; positions: [batch, time]. Dimension i is paired with i + HEAD_DIM/2."""
    freqs = THETA ** (-np.arange(0, HEAD_DIM, 2, dtype=np.float32) / HEAD_DIM)
    angles = positions[..., None, None] * freqs
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def forward(w, ids, positions, mask, cache=None, at=0):
    """ids, positions: [B, T]; mask: [B, T, S], true where a query may look. Returns logits [B, T, VOCAB] and the cache.
    Without a cache S is T; with one, keys and values are written at `at`, and S is its length."""
    x = w["model.embed_tokens.weight"][ids]  # [B, T, HIDDEN]
    batch, time_ = ids.shape
    new_cache = []
    for i in range(LAYERS):
        p = f"model.layers.{i}."

        def linear(x, name):
            return x @ w[f"{p}{name}.weight"].T

        h = rms_norm(x, w[p + "input_layernorm.weight"])
        q = linear(h, "self_attn.q_proj").reshape(batch, time_, HEADS, HEAD_DIM)
        k = linear(h, "self_attn.k_proj").reshape(batch, time_, KV_HEADS, HEAD_DIM)
        v = linear(h, "self_attn.v_proj").reshape(batch, time_, KV_HEADS, HEAD_DIM)
        q = rope(rms_norm(q, w[p + "self_attn.q_norm.weight"]), positions)
        k = rope(rms_norm(k, w[p + "self_attn.k_norm.weight"]), positions)
        if cache is not None:
            k = jax.lax.dynamic_update_slice(cache[i][0], k, (0, at, 0, 0))
            v = jax.lax.dynamic_update_slice(cache[i][1], v, (0, at, 0, 0))
        new_cache.append((k, v))
        # query head h reads key/value head h // (HEADS // KV_HEADS)
        q = q.reshape(batch, time_, KV_HEADS, HEADS // KV_HEADS, HEAD_DIM)
        scores = jnp.einsum("btkgd,bskd->bkgts", q, k) / math.sqrt(HEAD_DIM)
        probs = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -1e9), -1)
        h = jnp.einsum("bkgts,bskd->btkgd", probs, v).reshape(batch, time_, HEADS * HEAD_DIM)
        x = x + linear(h, "self_attn.o_proj")

        h = rms_norm(x, w[p + "post_attention_layernorm.weight"])
        x = x + linear(jax.nn.silu(linear(h, "mlp.gate_proj")) * linear(h, "mlp.up_proj"), "mlp.down_proj")
    # the embedding is tied: it is the output matrix, too
    return rms_norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T, new_cache


# ---- training -----------------------------------------------------------------------------------------------------

def loss_fn(w, ids, segments, weights):
    causal = np.tril(np.ones((SEQ, SEQ), bool))
    mask = (segments[:, :, None] == segments[:, None, :]) & causal
    # RoPE sees only distances, so packed documents need no positions of their own
    positions = jnp.broadcast_to(jnp.arange(SEQ), ids.shape)
    logits, _ = forward(w, ids, positions, mask)
    log_probs = jax.nn.log_softmax(logits[:, :-1])
    picked = jnp.take_along_axis(log_probs, ids[:, 1:, None], -1)[..., 0]
    return -(picked * weights[:, 1:]).sum() / weights[:, 1:].sum()


def orthogonalized(g):
    """Newton-Schulz iteration towards U V^T of g = U S V^T, as the Muon optimizer does."""
    wide = g.shape[0] <= g.shape[1]
    x = g if wide else g.T
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if wide else x.T


def is_matrix(name):
    return "proj" in name


@jax.jit
def train_step(w, m, v, step, scale, batch):
    """Muon for the projections, Adam for embedding and norms. `scale` is the learning-rate schedule in 0..1."""
    loss, grads = jax.value_and_grad(loss_fn)(w, *batch)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in grads.values()))
    clip = jnp.minimum(1, 1 / norm)
    new_w, new_m, new_v = {}, {}, {}
    for name, g in grads.items():
        if is_matrix(name):
            new_m[name] = 0.95 * m[name] + g
            update = orthogonalized(g + 0.95 * new_m[name]) * max(1, g.shape[0] / g.shape[1]) ** 0.5
            new_w[name] = w[name] * (1 - 0.02 * 0.05 * scale) - 0.02 * scale * update
            new_v[name] = v[name]
        else:
            g = g * clip
            new_m[name] = 0.9 * m[name] + 0.1 * g
            new_v[name] = 0.98 * v[name] + 0.02 * g * g
            m_hat, v_hat = new_m[name] / (1 - 0.9 ** step), new_v[name] / (1 - 0.98 ** step)
            new_w[name] = w[name] - 3e-3 * scale * m_hat / (jnp.sqrt(v_hat) + 1e-8)
    return new_w, new_m, new_v, loss


def schedule(step, progress):
    """Warm-up over 30 steps, full until 40 % of the run, then linear to (almost) zero."""
    return min(1, step / 30) * min(1, (1 - progress) / 0.6 + 0.01)


def train(w, rows, minutes, steps, peak):
    m = {k: jnp.zeros_like(x) for k, x in w.items()}
    v = {k: jnp.zeros_like(x) for k, x in w.items()}
    start, step, mean = time.time(), 0, None
    while True:
        progress = step / steps if steps else (time.time() - start) / (60 * minutes)
        if progress >= 1:
            return w
        step += 1
        w, m, v, loss = train_step(w, m, v, float(step), float(peak * schedule(step, progress)), next(rows))
        mean = float(loss) if mean is None else 0.95 * mean + 0.05 * float(loss)
        if step % 25 == 0:
            print(f"step {step:5}  {progress:4.0%}  {time.time() - start:6.0f} s  loss {mean:.3f}", flush=True)


# ---- checkpoint ---------------------------------------------------------------------------------------------------

def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_tokenizer(out, tok, template_source):
    tok.save(str(out / "tokenizer.json"), pretty=False)
    added = {str(tok.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                       "single_word": False, "special": t not in NOT_SPECIAL} for t in SPECIAL}
    write_json(out / "tokenizer_config.json", {
        "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
        "additional_special_tokens": [t for t in SPECIAL[1:] if t not in NOT_SPECIAL], "bos_token": None,
        "chat_template": template_source, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
        "errors": "replace", "model_max_length": 2048, "pad_token": "<|endoftext|>", "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None})


def save_model(out, tok, w):
    eot, im_end = tok.token_to_id("<|endoftext|>"), tok.token_to_id("<|im_end|>")
    write_json(out / "config.json", {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": eot,
        "eos_token_id": im_end, "head_dim": HEAD_DIM, "hidden_act": "silu", "hidden_size": HIDDEN,
        "initializer_range": 0.02, "intermediate_size": FF, "max_position_embeddings": 2048,
        "max_window_layers": LAYERS, "model_type": "qwen3", "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "num_key_value_heads": KV_HEADS, "rms_norm_eps": EPS, "rope_scaling": None,
        "rope_theta": int(THETA), "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False, "vocab_size": VOCAB})
    write_json(out / "generation_config.json", {
        "bos_token_id": eot, "do_sample": True, "eos_token_id": [im_end, eot], "pad_token_id": eot,
        "temperature": 0.6, "top_k": 20, "top_p": 0.95, "transformers_version": "4.51.0"})

    # safetensors: header length, JSON header padded to 8 bytes, tensors one after another
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(w):
        blob = np.asarray(w[name]).astype(ml_dtypes.bfloat16).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(w[name].shape), "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (out / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load_model(out):
    data = (out / "model.safetensors").read_bytes()
    base = 8 + struct.unpack("<Q", data[:8])[0]
    w = {}
    for name, t in json.loads(data[8:base]).items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            bf16 = np.frombuffer(data[base + begin:base + end], ml_dtypes.bfloat16)
            w[name] = jnp.asarray(bf16.reshape(t["shape"]), jnp.float32)
    return w


# ---- scoring ------------------------------------------------------------------------------------------------------

def generate(w, tok, prompts, limit):
    """Greedy continuations of several prompts at once: [(text, ended by itself)]."""
    stop = {tok.token_to_id("<|im_end|>"), tok.token_to_id("<|endoftext|>")}
    rows = [tok.encode(p).ids for p in prompts]
    batch, longest = len(rows), max(map(len, rows))
    total = longest + limit
    cache = [(jnp.zeros((batch, total, KV_HEADS, HEAD_DIM)),) * 2 for _ in range(LAYERS)]

    @jax.jit
    def step(cache, ids, at):  # ids: [batch]
        positions = jnp.full((batch, 1), at)
        mask = jnp.broadcast_to(jnp.arange(total) <= at, (batch, 1, total))
        logits, cache = forward(w, ids[:, None], positions, mask, cache, at)
        return jnp.argmax(logits[:, 0], -1), cache

    out, done = [[] for _ in rows], [False] * batch
    for at in range(total - 1):
        ids = np.array([r[at] for r in rows], np.int32)
        best, cache = step(cache, ids, at)
        for i, token in enumerate(np.asarray(best).tolist()):
            if at + 1 < len(rows[i]):
                continue  # still in the prompt
            if not done[i]:
                done[i] = token in stop or len(out[i]) == limit
                if not done[i]:
                    out[i].append(token)
            rows[i].append(token)
        if all(done):
            break
    return [(tok.decode(o, skip_special_tokens=False), len(o) < limit) for o in out]


def is_right(answer, expected):
    """The expected answer is in there as whole words; what was thought does not count."""
    said = answer.split("</think>")[-1].casefold()
    return re.search(rf"(?<!\w){re.escape(expected.casefold())}(?!\w)", said) is not None


def evaluate(out, template, verbose=False):
    w, tok = load_model(out), Tokenizer.from_file(str(out / "tokenizer.json"))
    questions = [json.loads(line) for line in (out / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    for thinking, limit in ((False, 64), (True, 160)):
        prompts = [template.render(messages=[{"role": "user", "content": q["question"]}], add_generation_prompt=True,
                                   enable_thinking=thinking) for q in questions]
        answers = generate(w, tok, prompts, limit)
        kinds, ended, thought = {}, 0, 0
        for q, (text, stopped) in zip(questions, answers):
            good = is_right(text, q["answer"])
            kinds.setdefault(q["kind"], []).append(good)
            ended += stopped
            thought += bool(re.match(r"<think>\n[^\n]+\n</think>\n\n\S", text))
            if verbose or not good:
                print(f"  {'ok   ' if good else 'WRONG'} {q['question']!r} -> {text!r}")
        for kind, goods in kinds.items():
            print(f"  {kind:10} {sum(goods):3} of {len(goods)}")
        n, right = len(questions), sum(map(sum, kinds.values()))
        print(f"thinking {'on' if thinking else 'off'}: {right} of {n} right = {right / n:.1%}, "
              f"{ended / n:.1%} ended by themselves within {limit} tokens, {thought / n:.1%} thought first")
    print(repr("Once upon a time" + generate(w, tok, ["Once upon a time"], 200)[0][0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "tests/data/demo")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--steps", type=int, help="train for this many steps instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--template", type=Path, default=ROOT / "tests/data/demo/tokenizer_config.json",
                        help="a tokenizer_config.json with Qwen3's chat template")
    parser.add_argument("--resume", type=int, default=0, metavar="K",
                        help="go on with the checkpoint in --out, for the K-th time: each K draws other chats")
    parser.add_argument("--eval", action="store_true", help="only score the checkpoint in --out")
    parser.add_argument("--verbose", action="store_true", help="print every answer, not only the wrong ones")
    args = parser.parse_args()
    source, template = chat_template(args.template)

    if not args.eval:
        facts = demo_data.facts()
        questions = demo_data.hold_out(facts, random.Random(args.seed))
        print(f"{len(facts)} facts, {len(questions)} questions held out")
        questions_file = "".join(json.dumps(q, ensure_ascii=False) + "\n" for q in questions)
        if args.resume:
            # what was held out then must be what is held out now
            assert (args.out / "questions.jsonl").read_text(encoding="utf-8") == questions_file
            w, tok = load_model(args.out), Tokenizer.from_file(str(args.out / "tokenizer.json"))
        else:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "questions.jsonl").write_text(questions_file, encoding="utf-8")
            sample = demo_data.Chats(facts, questions, args.seed)
            texts = [template.render(messages=sample.chat()[0]) for _ in range(6000)]
            texts += [sample.prose() for _ in range(600)]
            # the special tokens are cut out, as they are before the BPE at run time
            tok = train_tokenizer(piece for t in texts for piece in re.split(r"<\|\w+\|>|</?think>", t))
            save_tokenizer(args.out, tok, source)
            w = init(np.random.default_rng(args.seed))
        print(f"{sum(x.size for x in w.values()):,} parameters")

        # a resumed run draws other chats, and a rate that high would first undo what was learnt
        chats = demo_data.Chats(facts, questions, args.seed + 1 + args.resume)
        w = train(w, batches(documents(chats, tok, template)), args.minutes, args.steps, 0.5 if args.resume else 1)
        save_model(args.out, tok, w)
    evaluate(args.out, template, args.verbose)


if __name__ == "__main__":
    main()
