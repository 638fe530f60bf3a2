"""The Markdown page of what search_bench.py measured; the ratios are search_ratios.py's."""

from embed_report import table
from search_indexes import setting_key
from search_ratios import EXACT, EXACT_PEERS, compare, filter_test, median, point_test

PASSES = {"p10": "10 %", "p1": "1 %", "p01": "0.1 %"}


def number(value, form="%.0f"):
    return "-" if value is None else form % value


def times(value):
    return "-" if value is None else "%.2fx" % value


def setting_text(setting):
    return ", ".join("%s %g" % kv for kv in setting.items()) or "-"


def time_text(us):
    if us >= 1e5:
        return "%.2f s" % (us / 1e6)
    return "%.2f ms" % (us / 1e3) if us >= 1e3 else "%.0f us" % us


def side_text(side):
    if not side:
        return "-"
    setting = " (%s)" % setting_text(side["setting"]) if side["setting"] else ""
    speed = time_text(side["us"])
    if side["batch"] > 1:
        speed = "%s queries/s" % format(round(1e6 / side["us"]), ",")
    recall = ", recall %.4f" % side["recall"] if "recall" in side else ""
    return "%s%s: **%s**%s" % (side["engine"], setting, speed, recall)


def verdict(row):
    if row["ratio"] is None:
        return row.get("note", "not measured")
    return "aim met" if row["ratio"] >= row["aim"] else (
        "met" if row["ratio"] >= row["must"] else "NOT met")


def target_table(rows):
    return table(["size", "case", "best peer", "akin", "x", "must", "aim", ""], [
        [r["size"], r["case"], side_text(r.get("peer")), side_text(r.get("akin")),
         times(r["ratio"]), "%gx" % r["must"], "%gx" % r["aim"], verdict(r)] for r in rows])


def limit_table(rows):
    return table(["size", "figure", "peer", "akin", "x", "must", "aim", ""], [
        [r["size"], r["what"], "%s: %s" % (r["peer"], number(r["peer_value"], "%.4g")),
         "%s: %s" % (r["engine"], number(r["value"], "%.4g")), times(r["ratio"]), "%g" % r["must"],
         "%g" % r["aim"], "not measured" if r["value"] is None else "met" if r["met"] else
         "NOT met"] for r in rows])


def sizes_table(result):
    """One query on one thread at every size, short or whole."""
    rows = []
    for name, size in sorted(result["sizes"].items(), key=lambda kv: kv[1]["rows"]):
        cells = [format(size["rows"], ",")]
        for floor in (0.95, 1):
            row = compare(result, "", name, point_test(1, 1, floor), "points")
            cells += [side_text(row.get("akin")), side_text(row.get("peer")), times(row["ratio"])]
        rows.append(cells)
    return table(["rows", "akin, recall >= 0.95", "best peer", "x", "akin, exact", "best peer",
                  "x"], rows)


def all_points(engine, kind):
    return [p for turn in engine["rounds"] for p in turn[kind]]


def curve_table(size, threads, batches):
    rows = []
    for name, engine in size["engines"].items():
        points, settings = {}, {}
        for p in all_points(engine, "points"):
            if p["threads"] == threads:
                key = setting_key(p["setting"])
                settings[key] = p["setting"]
                points.setdefault((key, p["batch"]), []).append(p)
        for key, setting in settings.items():
            one = points.get((key, 1), [])
            rows.append([name, setting_text(setting), "%.4f" % engine["recall"][key],
                         number(median([p["p50_us"] for p in one])),
                         number(median([p["p99_us"] for p in one]))]
                        + [number(median([p["qps"] for p in points.get((key, b), [])]))
                           for b in batches])
    return table(["engine", "setting", "recall@10", "p50 us", "p99 us"]
                 + ["QPS b%d" % b for b in batches], rows)


def build_table(size):
    rows = []
    for name, e in size["engines"].items():
        whole, own = (median([t[k] for t in e["rounds"] if k in t])
                      for k in ("rss_mb", "anonymous_mb"))
        rows.append([name, "%.1f" % e["build"]["cpu_s"], number(e["build"].get("load"), "%.1f"),
                     number(whole), number(own), "%.1f" % e["build"]["disk_mb"]])
    return table(["engine", "build CPU s", "load then", "memory MB", "of it not of files",
                  "disk MB"], rows)


def filter_table(result, name, size):
    rows, ratios = [], []
    for engine_name, e in size["engines"].items():
        points = {}
        for p in all_points(e, "filtered"):
            points.setdefault((p["filter"], setting_key(p["setting"])), []).append(p)
        for (selection, _), same in points.items():
            recall = e["recall"].get(setting_key(same[0]["setting"], selection))
            rows.append([PASSES[selection], engine_name, setting_text(same[0]["setting"]),
                         number(recall, "%.3f"), number(median([q["p50_us"] for q in same])),
                         number(median([q["p99_us"] for q in same]))])
    rows.sort(key=lambda r: -float(r[0].split()[0]))
    for selection in PASSES:
        cells = [PASSES[selection]]
        for floor in (0.95, 0.999):
            row = compare(result, "", name, filter_test(selection, floor), "filtered")
            cells += [side_text(row.get("akin")), side_text(row.get("peer")), times(row["ratio"])]
        ratios.append(cells)
    return [table(["passes", "akin, recall >= 0.95", "best peer", "x", "akin, recall 1",
                   "best peer", "x"], ratios),
            table(["passes", "engine", "setting", "recall@10", "p50 us", "p99 us"], rows)]


