#!/usr/bin/env python3
"""The program on several cards that are made up: the kernels of the CUDA part, on the CPU.

Usage: cards_test.py AKIN PLUGIN MODEL CONTEXTCHECK
PLUGIN is the plug-in of the tests (cuda_emulation/cards.h), MODEL the folder of a small model, whose
tokeniser is taken, CONTEXTCHECK encode_contextcheck. Needs nothing but Python.
"""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import rig
from rig import check

HIDDEN, HEADS, INTERMEDIATE, LAYERS = 64, 2, 64, 1
ITEMS, PEOPLE, CHOICES = 90, 30, 12


def run(*arguments, status=0, **env):
    """The program with made-up cards; CARDS=2 is AKIN_EMULATED_CARDS=2."""
    told = {k if k.startswith("AKIN_") else "AKIN_EMULATED_" + k: str(v) for k, v in env.items()}
    here = os.getcwd()
    done = subprocess.run([AKIN, *map(str, arguments)], capture_output=True, timeout=200, env=rig.environment(
        here, os.path.join(here, "model"), **{"AKIN_CUDA_LIBRARY": PLUGIN, **told}))
    check(f"akin {' '.join(map(str, arguments))[:100]} {env} exits {status}", done.returncode == status,
          (done.returncode, done.stderr[-500:]))
    return done


