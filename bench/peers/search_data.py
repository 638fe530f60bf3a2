"""What is searched, what is asked, and what the right answers are.

Rows up to the number of films are vectors of `Title (Year). Genres: A, B.`, embedded by akin. More
rows are made from them: row = normalised(a + t (b - a) + s g) with two films a, b of one cluster
(nearest of 1,024 films drawn as pivots), t uniform in [0.1, 0.5], g normal and of expected length
1, s = 0.25. Queries are texts as people type them, embedded likewise; above the number of films half
of the queries are made like the rows are, with another seed; above 200,000 rows 1,000 are asked.
No query is ever a row.
Everything is deterministic, and kept in the work folder by the hash of what made it.
"""

import hashlib
import json
import os
import random
import subprocess

import numpy as np

import embed_corpus

K = 10
PIVOTS, BLEND, NOISE = 1024, (0.1, 0.5), 0.25
LARGE, LARGE_QUERIES = 200000, 1000
SELECTIVITIES = {"p10": 0.1, "p1": 0.01, "p01": 0.001}
DECADES = "the 50s|the 60s|the 70s|the 80s|the 90s|the 2000s|last year".split("|")
MOODS = "dark funny slow tense quirky gritty heartwarming bleak clever moody".split()


def say(text):
    print("search: " + text, flush=True)


def film_texts(movielens, count):
    if movielens and not count:
        with open(os.path.join(movielens, "movies.csv"), encoding="utf-8") as f:
            count = sum(1 for line in f if line.strip()) - 1
    texts, origin = embed_corpus.build("movie", count or 62423, movielens)
    return [t.split(" Themes: ")[0] for t in texts], origin


def typed_queries(texts, count):
    """Requests as people type them, about films and tags of the corpus."""
    rng = random.Random("akin queries 1")
    titles = [t.split(". Genres:")[0].rsplit(" (", 1)[0] for t in texts]
    genres, tags = [g.lower() for g in embed_corpus.GENRES], embed_corpus.TAGS
    forms = [
        lambda: "movies like %s" % rng.choice(titles),
        lambda: "I liked %s and %s" % (rng.choice(titles), rng.choice(titles)),
        lambda: "a %s %s %s" % (rng.choice(MOODS), rng.choice(tags), rng.choice(genres)),
        lambda: "%s from %s about %s" % (rng.choice(genres), rng.choice(DECADES), rng.choice(tags)),
        lambda: "something %s with %s" % (rng.choice(MOODS), rng.choice(tags)),
        lambda: "what should I watch tonight: %s, not %s" % (rng.choice(tags), rng.choice(tags)),
    ]
    return [rng.choice(forms)() for _ in range(count)]


