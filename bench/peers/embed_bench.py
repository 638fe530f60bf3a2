"""Runs akin and its peers on the same texts in interleaved rounds. embed.sh sets up and calls it.

A round starts every engine once, one after the other, in its best set-up, lets it embed both
corpora and single texts, and ends it. What is reported is the median over rounds, and for ratios
the median of the ratios within each round, so that a machine that slows down hurts all alike.
The best set-up (processes x threads, batch, OpenVINO's streams) is found on a sample first.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

import numpy as np

import embed_corpus
import embed_report
import embed_tokenize

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PEERS = [
    ("sentence-transformers", "fp32"),
    ("sentence-transformers", "bf16"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("openvino", "int8+bf16"),
    ("llama.cpp", "f16"),
    ("llama.cpp", "q8_0"),
]
AKIN = [("akin", "fp32"), ("akin", "bf16"), ("akin", "int8")]
REFERENCE = ("sentence-transformers", "fp32")
ARTIFACT = {
    ("onnxruntime", "fp32"): "fused.onnx",
    ("onnxruntime", "int8"): "int8.onnx",
    ("openvino", "fp32"): "ov.xml",
    ("openvino", "bf16"): "ov.xml",
    ("openvino", "int8"): "ov_int8.xml",
    ("openvino", "int8+bf16"): "ov_int8.xml",
    ("llama.cpp", "f16"): "model-f16.gguf",
    ("llama.cpp", "q8_0"): "model-q8_0.gguf",
}
CALIBRATION = 150  # texts of each corpus that follow the measured ones
SHORT_TOKENS, SHORTS = 23, 20
# Single texts that are timed; peers and akin alike.
LATENCY_CALLS, LATENCY_CALLS_QUICK = 1000, 200
RECALL_QUERIES, RECALL_K = 500, 10


class Unavailable(Exception):
    """One line that says why an engine has no figures."""


def say(text):
    print("embed: " + text, file=sys.stderr, flush=True)


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "no message"


class Workers:
    """The processes of one engine in one set-up."""

    def __init__(self, job, engine, precision, layout, log):
        processes, threads, streams = layout
        self.log, self.all = log, []
        for part in range(processes):
            settings = {
                "engine": engine,
                "precision": precision,
                "model": job.model,
                "artifacts": job.artifacts,
                "texts": job.files,
                "short": job.short_file,
                "part": part,
                "parts": processes,
                "streams": streams,
                "cpus": job.cpus[part * threads : (part + 1) * threads],
            }
            with open(log, "a", encoding="utf-8") as errors:
                self.all.append(
                    subprocess.Popen(
                        [
                            sys.executable,
                            os.path.join(HERE, "embed_worker.py"),
                            json.dumps(settings),
                        ],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        text=True,
                    )
                )
        try:
            for process in self.all:
                self.answer(process)
        except Unavailable:
            self.end()
            raise

    def answer(self, process):
        line = process.stdout.readline()
        if not line:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                raise Unavailable(last_line(f.read()))
        return json.loads(line)

    def ask(self, requests):
        """Sends each process its request at once, then collects the answers."""
        for process, request in zip(self.all, requests):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        return [self.answer(p) for p, _ in zip(self.all, requests)]

    def run(self, corpus, batch, first=None, save=None):
        """Texts per second; the slowest process counts."""
        answers = self.ask(
            [
                {
                    "do": "run",
                    "corpus": corpus,
                    "batch": batch,
                    "first": first and -(-first // len(self.all)),
                    "save": save and "%s.%d.npy" % (save, i),
                }
                for i in range(len(self.all))
            ]
        )
        return sum(a["texts"] for a in answers) / max(a["seconds"] for a in answers)

    def vectors(self, save):
        parts = [np.load("%s.%d.npy" % (save, i)) for i in range(len(self.all))]
        whole = np.empty((sum(map(len, parts)), parts[0].shape[1]), np.float32)
        for i, part in enumerate(parts):
            whole[i :: len(parts)] = part
            os.remove("%s.%d.npy" % (save, i))
        return whole

    def latency(self, count):
        return self.ask([{"do": "latency", "count": count}])[0]["ms"]

    def quit(self):
        rss = sum(a["rss_mb"] for a in self.ask([{"do": "quit"}] * len(self.all)))
        self.end()
        return rss

    def end(self):
        for process in self.all:
            process.stdin.close()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Job:
    """One model: its texts, files and what has been measured on it."""

    def __init__(self, a, model, cpus):
        self.a, self.model, self.cpus = a, os.path.abspath(model), cpus
        self.name = os.path.basename(os.path.normpath(model))
        with open(os.path.join(model, "config.json"), encoding="utf-8") as f:
            self.config = json.load(f)
        if self.name == "model":
            self.name = "%d-layer" % self.config["num_hidden_layers"]
        self.folder = os.path.join(a.work, "models", self.key())
        self.artifacts = self.folder
        os.makedirs(self.folder, exist_ok=True)
        self.files, self.tokens, self.origin = {}, {}, {}
        self.ids, self.rows, self.reference, self.tokenizing = {}, {}, {}, {}
        self.make_texts()

    def key(self):
        digest = hashlib.sha256()
        with open(os.path.join(self.model, "model.safetensors"), "rb") as f:
            while block := f.read(1 << 22):
                digest.update(block)
        return "%s-%s" % (self.name, digest.hexdigest()[:12])

    def make_texts(self):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(os.path.join(self.model, "tokenizer.json"))
        with open(os.path.join(self.model, "sentence_bert_config.json"), encoding="utf-8") as f:
            tokenizer.enable_truncation(json.load(f)["max_seq_length"])
        tokenizer.no_padding()
        # multilingual-e5 wants its texts marked; a text with the mark is a text like any other.
        prompt = "passage: " if self.config["vocab_size"] > 200000 else ""
        count, spare, shorts = self.a.texts, [], []
        for corpus in self.a.corpora:
            texts, self.origin[corpus] = embed_corpus.build(
                corpus, count + CALIBRATION, self.a.movielens, self.a.events
            )
            texts = [prompt + " ".join(t.split()) for t in texts]
            ids = [e.ids for e in tokenizer.encode_batch_fast(texts)]
            lengths = [len(i) for i in ids]
            near = sorted(range(count), key=lambda i: abs(lengths[i] - SHORT_TOKENS))
            shorts += [texts[i] for i in near[:SHORTS]]
            spare += texts[count:]
            self.ids[corpus], self.tokens[corpus] = ids[:count], np.array(lengths[:count])
            self.files[corpus] = self.write(corpus, texts[:count])
        self.short_file = self.write("short", shorts[:SHORTS])
        self.calibration = self.write("calibration", spare)

    def write(self, name, texts):
        """NAME.jsonl for programs with a reader, NAME.txt for plain lines."""
        path = os.path.join(self.folder, name + ".jsonl")
        with open(path[: -len("jsonl")] + "txt", "w", encoding="utf-8") as f:
            f.write("".join(text + "\n" for text in texts))
        with open(path, "w", encoding="utf-8") as f:
            for text in texts:
                f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        return path

    def gflop(self, corpus):
        """Of one text on average: matrix products over real tokens only."""
        c, t = self.config, self.tokens[corpus].astype(float)
        h, i = c["hidden_size"], c["intermediate_size"]
        flop = 2 * t * (4 * h * h + 2 * h * i) + 4 * t * t * h
        return 1e-9 * c["num_hidden_layers"] * float(flop.mean())

    def row(self, engine, precision):
        key = (engine, precision)
        if key not in self.rows:
            self.rows[key] = {
                "engine": engine,
                "precision": precision,
                "note": "",
                "rates": {c: [] for c in self.files},
                "quality": {},
                "p50": [],
                "p99": [],
                "rss_mb": [],
            }
        return self.rows[key]

    def judge(self, row, corpus, vectors):
        if (row["engine"], row["precision"]) == REFERENCE:
            self.reference[corpus] = vectors
        reference = self.reference.get(corpus)
        if reference is None or corpus in row["quality"]:
            return
        a = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        b = reference / np.linalg.norm(reference, axis=1, keepdims=True)
        cosine = np.einsum("ij,ij->i", a.astype(np.float64), b)
        step = max(1, len(b) // RECALL_QUERIES)
        hits, queries = 0, range(0, len(b), step)
        for q in queries:
            near = [np.argpartition(-np.delete(m @ m[q], q), RECALL_K)[:RECALL_K] for m in (a, b)]
            hits += len(np.intersect1d(*near))
        row["quality"][corpus] = {
            "mean": float(cosine.mean()),
            "min": float(cosine.min()),
            "recall": hits / (RECALL_K * len(queries)),
        }


def layouts(engine, cpus):
    """(processes, threads of each, streams of each) worth trying."""
    n = len(cpus)
    found = [(1, n, 1)]
    if n > 1:
        found.append((n, 1, 1))
        if engine == "openvino":
            found.append((1, n, n))
    if n >= 8:
        found.append((n // 4, 4, 1))
    return found


def tune(job, engine, precision, log):
    """Best throughput set-up, and the best one-process layout for a single text."""
    a = job.a
    batches, sample = ((8, 32), 96) if a.quick else ((8, 16, 32), 256)
    corpus, best, fastest = a.corpora[0], None, None
    for layout in layouts(engine, job.cpus):
        workers = Workers(job, engine, precision, layout, log)
        try:
            for batch in batches:
                rate = max(workers.run(corpus, batch, sample) for _ in range(1 if a.quick else 2))
                if best is None or rate > best[0]:
                    best = (rate, layout, batch)
            if layout[2] == 1:
                p50 = statistics.median(workers.latency(20 if a.quick else 100))
                if fastest is None or p50 < fastest[0]:
                    fastest = (p50, layout)
        finally:
            workers.end()
    return {"layout": best[1], "batch": best[2], "latency_layout": fastest[1]}


def describe(setup):
    processes, threads, streams = setup["layout"]
    text = "%d x %d thr" % (processes, threads)
    if streams > 1:
        text += ", %d streams" % streams
    return "%s, batch %d; one text: %d thr" % (text, setup["batch"], setup["latency_layout"][1])


def measure_peer(job, row, first_round, log):
    engine, precision, setup = row["engine"], row["precision"], row["setup"]
    calls = LATENCY_CALLS_QUICK if job.a.quick else LATENCY_CALLS
    workers = Workers(job, engine, precision, setup["layout"], log)
    try:
        for corpus in job.files:
            save = os.path.join(job.folder, "vectors") if first_round else None
            # Engines that compile per shape (OpenVINO, oneDNN) have met most lengths after this.
            workers.run(corpus, setup["batch"], min(1024, job.a.texts))
            row["rates"][corpus].append(workers.run(corpus, setup["batch"], save=save))
            if save:
                job.judge(row, corpus, workers.vectors(save))
        same = setup["latency_layout"][1:] == tuple(setup["layout"][1:])
        if same:
            keep_latency(row, workers.latency(calls))
        row["rss_mb"].append(workers.quit())
    finally:
        workers.end()
    if not same:
        workers = Workers(job, engine, precision, (1,) + setup["latency_layout"][1:], log)
        try:
            keep_latency(row, workers.latency(calls))
        finally:
            workers.end()


def keep_latency(row, times):
    row["p50"].append(float(np.percentile(times, 50)))
    row["p99"].append(float(np.percentile(times, 99)))


def run_akin(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(last_line(done.stderr))
    return json.loads(done.stdout)


def measure_akin(job, row, first_round):
    """As a peer: warmed up, then timed, in a process of its own for each corpus."""
    a, precision = job.a, row["precision"]
    out, rss = os.path.join(job.folder, "akin.f32"), []
    for corpus in job.files:
        texts = os.path.join(job.folder, corpus + ".txt")
        settings = [texts, out, precision, str(len(job.cpus))]
        report = run_akin([a.akin_helper, "run", job.model] + settings)
        row["rates"][corpus].append(report["texts"] / report["seconds"])
        row["note"] = "%s kernels" % report["kernels"]
        rss.append(report["rss_mb"])
        if first_round:
            vectors = np.fromfile(out, np.float32).reshape(report["texts"], -1)
            job.judge(row, corpus, vectors)
        os.remove(out)
    row["rss_mb"].append(max(rss))
    best = None
    for threads in sorted({1, len(job.cpus)}):
        short = os.path.join(job.folder, "short.txt")
        calls = LATENCY_CALLS_QUICK if a.quick else LATENCY_CALLS
        settings = [short, str(calls), precision, str(threads)]
        report = run_akin([a.akin_helper, "latency", job.model] + settings)
        if best is None or np.median(report["ms"]) < np.median(best[0]):
            best = (report["ms"], threads)
    keep_latency(row, best[0])
    row["setup_text"] = "1 x %d thr; one text: %d thr" % (len(job.cpus), best[1])


def prepare(job, wanted, log):
    """Peers' model files, then the best set-up of each; rows without figures get their reason."""
    command = [
        sys.executable,
        os.path.join(HERE, "embed_models.py"),
        job.model,
        job.artifacts,
        job.calibration,
    ] + (["--llama"] if job.a.llama else [])
    status = {}
    with open(log, "a", encoding="utf-8") as errors:
        subprocess.run(command, stdout=errors, stderr=errors, check=False)
    if os.path.exists(os.path.join(job.artifacts, "status.json")):
        with open(os.path.join(job.artifacts, "status.json"), encoding="utf-8") as f:
            status = json.load(f)
    for engine, precision in wanted:
        row, begin = job.row(engine, precision), time.monotonic()
        if engine == "akin":
            row["setup_text"] = "1 x %d thr" % len(job.cpus)
            if not job.a.akin_helper:
                row["failed"] = "no libakin.so beside the program (make build makes both)"
            continue
        file = ARTIFACT.get((engine, precision))
        try:
            if engine == "llama.cpp" and not job.a.llama:
                raise Unavailable(
                    "no wheel that runs here; --llama builds it from its source package"
                )
            if file and status.get(file) != "ok":
                raise Unavailable("%s: %s" % (file, status.get(file, "could not be made")))
            row["setup"] = tune(job, engine, precision, log)
            row["setup_text"] = describe(row["setup"])
            say(
                "%s %s %s: %s (tuned in %.0f s)"
                % (job.name, engine, precision, row["setup_text"], time.monotonic() - begin)
            )
        except Unavailable as e:
            row["failed"] = str(e)
        if "failed" in row:
            say("%s %s %s: skipped: %s" % (job.name, engine, precision, row["failed"]))