def make_model():
    """A BERT that the cards have kernels for, with random weights."""
    shutil.copytree(MODEL, "model")
    with open("model/config.json") as file:
        config = json.load(file)
    config.update(hidden_size=HIDDEN, num_attention_heads=HEADS, intermediate_size=INTERMEDIATE,
                  num_hidden_layers=LAYERS)
    with open("model/config.json", "w") as file:
        json.dump(config, file)
    with open("model/1_Pooling/config.json") as file:
        pooling = json.load(file)
    pooling["word_embedding_dimension"] = HIDDEN
    with open("model/1_Pooling/config.json", "w") as file:
        json.dump(pooling, file)
    shapes = {"embeddings.word_embeddings.weight": (config["vocab_size"], HIDDEN),
              "embeddings.position_embeddings.weight": (config["max_position_embeddings"], HIDDEN),
              "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], HIDDEN)}

    def norm(name):
        shapes.update({name + ".LayerNorm.weight": (HIDDEN,), name + ".LayerNorm.bias": (HIDDEN,)})

    def dense(name, rows, columns):
        shapes.update({name + ".weight": (rows, columns), name + ".bias": (rows,)})
    norm("embeddings")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            dense(layer + "attention.self." + part, HIDDEN, HIDDEN)
        dense(layer + "attention.output.dense", HIDDEN, HIDDEN)
        norm(layer + "attention.output")
        dense(layer + "intermediate.dense", INTERMEDIATE, HIDDEN)
        dense(layer + "output.dense", HIDDEN, INTERMEDIATE)
        norm(layer + "output")
    draw, header, body = random.Random(7), {}, b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        data = struct.pack(f"<{count}f", *(draw.gauss(centre, 0.1) for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": (len(body), len(body) + len(data))}
        body += data
    header = json.dumps(header).encode()
    with open("model/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + body)


def vectors(path):
    with open(path, "rb") as file:
        blob = file.read()
    at = 10 + struct.unpack("<H", blob[8:10])[0]
    count = (len(blob) - at) // 4
    numbers = struct.unpack(f"<{count}f", blob[at:])
    return [numbers[i:i + HIDDEN] for i in range(0, count, HIDDEN)]


def cosine(a, b):
    def dot(x, y):
        return sum(p * q for p, q in zip(x, y))
    return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5


def worst(path, truth):
    here = vectors(path)
    return min(cosine(a, b) for a, b in zip(here, truth)) if len(here) == len(truth) else 0.0


def done_by(log):
    """How many batches each card did."""
    if not os.path.exists(log):
        return [0, 0, 0]
    with open(log) as file:
        lines = file.read().split()
    os.remove(log)
    return [lines.count(str(card)) for card in range(3)]


def embed():
    words = "toy story a dark film about the city of lost children and heat".split()
    draw = random.Random(5)
    with open("texts.txt", "w") as file:
        for _ in range(48):
            file.write(" ".join(draw.choice(words) for _ in range(draw.randrange(1, 8))) + "\n")
    run("embed", "-i", "texts.txt", "-o", "cpu.npy", "--device", "cpu", "--precision", "fp32")
    truth = vectors("cpu.npy")
    for device, used in (("cuda", 1), ("cuda:1", 1), ("cuda:all", 2), ("auto", 1)):
        run("embed", "-i", "texts.txt", "-o", "card.npy", "--device", device, "--threads", 4,
            CARDS=2, LOG="log")
        check(f"{device}: the CPU's vectors", worst("card.npy", truth) >= 0.99999, worst("card.npy", truth))
        check(f"{device}: computed on {used}", sum(n > 0 for n in done_by("log")) == used)
    check("a card that is not there", b"there is no GPU 5; there are 2" in
          run("embed", "-i", "texts.txt", "-o", "x.npy", "--device", "cuda:5", status=1, CARDS=2).stderr)
    check("no card", b"finds no GPU" in
          run("embed", "-i", "texts.txt", "-o", "x.npy", "--device", "cuda", status=1, CARDS=0).stderr)
    check("a plug-in that is not there", b"AKIN_CUDA_LIBRARY" in
          run("embed", "-i", "texts.txt", "-o", "x.npy", "--device", "cuda", status=1,
              AKIN_CUDA_LIBRARY="/nowhere.so").stderr)
    check("no memory, told", b"bytes" in
          run("embed", "-i", "texts.txt", "-o", "x.npy", "--device", "cuda", status=1, MEMORY=10000).stderr)
    for precision, words in (("bf16", b"a GPU computes in fp16 or int8"), ("int8", b"multiples of 128")):
        check(f"{precision} on a card", words in
              run("embed", "-i", "texts.txt", "-o", "x.npy", "--device", "cuda", "--precision", precision,
                  status=1).stderr)
    done = run("embed", "-i", "texts.txt", "-o", "x.npy", MEMORY=10000)
    check("no memory: the CPU", b"warning" in done.stderr and b"computing on the CPU" in done.stderr, done.stderr)
    return truth


def doctor():
    health = json.loads(run("doctor", "--json", "--place", "users=1,cache=cpu", CARDS=2).stdout)
    cuda = health["cuda"]
    check("the library that was loaded", cuda["library"] == PLUGIN and health["gpu_support"] is True, cuda)
    check("both cards", [(g["name"], g["bus"], g["capability"]) for g in cuda["gpus"]] ==
          [("Made-up card 0", "0000:07:00.0", "9.0"), ("Made-up card 1", "0000:08:00.0", "9.0")]
          and all(g["memory_bytes"] >= g["memory_free_bytes"] > 0 and g["processors"] and g["why_not"] is None
                  for g in cuda["gpus"]), cuda)
    check("versions", cuda["runtime"] == "13.0" and cuda["cublaslt"] == "13.0.2", cuda)
    check("what is missing has a remedy", cuda["missing"] and all(m["what"] and m["fix"] for m in cuda["missing"]), cuda)
    check("what runs where", health["parts"] == {"encoder": "cuda:0", "search": "cuda:0", "cache": "cpu",
                                                 "users": "cuda:1", "bandits": "cuda:0", "graph": "cuda:0"}, health["parts"])
    text = run("doctor", CARDS=2).stdout.decode()
    check("doctor for people", "GPU 1" in text and "Made-up card 1" in text and "encoder cuda:0" in text, text)
    for why, words, env in (("no cards", "finds no GPU", {"CARDS": 0}), ("an old card", "compute capability 7.5", {"CAPABILITY": 75}),
                            ("no library", "/nowhere.so is not there", {"AKIN_CUDA_LIBRARY": "/nowhere.so"})):
        health = json.loads(run("doctor", "--json", **env).stdout)
        check(f"doctor: {why}", health["gpu_support"] is False and health["ok"] and health["device"] == "cpu"
              and any(words in m["what"] and m["fix"] for m in health["cuda"]["missing"]), health["cuda"])
        health = json.loads(run("doctor", "--json", "--device", "cuda", status=1, **env).stdout)
        check(f"doctor: {why}, and one was asked for", not health["ok"]
              and any(words in p["what"] for p in health["problems"]), health["problems"])


def place():
    for places, device, batches_of in (("encoder=1", "auto", [1]), ("encoder=1", "cuda:all", [1]), ("encoder=cpu", "cuda", []),
                                       ("search=1,users=0", "cuda:1", [1]), ("encoder=0", "cpu", [])):
        run("embed", "-i", "texts.txt", "-o", "card.npy", "--device", device, "--place", places, CARDS=2, LOG="log")
        done = done_by("log")
        check(f"{places} on {device}", [i for i, n in enumerate(done) if n] == batches_of, done)
    done = run("embed", "-i", "texts.txt", "-o", "card.npy", "--place", "users=4", CARDS=2)
    check("auto: a card that is not there is a warning", b"warning: place users=4: there is no GPU 4" in done.stderr, done.stderr)
    done = run("embed", "-i", "texts.txt", "-o", "card.npy", "--device", "cuda", status=1, CARDS=2, AKIN_PLACE="users=4")
    check("cuda: an error", b"place users=4: there is no GPU 4; there are 2" in done.stderr, done.stderr)
    for wrong in ("usres=1", "users", "users=", "users=-1", "users=1x", "users=1000", "users=1,users=2", "=1", ",", "users=1 ,cache=0"):
        done = run("doctor", "--place", wrong, status=2, CARDS=2)
        check(f"place {wrong!r}", done.stderr.count(b"\n") == 1 and b"encoder, search, cache, users, bandits, graph" in done.stderr)


def failures_of_cards(truth):
    arguments = ("embed", "-i", "texts.txt", "-o", "card.npy", "--device", "cuda:all",
                 "--threads", 4)
    for fault in ({"FAIL": "1:1"}, {"FAIL": "0:2"}, {"HANG": "1:1"}, {"HANG": "0:2"}):
        begin = time.monotonic()
        run(*arguments, CARDS=2, WAIT_MS=300, LOG="log", **fault)
        check(f"{fault}: nothing lost", worst("card.npy", truth) >= 0.99999)
        check(f"{fault}: told, and not for ever", time.monotonic() - begin < 120)
        done_by("log")
    for device, fault, words in (("auto", {"FAIL": "0:2"}, b"fell out"), ("auto", {"HANG": "0:2"}, b"did not answer")):
        done = run("embed", "-i", "texts.txt", "-o", "card.npy", "--device", device, "--batch", 8, CARDS=1, WAIT_MS=300, **fault)
        check(f"{fault}: the CPU goes on", worst("card.npy", truth) >= 0.99999 and words in done.stderr
              and b"warning: going on with the CPU" in done.stderr, done.stderr)
    for fault, words in (({"FAIL": "0:1"}, b"fell out"), ({"HANG": "0:1"}, b"did not answer")):
        done = run(*arguments, CARDS=1, WAIT_MS=300, status=1, **fault)
        check(f"{fault}: all gone", words in done.stderr, done.stderr)


def verdicts(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def apart(path, truth):
    """How far scores are from those of the truth; infinitely, where events or alarms differ."""
    here = verdicts(path)
    if [(v["seq"], v["alert"]) for v in here] != [(v["seq"], v["alert"]) for v in truth]:
        return float("inf")
    return max(abs(a["score"] - b["score"]) for a, b in zip(here, truth))


def watch():
    """A small log is watched on cards, which fail or do not."""
    words = "toy story a dark film about the city of lost children and heat".split()
    draw = random.Random(9)
    kinds = [" ".join(draw.choice(words) for _ in range(draw.randrange(2, 9))) for _ in range(40)]
    events = 400
    with open("events.jsonl", "w") as file:
        for seq in range(events):
            kind = kinds[min(int(draw.expovariate(0.15)), len(kinds) - 1)]
            file.write(json.dumps({"seq": seq, "text": f"{kind} {draw.randrange(1000)}",
                                   "level": "error" if seq % 97 == 96 else "info"}) + "\n")
    replay = ("watch", "--replay", "events.jsonl", "--train-until", 200, "--scores", "scores.jsonl",
              "--threads", 4)
    run(*replay, "--device", "cpu", "--precision", "fp32")
    truth = verdicts("scores.jsonl")
    check("events are judged", len(truth) == events - 200 and any(v["alert"] for v in truth), len(truth))
    for device, cards in (("cuda", 1), ("cuda:1", 2), ("cuda:all", 2), ("auto", 1)):
        run(*replay, "--device", device, CARDS=cards, LOG="log")
        check(f"watch on {device}: the CPU's verdicts", apart("scores.jsonl", truth) < 1e-3,
              apart("scores.jsonl", truth))
        check(f"watch on {device}: computed there", sum(done_by("log")) > 0)
    for fault in ({"FAIL": "0:1"}, {"FAIL": "0:2"}):
        done = run(*replay, "--device", "auto", WAIT_MS=300, **fault)
        check(f"watch, {fault}: the CPU goes on, and it is told", b"going on with the CPU" in done.stderr, done.stderr)
        check(f"watch, {fault}: the CPU's verdicts", apart("scores.jsonl", truth) < 1e-3,
              apart("scores.jsonl", truth))
        done = run(*replay, "--device", "cuda", WAIT_MS=300, status=1, **fault)
        check(f"watch, {fault}: where a card was asked for", b"fell out" in done.stderr, done.stderr)
    done = run("watch", "--source", "jsonl", "--file", "events.jsonl", "--store", "store", "--learn", 200,
               "--device", "auto", WAIT_MS=300, FAIL="0:2")
    check("live: the CPU goes on", b"going on with the CPU" in done.stderr, done.stderr)
    done = run("watch", "search", "--store", "store", "--device", "cpu", "-k", events + 10, "--json")
    found = [event["text"] for event in json.loads(done.stdout)["results"]]
    with open("events.jsonl") as file:
        sent = [json.loads(line)["text"] for line in file]
    check("live: each event once", sorted(found) == sorted(sent), (len(found), len(sent)))


def normals(draw):
    return [draw.gauss(0, 1) for _ in range(HIDDEN)]


def unit(draw):
    row = normals(draw)
    length = sum(x * x for x in row) ** 0.5
    return [x / length for x in row]


def write_vectors(path, rows):
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {HIDDEN}), }}".encode().ljust(117) + b"\n"
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00v\x00" + head)
        for row in rows:
            file.write(struct.pack(f"<{HIDDEN}f", *row))


def indexes():
    """An index on a card answers as on the CPU: ivfpq bit for bit, others exactly."""
    draw = random.Random(11)
    write_vectors("rows.npy", [normals(draw) for _ in range(4200)])
    write_vectors("queries.npy", [normals(draw) for _ in range(3)])

    def search(kind, *more, **env):
        done = run("search", "--index", kind + ".akx", "--vectors", "queries.npy", "-k", 5, "--json", *more, **env)
        got = json.loads(done.stdout)
        return got["results"], got["card_bytes"], done.stderr
    for kind, exact in (("ivfpq", ()), ("flat", ("--exact",)), ("graph", ("--exact",))):
        run("index", "build", "-i", "rows.npy", "-o", kind + ".akx", "--kind", kind)
        right, none, _ = search(kind, *exact, "--device", "cpu")
        for device in ("cuda", "auto"):
            found, held, _ = search(kind, "--device", device)
            check(f"{kind} on {device}", found == right and none == 0 and held > 4200 * HIDDEN, (found, right, held))
    found, held, stderr = search("ivfpq", "--device", "auto", MEMORY=100000)
    check("auto: no memory is a warning", held == 0 and b"4200 rows on the CPU" in stderr and b"bytes" in stderr, stderr)
    done = run("search", "--index", "ivfpq.akx", "--vectors", "queries.npy", "--device", "cuda", status=1, MEMORY=100000)
    check("cuda: no memory is an error", b"bytes" in done.stderr and b"device auto" in done.stderr, done.stderr)
    for fault in ({"HANG": "0:1"}, {"FAIL": "0:1"}):
        right, _, _ = search("flat", "--exact", "--device", "cpu")
        found, _, stderr = search("flat", "--device", "auto", WAIT_MS=200, **fault)
        check(f"search on a card, {fault}: the CPU's answers", found == right, (found, stderr))
    found, held, _ = search("ivfpq", "--device", "cuda", "--place", "search=cpu")
    check("placed on the CPU", held == 0)
    done = run("bench", "search", "--index", "ivfpq.akx", "--queries", "queries.npy", "--recalls", "0.9", "--batches", "1,3",
               "--seconds", "0.001", "--threads", "2", "--output-dir", "bench", "--json", "--device", "cuda")
    runs = json.loads(done.stdout)["runs"]
    check("bench: the CPU and the card", [(r["device"], r["exact"]) for r in runs] == [
        (device, exact) for device in ("cpu", "cuda:0") for exact in (True, False)]
        and runs[1]["recall"] == runs[3]["recall"] and runs[3]["card_bytes"] > 0, runs)
    check("bench: the card's own clock", runs[3]["card_us"]["batch_1"] > 0 and runs[3]["card_us"]["batch_3"] > 0
          and runs[1]["card_us"]["batch_1"] is None and runs[2]["card_us"]["batch_1"] is None, runs)


def train():
    """Two cards, a process each; gradients through the host."""
    done = run("bench", "train", "--device", "cuda", "--batch-size", 2, "--seq-len", 8, "--vocab-size", 64, "--num-samples", 8,
               "--steps", 2, "--epochs", 1, "--warmup-epochs", 0, "--d-model", 32, "--nhead", 2, "--num-encoder-layers", 1,
               "--num-decoder-layers", 1, "--dim-feedforward", 32, CARDS=2)
    text = done.stdout.decode()
    check("training on two cards", "2gpu" in text and "Summary of 1 measured epoch" in text, text)


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
    write_vectors("data/embeddings/media/content_vectors.npy", [unit(draw) for _ in range(ITEMS)])
    with open("data/embeddings/media/metadata.jsonl", "w") as file:
        with open("data/items.jsonl") as items:
            for line in items:
                file.write(json.dumps({"media_id": json.loads(line)["media_id"]}) + "\n")
    write_vectors("data/embeddings/users/preference_vectors.npy", [unit(draw) for _ in range(PEOPLE)])
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


def graph():
    """akin fit --graph places new items on a card as on the CPU."""
    make_catalog()
    here, truth = fit("--device", "cpu")
    check("new items", json.loads(here.stdout)["new_items"] == ITEMS // 3, here.stdout)
    there, found = fit("--device", "cuda", CARDS=1)
    least = min(cosine(a[:HIDDEN], b[:HIDDEN]) for a, b in zip(truth, found))
    check("the CPU's vectors", len(found) == ITEMS and least >= 0.99999, least)
    check("made on the card", any(a[:HIDDEN] != b[:HIDDEN] for a, b in zip(truth, found)))
    check("the other half is the CPU's", all(a[HIDDEN:] == b[HIDDEN:] for a, b in zip(truth, found)))
    check("no warning", b"warning" not in there.stderr, there.stderr)
    done, found = fit("--device", "auto", CARDS=1, MEMORY=10000)
    check("no room: the CPU, with a warning", b"warning: placing items on the CPU" in done.stderr and found == truth,
          done.stderr)
    done = run("fit", "--data", "data", "--graph", "--device", "cuda", status=1, CARDS=1, MEMORY=10000)
    check("no room on a card that was asked for", b"bytes" in done.stderr, done.stderr)


def main():
    global AKIN, PLUGIN, MODEL
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    AKIN, PLUGIN, MODEL, contextcheck = map(os.path.abspath, sys.argv[1:])
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        make_model()
        truth = embed()
        doctor()
        place()
        failures_of_cards(truth)
        done = subprocess.run([contextcheck, "model", "24", PLUGIN], capture_output=True, timeout=200)
        check("several contexts on one card", done.returncode == 0 and b" 0 failed" in done.stdout,
              done.stdout + done.stderr)
        train()
        watch()
        indexes()
        graph()
        os.chdir("/")
    rig.finish("cards_test")


main()
