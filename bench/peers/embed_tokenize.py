"""Tokenising on one thread: Hugging Face tokenizers and akin, in turns, on the same texts.

As a program it is one turn of Hugging Face's: embed_tokenize.py MODEL TEXTS CPU prints
{"batch_s", "single_s", "tokens"}: encode_batch_fast of all texts, and one call for each.
"""

import json
import os
import statistics
import subprocess
import sys
import time


def one_turn(model, path, cpu):
    os.sched_setaffinity(0, [cpu])
    os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    with open(os.path.join(model, "sentence_bert_config.json"), encoding="utf-8") as f:
        tokenizer.enable_truncation(json.load(f)["max_seq_length"])
    tokenizer.no_padding()
    with open(path, encoding="utf-8") as f:
        texts = [line.rstrip("\n") for line in f]
    tokenizer.encode_batch_fast(texts[:100])
    begin = time.perf_counter()
    encodings = tokenizer.encode_batch_fast(texts)
    middle = time.perf_counter()
    for text in texts:
        tokenizer.encode(text)
    print(
        json.dumps(
            {
                "batch_s": middle - begin,
                "single_s": time.perf_counter() - middle,
                "tokens": sum(len(e.ids) for e in encodings),
            }
        )
    )


def output(command, cpu):
    """Standard output, or None and the reason."""
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, [cpu])
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["exit status %d" % done.returncode]
        return None, lines[-1][:160]
    return done.stdout, None


def compare(job, corpus, repeats):
    """One row: rates by turn of both, and how many texts differ in their ids."""
    a, cpu = job.a, job.cpus[0]
    plain = os.path.join(job.folder, corpus + ".txt")
    row = {
        "texts": len(job.tokens[corpus]),
        "batch": [],
        "single": [],
        "akin": [],
        "differ": None,
        "failed": None,
    }
    turn = [sys.executable, os.path.abspath(__file__), job.model, plain, str(cpu)]
    for _ in range(repeats):
        text, row["failed"] = output(turn, cpu)
        if text is None:
            return row
        theirs = json.loads(text)
        row["batch"].append(row["texts"] / theirs["batch_s"])
        row["single"].append(row["texts"] / theirs["single_s"])
        if a.akin_helper and not row["failed"]:
            text, row["failed"] = output([a.akin_helper, "tokenize", job.model, plain, "1"], cpu)
            if text is not None:
                row["akin"].append(row["texts"] / json.loads(text)["seconds"][0])
    if a.akin:
        text, why = output([a.akin, "tokenize", "--model", job.model, "-i", job.files[corpus]], cpu)
        row["failed"] = row["failed"] or why
        if text is not None:
            ours = [json.loads(line)["ids"] for line in text.splitlines()]
            row["differ"] = sum(x != y for x, y in zip(ours, job.ids[corpus])) + abs(
                len(ours) - len(job.ids[corpus])
            )
    for key in ("batch", "single", "akin"):
        row[key + "_median"] = statistics.median(row[key]) if row[key] else None
    if row["akin"]:
        row["ratio"] = statistics.median(o / t for o, t in zip(row["akin"], row["batch"]))
    return row


if __name__ == "__main__":
    one_turn(sys.argv[1], sys.argv[2], int(sys.argv[3]))
