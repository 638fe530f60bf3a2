"""Turns what embed_bench.py measured into rows and a Markdown page."""

import statistics

# The precision whose peak and whose akin row an engine's precision is compared with.
CLASS = {
    "fp32": "fp32",
    "bf16": "bf16",
    "f16": "fp32",
    "int8": "int8",
    "int8+bf16": "int8",
    "q8_0": "int8",
}


def own_arguments(words):
    """The command line less what embed.sh adds for itself."""
    own, skip = [], False
    for word in words:
        if skip or word in ("--work", "--home", "--peak-program", "--akin-helper"):
            skip = not skip
            continue
        own.append(word)
    return own


def median(values):
    return statistics.median(values) if values else None


def ratios(mine, other):
    """Median over rounds of mine / other, each within its round."""
    return median([m / o for m, o in zip(mine, other)])


def summarize(job, peaks):
    rows, akin = [], {r["precision"]: r for r in job.rows.values() if r["engine"] == "akin"}
    for r in job.rows.values():
        kind, corpora = CLASS[r["precision"]], {}
        own = akin.get(kind)
        for corpus, rates in r["rates"].items():
            if not rates:
                continue
            rate, limit = median(rates), peaks.get(kind)
            corpora[corpus] = {
                "texts_per_second": rate,
                "rounds": rates,
                "ratio_to_akin": ratios(rates, own["rates"][corpus]) if own else None,
                "peak_share": rate * job.gflop(corpus) / limit if limit else None,
                **(
                    {"cosine_" + k: r["quality"][corpus][k] for k in ("mean", "min")}
                    | {"recall_at_10": r["quality"][corpus]["recall"]}
                    if corpus in r["quality"]
                    else {}
                ),
            }
        rows.append(
            {
                "engine": r["engine"],
                "precision": r["precision"],
                "class": kind,
                "setup": r.get("setup_text", ""),
                "note": r.get("note", ""),
                "failed": r.get("failed"),
                "corpora": corpora,
                "p50_ms": median(r["p50"]),
                "p99_ms": median(r["p99"]),
                "p50_rounds": r["p50"],
                "rss_mb": median(r["rss_mb"]),
            }
        )
    limits = {c: {k: v / job.gflop(c) for k, v in peaks.items() if v} for c in job.files}
    return {
        "model": job.name,
        "layers": job.config["num_hidden_layers"],
        "rows": rows,
        "corpora": {
            c: {
                "origin": job.origin[c],
                "texts": len(job.tokens[c]),
                "tokens_mean": float(job.tokens[c].mean()),
                "gflop_per_text": job.gflop(c),
                "limit_texts_per_second": limits[c],
            }
            for c in job.files
        },
        "best_peers": best_peers(rows, list(job.files)),
        "tokenizing": job.tokenizing,
    }


def best_peers(rows, corpora):
    """akin against the fastest peer of each precision, and on one text against the quickest."""
    found = []
    for kind in ("fp32", "bf16", "int8"):
        own = next((r for r in rows if r["engine"] == "akin" and r["precision"] == kind), None)
        for corpus in corpora:
            peers = [
                r
                for r in rows
                if r["engine"] != "akin" and r["class"] == kind and corpus in r["corpora"]
            ]
            if not peers or not own or corpus not in own["corpora"]:
                continue
            peer = max(peers, key=lambda r: r["corpora"][corpus]["texts_per_second"])
            found.append(
                {
                    "precision": kind,
                    "corpus": corpus,
                    "peer": name(peer),
                    "ratio": ratios(
                        own["corpora"][corpus]["rounds"], peer["corpora"][corpus]["rounds"]
                    ),
                }
            )
    peers = [r for r in rows if r["engine"] != "akin" and r["p50_ms"]]
    owns = [r for r in rows if r["engine"] == "akin" and r["p50_ms"]]
    if peers and owns:
        peer = min(peers, key=lambda r: r["p50_ms"])
        for own in owns:
            found.append(
                {
                    "precision": own["precision"],
                    "corpus": "one text, p50",
                    "peer": name(peer),
                    "ratio": ratios(peer["p50_rounds"], own["p50_rounds"]),
                }
            )
    return found


def name(row):
    return "%s %s" % (row["engine"], row["precision"])


def number(value, form):
    return "-" if value is None else form % value


def table(head, rows):
    width = [max(len(str(r[i])) for r in [head] + rows) for i in range(len(head))]
    line = lambda cells: "| " + " | ".join(str(c).ljust(w) for c, w in zip(cells, width)) + " |"
    rule = "|" + "|".join("-" * (w + 2) for w in width) + "|"
    return "\n".join([line(head), rule] + [line(r) for r in rows])


