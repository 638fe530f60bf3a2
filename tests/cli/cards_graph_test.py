#!/usr/bin/env python3
"""`akin fit --graph` on a card that is made up: the vectors of the CPU, and what follows where the card
has no room.

Usage: cards_graph_test.py AKIN PLUGIN
PLUGIN is the plug-in of the tests (cuda_emulation/cards.h). Needs nothing but Python.
"""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

DIMENSION, ITEMS, PEOPLE, CHOICES = 64, 90, 30, 12
checks = failures = 0


def check(what, good, seen=""):
    global checks, failures
    checks += 1
    if not good:
        failures += 1
        print(f"FAIL {what}: {str(seen)[:600]}", flush=True)


def run(*arguments, status=0, **env):
    told = {"AKIN_EMULATED_" + k: str(v) for k, v in env.items()}
    keep = {k: v for k, v in os.environ.items() if not k.startswith("AKIN_")}
    done = subprocess.run([AKIN, *map(str, arguments)], capture_output=True, timeout=200, env={
        **keep, "NO_COLOR": "1", "XDG_CONFIG_HOME": os.path.abspath("config"), "AKIN_HOME": os.path.abspath("home"),
        "AKIN_CUDA_LIBRARY": PLUGIN, **told})
    check(f"akin {' '.join(map(str, arguments))} {env} exits {status}", done.returncode == status,
          (done.returncode, done.stderr[-500:]))
    return done


def write_npy(path, rows):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {DIMENSION}), }}"
    header += " " * ((-len(header) - 11) % 64) + "\n"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for row in rows:
            file.write(struct.pack(f"<{DIMENSION}f", *row))


def unit(draw):
    row = [draw.gauss(0, 1) for _ in range(DIMENSION)]
    length = sum(x * x for x in row) ** 0.5
    return [x / length for x in row]


def make_catalog():
    """The last third of the items is chosen by nobody."""
    draw = random.Random(3)
    with open("items.jsonl", "w") as file:
        for i in range(ITEMS):
            file.write(json.dumps({"id": f"i{i}", "title": f"T {i}", "text": "t", "year": 1950 + i}) + "\n")
    with open("plays.jsonl", "w") as file:
        for u in range(PEOPLE):
            for n, i in enumerate(draw.sample(range(ITEMS * 2 // 3), CHOICES)):
                file.write(json.dumps({"user": f"u{u}", "item": f"i{i}", "rating": 4, "timestamp": n}) + "\n")
    run("data", "import", "jsonl", "items.jsonl", "--interactions", "plays.jsonl", "--data", "data")
    write_npy("data/embeddings/media/content_vectors.npy", [unit(draw) for _ in range(ITEMS)])
    with open("data/embeddings/media/metadata.jsonl", "w") as file:
        with open("data/items.jsonl") as items:
            for line in items:
                file.write(json.dumps({"media_id": json.loads(line)["media_id"]}) + "\n")
    write_npy("data/embeddings/users/preference_vectors.npy", [unit(draw) for _ in range(PEOPLE)])
    with open("data/embeddings/users/user_ids.json", "w") as file:
        json.dump([f"u{u}" for u in range(PEOPLE)], file)


def fit(*arguments, **env):
    """What it said, and the vectors of items that it left."""
    done = run("fit", "--data", "data", "--graph", "--json", *arguments, **env)
    with open("data/taste/graph.safetensors", "rb") as file:
        blob = file.read()
    size = struct.unpack("<Q", blob[:8])[0]
    tensor = json.loads(blob[8:8 + size])["vectors"]
    begin, end = tensor["data_offsets"]
    rows, columns = tensor["shape"]
    numbers = struct.unpack(f"<{rows * columns}f", blob[8 + size + begin:8 + size + end])
    return done, [numbers[i * columns:(i + 1) * columns] for i in range(rows)]


def cosine(a, b):
    def dot(x, y):
        return sum(p * q for p, q in zip(x, y))
    return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5


def fits():
    here, truth = fit("--device", "cpu")
    check("new items", json.loads(here.stdout)["new_items"] == ITEMS // 3, here.stdout)
    there, found = fit("--device", "cuda", CARDS=1)
    worst = min(cosine(a[:DIMENSION], b[:DIMENSION]) for a, b in zip(truth, found))
    check("the CPU's vectors", len(found) == ITEMS and worst >= 0.99999, worst)
    check("made on the card", any(a[:DIMENSION] != b[:DIMENSION] for a, b in zip(truth, found)))
    check("the other half is the CPU's", all(a[DIMENSION:] == b[DIMENSION:] for a, b in zip(truth, found)))
    check("no warning", b"warning" not in there.stderr, there.stderr)
    done, found = fit("--device", "auto", CARDS=1, MEMORY=10000)
    check("no room: the CPU, with a warning", b"warning: placing items on the CPU" in done.stderr and found == truth,
          done.stderr)
    done = run("fit", "--data", "data", "--graph", "--device", "cuda", status=1, CARDS=1, MEMORY=10000)
    check("no room on a card that was asked for", b"bytes" in done.stderr, done.stderr)


def main():
    global AKIN, PLUGIN
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    AKIN, PLUGIN = map(os.path.abspath, sys.argv[1:])
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        make_catalog()
        fits()
        os.chdir("/")
    print(f"cards_graph_test: {checks} checks, {failures} failed")
    sys.exit(failures > 0)


main()
