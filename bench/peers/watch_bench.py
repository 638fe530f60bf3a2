"""Judges akin watch and its peers on labelled logs; see watch.sh."""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time

import numpy as np

import watch_methods as methods
from embed_bench import commit, last_line, machine
from embed_report import own_arguments

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def say(text):
    print("watch: " + text, file=sys.stderr, flush=True)


def options():
    p = argparse.ArgumentParser(prog="bench/peers/watch.sh", description=__doc__)
    a = p.add_argument
    a("--work", help=argparse.SUPPRESS)
    a("--events", required=True, help="folder of logs: NAME/events.jsonl, with session_labels.tsv"
      " where sessions are judged, else \"anomaly\" in each event")
    a("--logs", help="only these, with commas between")
    a("--akin", default=os.path.join(ROOT, "build/release/akin"))
    a("--model", default="all-minilm-l6-v2", help="folder or name, for akin and the embeddings")
    a("--rounds", type=int, default=3, help="of akin; its events/s are the median (3)")
    a("--quick", action="store_true", help="the first 4,000 events of each log")
    a("--out", default=os.path.join(ROOT, "docs/results"), help="where watch-peers-TIME.* go")
    return p.parse_args()


# ---- how good scores are ---------------------------------------------------------------------


def curve(truth, scores):
    """Hits and alarms at each threshold, from the highest; equal scores come together."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.nonzero(np.diff(scores[order]))[0], len(scores) - 1)
    return np.cumsum(truth[order])[ends], ends + 1


def quality(truth, scores, alarm, budget):
    hits, alarms = curve(truth, scores)
    positives, negatives = hits[-1], len(truth) - hits[-1]
    recall = np.append(0, hits) / positives
    false = np.append(0, alarms - hits) / negatives
    precision = hits / alarms
    at = np.searchsorted(alarms, budget)  # equal scores at the edge count by their share
    before = (hits[at - 1], alarms[at - 1]) if at else (0, 0)
    share = (budget - before[1]) / (alarms[at] - before[1])
    raised, found = int(alarm.sum()), int((alarm & (truth == 1)).sum())
    best = 2 * hits / (alarms + positives)
    return {
        "roc_auc": float(np.trapezoid(recall, false)),
        "pr_auc": float(np.sum(np.diff(recall) * precision)),
        "f1": 2 * found / (raised + int(positives)),
        "best_f1": float(best.max()),
        "alarms": raised,
        "precision_at_budget": float((before[0] + share * (hits[at] - before[0])) / budget),
        "budget": budget,
        "judged": len(truth),
        "anomalous": int(positives),
    }


# ---- logs ------------------------------------------------------------------------------------


def read_log(folder, name, limit):
    with open(os.path.join(folder, name, "events.jsonl"), encoding="utf-8") as f:
        events = sorted((json.loads(line) for line in f), key=lambda e: e["seq"])
    events = events[:limit] if limit else events
    labels, path = None, os.path.join(folder, name, "session_labels.tsv")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            rows = [line.rstrip("\n").split("\t") for line in f]
        labels = {r[0]: int(r[1]) for r in rows if r[1] in ("0", "1")}
    return methods.Log(name, events, labels)


def embed(a, log):
    texts, out = os.path.join(a.work, "texts.txt"), os.path.join(a.work, "vectors.npy")
    with open(texts, "w", encoding="utf-8") as f:
        f.writelines(" ".join(t.split()) + "\n" for t in log.distinct)
    began = time.perf_counter()
    subprocess.run([a.akin, "embed", "--quiet", "--normalize", "--model", a.model, "-i", texts,
                    "-o", out], check=True)
    log.embed_seconds = time.perf_counter() - began
    log.vectors = np.load(out).astype(np.float64)


def truth_of(log):
    if log.labels is None:
        return np.array([e["anomaly"] for e in log.events[log.half :]]), None
    names = [s for s in log.session_names[1] if s in log.labels]
    return np.array([log.labels[s] for s in names]), names


def judge(log, first, rest, whole):
    """At the 99 % quantile of the history, as nobody has labels when it starts."""
    truth, names = truth_of(log)
    if log.labels is not None:
        if not whole:
            first, rest = methods.by_session(log, np.concatenate([first, rest]))
        known = np.array([s in log.labels for s in log.session_names[1]])
        rest = rest[known]
    budget = max(1, (len(log.events) - log.half) // 1000)
    return quality(truth, rest, rest > np.quantile(first, 0.99), min(budget, len(truth)))


def run_akin(a, log):
    scores = os.path.join(a.work, "scores.jsonl")
    path = os.path.join(a.work, "events.jsonl")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(e) + "\n" for e in log.events)
    until = log.events[log.half]["seq"]
    rates, verdicts = [], {}
    for _ in range(a.rounds):
        began = time.perf_counter()
        subprocess.run([a.akin, "watch", "--quiet", "--replay", path, "--train-until", str(until),
                        "--model", a.model, "--scores", scores], check=True,
                       stdout=subprocess.DEVNULL)
        rates.append(len(log.events) / (time.perf_counter() - began))
    if log.labels is not None:
        scores = scores[: -len(".jsonl")] + ".sessions.jsonl"
    with open(scores, encoding="utf-8") as f:
        for line in f:
            v = json.loads(line)
            verdicts[v["session"] if log.labels is not None else v["seq"]] = v
    truth, names = truth_of(log)
    keys = names if names is not None else [e["seq"] for e in log.events[log.half :]]
    found = [verdicts[k] for k in keys]
    budget = min(max(1, (len(log.events) - log.half) // 1000), len(truth))
    row = quality(truth, np.array([v["score"] for v in found]),
                  np.array([v["alert"] for v in found]), budget)
    return row | {"events_per_second": float(np.median(rates))}


def measure(a, log):
    say("%s: %d events, %d texts when masked" % (log.name, len(log.events), len(log.distinct)))
    embed(a, log)
    rows = {"akin watch": run_akin(a, log)}
    for name, method in list(methods.EVENT_PEERS.items()) + [("TF-IDF, PCA", methods.tfidf)]:
        try:
            first, rest, seconds = method(log)
            rows[name] = judge(log, first, rest, method is methods.tfidf and bool(log.sessions))
            rows[name]["events_per_second"] = len(log.events) / seconds
        except Exception as e:  # a peer that fails costs its row
            rows[name] = {"failed": "%s: %s" % (type(e).__name__, last_line(str(e)))}
        say("  %-22s %s" % (name, json.dumps(rows[name])))
    return rows


# ---- the page --------------------------------------------------------------------------------


def page(report):
    lines = ["# akin watch beside its peers", "",
             "%s, commit %s, %s, %d CPUs, load %.1f before." % (
                 report["date"], report["commit"], report["machine"]["cpu"],
                 report["machine"]["cpus_used"], report["machine"]["load_before"]), "",
             "    bench/peers/watch.sh " + report["command"], "",
             "F1 is at each one's own threshold: akin's is its default, a peer's the 99 % quantile"
             " of the scores", "of its history. \"1 in 1,000\" is the precision of the highest"
             " scores where one alarm is raised for", "1,000 events. A peer scores each masked text"
             " once, not each event; events/s have masking,", "embedding and learning in them."]
    for name, rows in report["logs"].items():
        first = rows["akin watch"]
        lines += ["", "## %s: %d judged, %d anomalous" % (name, first["judged"],
                                                         first["anomalous"]), "",
                  "| | ROC-AUC | PR-AUC | F1 | best F1 | 1 in 1,000 | alarms | events/s |",
                  "|---|---|---|---|---|---|---|---|"]
        for method, r in rows.items():
            if "failed" in r:
                lines.append("| %s | failed: %s | | | | | | |" % (method, r["failed"]))
                continue
            lines.append("| %s | %.4f | %.4f | %.3f | %.3f | %.2f | %d | %s |" % (
                method, r["roc_auc"], r["pr_auc"], r["f1"], r["best_f1"],
                r["precision_at_budget"], r["alarms"], format(round(r["events_per_second"]), ",")))
    return "\n".join(lines) + "\n"


def main():
    a = options()
    os.makedirs(a.work, exist_ok=True)
    wanted = a.logs.split(",") if a.logs else sorted(
        n for n in os.listdir(a.events) if os.path.exists(os.path.join(a.events, n, "events.jsonl")))
    if not wanted or not os.access(a.akin, os.X_OK):
        say("no logs in %s" % a.events if not wanted else "no program %s: --akin" % a.akin)
        return 1
    report = {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
              "commit": commit(), "machine": machine(sorted(os.sched_getaffinity(0))),
              "command": " ".join(os.path.basename(w) if os.path.isabs(w) else w
                                  for w in own_arguments(sys.argv[1:])), "logs": {}}
    for name in wanted:
        report["logs"][name] = measure(a, read_log(a.events, name, 4000 if a.quick else None))
    stem = os.path.join(a.out, "watch-peers-" + report["date"][:16].translate(
        str.maketrans(" ", "-", "-:")))
    with open(stem + ".json", "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)
    with open(stem + ".md", "w", encoding="utf-8") as f:
        f.write(page(report))
    print(page(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
