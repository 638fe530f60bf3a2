"""Turns what search_bench.py measured into ratios.

A ratio is taken within a round: the fastest setting of any peer whose recall is at least the floor,
over akin's fastest such setting; then the median over rounds. Akin's kinds count as one engine."""

import statistics

from search_indexes import setting_key

# name, size, threads, batch, recall floor, least ratio, aimed ratio
CASES = [
    ("recall >= 0.998, one query, one thread", "62k", 1, 1, 0.998, 2, 2.6),
    ("recall >= 0.955, one query, one thread", "62k", 1, 1, 0.955, 1.5, 2.1),
    ("recall >= 0.9995, one query, one thread", "62k", 1, 1, 0.9995, 1, 2),
    ("exact, batch 1000, two threads", "62k", 2, 1000, 1, 4, 6.4),
    ("exact, one query, one thread", "62k", 1, 1, 1, 3, 5),
    ("recall >= 0.95, one query, one thread", "1m", 1, 1, 0.95, 1.3, 3),
    ("recall >= 0.987, one query, one thread", "1m", 1, 1, 0.987, 1.5, 2.9),
]
FILTER_CASES = [
    ("filter passes 10 %, recall 1", "62k", "p10", 0.999, 4, 16),
    ("filter passes 1 %, recall 1", "62k", "p1", 0.999, 3, 6),
    ("filter passes 0.1 %, recall 1", "62k", "p01", 0.999, 6, 16),
    ("filter passes 1 %, recall >= 0.95", "1m", "p1", 0.95, 2, 5),
]
# what, size, akin's kind, the peer beside it, its figure, at most (recall: at least), aimed
LIMITS = [
    ("memory with graph, MB", "1m", "akin graph", "SymphonyQG", "rss_mb", 2600, 2400),
    ("building a graph, CPU s", "1m", "akin graph", "SymphonyQG", "cpu_s", 250, 120),
    ("memory without graph, MB", "1m", "akin ivfpq", "faiss IVF,PQ fast-scan + refine", "rss_mb",
     500, 450),
    ("building without graph, CPU s", "1m", "akin ivfpq", "faiss IVF,PQ fast-scan + refine",
     "cpu_s", 15, 10),
    ("best recall of a compressed index", "1m", "akin ivfpq", "faiss IVF,PQ32", "recall", 0.95,
     0.98),
]
# Peers that look at every number of every row: the others may find everything, and promise nothing.
EXACT_PEERS = ("faiss flat", "scann int8")
EXACT = 0.9995
DATABASE_RECALL = 0.998


def floors(size):
    """The recalls that ratios are taken at; those of the films where a size has none of its own."""
    found = [c[4] for c in CASES if c[1] == size]
    return found or [c[4] for c in CASES if c[1] == "62k"]


def is_akin(name):
    return name.startswith("akin")


def median(values):
    return statistics.median(values) if values else None


def fastest(size, turn, akin, good, kind):
    """The fastest good point of a round, or None; a batch counts by the time of each query."""
    best = None
    for name, engine in size["engines"].items():
        if is_akin(name) != akin or turn >= len(engine["rounds"]):
            continue
        for point in engine["rounds"][turn][kind]:
            if good(name, engine, point):
                us = point["p50_us"] if point["batch"] == 1 else 1e6 / point["qps"]
                key = setting_key(point["setting"], point.get("filter"))
                if best is None or us < best["us"]:
                    best = {"us": us, "engine": name, "setting": point["setting"],
                            "recall": engine["recall"][key], "batch": point["batch"]}
    return best


