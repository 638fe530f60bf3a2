"""Trains the same model with akin and with PyTorch in interleaved rounds. train.sh calls it.

Each turn is a fresh process that warms up, trains some steps and ends, so none idles beside another
and its peak memory is its own. Within a round the turns of one batch size follow each other; a ratio
compares turns of one round, and the median over rounds is reported.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from embed_bench import commit, last_line, machine, peak
from embed_report import median, number, own_arguments, ratios, table

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PEER = os.path.join(HERE, "train_peer.py")
SIZES = {  # d_model, nhead, encoder and decoder layers, feed-forward, vocabulary, tokens
    "default": (128, 4, 3, 3, 512, 8192, 256),
    "60m": (512, 8, 6, 6, 2048, 8192, 256),
    "220m": (768, 12, 12, 12, 3072, 8192, 256),
    "tiny": (32, 4, 2, 2, 64, 97, 12),
}
KEYS = ("d_model", "nhead", "encoder_layers", "decoder_layers", "feed_forward", "vocab", "seq_len")
FLAGS = ("d-model", "nhead", "num-encoder-layers", "num-decoder-layers", "dim-feedforward",
         "vocab-size", "seq-len")
GOALS = {  # akin's samples/s over PyTorch's
    ("cpu", "fp32", "best"): 2.2,
    ("cpu", "bf16", "best"): 3.2,
    ("cuda", "fp16", "eager"): 3.0,
    ("cuda", "fp16", "compiled"): 1.5,
}
MEMORY_GOAL = 0.2
TURN_SECONDS_MAX = 1800


class Unavailable(Exception):
    """One line that says why a turn has no figures."""


def say(text):
    print("train: " + text, file=sys.stderr, flush=True)


def options():
    p = argparse.ArgumentParser(prog="bench/peers/train.sh", description=__doc__.split("\n\n")[0])
    a = p.add_argument
    a("--work", help=argparse.SUPPRESS)
    a("--peak-program", help=argparse.SUPPRESS)
    a("--device", choices=["cpu", "cuda"], default="cpu")
    a("--model", choices=sorted(SIZES), default="default", help="size of the model")
    a("--batch", help="batch sizes (8,16,64; cuda: 128)")
    a("--precision", help="of akin and PyTorch (fp32,bf16; cuda: fp16,bf16)")
    a("--modes", default="eager,compiled", help="of PyTorch (eager,compiled)")
    a("--rounds", type=int, help="interleaved rounds (5)")
    a("--steps", type=int, help="timed ones of a turn (as many as make about 100 samples; cuda: 50)")
    a("--dropout", type=float, default=0.1)
    a("--threads", type=int, help="CPUs of both (all)")
    a("--akin", default=os.path.join(ROOT, "build/release/akin"))
    a("--akin-device", help="for akin alone, such as reference")
    a("--reference", default=os.path.join(ROOT, "tests/fixtures/train"),
      help="folder whose first loss PyTorch must reproduce before anything is measured")
    a("--out", default=os.path.join(ROOT, "docs/results"), help="folder of the reports")
    a("--quick", action="store_true",
      help="one round of few steps, no report files unless --out is given")
    o = p.parse_args()
    cuda = o.device == "cuda"
    o.batch = [int(b) for b in (o.batch or ("128" if cuda else "8" if o.quick else "8,16,64")).split(",")]
    o.precision = (o.precision or ("fp16,bf16" if cuda else "fp32,bf16")).split(",")
    o.modes = [m for m in o.modes.split(",") if m]
    o.rounds = o.rounds or (1 if o.quick else 5)
    o.write = not o.quick or any(w.split("=")[0] == "--out" for w in sys.argv)
    return o


def steps_of(o, batch):
    if o.steps:
        return o.steps
    if o.device == "cuda":
        return 5 if o.quick else 50
    return 2 if o.quick else max(3, 100 // batch)


def gflop_of_sample(shape):
    """Of matrix products, forwards and backwards, attention over all pairs."""
    d, f, s = shape["d_model"], shape["feed_forward"], shape["seq_len"]
    t = s - 1
    encoder = s * (4 * d * d + 2 * d * s + 2 * d * f)
    cross = t * (2 * d * d + 2 * d * s) + s * 2 * d * d
    decoder = t * (4 * d * d + 2 * d * t + 2 * d * f) + cross
    projection = t * d * shape["vocab"]
    both = shape["encoder_layers"] * encoder + shape["decoder_layers"] * decoder + projection
    return 6e-9 * both


def run_turn(command, environment):
    """Standard output and the peak memory of the process alone, in MB."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
        timer = threading.Timer(TURN_SECONDS_MAX, process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        text = out.read()
        if process.returncode:
            raise Unavailable(last_line(errors.read()) + " (exit %d)" % process.returncode)
        return text, usage.ru_maxrss / 1024


def akin_turn(o, shape, batch, precision):
    steps = steps_of(o, batch)
    with tempfile.TemporaryDirectory(dir=o.work) as folder:
        command = [o.akin, "bench", "train", "--device", o.akin_device or o.device, "--json"]
        command += ["--precision", precision, "--batch-size", str(batch), "--steps", str(steps)]
        command += ["--epochs", "1", "--warmup-epochs", "1", "--dropout", str(o.dropout)]
        command += ["--output-dir", folder, "--threads", str(o.threads)]
        if o.device == "cuda":
            command.append("--single")
        for key, flag in zip(KEYS, FLAGS):
            command += ["--" + flag, str(shape[key])]
        text, rss = run_turn(command, dict(os.environ))
    report = json.loads(text)
    result = {
        "samples_per_s": report["summary"]["avg_throughput_samples_per_s"],
        "peak_rss_mb": rss,
        "parameters": report["config"]["model_params"],
        "losses": [round(report["epochs"][0]["avg_loss"], 5)],
        "kernels": report.get("kernels"),
    }
    if o.device == "cuda":
        result["peak_gpu_mb"] = report["summary"]["peak_gpu_memory_mb"]
    return result


def torch_turn(o, shape, batch, precision, mode):
    settings = {
        "device": o.device,
        "shape": shape,
        "batch": batch,
        "precision": precision,
        "compile": mode == "compiled",
        "steps": steps_of(o, batch),
        "warmup": 10 if o.device == "cuda" else 2,
        "threads": o.threads,
        "dropout": o.dropout,
    }
    environment = dict(
        os.environ,
        OMP_NUM_THREADS=str(o.threads),
        TORCHINDUCTOR_CACHE_DIR=os.path.join(o.work, "inductor"),
        TORCHINDUCTOR_COMPILE_THREADS="1",
    )
    text, rss = run_turn([sys.executable, PEER, json.dumps(settings)], environment)
    result = json.loads(text.strip().splitlines()[-1])
    result["peak_rss_mb"] = rss
    return result


def check_peer(o):
    done = subprocess.run(
        [sys.executable, PEER, "--verify", o.reference], capture_output=True, text=True
    )
    if done.returncode:
        say("PyTorch does not run: " + last_line(done.stderr))
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if not found["right"]:
        say("PyTorch's first loss is %.8f instead of %.8f" % (found["loss"], found["expected"]))
        return None
    return found


def turns(o):
    engines = [("akin", p, "") for p in o.precision] if o.akin else []
    return engines + [("torch", p, m) for p in o.precision for m in o.modes]


def measure(o, shape):
    rows = {}
    wanted = turns(o)
    for batch in o.batch:
        for engine in wanted:
            rows[(batch,) + engine] = {"batch": batch, "engine": engine[0], "precision": engine[1],
                                       "mode": engine[2], "turns": [], "failed": None}
    for round_number in range(o.rounds):
        for batch in o.batch:
            at = round_number % len(wanted)
            for engine in wanted[at:] + wanted[:at]:
                row = rows[(batch,) + engine]
                if row["failed"]:
                    continue
                name = " ".join(w for w in engine if w)
                try:
                    if engine[0] == "akin":
                        turn = akin_turn(o, shape, batch, engine[1])
                    else:
                        turn = torch_turn(o, shape, batch, engine[1], engine[2])
                    turn["round"] = round_number
                    row["turns"].append(turn)
                    say("round %d, batch %d, %s: %.2f samples/s, %.0f MB" % (
                        round_number + 1, batch, name, turn["samples_per_s"], turn["peak_rss_mb"]))
                except Unavailable as e:
                    row["failed"] = str(e)
                    say("batch %d, %s: failed: %s" % (batch, name, e))
    return list(rows.values())


def rate(turn):
    return turn["samples_per_s"]


def ratio(mine, others, key, best):
    """Median over rounds of akin's figure over the best of the others' in that round."""
    pairs = []
    for turn in mine["turns"]:
        same = [key(t) for r in others for t in r["turns"] if t["round"] == turn["round"]]
        if same:
            pairs.append((key(turn), best(same)))
    return ratios([a for a, _ in pairs], [b for _, b in pairs])


def memory_key(o):
    return "peak_gpu_mb" if o.device == "cuda" else "peak_rss_mb"


def compare(o, rows):
    """For each batch and precision: akin against PyTorch eager, compiled, and the better."""
    found = []
    memory = lambda turn: turn[memory_key(o)]
    for mine in rows:
        if mine["engine"] != "akin" or not mine["turns"]:
            continue
        peers = [r for r in rows if r["engine"] == "torch" and r["turns"] and
                 (r["batch"], r["precision"]) == (mine["batch"], mine["precision"])]
        for mode in o.modes + ["best"]:
            others = [r for r in peers if mode in (r["mode"], "best")]
            if others:
                found.append({
                    "batch": mine["batch"], "precision": mine["precision"], "against": mode,
                    "faster_by": ratio(mine, others, rate, max),
                    "memory_share": ratio(mine, others, memory, min),
                    "goal": GOALS.get((o.device, mine["precision"], mode))
                    if o.model == "default" else None,
                })
    return found


def summarize(o, rows, peaks, gflop):
    for r in rows:
        rates = [t["samples_per_s"] for t in r["turns"]]
        r["samples_per_s"] = median(rates)
        r["spread"] = [min(rates), max(rates)] if rates else None
        r["gflops"] = r["samples_per_s"] and r["samples_per_s"] * gflop
        top = peaks.get(r["precision"])
        r["peak_share"] = top and r["gflops"] and r["gflops"] / top
        r["memory_mb"] = median([t[memory_key(o)] for t in r["turns"]])
    return rows


def markdown(result):
    m, o = result["machine"], result["options"]
    where = result["gpu"] or "%s, %d CPUs used" % (m["cpu"], o["threads"])
    lines = [
        "- machine: %s, %d GiB, %s; load before: %.2f"
        % (where, m["memory_gib"], " ".join(m["features"]), m["load_before"]),
        "- measured peak: %s" % (", ".join(
            "%s %.0f GFLOP/s" % kv for kv in result["peak_gflops"].items() if kv[1]) or "none"),
        "- date: %s; commit: %s" % (result["date"], result["commit"]),
        "- command: `%s`" % result["command"],
        "- versions: %s" % ", ".join("%s %s" % kv for kv in result["versions"].items()),
        "- model: %s, %s parameters, %.2f GFLOP a sample (matrix products, both ways), dropout %g, "
        "AdamW; PyTorch's first loss on the reference batch: %.7f (expected %.7f)"
        % (o["model"], result["parameters"], result["gflop_per_sample"], o["dropout"],
           result["check"]["loss"], result["check"]["expected"]),
        "- %d interleaved rounds, each turn a process of its own: medians; ratios are medians of the "
        "ratios within each round; warm-up, compiling and making data are not timed; memory is the "
        "peak of %s" % (o["rounds"], "the GPU" if o["device"] == "cuda" else "the process"),
    ]
    head = ["batch", "engine", "precision", "samples/s", "least to most", "GFLOP/s", "of peak",
            "memory MB"]
    rows = [
        [r["batch"], (r["engine"] + " " + r["mode"]).strip(), r["precision"],
         number(r["samples_per_s"], "%.2f"), "%.2f to %.2f" % tuple(r["spread"]),
         number(r["gflops"], "%.0f"), number(r["peak_share"] and 100 * r["peak_share"], "%.0f %%"),
         number(r["memory_mb"], "%.0f")]
        for r in result["rows"] if r["turns"]
    ]
    against = [
        [c["batch"], c["precision"], c["against"], "%.2fx" % c["faster_by"],
         number(c["goal"], "%.1fx"), "%.0f %%" % (100 * c["memory_share"])]
        for c in result["comparison"]
    ]
    parts = ["# Training: akin and PyTorch in the same run", "\n".join(lines), table(head, rows)]
    if against:
        parts.append("akin against PyTorch; the goal for memory is %.0f %%:\n\n" % (
            100 * MEMORY_GOAL) + table(["batch", "precision", "PyTorch", "akin is faster by", "goal",
                                        "akin's memory of PyTorch's"], against))
    missing = [r for r in result["rows"] if r["failed"]]
    if missing:
        parts.append("\n".join("- batch %d, %s %s %s: not measured: %s" % (
            r["batch"], r["engine"], r["mode"], r["precision"], r["failed"]) for r in missing))
    return "\n\n".join(parts) + "\n"


def versions(o, rows):
    found = {"python": sys.version.split()[0]}
    for row in rows:
        for turn in row["turns"]:
            for name in ("torch", "cuda", "kernels"):
                if turn.get(name):
                    found[name] = turn[name]
    if o.akin:
        done = subprocess.run([o.akin, "--version"], capture_output=True, text=True)
        found["akin"] = last_line(done.stdout)
    return found


def main():
    o = options()
    cpus = sorted(os.sched_getaffinity(0))[: o.threads]
    os.sched_setaffinity(0, cpus)
    o.threads = len(cpus)
    if not (os.path.isfile(o.akin) and os.access(o.akin, os.X_OK)):
        say("no akin program at %s: its rows stay empty" % os.path.basename(o.akin))
        o.akin = None
    found = machine(cpus)
    if found["load_before"] > 0.2 * len(cpus):
        say("load average is %.1f: others use this machine, the figures are not for keeping"
            % found["load_before"])
    check = check_peer(o)
    if not check:
        return 1
    say("PyTorch's first loss is the reference's: %.7f" % check["loss"])
    shape = dict(zip(KEYS, SIZES[o.model]))
    gflop = gflop_of_sample(shape)
    peaks = peak(o, len(cpus), 0.5) if o.device == "cpu" else {}
    rows = summarize(o, measure(o, shape), peaks, gflop)
    all_turns = [t for r in rows for t in r["turns"]]
    if not all_turns:
        say("nothing could be measured")
        return 1
    result = {
        "machine": found,
        "gpu": next((t["gpu"] for t in all_turns if t.get("gpu")), None),
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "commit": commit(),
        "command": "bench/peers/train.sh " + " ".join(
            os.path.basename(w.rstrip("/")) if "/" in w else w for w in own_arguments(sys.argv[1:])),
        "versions": versions(o, rows),
        "options": {k: getattr(o, k) for k in ("device", "model", "dropout", "threads", "rounds")},
        "parameters": sorted({t["parameters"] for t in all_turns}),
        "gflop_per_sample": gflop,
        "check": check,
        "peak_gflops": {k: peaks.get(k) for k in ("fp32", "bf16")},
        "rows": rows,
        "comparison": compare(o, rows),
    }
    if len(result["parameters"]) != 1:
        say("akin and PyTorch do not train the same model: %s parameters" % result["parameters"])
        return 1
    result["parameters"] = result["parameters"][0]
    text = markdown(result)
    print(text)
    if o.write:
        os.makedirs(o.out, exist_ok=True)
        stem = os.path.join(o.out, "train-peers-%s-%s" % (o.device, time.strftime("%Y%m%d-%H%M")))
        with open(stem + ".md", "w", encoding="utf-8") as f:
            f.write(text)
        with open(stem + ".json", "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
        say("wrote %s.md and .json" % os.path.basename(stem))
    return 0


if __name__ == "__main__":
    sys.exit(main())
