#!/usr/bin/env python3
"""Writes tests/fixtures/models: a small made-up BERT and the vectors that it should give.

The expected vectors are computed here in float64 from the formulas of Devlin et al. 2018, with numpy
only and independently of akin: own WordPiece, padded attention matrix per text, no packing.

Usage: make_golden.py [FOLDER]     (default: ../fixtures/models beside this script)
"""
import json
import math
import pathlib
import struct
import sys

import numpy as np

SEED = 20260101
HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS, TYPES = 32, 2, 4, 64, 48, 2
EPSILON = 1e-12
WORDS = """a the of and in to film movie story toy dark space war love city night day man woman child king
queen star ship sea river fire ice red blue green old new long short lost last first great small world
life death dream time house street school music dance song friend enemy police thief detective ghost
robot alien monster hero journey island mountain desert forest winter summer comedy drama thriller
horror action adventure animation family crime mystery fantasy western musical about with from for is
are not two three one""".split()
SUFFIXES = "##s ##ed ##ing ##er ##ly ##y ##ness".split()
PUNCTUATION = list(".,:;!?()'\"-/&")
TEXTS = [
    "toy story (1995)", "a dark film about space and war", "the last dream of a lost king", "love",
    "", "robots and aliens, monsters; ghosts!", "zzz qqq unknownwords here",
    "the first journey from the island to the mountain in winter and the last in summer with a friend",
    "comedy / drama & crime: two thieves, one detective.",
    "night night night night", "new-york 2049 is not a city", "a",
    " ".join(WORDS[:60]),               # longer than the model takes: cut
]


def vocabulary():
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    letters.remove("a")                 # among the words
    digits = list("0123456789")
    return (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + PUNCTUATION + digits +
            ["##" + d for d in digits] + letters + ["##" + c for c in letters + ["a"] if c not in "ysqz"] +
            WORDS + SUFFIXES)


def tokenize(text, ids, tokens_max):
    """WordPiece for the ASCII texts above."""
    words, word = [], ""
    for c in text.lower() + " ":
        if c.isalnum():
            word += c
            continue
        if word:
            words.append(word)
        word = ""
        if c != " ":
            words.append(c)
    out = []
    for word in words:
        pieces, at = [], 0
        while at < len(word):
            end = len(word)
            while end > at and ("##" if at else "") + word[at:end] not in ids:
                end -= 1
            if end == at:
                pieces = ["[UNK]"]
                break
            pieces.append(("##" if at else "") + word[at:end])
            at = end
        out += pieces
    out = ["[CLS]"] + out[:tokens_max - 2] + ["[SEP]"]
    return [ids[t] for t in out]


def make_weights(rng, vocabulary_size):
    def matrix(rows, cols, scale):
        return (rng.standard_normal((rows, cols)) * scale).astype(np.float32)

    def vector(count, mean, scale):
        return (mean + rng.standard_normal(count) * scale).astype(np.float32)

    w = {}
    w["embeddings.word_embeddings.weight"] = matrix(vocabulary_size, HIDDEN, 0.5)
    w["embeddings.position_embeddings.weight"] = matrix(POSITIONS, HIDDEN, 0.3)
    w["embeddings.token_type_embeddings.weight"] = matrix(TYPES, HIDDEN, 0.2)

    def norm(name):
        w[name + ".weight"] = vector(HIDDEN, 1.0, 0.2)
        w[name + ".bias"] = vector(HIDDEN, 0.0, 0.2)

    def dense(name, rows, cols):
        w[name + ".weight"] = matrix(rows, cols, 2.0 / math.sqrt(cols))
        w[name + ".bias"] = vector(rows, 0.0, 0.1)

    norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        p = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            dense(p + "attention.self." + part, HIDDEN, HIDDEN)
        dense(p + "attention.output.dense", HIDDEN, HIDDEN)
        norm(p + "attention.output.LayerNorm")
        dense(p + "intermediate.dense", INTERMEDIATE, HIDDEN)
        dense(p + "output.dense", HIDDEN, INTERMEDIATE)
        norm(p + "output.LayerNorm")
    return w


def to_bf16(x):
    bits = x.astype("<f4").view("<u4")
    rounded = bits + 0x7fff + ((bits >> 16) & 1)
    return (rounded >> 16).astype("<u2")


def from_bf16(h):
    return (h.astype("<u4") << 16).view("<f4")


