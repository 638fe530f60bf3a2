#!/usr/bin/env python3
"""The model and texts of `scripts/gpu-check`, small enough to be carried, and as they are used.

    scripts/gpu_data.py pack MODEL FILE         a model folder as fp16, compressed
    scripts/gpu_data.py unpack FILE FOLDER      the folder again
    scripts/gpu_data.py films MOVIES.csv FILE.jsonl [TIMES]
                                                a text for each film, TIMES times with other words;
                                                "-" instead of the file: films that are made up
    scripts/gpu_data.py events FILE.jsonl COUNT lines as machines write them

fp16 numbers travel as two files of bytes: of the upper ones, which hold sign and exponent, a third
is saved by compressing; the lower ones are noise.
"""
import csv
import io
import json
import lzma
import os
import random
import struct
import sys
import tarfile

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
         "vocab.txt", "modules.json", "sentence_bert_config.json",
         "config_sentence_transformers.json", "1_Pooling/config.json")
NUMBERS_TOGETHER = 1 << 16


def to_halves(data):
    """float32 as fp16, to the nearest; no other package is asked for."""
    out = []
    for at in range(0, len(data), 4 * NUMBERS_TOGETHER):
        piece = data[at:at + 4 * NUMBERS_TOGETHER]
        count = len(piece) // 4
        out.append(struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", piece)))
    return b"".join(out)


def narrow(path):
    """The header and the numbers of a .safetensors file, those of float32 as fp16."""
    with open(path, "rb") as f:
        data = f.read()
    length = struct.unpack_from("<Q", data)[0]
    header, parts, end = {}, [], 0
    tensors = json.loads(data[8:8 + length])
    tensors.pop("__metadata__", None)
    for name, t in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = (8 + length + offset for offset in t["data_offsets"])
        if t["dtype"] not in ("F32", "F16"):
            continue            # positions that count up
        part = data[begin:stop] if t["dtype"] == "F16" else to_halves(data[begin:stop])
        header[name] = {"dtype": "F16", "shape": t["shape"], "data_offsets": [end, end + len(part)]}
        end += len(part)
        parts.append(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, b"".join(parts)


def add(archive, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def pack(folder, path):
    header, numbers = narrow(os.path.join(folder, "model.safetensors"))
    with tarfile.open(path, "w") as archive:
        for name in FILES:
            if os.path.exists(os.path.join(folder, name)):
                with open(os.path.join(folder, name), "rb") as f:
                    add(archive, name + ".xz", lzma.compress(f.read()))
        add(archive, "header", header)
        add(archive, "low", numbers[0::2])
        add(archive, "high.xz", lzma.compress(numbers[1::2], preset=4))


def unpack(path, folder):
    parts = {}
    with tarfile.open(path) as archive:
        for entry in archive:
            data = archive.extractfile(entry).read()
            name = entry.name
            if name.endswith(".xz"):
                name, data = name[:-3], lzma.decompress(data)
            parts[name] = data
    numbers = bytearray(2 * len(parts["low"]))
    numbers[0::2], numbers[1::2] = parts.pop("low"), parts.pop("high")
    parts["model.safetensors"] = parts.pop("header") + numbers
    for name in parts:
        if name not in FILES and name != "model.safetensors":
            raise ValueError(f"{path}: a file named {name}")
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        with open(os.path.join(folder, name), "wb") as f:
            f.write(parts[name])


def titles(path):
    if path != "-":
        with open(path, encoding="utf-8", newline="") as f:
            for row in csv.DictReader(f):
                yield row["title"], row["genres"].replace("|", ", ")
        return
    rng = random.Random(3)
    words = "Night Summer Last House Love War Man City Blue Return Dark Silent River Lost".split()
    genres = ["Drama", "Comedy", "Thriller", "Romance", "Action", "Horror", "Documentary"]
    for i in range(62423):
        title = " ".join(rng.choices(words, k=rng.randint(1, 6)))
        yield f"{title} {i} ({rng.randint(1920, 2019)})", ", ".join(
            rng.sample(genres, rng.randint(1, 3)))


def films(source, path, times):
    again = ("", "Seen again: ", "A film: ", "On television, ", "In the cinema, ", "For children: ",
             "Recommended: ", "Lent to a friend, ", "Not yet seen: ", "In the original: ")
    with open(path, "w", encoding="utf-8") as f:
        for turn in range(times):
            before = again[turn % len(again)] + (f"{turn}, " if turn >= len(again) else "")
            for title, genres in titles(source):
                f.write(json.dumps({"text": f"{before}{title}. Genres: {genres}."}) + "\n")


def events(path, count):
    rng = random.Random(4)
    forms = ("nova-compute instance {a:08x}-{b:04x} VM {c} (Lifecycle Event)",
             "sshd failed password for user {u} from 10.{x}.{y}.{z} port {p}",
             "kernel: eth{c} link is down, {p} packets lost",
             "ciod: error reading message prefix on CioStream socket to 172.16.{y}.{z}:{p}",
             "GET /v2/{a:08x}/servers/detail HTTP/1.1 status: 200 len: {p} time: 0.{b}",
             "disk /dev/sd{c} has {p} reallocated sectors, SMART status {u}",
             "machine check interrupt, bit={c}: L{c} dcache unit read return parity error")
    users = "root admin deploy backup guest oracle postgres jenkins".split()
    with open(path, "w", encoding="utf-8") as f:
        for _ in range(count):
            text = rng.choice(forms).format(
                a=rng.getrandbits(32), b=rng.getrandbits(16), c=rng.randint(0, 9),
                p=rng.randint(1, 65535), u=rng.choice(users), x=rng.randint(0, 255),
                y=rng.randint(0, 255), z=rng.randint(1, 254))
            f.write(json.dumps({"text": text}) + "\n")


def main():
    words = sys.argv[1:]
    if len(words) == 3 and words[0] == "pack":
        pack(words[1], words[2])
    elif len(words) == 3 and words[0] == "unpack":
        unpack(words[1], words[2])
    elif len(words) in (3, 4) and words[0] == "films":
        films(words[1], words[2], int(words[3]) if len(words) == 4 else 1)
    elif len(words) == 3 and words[0] == "events":
        events(words[1], int(words[2]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