def model_page(m):
    parts = ["## %s (%d layers)" % (m["model"], m["layers"])]
    for corpus, c in m["corpora"].items():
        limits = ", ".join("%s %.0f" % kv for kv in c["limit_texts_per_second"].items())
        parts.append(
            "%s: %d texts (%s), %.2f tokens and %.3f GFLOP each on average; limit at 100 %% of "
            "peak: %s texts/s."
            % (corpus, c["texts"], c["origin"], c["tokens_mean"], c["gflop_per_text"], limits)
        )
    order = {"fp32": 0, "bf16": 1, "int8": 2}
    for corpus in m["corpora"]:
        rows = []
        for r in sorted(
            (r for r in m["rows"] if corpus in r["corpora"]),
            key=lambda r: (order[r["class"]], -r["corpora"][corpus]["texts_per_second"]),
        ):
            c = r["corpora"][corpus]
            share = c["peak_share"] and 100 * c["peak_share"]
            figures = [
                (c["texts_per_second"], "%.0f"),
                (c["ratio_to_akin"], "%.2f"),
                (share, "%.0f %%"),
                (r["p50_ms"], "%.2f"),
                (r["p99_ms"], "%.2f"),
                (r["rss_mb"], "%.0f"),
                (c.get("cosine_mean"), "%.6f"),
                (c.get("cosine_min"), "%.5f"),
                (c.get("recall_at_10"), "%.3f"),
            ]
            rows.append(
                [r["engine"], r["precision"]] + [number(*f) for f in figures] + [r["setup"]]
            )
        if not rows:
            continue
        parts.append(
            "### %s texts\n\n" % corpus
            + table(
                [
                    "engine",
                    "precision",
                    "texts/s",
                    "ratio to akin",
                    "of peak",
                    "p50 ms",
                    "p99 ms",
                    "RSS MB",
                    "cosine",
                    "min",
                    "recall@10",
                    "set-up",
                ],
                rows,
            )
        )
    missing = [r for r in m["rows"] if r["failed"]]
    if missing:
        parts.append("\n".join("- %s: not measured: %s" % (name(r), r["failed"]) for r in missing))
    if m["best_peers"]:
        parts.append(
            "### akin against the best peer\n\n"
            + table(
                ["what", "precision", "best peer", "akin is faster by"],
                [
                    [b["corpus"], b["precision"], b["peer"], "%.2fx" % b["ratio"]]
                    for b in m["best_peers"]
                ],
            )
        )
    if m["tokenizing"]:
        rate = lambda value: number(value, "%.0f")
        parts.append(
            "### Tokenising, one thread, texts/s\n\n"
            + table(
                [
                    "corpus",
                    "tokenizers, one batch",
                    "tokenizers, a call each",
                    "akin, a call each",
                    "akin / their batch",
                    "texts whose ids differ",
                ],
                [
                    [
                        corpus,
                        rate(t.get("batch_median")),
                        rate(t.get("single_median")),
                        rate(t.get("akin_median")),
                        number(t.get("ratio"), "%.2fx"),
                        number(t["differ"], "%d"),
                    ]
                    for corpus, t in m["tokenizing"].items()
                ],
            )
        )
        parts += ["- %s: %s" % (c, t["failed"]) for c, t in m["tokenizing"].items() if t["failed"]]
    return "\n\n".join(parts)


def markdown(result):
    m, p = result["machine"], result["peak_gflops"]
    head = [
        "# Embedding on CPU: akin and its peers in the same run",
        "- machine: %s, %d CPUs used, %d GiB, %s; load before: %.2f"
        % (m["cpu"], m["cpus_used"], m["memory_gib"], " ".join(m["features"]), m["load_before"]),
        "- measured peak: %s" % ", ".join("%s %.0f Gop/s" % kv for kv in p.items() if kv[1]),
        "- date: %s; commit: %s" % (result["date"], result["commit"]),
        "- command: `%s`" % result["command"],
        "- versions: %s" % ", ".join("%s %s" % kv for kv in result["versions"].items()),
        "- %d texts a corpus, %d interleaved rounds: medians; ratios are medians of the ratios "
        "within each round" % (result["texts"], result["rounds"]),
        "- texts/s is tokenising to normalised vectors, loading and warm-up excluded; p50 and p99 are "
        "of one text of 23 tokens; RSS is the peak of all processes of the set-up; cosine, its "
        "minimum and recall@10 are against sentence-transformers fp32; of peak counts matrix products "
        "over real tokens only, against the peak of the precision (F16 weights: fp32; Q8_0: int8)",
    ]
    return (
        "\n\n".join([head[0], "\n".join(head[1:])] + [model_page(x) for x in result["models"]])
        + "\n"
    )