def peak(a, threads, seconds):
    if not a.peak_program:
        return {}
    done = subprocess.run(
        [a.peak_program, str(threads), str(seconds)], capture_output=True, text=True
    )
    return json.loads(done.stdout) if done.returncode == 0 else {}


def machine(cpus):
    info = {"cpu": platform.processor() or "?", "cpus_used": len(cpus)}
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        text = f.read()
    name = re.search(r"^model name\s*: (.*)$", text, re.M)
    ids = [re.search(r"^%s\s*: (\d+)$" % k, text, re.M) for k in ("cpu family", "model")]
    flags = re.search(r"^flags\s*: (.*)$", text, re.M)
    flags = flags.group(1).split() if flags else []
    info["cpu"] = name.group(1) if name else info["cpu"]
    if all(ids):
        info["cpu"] += " (family %s, model %s)" % tuple(i.group(1) for i in ids)
    info["features"] = [
        f
        for f in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
        if f in flags
    ]
    with open("/proc/meminfo", encoding="utf-8") as f:
        info["memory_gib"] = round(int(f.readline().split()[1]) / 1048576)
    info["load_before"] = os.getloadavg()[0]
    return info


def versions(a):
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in (
        "torch",
        "transformers",
        "sentence-transformers",
        "tokenizers",
        "onnxruntime",
        "onnx",
        "openvino",
        "nncf",
        "numpy",
    ):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    if a.llama:
        import llama_cpp

        found["llama-cpp-python"] = llama_cpp.__version__
    if a.akin:
        done = subprocess.run([a.akin, "--version"], capture_output=True, text=True)
        found["akin"] = last_line(done.stdout)
    return found


