"""Compares akin's vector search with its peers: the same vectors and queries, exact ground truth, in
one run and in interleaved rounds. search.sh sets up what this needs and calls it.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys

import numpy as np

import search_data
import search_report
from search_data import say

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NAMES = ["akin auto", "akin flat", "akin ivfpq", "akin graph", "faiss flat",
         "faiss PQ fast-scan + refine", "faiss RaBitQ fast-scan + refine",
         "faiss IVF,PQ fast-scan + refine", "faiss IVF,PQ32", "faiss HNSW32,SQ8", "hnswlib",
         "usearch f16", "SymphonyQG", "scann flat", "scann tree", "scann int8"]
DATABASES = ["akin", "lancedb", "sqlite-vec", "qdrant-edge"]
PACKAGES = ["faiss-cpu", "hnswlib", "usearch", "rabitqlib", "scann", "lancedb", "sqlite-vec",
            "qdrant-edge-py", "numpy"]


def options():
    p = argparse.ArgumentParser(prog="bench/peers/search.sh", description=__doc__.split("\n\n")[0])
    a = p.add_argument
    a("--movielens", metavar="DIR", help="MovieLens folder; without it films are generated")
    a("--queries", metavar="FILE", help="what people type, one a line; without it: generated")
    a("--vectors", metavar="V.npy", help="take these film vectors instead of embedding")
    a("--query-vectors", metavar="Q.npy", help="and these queries")
    a("--rows", default="62k,1m", help="sizes: 62k is all films; 10k, 1m and the like (62k,1m)")
    a("--rounds", type=int, default=5)
    a("--seconds", type=float, default=0.5, help="for each figure of a round (0.5)")
    a("--only", default="", help="engines whose names contain one of these words")
    a("--threads", default="1,2")
    a("--batches", default="1,10,100,1000")
    a("--no-databases", action="store_true")
    a("--quick", action="store_true", help="4,000 rows, one round, a third of every sweep")
    a("--model", default="all-minilm-l6-v2")
    a("--akin", default=os.path.join(ROOT, "build/release/akin"), help="the program")
    a("--home", help="AKIN_HOME, where the model is")
    a("--output-dir", default=os.path.join(ROOT, "docs/results"))
    a("--name", default="search", help="of the two files written")
    a("--work", required=True, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.quick:
        args.rows, args.rounds = "4k", 1
        args.seconds = min(args.seconds, 0.05)
        args.batches, args.name = "1,100,1000", args.name + "-quick"
    return args


class Bench:
    def __init__(self, args):
        self.args, self.sizes, self.failed = args, {}, {}
        self.words = [w for w in args.only.split(",") if w]
        self.threads = [int(t) for t in args.threads.split(",")]
        self.batches = [int(b) for b in args.batches.split(",")]

    def wanted(self, name):
        return not self.words or any(w in name for w in self.words)

    # ---- data ----------------------------------------------------------------------------

    def films(self):
        args, quick = self.args, self.args.quick
        if args.vectors:
            films, origin = np.load(args.vectors, mmap_mode="r"), "vectors as given"
            return films[: 4000 if quick else None], np.load(args.query_vectors), origin
        texts, origin = search_data.film_texts(args.movielens, 4000 if quick else 0)
        count = 200 if quick else 2500
        if args.queries:
            with open(args.queries, encoding="utf-8") as f:
                queries = [line.strip() for line in f if line.strip()][:count]
        else:
            queries = search_data.typed_queries(texts, count)
        folder = os.path.join(args.work, "vectors")
        os.makedirs(folder, exist_ok=True)
        paths = [os.path.join(folder, "%s%d.npy" % (n, len(t))) for n, t in
                 (("films", texts), ("queries", queries))]
        return (*(search_data.embed(args.akin, args.home, args.model, t, p)
                  for t, p in zip((texts, queries), paths)), origin)

    def prepare(self):
        films, typed, self.origin = self.films()
        for name in self.args.rows.split(","):
            unit = {"k": 1000, "m": 1000000}.get(name[-1].lower(), 1)
            rows = len(films) if name == "62k" else int(float(name.rstrip("kKmM")) * unit)
            folder = os.path.join(self.args.work, "data", "%s-%d" % (name, rows))
            data = search_data.Data(name, folder, films, typed, rows)
            self.sizes[name] = {"data": data, "engines": {}, "databases": {}}

    # ---- turns ---------------------------------------------------------------------------

    def worker(self, job):
        done = subprocess.run([sys.executable, os.path.join(HERE, "search_worker.py"),
                               json.dumps({**job, "quick": self.args.quick})],
                              capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["signal %d" % -done.returncode]
            raise RuntimeError(lines[-1][:300])
        return json.loads(done.stdout.strip().splitlines()[-1])

    def index_folder(self, size, name):
        clean = "".join(c if c.isalnum() else "_" for c in name)
        return os.path.join(self.args.work, "indexes", size, clean)

    def build(self, size):
        data, engines = self.sizes[size]["data"], self.sizes[size]["engines"]
        for name in filter(self.wanted, NAMES):
            folder = self.index_folder(size, name)
            shutil.rmtree(folder, ignore_errors=True)
            say("%s: building %s" % (size, name))
            try:
                built = self.worker({"do": "build", "engine": name, "folder": data.folder,
                                     "index": folder})
                engines[name] = {"build": built, "rounds": [], "recall": {}}
            except RuntimeError as error:
                self.failed["%s, %s" % (name, size)] = str(error)
                say("%s: %s: left out: %s" % (size, name, error))

    def measure(self, size, turn):
        data, engines = self.sizes[size]["data"], self.sizes[size]["engines"]
        names = list(engines)
        for name in names[turn % len(names) :] + names[: turn % len(names)] if names else []:
            ids = os.path.join(self.index_folder(size, name), "ids.npz") if turn == 0 else None
            try:
                found = self.worker({"do": "measure", "engine": name, "folder": data.folder,
                                     "index": self.index_folder(size, name), "ids": ids,
                                     "threads": self.threads, "batches": self.batches,
                                     "seconds": self.args.seconds})
            except RuntimeError as error:
                self.failed["%s, %s" % (name, size)] = str(error)
                del engines[name]
                say("%s: %s: left out: %s" % (size, name, error))
                continue
            say("%s: round %d: %s" % (size, turn + 1, name))
            engines[name]["rounds"].append(found)
            if ids:
                self.judge(data, engines[name], found, ids)

    def judge(self, data, engine, found, ids):
        """Recall of every setting, once: what an engine answers does not change between rounds."""
        answers = np.load(ids)
        for n, setting in enumerate(found["settings"]):
            engine["recall"][json.dumps(setting)] = data.recall(answers["s%d" % n])
        for row in found["filtered"]:
            key = "%s %s" % (row["filter"], json.dumps(row["setting"]))
            engine["recall"][key] = data.recall(
                answers["f%d_%s" % (row["n"], row["filter"])], row["filter"])

    def databases(self, size):
        data, rows = self.sizes[size]["data"], self.sizes[size]["databases"]
        for turn in range(self.args.rounds):
            for name in filter(self.wanted, DATABASES):
                if "%s database, %s" % (name, size) in self.failed:
                    continue
                folder = self.index_folder(size, "db " + name)
                shutil.rmtree(folder, ignore_errors=True)
                os.makedirs(folder)
                ids = os.path.join(os.path.dirname(folder), "ids.npz") if turn == 0 else None
                try:
                    found = self.worker({"do": "database", "engine": name, "folder": data.folder,
                                         "index": folder, "seconds": self.args.seconds,
                                         "ids": ids})
                except RuntimeError as error:
                    self.failed["%s database, %s" % (name, size)] = str(error)
                    say("%s: %s: left out: %s" % (size, name, error))
                    continue
                say("%s: round %d: database %s" % (size, turn + 1, name))
                row = rows.setdefault(name, {"rounds": []})
                row["rounds"].append(found)
                if ids:
                    row["recall"] = data.recall(np.load(ids)["s0"])
                shutil.rmtree(folder, ignore_errors=True)

    def run(self):
        self.prepare()
        for size, parts in self.sizes.items():
            self.build(size)
            for turn in range(self.args.rounds):
                self.measure(size, turn)
            if not self.args.no_databases and parts["data"].rows <= 100000:
                self.databases(size)


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def main():
    args = options()
    bench = Bench(args)
    bench.run()
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = next((x.split(":")[1].strip() for x in f if x.startswith("model name")), "unknown")
    akin = subprocess.run([args.akin, "--version"], capture_output=True, text=True)
    result = {
        "timestamp": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": cpu, "cpus": len(os.sched_getaffinity(0)), "system": platform.platform(),
        "load": os.getloadavg()[0], "akin": akin.stdout.strip(), "versions": versions(),
        "rounds": args.rounds, "seconds": args.seconds, "origin": bench.origin,
        "failed": bench.failed, "queries": {}, "sizes": {},
    }
    for size, parts in bench.sizes.items():
        result["sizes"][size] = {
            "rows": parts["data"].rows, "dimension": int(parts["data"].base.shape[1]),
            "queries": len(parts["data"].queries), "engines": parts["engines"],
            "databases": parts["databases"]}
    result["targets"] = search_report.targets(result)
    result["limits"] = search_report.limits(result)
    page = search_report.page(result)
    os.makedirs(args.output_dir, exist_ok=True)
    stem = os.path.join(args.output_dir, args.name)
    with open(stem + ".json", "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    with open(stem + ".md", "w", encoding="utf-8") as f:
        f.write(page)
    print(page)
    say("written: %s.md and .json" % args.name)


if __name__ == "__main__":
    main()
