"""Turns what search_bench.py measured into ratios and a Markdown page.

A ratio is taken within a round: the fastest setting of any peer whose recall is at least the floor,
over akin's fastest such setting; then the median over rounds. Akin's kinds count as one engine."""

import json
import statistics

from embed_report import table

# name, size, threads, batch, recall floor, least ratio, aimed ratio
CASES = [
    ("recall >= 0.998, one query, one thread", "62k", 1, 1, 0.998, 2, 2.6),
    ("recall >= 0.955, one query, one thread", "62k", 1, 1, 0.955, 1.5, 2.1),
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
# what, size, engine, its figure, least or most, aimed
LIMITS = [
    ("memory with graph, MB", "1m", "akin graph", "rss_mb", 2600, 2400),
    ("building a graph, CPU s", "1m", "akin graph", "cpu_s", 250, 120),
    ("memory without graph, MB", "1m", "akin ivfpq", "rss_mb", 500, 450),
    ("building without graph, CPU s", "1m", "akin ivfpq", "cpu_s", 15, 10),
    ("best recall of ivfpq", "1m", "akin ivfpq", "recall", 0.95, 0.98),
]
EXACT = 0.9995  # of a peer that quantises and reorders; akin answers with its exact setting


def is_akin(name):
    return name.startswith("akin")


def median(values):
    return statistics.median(values) if values else None


def fastest(size, turn, akin, good, kind):
    """(time in us, engine, setting) of the fastest good point of a round, or None."""
    best = None
    for name, engine in size["engines"].items():
        if is_akin(name) != akin or turn >= len(engine["rounds"]):
            continue
        for point in engine["rounds"][turn][kind]:
            if good(engine, point):
                time = point["p50_us"] if point["batch"] == 1 else 1e6 / point["qps"]
                if best is None or time < best[0]:
                    best = (time, name, point["setting"])
    return best


def compare(result, case, size_name, good, kind, must, aim):
    """One row of the table of targets. `size_name` 62k stands for the films of a quick run too."""
    size = result["sizes"].get(size_name)
    if not size:
        return None
    pairs = []
    for turn in range(result["rounds"]):
        own, peer = (fastest(size, turn, a, good, kind) for a in (True, False))
        if own and peer:
            pairs.append((own, peer))
    row = {"case": case, "size": size_name, "must": must, "aim": aim, "ratio": None}
    if not pairs:
        sides = [any(fastest(size, t, a, good, kind) for t in range(result["rounds"]))
                 for a in (True, False)]
        row["note"] = "no such point of akin's" if not sides[0] else "no such point of a peer's"
        return row
    row["ratio"] = median([peer[0] / own[0] for own, peer in pairs])
    for side, at in (("akin", 0), ("peer", 1)):
        row[side] = {"us": median([p[at][0] for p in pairs]), "engine": pairs[0][at][1],
                     "setting": pairs[0][at][2]}
    return row


def targets(result):
    rows, sizes = [], list(result["sizes"])
    alone = "62k" not in sizes and "1m" not in sizes  # such as a quick run
    for case, size, threads, batch, floor, must, aim in CASES:
        def good(engine, p, threads=threads, batch=batch, floor=floor):
            if p["threads"] != threads or p["batch"] != batch:
                return False
            if floor == 1 and "recall" in p["setting"]:
                return False
            return engine["recall"][json.dumps(p["setting"])] >= min(floor, EXACT)

        rows.append(compare(result, case, sizes[0] if alone else size, good, "points", must, aim))
    for case, size, name, floor, must, aim in FILTER_CASES:
        def good(engine, p, name=name, floor=floor):
            key = "%s %s" % (name, json.dumps(p["setting"]))
            return p["filter"] == name and engine["recall"].get(key, 0) >= floor

        rows.append(compare(result, case, sizes[0] if alone else size, good, "filtered", must, aim))
    for size in sizes:
        rows += database_targets(result, size)
    return [r for r in rows if r]


def database_targets(result, size):
    found, rows = result["sizes"][size]["databases"], []
    if "akin" not in found or len(found) < 2:
        return []
    for what, key, must, aim in (("one query", "p50_us", 10, 14), ("insert all", "insert_s", 1, 2)):
        peers, own = [n for n in found if n != "akin"], found["akin"]["rounds"]
        best = [min(found[p]["rounds"][t][key] for p in peers) for t in range(len(own))]
        rows.append({"case": "embedded databases, " + what, "size": size, "must": must, "aim": aim,
                     "ratio": median([b / o[key] for b, o in zip(best, own)])})
    return rows


def limits(result):
    rows = []
    for what, size, name, key, must, aim in LIMITS:
        engine = result["sizes"].get(size, {"engines": {}})["engines"].get(name)
        if not engine:
            continue
        if key == "recall":
            value = max(v for k, v in engine["recall"].items() if k.startswith('{"recall"') or
                        k.startswith("{}")) if len(engine["recall"]) > 1 else None
            met = value is not None and value >= must
        else:
            value = engine["build"]["cpu_s"] if key == "cpu_s" else median(
                [t["rss_mb"] for t in engine["rounds"]])
            met = value <= must
        rows.append({"what": what, "size": size, "value": value, "must": must, "aim": aim,
                     "met": met})
    return rows


# ---- the page ----------------------------------------------------------------------------


def number(value, form="%.0f"):
    return "-" if value is None else form % value


def setting_text(setting):
    return ", ".join("%s %g" % kv for kv in setting.items()) or "-"


def side_text(side):
    return "%s (%s) %.0f us" % (side["engine"], setting_text(side["setting"]), side["us"]) if side else "-"


def target_table(rows):
    head = ["case", "size", "best peer", "akin", "ratio", "must", "aim", ""]
    return table(head, [
        [r["case"], r["size"], side_text(r.get("peer")), side_text(r.get("akin")),
         number(r["ratio"], "%.2f"), "%gx" % r["must"], "%gx" % r["aim"],
         r.get("note") or ("met" if r["ratio"] >= r["must"] else "NOT met")] for r in rows])


def curve_table(size, threads):
    batches = sorted({p["batch"] for e in size["engines"].values() for p in e["rounds"][0]["points"]})
    head = ["engine", "setting", "recall@10", "p50 us", "p99 us"] + ["QPS b%d" % b for b in batches]
    rows = []
    for name, engine in size["engines"].items():
        for setting in engine["rounds"][0]["settings"]:
            points = {}
            for turn in engine["rounds"]:
                for p in turn["points"]:
                    if p["setting"] == setting and p["threads"] == threads:
                        points.setdefault(p["batch"], []).append(p)
            one = points.get(1, [])
            rows.append([name, setting_text(setting), "%.4f" % engine["recall"][json.dumps(setting)],
                         number(median([p["p50_us"] for p in one])),
                         number(median([p["p99_us"] for p in one]))]
                        + [number(median([p["qps"] for p in points.get(b, [])])) for b in batches])
    return table(head, rows)


def build_table(size):
    rows = []
    for name, e in size["engines"].items():
        rss = median([t["rss_mb"] for t in e["rounds"]])
        rows.append([name, "%.1f" % e["build"]["wall_s"], "%.1f" % e["build"]["cpu_s"],
                     number(rss), "%.1f" % e["build"]["disk_mb"]])
    return table(["engine", "build wall s", "build CPU s", "memory MB", "disk MB"], rows)


def filter_table(size):
    rows = []
    for name, e in size["engines"].items():
        for p in e["rounds"][0]["filtered"]:
            same = [q for t in e["rounds"] for q in t["filtered"]
                    if q["setting"] == p["setting"] and q["filter"] == p["filter"]]
            key = "%s %s" % (p["filter"], json.dumps(p["setting"]))
            rows.append([{"p10": "10 %", "p1": "1 %", "p01": "0.1 %"}[p["filter"]], name,
                         setting_text(p["setting"]), "%.3f" % e["recall"][key],
                         number(median([q["p50_us"] for q in same])),
                         number(median([q["p99_us"] for q in same]))])
    rows.sort(key=lambda r: -float(r[0].split()[0]))
    return table(["passes", "engine", "setting", "recall@10", "p50 us", "p99 us"], rows)


def database_table(size):
    rows = []
    for name, d in size["databases"].items():
        m = {k: median([t[k] for t in d["rounds"]]) for k in
             ("insert_s", "p50_us", "p99_us", "rss_mb", "disk_mb")}
        rows.append([name, "%.3f" % d["recall"], number(m["p50_us"]), number(m["p99_us"]),
                     "%.2f" % m["insert_s"], number(m["rss_mb"]), "%.1f" % m["disk_mb"]])
    return table(["database", "recall@10", "p50 us", "p99 us", "insert all s", "memory MB",
                  "disk MB"], rows)


def size_page(name, size):
    parts = ["## %s: %s rows of %d dimensions, %d queries" % (
        name, format(size["rows"], ","), size["dimension"], size["queries"])]
    if size["engines"]:
        threads = sorted({p["threads"] for e in size["engines"].values()
                          for p in e["rounds"][0]["points"]})
        for t in threads:
            parts += ["### %d thread%s" % (t, "s" if t > 1 else ""), curve_table(size, t)]
        parts += ["### Building, memory, disk", build_table(size), "### Filtered, one thread",
                  filter_table(size)]
    if size["databases"]:
        parts += ["### Embedded databases, durable, batches of 10,000 rows", database_table(size)]
    return parts


def page(result):
    lines = ["- %s, %d CPUs, %s, load %.1f at the end" % (
                 result["cpu"], result["cpus"], result["system"], result["load"]),
             "- %s; %s" % (result["akin"], ", ".join(
                 "%s %s" % kv for kv in result["versions"].items() if kv[1])),
             "- %s; %d interleaved rounds, %g s for each figure: medians; ratios are medians of the "
             "ratios within each round" % (result["origin"], result["rounds"], result["seconds"]),
             "- k = 10; queries are texts as people type them, above the number of films half of "
             "them made like the rows; recall is against exact search, ties count",
             "- every engine is called from Python through its binding, each round in a fresh "
             "process that has loaded its index; memory is what loading and searching added"]
    lines += ["- left out: %s: %s" % kv for kv in result["failed"].items()]
    parts = ["# Vector search: akin and its peers", "\n".join(lines)]
    if result["targets"]:
        parts += ["## Against the best peer", target_table(result["targets"])]
    if result["limits"]:
        parts.append(table(["akin", "size", "value", "must", "aim", ""], [
            [r["what"], r["size"], number(r["value"], "%.4g"), "%g" % r["must"], "%g" % r["aim"],
             "met" if r["met"] else "NOT met"] for r in result["limits"]]))
    for name, size in result["sizes"].items():
        parts += size_page(name, size)
    return "\n\n".join(parts) + "\n"
