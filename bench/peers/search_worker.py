"""One turn of one engine, in a process of its own, pinned to `threads` CPUs. Prints one JSON object.

    search_worker.py '{"do": "build", "engine", "folder", "index"}'
        {"wall_s", "cpu_s", "disk_mb", "rss_mb"}
    search_worker.py '{"do": "measure", "engine", "folder", "index", "threads": [1, 2],
                       "batches": [1, 10, ...], "seconds": S, "ids": FILE or null}'
        {"points": [{"setting", "threads", "batch", "qps", "p50_us", "p99_us"}], "filtered": [...],
         "rss_mb"}; with `ids`, the answers to all queries are written there for the judge
    search_worker.py '{"do": "database", "engine", "folder", "index", "seconds": S, "ids"}'
        {"insert_s", "p50_us", "p99_us", "disk_mb", "rss_mb"}
Times are of calls through each engine's Python binding, loading and 20 calls of warm-up left out.
"""

import json
import os
import sys
import time

JOB = json.loads(sys.argv[1])
CPUS = sorted(os.sched_getaffinity(0))
# One count for building; measuring sets it through each engine's own way.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402

import search_data  # noqa: E402

WARM_UP, CALLS_MAX = 20, 20000


def rss_mb():
    with open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024


def disk_mb(folder):
    files = [os.path.join(at, n) for at, _, names in os.walk(folder) for n in names]
    return sum(os.path.getsize(f) for f in files) / 1e6


def timed(call, inputs, seconds):
    """Microseconds of calls over inputs in turn, for so long; at least 3 calls, after warm-up."""
    begin = time.perf_counter()
    for i in range(WARM_UP):
        call(inputs[i % len(inputs)])
        if time.perf_counter() - begin > seconds / 2:
            break
    times, at, end = [], WARM_UP, time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < end and len(times) < CALLS_MAX):
        one = inputs[at % len(inputs)]
        begin = time.perf_counter_ns()
        call(one)
        times.append((time.perf_counter_ns() - begin) / 1e3)
        at += 1
    return times


def figures(times, batch):
    return {
        "batch": batch,
        "calls": len(times),
        "qps": batch * 1e6 * len(times) / sum(times),
        "p50_us": float(np.percentile(times, 50)),
        "p99_us": float(np.percentile(times, 99)),
    }


def engine():
    import search_engines

    shape = np.load(os.path.join(JOB["folder"], "base.npy"), mmap_mode="r").shape
    return search_engines.ENGINES[JOB["engine"]](shape, JOB.get("quick", False))


def build():
    e = engine()
    os.makedirs(JOB["index"], exist_ok=True)
    base = np.load(os.path.join(JOB["folder"], "base.npy"))
    masks = np.load(os.path.join(JOB["folder"], "masks.npy"))
    wall, cpu = time.perf_counter(), time.process_time()
    e.build(base, JOB["index"], masks)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu,
            "disk_mb": disk_mb(JOB["index"]), "rss_mb": rss_mb()}


def measure():
    e, points, filtered, answers = engine(), [], [], {}
    queries = np.load(os.path.join(JOB["folder"], "queries.npy"))
    bare = rss_mb()
    e.load(os.path.join(JOB["folder"], "base.npy"), JOB["index"], JOB["threads"][0])
    singles = [np.ascontiguousarray(queries[i : i + 1]) for i in range(len(queries))]
    for threads in JOB["threads"]:
        os.sched_setaffinity(0, CPUS[:threads])
        e.threads(threads)
        for n, setting in enumerate(e.settings):
            if JOB["ids"] and threads == JOB["threads"][0]:
                answers["s%d" % n] = e.search(queries, search_data.K, setting)
            for batch in JOB["batches"]:
                parts = singles if batch == 1 else [
                    np.ascontiguousarray(queries[i : i + batch])
                    for i in range(0, len(queries) - batch + 1, batch)]
                if parts:
                    ask = lambda part, s=setting: e.search(part, search_data.K, s)
                    times = timed(ask, parts, JOB["seconds"])
                    points.append({"setting": setting, "threads": threads,
                                   **figures(times, batch)})
        if threads == 1:
            filtered = measure_filters(e, singles, answers)
    if JOB["ids"]:
        np.savez(JOB["ids"], **answers)
    return {"points": points, "filtered": filtered, "rss_mb": rss_mb() - bare,
            "settings": e.settings, "exact": e.exact}


def measure_filters(e, singles, answers):
    found = []
    for n, setting in enumerate(e.filters):
        for name in search_data.SELECTIVITIES:
            ask = lambda q, s=setting, f=name: e.filtered(q, search_data.K, f, s)
            try:
                times = timed(ask, singles, JOB["seconds"])
                some = singles[:100]
                if JOB["ids"]:
                    answers["f%d_%s" % (n, name)] = np.concatenate([ask(q) for q in some])
            except RuntimeError:  # hnswlib where it finds fewer than k
                continue
            found.append({"setting": setting, "filter": name, "n": n, **figures(times, 1)})
    return found


def database():
    import search_databases

    folder, queries = JOB["folder"], np.load(os.path.join(JOB["folder"], "queries.npy"))
    base = np.load(os.path.join(folder, "base.npy"))
    db = search_databases.DATABASES[JOB["engine"]](base.shape[1])
    bare, begin = rss_mb(), time.perf_counter()
    db.insert(base, JOB["index"])
    seconds = time.perf_counter() - begin
    singles = [np.ascontiguousarray(queries[i : i + 1]) for i in range(len(queries))]
    times = timed(lambda q: db.search(q, search_data.K), singles, JOB["seconds"])
    if JOB["ids"]:
        np.savez(JOB["ids"], s0=np.concatenate([db.search(q, search_data.K) for q in singles[:100]]))
    return {"insert_s": seconds, **figures(times, 1), "rss_mb": rss_mb() - bare,
            "disk_mb": disk_mb(JOB["index"])}


if __name__ == "__main__":
    out = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not the answer
    answer = {"build": build, "measure": measure, "database": database}[JOB["do"]]()
    os.write(out, (json.dumps(answer) + "\n").encode())
