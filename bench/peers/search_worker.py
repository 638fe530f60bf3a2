"""One turn of one engine, in a process of its own. Prints one JSON object.

    {"do": "build", "engine", "folder", "index"}
        {"wall_s", "cpu_s", "disk_mb", "rss_mb"}
    {"do": "answer", "engine", "folder", "index", "ids": FILE}
        {"settings", "filters": [[n, selection, setting]]}; the answers go to FILE, for the judge
    {"do": "measure", "engine", "folder", "index", "plan": [{"threads", "batches", "seconds",
     "settings": [keys] or null for all}], "filters": seconds or 0}
        {"points": [{"setting", "threads", "batch", "qps", "p50_us", "p99_us"}], "filtered": [...],
         "rss_mb", "anonymous_mb"}
    {"do": "database", "engine", "folder", "index", "seconds": S, "ids": FILE or null}
        {"insert_s", "searches": [{"setting", "p50_us", ...}], "disk_mb", "rss_mb"}
    {"do": "live", "engine", "folder", "index", "rate", "seconds"}
        {"idle_p50_us", ...}: searches alone and while rows come in
Times are of calls through each engine's Python binding, loading and warm-up left out. The process is
pinned to as many CPUs as it may have threads.
"""

import json
import os
import sys
import time

JOB = json.loads(sys.argv[1])
CPUS = sorted(os.sched_getaffinity(0))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402

import search_data  # noqa: E402
from search_indexes import setting_key  # noqa: E402

WARM_UP, CALLS_MAX = 20, 20000
CALL_S_MAX = 6          # a batch that takes longer is not measured
FILTERED_ANSWERS = 100


def memory_mb(what="VmRSS"):
    with open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith(what + ":"):
                return int(line.split()[1]) / 1024


def disk_mb(folder):
    files = [os.path.join(at, n) for at, _, names in os.walk(folder) for n in names]
    return sum(os.path.getsize(f) for f in files) / 1e6


def timed(call, inputs, seconds, warm_up=WARM_UP):
    """Microseconds of calls over inputs in turn, for so long, after some to warm up; at least 3
    calls where they fit into a second."""
    begin = time.perf_counter()
    for i in range(warm_up):
        call(inputs[i % len(inputs)])
        if time.perf_counter() - begin > seconds / 4:
            break
    times, at, begin = [], WARM_UP, time.perf_counter()
    while True:
        one, start = inputs[at % len(inputs)], time.perf_counter_ns()
        call(one)
        times.append((time.perf_counter_ns() - start) / 1e3)
        at += 1
        past = time.perf_counter() - begin
        if len(times) == CALLS_MAX or past > max(seconds, 1) or (past > seconds and len(times) > 2):
            return times


def figures(times, batch):
    return {
        "batch": batch,
        "calls": len(times),
        "qps": batch * 1e6 * len(times) / sum(times),
        "p50_us": float(np.percentile(times, 50)),
        "p99_us": float(np.percentile(times, 99)),
    }


def at(name):
    return os.path.join(JOB["folder"], name)


def engine():
    import search_engines

    shape = np.load(at("base.npy"), mmap_mode="r").shape
    return search_engines.ENGINES[JOB["engine"]](shape, JOB.get("quick", False))


def split(queries, batch):
    return [np.ascontiguousarray(queries[i : i + batch])
            for i in range(0, len(queries) - batch + 1, batch)]


def build():
    e = engine()
    os.makedirs(JOB["index"], exist_ok=True)
    base, masks = np.load(at("base.npy")), np.load(at("masks.npy"))
    wall, cpu = time.perf_counter(), time.process_time()
    e.build(base, JOB["index"], masks)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu,
            "disk_mb": disk_mb(JOB["index"]), "rss_mb": memory_mb()}