def settle(row, pairs):
    """The median ratio of (ratio, own, peer), the lower one of two, and the sides that gave it."""
    ratio, row["akin"], row["peer"] = sorted(pairs, key=lambda p: p[0])[(len(pairs) - 1) // 2]
    row["ratio"], row["rounds"] = ratio, len(pairs)


def rounds_of(size):
    return max((len(e["rounds"]) for e in size["engines"].values()), default=0)


def compare(result, case, size_name, good, kind, must=None, aim=None):
    """One row of the table of targets; the sides that it shows are those of the median ratio."""
    size = result["sizes"].get(size_name)
    if not size:
        return None
    row = {"case": case, "size": size_name, "must": must, "aim": aim, "ratio": None}
    pairs = []
    for turn in range(rounds_of(size)):
        own, peer = (fastest(size, turn, a, good, kind) for a in (True, False))
        row["akin"], row["peer"] = own or row.get("akin"), peer or row.get("peer")
        if own and peer:
            pairs.append((peer["us"] / own["us"], own, peer))
    if not pairs:
        row["note"] = "no such point of %s" % ("a peer" if row.get("akin") else "akin")
        return row
    settle(row, pairs)
    return row


def point_test(threads, batch, floor):
    """At a floor of 1, what akin is asked to prove, and EXACT_PEERS."""
    def good(name, engine, p):
        if p["threads"] != threads or p["batch"] != batch:
            return False
        if floor == 1 and ("recall" in p["setting"] or
                           not (is_akin(name) or name in EXACT_PEERS)):
            return False
        return engine["recall"].get(setting_key(p["setting"]), 0) >= min(floor, EXACT)

    return good


def filter_test(name, floor):
    def good(_, engine, p):
        recall = engine["recall"].get(setting_key(p["setting"], name), 0)
        return p["filter"] == name and recall >= floor

    return good


def targets(result):
    rows, sizes = [], list(result["sizes"])
    alone = "62k" not in sizes and "1m" not in sizes  # such as a quick run
    for case, size, threads, batch, floor, must, aim in CASES:
        rows.append(compare(result, case, sizes[0] if alone else size,
                            point_test(threads, batch, floor), "points", must, aim))
    for case, size, name, floor, must, aim in FILTER_CASES:
        rows.append(compare(result, case, sizes[0] if alone else size, filter_test(name, floor),
                            "filtered", must, aim))
    for size in sizes:
        rows += database_targets(result, size)
    return [r for r in rows if r]


def database_search(found, name, turn, allowed):
    """The fastest search of one database in a round among the settings allowed."""
    best = None
    for p in found[name]["rounds"][turn]["searches"]:
        recall = found[name]["recall"][setting_key(p["setting"])]
        if recall >= DATABASE_RECALL and allowed(p["setting"]):
            if best is None or p["p50_us"] < best["us"]:
                best = {"us": p["p50_us"], "engine": name, "setting": p["setting"],
                        "recall": recall, "batch": 1}
    return best


def database_insert(found, name, turn):
    return {"us": found[name]["rounds"][turn]["insert_s"] * 1e6, "engine": name, "setting": {},
            "batch": 1}


def database_targets(result, size):
    found = result["sizes"][size]["databases"]
    peers = [name for name in found if not is_akin(name)]
    cases = [
        ("one query, recall >= %g" % DATABASE_RECALL, "akin", 10, 14,
         lambda n, t: database_search(found, n, t, lambda s: True)),
        ("one query, exact", "akin", 10, 14,
         lambda n, t: database_search(found, n, t, lambda s: "recall" not in s)),
        ("insert all, each batch durable", "akin", 1, 2, lambda n, t: database_insert(found, n, t)),
        ("insert all, durable at the end", "akin, one sync", 1, 2,
         lambda n, t: database_insert(found, n, t)),
    ]
    rows = []
    for what, own_name, must, aim, get in cases:
        pairs = []
        for turn in range(len(found.get(own_name, {"rounds": []})["rounds"])):
            own = get(own_name, turn)
            others = [get(n, turn) for n in peers if turn < len(found[n]["rounds"])]
            others = [o for o in others if o]
            if own and others:
                peer = min(others, key=lambda o: o["us"])
                pairs.append((peer["us"] / own["us"], own, peer))
        row = {"case": "embedded databases, " + what, "size": size, "must": must, "aim": aim,
               "ratio": None}
        if pairs:
            settle(row, pairs)
        elif own_name in found or peers:
            row["note"] = "not measured"
        else:
            continue
        rows.append(row)
    return rows


def figure(engine, key):
    """A figure of a whole engine; None where it was not measured."""
    if not engine:
        return None
    if key == "cpu_s":
        return engine["build"]["cpu_s"]
    if key == "recall":
        found = [v for k, v in engine["recall"].items() if k[0] == "{" and "exact" not in k]
        return max(found, default=None)
    return median([t["rss_mb"] for t in engine["rounds"] if "rss_mb" in t])


def limits(result):
    rows = []
    for what, size, name, peer, key, must, aim in LIMITS:
        engines = result["sizes"].get(size, {"engines": {}})["engines"]
        if not engines:
            continue
        value, other = figure(engines.get(name), key), figure(engines.get(peer), key)
        met = value is not None and (value >= must if key == "recall" else value <= must)
        ratio = None
        if value and other:
            ratio = value / other if key == "recall" else other / value
        rows.append({"what": what, "size": size, "engine": name, "value": value, "peer": peer,
                     "peer_value": other, "ratio": ratio, "must": must, "aim": aim, "met": met})
    return rows