def commit():
    def git(*words):
        return subprocess.run(
            ["git", "-C", ROOT] + list(words), capture_output=True, text=True
        ).stdout.strip()

    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (
        " + local changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    )


def parse():
    p = argparse.ArgumentParser(prog="bench/peers/embed.sh")
    p.add_argument("--work", help=argparse.SUPPRESS)
    p.add_argument("--home", help="folder with models/ (default $AKIN_HOME)")
    p.add_argument(
        "--model", action="append", help="model folder or name under HOME/models; repeatable"
    )
    p.add_argument("--movielens", help="MovieLens folder for the film texts (default: generated)")
    p.add_argument(
        "--events",
        action="append",
        default=[],
        help="events.jsonl for the event texts (default: generated); repeatable",
    )
    p.add_argument("--texts", type=int, help="texts of each corpus (20000)")
    p.add_argument("--rounds", type=int, help="interleaved rounds (3)")
    p.add_argument("--corpora", default="movie,event")
    p.add_argument(
        "--only",
        default=".",
        help="regular expression over 'engine precision'; " "'tokenizers' compares tokenising",
    )
    p.add_argument("--threads", type=int, help="CPUs to use (all)")
    p.add_argument("--akin", default=os.path.join(ROOT, "build/release/akin"))
    p.add_argument(
        "--out", default=os.path.join(ROOT, "docs/results"), help="folder of the reports"
    )
    p.add_argument(
        "--quick",
        action="store_true",
        help="500 texts, one round, a small sweep, no report " "files unless --out is given",
    )
    p.add_argument(
        "--llama", action="store_true", help="build llama.cpp from its source package too"
    )
    p.add_argument("--peak-program", help=argparse.SUPPRESS)
    p.add_argument("--akin-helper", help=argparse.SUPPRESS)
    a = p.parse_args()
    a.texts = a.texts or (500 if a.quick else 20000)
    a.rounds = a.rounds or (1 if a.quick else 3)
    a.corpora = a.corpora.split(",")
    a.write = not a.quick or any(w.split("=")[0] == "--out" for w in sys.argv)
    if not (os.path.isfile(a.akin) and os.access(a.akin, os.X_OK)):
        say("no akin program at %s: its rows stay empty" % os.path.relpath(a.akin, ROOT))
        a.akin = a.akin_helper = None
    return a


def find_models(a):
    found = []
    for name in a.model or ["all-MiniLM-L6-v2", "multilingual-e5-small"]:
        places = [name, os.path.join(a.home, "models", name)]
        folder = next(
            (f for f in places if os.path.exists(os.path.join(f, "model.safetensors"))), None
        )
        if folder:
            found.append(folder)
        else:
            say("model %s: not found (scripts/fetch-model %s gets it): skipped" % (name, name))
    return found


def main():
    a = parse()
    cpus = sorted(os.sched_getaffinity(0))[: a.threads]
    os.sched_setaffinity(0, cpus)
    wanted = [key for key in PEERS + AKIN if re.search(a.only, " ".join(key))]
    log = os.path.join(a.work, "embed.log")
    open(log, "w", encoding="utf-8").close()
    result = {
        "machine": machine(cpus),
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "commit": commit(),
        "command": "bench/peers/embed.sh "
        + " ".join(
            os.path.basename(w.rstrip("/")) if "/" in w else w
            for w in embed_report.own_arguments(sys.argv[1:])
        ),
        "versions": versions(a),
        "texts": a.texts,
        "rounds": a.rounds,
    }
    peaks = [peak(a, len(cpus), 0.5)]
    if result["machine"]["load_before"] > 0.2 * len(cpus):
        say(
            "load average is %.1f: others use this machine, the figures are not for keeping"
            % result["machine"]["load_before"]
        )
    jobs = [Job(a, model, cpus) for model in find_models(a)]
    if not jobs:
        say("no model to measure")
        return 1
    for job in jobs if wanted else []:
        prepare(job, wanted, log)
    for number in range(a.rounds):
        for job in jobs:
            # The reference comes first in the first round; later ones start elsewhere.
            at = 0 if number == 0 else number * 5 % len(wanted)
            for engine, precision in wanted[at:] + wanted[:at]:
                row = job.row(engine, precision)
                if "failed" in row:
                    continue
                try:
                    if engine == "akin":
                        measure_akin(job, row, number == 0)
                    else:
                        measure_peer(job, row, number == 0, log)
                    say(
                        "round %d %s %s %s: %s texts/s"
                        % (
                            number + 1,
                            job.name,
                            engine,
                            precision,
                            ", ".join("%s %.0f" % (c, r[-1]) for c, r in row["rates"].items()),
                        )
                    )
                except Unavailable as e:
                    row["failed"] = str(e)
                    say("%s %s %s: failed: %s" % (job.name, engine, precision, e))
        peaks.append(peak(a, len(cpus), 0.5))
    if re.search(a.only, "tokenizers"):
        for job in jobs:
            for corpus in job.files:
                job.tokenizing[corpus] = embed_tokenize.compare(job, corpus, 1 if a.quick else 5)
    result["peak_gflops"] = {
        k: max((p.get(k) or 0) for p in peaks) for k in ("fp32", "bf16", "int8")
    }
    result["models"] = [embed_report.summarize(job, result["peak_gflops"]) for job in jobs]
    text = embed_report.markdown(result)
    print(text)
    if a.write:
        os.makedirs(a.out, exist_ok=True)
        stem = os.path.join(a.out, "embed-peers-" + time.strftime("%Y%m%d-%H%M"))
        with open(stem + ".md", "w", encoding="utf-8") as f:
            f.write(text)
        with open(stem + ".json", "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
        say("wrote %s.md and .json" % os.path.relpath(stem))
    return 0


if __name__ == "__main__":
    sys.exit(main())