def answer():
    e, answers, filters = engine(), {}, []
    queries = np.load(at("queries.npy"))
    e.load(at("base.npy"), JOB["index"], len(CPUS))
    for n, setting in enumerate(e.settings):
        answers["s%d" % n] = e.search(queries, search_data.K, setting)
    for n, setting in enumerate(e.filters):
        for name in search_data.SELECTIVITIES:
            try:
                answers["f%d_%s" % (n, name)] = np.concatenate([
                    e.filtered(q, search_data.K, name, setting)
                    for q in split(queries[:FILTERED_ANSWERS], 1)])
            except RuntimeError:  # hnswlib where it finds fewer than k
                continue
            filters.append([n, name, setting])
    np.savez(JOB["ids"], **answers)
    return {"settings": e.settings, "filters": filters}


def measure():
    e, points = engine(), []
    queries = np.load(at("queries.npy"))
    bare = {what: memory_mb(what) for what in ("VmRSS", "RssAnon")}
    e.load(at("base.npy"), JOB["index"], JOB["plan"][0]["threads"])
    parts = {b: split(queries, b) for plan in JOB["plan"] for b in plan["batches"]}
    for plan in JOB["plan"]:
        os.sched_setaffinity(0, CPUS[: plan["threads"]])
        e.threads(plan["threads"])
        for setting in e.settings:
            if plan["settings"] is None or setting_key(setting) in plan["settings"]:
                points += measure_setting(e, setting, plan, parts)
    filtered = measure_filters(e, split(queries, 1)) if JOB["filters"] else []
    return {"points": points, "filtered": filtered,
            "rss_mb": memory_mb() - bare["VmRSS"],
            "anonymous_mb": memory_mb("RssAnon") - bare["RssAnon"]}


def measure_setting(e, setting, plan, parts):
    points, each_s = [], 0
    for batch in plan["batches"]:
        if parts[batch] and each_s * batch < CALL_S_MAX:
            warm = each_s > 0 and batch >= 100  # by the batches before
            times = timed(lambda part: e.search(part, search_data.K, setting), parts[batch],
                          plan["seconds"], 0 if warm else WARM_UP)
            points.append({"setting": setting, "threads": plan["threads"],
                           **figures(times, batch)})
            each_s = 1 / points[-1]["qps"]
    return points


def measure_filters(e, singles):
    found = []
    os.sched_setaffinity(0, CPUS[:1])
    e.threads(1)
    for setting in e.filters:
        for name in search_data.SELECTIVITIES:
            try:
                times = timed(lambda q: e.filtered(q, search_data.K, name, setting), singles,
                              JOB["filters"])
            except RuntimeError:  # hnswlib where it finds fewer than k
                continue
            found.append({"setting": setting, "filter": name, **figures(times, 1)})
    return found


def database():
    import search_databases

    queries, base = np.load(at("queries.npy")), np.load(at("base.npy"))
    db = search_databases.DATABASES[JOB["engine"]](base.shape[1])
    bare, begin, answers, searches = memory_mb(), time.perf_counter(), {}, []
    db.insert(base, JOB["index"])
    seconds = time.perf_counter() - begin
    singles = split(queries, 1)
    for n, setting in enumerate(db.settings):
        times = timed(lambda q: db.search(q, search_data.K, setting), singles, JOB["seconds"])
        searches.append({"setting": setting, **figures(times, 1)})
        if JOB["ids"]:
            answers["s%d" % n] = np.concatenate(
                [db.search(q, search_data.K, setting) for q in singles[:100]])
    if JOB["ids"]:
        np.savez(JOB["ids"], **answers)
    return {"insert_s": seconds, "searches": searches, "rss_mb": memory_mb() - bare,
            "disk_mb": disk_mb(JOB["index"])}


def live():
    """Searches while another thread adds rows; akin only."""
    return engine().live(np.load(at("base.npy")), np.load(at("queries.npy")), JOB["index"],
                         JOB["rate"], JOB["seconds"])


if __name__ == "__main__":
    out = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not the answer
    todo = {"build": build, "answer": answer, "measure": measure, "database": database,
            "live": live}
    os.write(out, (json.dumps(todo[JOB["do"]]()) + "\n").encode())