def database_table(size):
    rows = []
    for name, d in size["databases"].items():
        m = {k: median([t[k] for t in d["rounds"]]) for k in ("insert_s", "rss_mb", "disk_mb")}
        for n, first in enumerate(d["rounds"][0]["searches"]):
            same = [t["searches"][n] for t in d["rounds"]]
            rows.append([name, setting_text(first["setting"]),
                         "%.4f" % d["recall"][setting_key(first["setting"])],
                         number(median([s["p50_us"] for s in same])),
                         number(median([s["p99_us"] for s in same])), "%.2f" % m["insert_s"],
                         number(m["rss_mb"]), "%.1f" % m["disk_mb"]])
    return table(["database", "setting", "recall@10", "p50 us", "p99 us", "insert all s",
                  "memory MB", "disk MB"], rows)


def live_table(rows):
    return table(["kind", "rows/s asked", "rows/s reached", "p50 us idle", "p50 us meanwhile",
                  "p99 us idle", "p99 us meanwhile", "x of p99", "slowest add and sync ms"], [
        [r["kind"], r["rate"], number(r["rows_s"]), number(r["idle_p50_us"]), number(r["p50_us"]),
         number(r["idle_p99_us"]), number(r["p99_us"]), times(r["p99_us"] / r["idle_p99_us"]),
         number(r["slowest_add_us"] / 1e3)] for r in rows])


def size_page(result, name, size):
    parts = ["## %s: %s rows of %d dimensions, %s queries" % (
        name, format(size["rows"], ","), size["dimension"], format(size["queries"], ","))]
    parts += ["![queries per second against recall: %s](%s)" % (title, file)
              for title, file in size["plots"]]
    threads = sorted({p["threads"] for e in size["engines"].values()
                      for p in all_points(e, "points")})
    batches = sorted({p["batch"] for e in size["engines"].values()
                      for p in all_points(e, "points")})
    for t in threads:
        parts += ["### %d thread%s" % (t, "s" if t > 1 else ""), curve_table(size, t, batches)]
    parts += ["### Building, memory, disk", build_table(size)]
    if any(all_points(e, "filtered") for e in size["engines"].values()):
        parts += ["### Filtered, one query, one thread", *filter_table(result, name, size)]
    if size["databases"]:
        parts += ["### Embedded databases, durable, batches of 10,000 rows",
                  "Each batch is committed before the next. sqlite-vec (synchronous=full), Qdrant's "
                  "engine and akin sync their files then; lancedb never does, so a power loss can "
                  "cost it what it has taken. \"akin, one sync\" syncs after the last batch only.",
                  database_table(size)]
    return parts


def notes(result):
    lines = [
        "Machine: %s, %d CPUs, %s; load %.1f at the start. Date: %s. Commit: %s." % (
            result["cpu"], result["cpus"], result["system"], result["load"],
            result["timestamp"][:10], result["commit"] or "unknown"),
        "Command: `%s`." % result["command"],
        "%s; %s." % (result["akin"], ", ".join(
            "%s %s" % kv for kv in result["versions"].items() if kv[1])),
        "Data: %s; k = 10; queries are texts as people type them, above the number of films half "
        "of them made like the rows are (`bench/peers/search_data.py`); recall is against exact search, "
        "rows that score like the tenth count as found." % result["origin"],
        "Interleaved rounds: %s; each figure %g s (in the first round, which measures everything, "
        "half of that). A ratio is the median of the ratios within each round, best peer over akin, "
        "and the sides shown are those of that round." % (
            ", ".join("%s %d" % (n, s["rounds"]) for n, s in result["sizes"].items()),
            result["seconds"]),
        "Every engine is called from Python through its binding, each round in a fresh process that "
        "has loaded its index. Memory is what loading and searching added; a peer that rescores from "
        "float32 holds those, akin maps them from its file. `-`: not measured, or a call of more "
        "than 6 s. Indexes are kept between runs: building was measured when they were made, "
        "\"load then\" is the machine's load at that time. Exact: of akin, answers that are proven; of "
        "peers, %s, with a recall of at least %g." % (" and ".join(EXACT_PEERS), EXACT)]
    return lines + ["Left out: %s: %s." % kv for kv in result["failed"].items()]


def page(result):
    parts = ["# Vector search beside its peers", "\n".join("- " + line for line in notes(result)),
             "## Against the best peer"]
    if result["targets"]:
        parts.append(target_table(result["targets"]))
    if result["limits"]:
        parts.append(limit_table(result["limits"]))
    parts += ["## One query on one thread, by size", sizes_table(result)]
    if result["live"]:
        parts += ["## Searches while rows come in", "One thread searches %s rows at recall 0.95; "
                  "another adds 100 rows at a time, synced every 1,000; wall time." % (
                      result["live"][0]["size"]), live_table(result["live"])]
    for name, size in result["sizes"].items():
        if not size["short"]:
            parts += size_page(result, name, size)
    return "\n\n".join(parts) + "\n"
