"""Compares akin's vector search with its peers: the same vectors and queries, exact ground truth,
in one run and in interleaved rounds. search.sh sets up what this needs and calls it.
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
import time

import numpy as np

import search_data
import search_databases
import search_plot
import search_ratios
import search_report
from search_data import say
from search_indexes import Indexes, WorkerError, setting_key, work

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NAMES = ["akin flat", "akin ivfpq", "akin graph", "faiss flat",
         "faiss PQ fast-scan + refine", "faiss RaBitQ fast-scan + refine",
         "faiss IVF,PQ fast-scan + refine", "faiss IVF,PQ32", "faiss HNSW32,SQ8", "hnswlib",
         "usearch f16", "SymphonyQG", "scann flat", "scann tree", "scann int8"]
SHORT = ["akin auto", "faiss flat", "faiss PQ fast-scan + refine", "faiss HNSW32,SQ8", "hnswlib",
         "SymphonyQG", "scann flat", "scann tree"]
PACKAGES = ["faiss-cpu", "hnswlib", "usearch", "rabitqlib", "scann", "lancedb", "sqlite-vec",
            "qdrant-edge-py", "numpy"]


def shown(arguments):
    """The command line as the page shows it, without folders of this machine."""
    parts = []
    for n, a in enumerate(arguments):
        if a in ("--work", "--home") or n and arguments[n - 1] in ("--work", "--home"):
            continue
        parts.append(os.path.basename(a.rstrip("/")) if os.path.isabs(a) else a or "''")
    return " ".join(parts)


def options():
    p = argparse.ArgumentParser(prog="bench/peers/search.sh", description=__doc__.split("\n\n")[0])
    a = p.add_argument
    a("--movielens", metavar="DIR", help="MovieLens folder; without it films are generated")
    a("--queries", metavar="FILE", help="what people type, one a line; without it: generated")
    a("--vectors", metavar="V.npy", help="take these film vectors instead of embedding")
    a("--query-vectors", metavar="Q.npy", help="and these queries")
    a("--rows", default="62k,1m", help="sizes: 62k is all films; 10k, 1m and the like (62k,1m)")
    a("--short", default="1k,10k,100k", help="sizes of which few engines' single queries are timed")
    a("--minutes", type=float, default=35, help="time budget: rounds that do not fit are left out; "
      "building what is not there yet counts too (35)")
    a("--build-only", action="store_true", help="make and keep the indexes, measure nothing")
    a("--kept-only", action="store_true",
      help="leave out peers whose index of more than 200,000 rows is not there yet")
    a("--peers-only", action="store_true", help="leave akin out, such as with --build-only")
    a("--rounds", type=int, default=5, help="at most (5)")
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
    args.command = "bench/peers/search.sh " + shown(sys.argv[1:])
    if args.quick:
        args.rows, args.short, args.rounds = "4k", "1k", 2
        args.seconds = min(args.seconds, 0.05)
        args.batches, args.name = "1,100,1000", args.name + "-quick"
    return args


class Clock:
    """How much of the time budget is left, and how long turns like the next one took."""

    def __init__(self, minutes):
        self.begin, self.seconds, self.took = time.monotonic(), minutes * 60, {}

    def left(self):
        return self.seconds - (time.monotonic() - self.begin)

    def turn(self, what, act):
        begin = time.monotonic()
        act()
        self.took[what] = time.monotonic() - begin
        say("%s: %.0f s; %.1f of %.0f minutes left" % (
            what, self.took[what], self.left() / 60, self.seconds / 60))


class Bench:
    """The first round of a size measures all there is; further rounds, as many as the time budget
    allows, measure again what the ratios are made of."""

    def __init__(self, args):
        self.args, self.sizes, self.failed, self.live = args, {}, {}, []
        self.words = [w for w in args.only.split(",") if w]
        self.threads = [int(t) for t in args.threads.split(",")]
        self.batches = [int(b) for b in args.batches.split(",")]
        self.clock = Clock(args.minutes)
        self.indexes = Indexes(os.path.join(args.work, "indexes"), args.akin, args.quick)

    def wanted(self, name):
        return not self.words or any(w in name for w in self.words)

    # ---- data and indexes ------------------------------------------------------------------

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
        short = [name for name in self.args.short.split(",") if name]
        for name in [name for name in self.args.rows.split(",") if name] + short:
            unit = {"k": 1000, "m": 1000000}.get(name[-1].lower(), 1)
            rows = len(films) if name == "62k" else int(float(name.rstrip("kKmM")) * unit)
            folder = os.path.join(self.args.work, "data", "%s-%d" % (name, rows))
            data = search_data.Data(name, folder, films, typed, rows)
            self.sizes[name] = {"data": data, "engines": {}, "databases": {},
                                "short": name in short}

    def may_build(self, data, name):
        if search_ratios.is_akin(name) or not self.args.kept_only:
            return True
        return data.rows <= search_data.LARGE or bool(self.indexes.kept(data, name))

    def build(self, size):
        parts = self.sizes[size]
        for name in filter(self.wanted, SHORT if parts["short"] else NAMES):
            if self.args.peers_only and search_ratios.is_akin(name):
                continue
            if not self.may_build(parts["data"], name):
                self.failed["%s, %s" % (name, size)] = "its index was not made before the run"
                continue
            kept = self.indexes.build(parts["data"], name)
            self.indexes.judge(parts["data"], name, kept)
            if "failed" in kept:
                self.failed["%s, %s" % (name, size)] = kept["failed"]
            else:
                parts["engines"][name] = {"build": kept["build"], "recall": kept["recall"],
                                          "rounds": []}

    # ---- turns -----------------------------------------------------------------------------

    def plan(self, size, engine, turn):
        """What one engine is asked in a round; None: nothing that a ratio is made of."""
        recall, seconds = engine["recall"], self.args.seconds
        if self.sizes[size]["short"]:
            return {"plan": [{"threads": 1, "batches": [1], "seconds": seconds, "settings": None}],
                    "filters": 0}
        if turn == 0:
            return {"plan": [{"threads": t, "batches": self.batches, "seconds": seconds / 2,
                              "settings": None} for t in self.threads], "filters": seconds}
        floors = search_ratios.floors(size)
        near = [k for k, v in recall.items() if k[0] == "{" and v >= min(floors, default=2)]
        exact = [k for k in near if recall[k] >= search_ratios.EXACT]
        passing = [k for k, v in recall.items() if k[0] != "{" and v >= 0.95]
        plan = [{"threads": 1, "batches": [1], "seconds": seconds, "settings": near}]
        if 1 in floors:
            plan.append({"threads": 2, "batches": [1000], "seconds": seconds, "settings": exact})
        if not near and not passing:
            return None
        return {"plan": [p for p in plan if p["settings"]] or plan[:1],
                "filters": seconds if passing else 0}

    def measure(self, size, turn):
        data, engines = self.sizes[size]["data"], self.sizes[size]["engines"]
        names = list(engines)
        for name in names[turn % len(names) :] + names[: turn % len(names)] if names else []:
            plan = self.plan(size, engines[name], turn)
            found = {"points": [], "filtered": []}
            if plan and "%s, %s" % (name, size) not in self.failed:
                say("%s: round %d: %s" % (size, turn + 1, name))
                try:
                    found = work(self.indexes.job("measure", data, name, **plan), 600)
                except WorkerError as error:
                    self.failed["%s, %s" % (name, size)] = "round %d: %s" % (turn + 1, error)
                    say("%s: %s: left out: %s" % (size, name, error))
            engines[name]["rounds"].append(found)
            self.save()

    def databases(self, size, turn):
        data, rows = self.sizes[size]["data"], self.sizes[size]["databases"]
        for name in filter(self.wanted, search_databases.DATABASES):
            if "%s database, %s" % (name, size) in self.failed:
                continue
            folder = os.path.join(self.args.work, "databases")
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            ids = os.path.join(self.args.work, "ids.npz") if turn == 0 else None
            try:
                found = work({"do": "database", "engine": name, "folder": data.folder,
                              "index": folder, "seconds": self.args.seconds, "ids": ids}, 600)
            except WorkerError as error:
                self.failed["%s database, %s" % (name, size)] = str(error)
                say("%s: %s: left out: %s" % (size, name, error))
                continue
            row = rows.setdefault(name, {"rounds": [], "recall": {}})
            row["rounds"].append(found)
            if ids:
                answers = np.load(ids)
                for n, search in enumerate(found["searches"]):
                    key = setting_key(search["setting"])
                    row["recall"][key] = data.recall(answers["s%d" % n])
            shutil.rmtree(folder, ignore_errors=True)

    def inserts(self, size):
        """Searches of akin's while rows come in."""
        if not self.wanted("akin"):
            return
        folder = os.path.join(self.args.work, "live")
        for kind in ("flat", "ivfpq"):
            for rate in (5000, 20000):
                shutil.rmtree(folder, ignore_errors=True)
                os.makedirs(folder)
                try:
                    found = work({"do": "live", "folder": self.sizes[size]["data"].folder,
                                  "index": folder, "engine": "akin " + kind, "rate": rate,
                                  "seconds": 10 * self.args.seconds}, 300)
                    self.live.append({"size": size, "kind": kind, "rate": rate, **found})
                except WorkerError as error:
                    self.failed["inserts into akin %s at %d rows/s" % (kind, rate)] = str(error)
        shutil.rmtree(folder, ignore_errors=True)

    def estimate(self):
        """Seconds of all first rounds, roughly: loading, and what is measured with warm-up."""
        seconds = 0
        for parts in self.sizes.values():
            figures = 1 if parts["short"] else len(self.threads) * len(self.batches) / 2
            slow = parts["data"].rows / 1e6
            for engine in parts["engines"].values():
                seconds += 2 + 5 * slow + len(engine["recall"]) * figures * (
                    1.3 * self.args.seconds + 0.4 * slow)
        return seconds + (0 if self.args.no_databases else 60)

    def run(self):
        self.prepare()
        for size in self.sizes:
            self.build(size)
        if self.args.build_only:
            return
        say("indexes are there; the first rounds take about %.0f minutes, %.1f are left" % (
            self.estimate() / 60, self.clock.left() / 60))
        small = [s for s, parts in self.sizes.items()
                 if parts["data"].rows <= 100000 and not parts["short"]]
        for turn in range(self.args.rounds):
            acts = [("%s, round" % s, lambda s=s: self.measure(s, turn)) for s in self.sizes]
            if not self.args.no_databases:
                acts += [("%s, databases" % s, lambda s=s: self.databases(s, turn)) for s in small]
            if turn == 0:
                acts += [("%s, inserts" % s, lambda s=s: self.inserts(s)) for s in small[:1]]
            for what, act in acts:
                # A later round of engines costs less than the first one, by about a half.
                if turn and self.clock.took[what] * (0.5 if turn == 1 else 1) > self.clock.left():
                    say("%s %d: no time left" % (what, turn + 1))
                    continue
                self.clock.turn(what, act)

    def save(self):
        """What is there so far: a run that is cut off can still be read."""
        with open(os.path.join(self.args.work, "partial.json"), "w", encoding="utf-8") as f:
            json.dump({s: {"engines": p["engines"], "databases": p["databases"]}
                       for s, p in self.sizes.items()}, f)


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit():
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return done.stdout.strip()