def write_safetensors(path, tensors, dtype):
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    items = list(tensors.items())
    # as PyTorch checkpoints do: an integer buffer that no weight is
    items.insert(0, ("embeddings.position_ids", np.arange(POSITIONS, dtype="<i8")[None]))
    for name, x in items:
        kind = "I64" if x.dtype == np.int64 else dtype
        data = x if kind == "I64" else {"F32": lambda: x.astype("<f4"), "F16": lambda: x.astype("<f2"),
                                        "BF16": lambda: to_bf16(x)}[dtype]()
        blob = data.tobytes()
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def layer_norm(x, w, name):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + EPSILON) * w[name + ".weight"] + w[name + ".bias"]


def encode(w, ids, position_first):
    """[tokens][hidden] in float64."""
    def dense(x, name):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    n = len(ids)
    x = (w["embeddings.word_embeddings.weight"][ids] +
         w["embeddings.position_embeddings.weight"][position_first:position_first + n] +
         w["embeddings.token_type_embeddings.weight"][0])
    x = layer_norm(x, w, "embeddings.LayerNorm")
    size = HIDDEN // HEADS
    for i in range(LAYERS):
        p = f"encoder.layer.{i}."
        q, k, v = (dense(x, p + "attention.self." + part).reshape(n, HEADS, size)
                   for part in ("query", "key", "value"))
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(size)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        context = np.einsum("hqk,khd->qhd", scores, v).reshape(n, HIDDEN)
        x = layer_norm(x + dense(context, p + "attention.output.dense"), w,
                       p + "attention.output.LayerNorm")
        wide = dense(x, p + "intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = layer_norm(x + dense(wide, p + "output.dense"), w, p + "output.LayerNorm")
    return x


POOL = {"mean": lambda x: x.mean(0), "cls": lambda x: x[0], "max": lambda x: x.max(0)}


def vectors(w, rows, pooling="mean", normalize=True, position_first=0):
    w = {k: v.astype(np.float64) for k, v in w.items()}
    out = np.array([POOL[pooling](encode(w, ids, position_first)) for ids in rows])
    if normalize:
        out /= np.linalg.norm(out, axis=1, keepdims=True)
    return out.astype("<f4")


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def write_model(folder, vocab, tokens_max):
    write_json(folder / "config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu",
        "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE, "layer_norm_eps": EPSILON, "vocab_size": len(vocab),
        "max_position_embeddings": POSITIONS, "type_vocab_size": TYPES, "pad_token_id": 0,
        "position_embedding_type": "absolute"})
    write_json(folder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}])
    write_json(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": tokens_max, "do_lower_case": False})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer",
                                                  "model_max_length": 10 ** 30})
    write_json(folder / "config_sentence_transformers.json", {
        "prompts": {"query": "film: ", "passage": ""}, "default_prompt_name": None})
    special = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i, t in enumerate(vocab[:5])]
    write_json(folder / "tokenizer.json", {
        "version": "1.0",
        "truncation": {"max_length": 16, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None, "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                     {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [vocab.index(t)], "tokens": [t]}
                               for t in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {t: i for i, t in enumerate(vocab)}}})


def main():
    here = pathlib.Path(__file__).resolve().parent
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "fixtures" / "models"
    model, expected = root / "tiny-bert", root / "tiny-bert-expected"
    model.mkdir(parents=True, exist_ok=True)
    expected.mkdir(parents=True, exist_ok=True)
    vocab = vocabulary()
    assert len(set(vocab)) == len(vocab)
    ids = {t: i for i, t in enumerate(vocab)}
    tokens_max = 40
    write_model(model, vocab, tokens_max)
    w = make_weights(np.random.default_rng(SEED), len(vocab))
    write_safetensors(model / "model.safetensors", w, "F32")
    write_safetensors(expected / "f16.safetensors", w, "F16")
    write_safetensors(expected / "bf16.safetensors", w, "BF16")
    rows = [tokenize(t, ids, tokens_max) for t in TEXTS]
    (expected / "texts.jsonl").write_text(
        "".join(json.dumps({"text": t, "ids": r}) + "\n" for t, r in zip(TEXTS, rows)))
    half = {k: v.astype("<f2").astype(np.float32) for k, v in w.items()}
    brain = {k: from_bf16(to_bf16(v)) for k, v in w.items()}
    prompted = [tokenize("film: " + t, ids, tokens_max) for t in TEXTS]
    for name, value in {
            "mean": vectors(w, rows), "cls": vectors(w, rows, "cls"), "max": vectors(w, rows, "max"),
            "raw": vectors(w, rows, normalize=False),
            "xlmr": vectors(w, rows, position_first=2),     # pad_token_id 1: positions start at 2
            "f16": vectors(half, rows), "bf16": vectors(brain, rows),
            "prompted": vectors(w, prompted)}.items():
        np.save(expected / (name + ".npy"), value)


if __name__ == "__main__":
    main()