def embed(akin, home, model, texts, out):
    """Vectors of texts by `akin embed`, made once."""
    stamp = hashlib.sha256("\n".join([model, *texts]).encode()).hexdigest()
    mark = out + ".made-of"
    if os.path.exists(mark) and open(mark, encoding="ascii").read() == stamp:
        return np.load(out, mmap_mode="r")
    say("embedding %d texts" % len(texts))
    lines = out + ".jsonl"
    with open(lines, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
    command = [akin, "embed", "--home", home, "--model", model, "-i", lines, "-o", out, "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(mark, "w", encoding="ascii") as f:
        f.write(stamp)
    return np.load(out, mmap_mode="r")


def normalized(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def perturbed(films, count, seed):
    """`count` rows made from films as the top of this file says."""
    rng = np.random.default_rng(seed)
    dim = films.shape[1]
    pivots = films[np.random.default_rng(1).choice(len(films), min(PIVOTS, len(films)), False)]
    cluster = np.concatenate(
        [np.argmax(films[i : i + 8192] @ pivots.T, 1) for i in range(0, len(films), 8192)]
    )
    order = np.argsort(cluster, kind="stable")
    begins = np.searchsorted(cluster[order], np.arange(len(pivots) + 1))
    out = np.empty((count, dim), np.float32)
    for at in range(0, count, 8192):
        n = min(8192, count - at)
        a = rng.integers(0, len(films), n)
        low, high = begins[cluster[a]], begins[cluster[a] + 1]
        b = order[low + (rng.random(n) * (high - low)).astype(np.int64)]
        t = rng.uniform(*BLEND, (n, 1)).astype(np.float32)
        g = rng.standard_normal((n, dim), np.float32) * np.float32(NOISE / dim**0.5)
        out[at : at + n] = normalized(films[a] + t * (films[b] - films[a]) + g)
    return out


def exact(base, queries, mask=None):
    """The K best inner products of each query: ids and scores, best first, ties by id."""
    rows = np.arange(len(base)) if mask is None else np.flatnonzero(mask)
    best_ids = np.full((len(queries), 0), -1, np.int64)
    best = np.empty((len(queries), 0), np.float32)
    for at in range(0, len(rows), 32768):
        part = rows[at : at + 32768]
        scores = queries @ np.ascontiguousarray(base[part]).T
        keep = min(K, len(part))
        top = np.argpartition(-scores, keep - 1, axis=1)[:, :keep]
        best = np.concatenate([best, np.take_along_axis(scores, top, 1)], 1)
        best_ids = np.concatenate([best_ids, part[top]], 1)
        order = np.lexsort((best_ids, -best))[:, :K]
        best = np.take_along_axis(best, order, 1)
        best_ids = np.take_along_axis(best_ids, order, 1)
    return best_ids, best


def recall(base, queries, ids, truth_scores, mask=None):
    """Share of the K best that were found; what scores as well as the K-th best is as good."""
    found = 0
    for q, row in enumerate(ids):
        row = np.unique(row[(row >= 0) & (row < len(base))])
        if mask is not None:
            row = row[mask[row]]
        scores = np.asarray(base[row]) @ queries[q]
        found += min(int((scores >= truth_scores[q, -1] - 2e-6).sum()), truth_scores.shape[1])
    return found / truth_scores.size


class Data:
    """One size: files for the workers, and arrays for the judge."""

    def __init__(self, name, folder, films, typed, rows):
        self.name, self.folder, self.rows = name, folder, rows
        self.base_path, self.query_path = self.at("base.npy"), self.at("queries.npy")
        self.mask_path, truth = self.at("masks.npy"), self.at("truth.npz")
        os.makedirs(folder, exist_ok=True)
        digest = hashlib.sha256(np.ascontiguousarray(films[::97]).tobytes())
        digest.update(np.ascontiguousarray(typed).tobytes())
        digest.update(repr((rows, PIVOTS, BLEND, NOISE, SELECTIVITIES, LARGE,
                            LARGE_QUERIES, 3)).encode())
        self.stamp = digest.hexdigest()
        if not self.made(self.stamp):
            self.make(films, typed, truth)
            with open(self.at("made-of"), "w", encoding="ascii") as f:
                f.write(self.stamp)
        self.base = np.load(self.base_path, mmap_mode="r")
        self.queries = np.load(self.query_path)
        self.masks = np.load(self.mask_path)
        self.truth = dict(np.load(truth))

    def at(self, name):
        return os.path.join(self.folder, name)

    def made(self, stamp):
        path = self.at("made-of")
        return os.path.exists(path) and open(path, encoding="ascii").read() == stamp

    def make(self, films, typed, truth):
        say("%s: making %d rows and their true neighbours" % (self.name, self.rows))
        base, queries = np.asarray(films[: self.rows], np.float32), np.asarray(typed, np.float32)
        if self.rows > len(films):
            base = np.concatenate([base, perturbed(base, self.rows - len(base), 2)])
            if self.rows > LARGE:
                queries = queries[:LARGE_QUERIES]
            half = len(queries) // 2
            queries = queries.copy()
            queries[half:] = perturbed(np.asarray(films, np.float32), len(queries) - half, 3)
            queries = queries[np.random.default_rng(4).permutation(len(queries))]
        rng = np.random.default_rng(5)
        masks = np.zeros(self.rows, np.uint8)
        for bit, share in enumerate(SELECTIVITIES.values()):
            chosen = rng.permutation(self.rows)[: max(K, int(self.rows * share))]
            masks[chosen] |= np.uint8(1 << bit)
        np.save(self.base_path, base)
        np.save(self.query_path, queries)
        np.save(self.mask_path, masks)
        found = {"scores": exact(base, queries)[1]}
        for bit, name in enumerate(SELECTIVITIES):
            found[name] = exact(base, queries, masks >> bit & 1 == 1)[1]
        np.savez(truth, **found)

    def recall(self, ids, selection=None):
        mask = None
        if selection:
            mask = self.masks >> list(SELECTIVITIES).index(selection) & 1 == 1
        queries = self.queries[: len(ids)]
        scores = self.truth[selection or "scores"][: len(ids)]
        return recall(self.base, queries, ids, scores, mask)