def collect(args, bench, load):
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = next((x.split(":")[1].strip() for x in f if x.startswith("model name")), "unknown")
    akin = subprocess.run([args.akin, "--version"], capture_output=True, text=True)
    result = {
        "timestamp": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": cpu, "cpus": len(os.sched_getaffinity(0)), "system": platform.platform(),
        "load": load, "akin": akin.stdout.strip(), "commit": commit(), "versions": versions(),
        "command": args.command, "seconds": args.seconds, "origin": bench.origin,
        "failed": bench.failed, "live": bench.live, "sizes": {},
    }
    for size, parts in bench.sizes.items():
        result["sizes"][size] = {
            "rows": parts["data"].rows, "dimension": int(parts["data"].base.shape[1]),
            "queries": len(parts["data"].queries), "short": parts["short"], "plots": [],
            "rounds": search_ratios.rounds_of(parts), "engines": parts["engines"],
            "databases": parts["databases"]}
    result["targets"] = search_ratios.targets(result)
    result["limits"] = search_ratios.limits(result)
    return result


def plots(args, result):
    """The drawings of each size, beside the page."""
    for name, size in result["sizes"].items():
        for threads, batch in ((1, 1), (2, 1000)):
            title = "%s rows, batch %d, %d thread%s" % (
                format(size["rows"], ","), batch, threads, "s" if threads > 1 else "")
            text = None if size["short"] else search_plot.draw(size, title, threads, batch)
            if text:
                file = "%s-%s-b%d.svg" % (args.name, name, batch)
                size["plots"].append((title, file))
                with open(os.path.join(args.output_dir, file), "w", encoding="utf-8") as f:
                    f.write(text)


def main():
    args, load = options(), os.getloadavg()[0]
    bench = Bench(args)
    bench.run()
    if args.build_only:
        return
    os.makedirs(args.output_dir, exist_ok=True)
    result = collect(args, bench, load)
    plots(args, result)
    page = search_report.page(result)
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
