"""The peers of watch.sh. Each takes a log and gives scores; watch_bench.py judges them.

A peer for events returns (history scores, judged scores, seconds of scoring): one of each event, and
a session's is the highest of its events. A peer for sessions returns the same of sessions.
"""

import re
import time

import numpy as np

# Without \b: an identifier may be glued to a word (<uuid>_del, tap8327ce4e-4f, blk_-12).
MASKS = [
    (re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), "<uuid>"),
    (re.compile(r"(?<![0-9A-Za-z:])(?:[0-9a-fA-F]{2}:){5,}[0-9a-fA-F]{2}(?![0-9A-Za-z])"), "<mac>"),
    (re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5}|/\d{1,2})?"), "<ip>"),
    (re.compile(r"(?<![0-9A-Za-z/])/[0-9A-Za-z._-][^\s\"'(),;<>|\[\]{}]*"), "<path>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{2}(?![0-9A-Za-z])"), "<n>"),
    (re.compile(r"0[xX][0-9a-fA-F]+"), "<n>"),
    (re.compile(r"(?<![0-9A-Za-z])(?=[0-9a-f]*\d)[0-9a-fA-F]{4,}(?![0-9A-Za-z])"), "<n>"),
    (re.compile(r"-?\d+(?:\.\d+)?"), "<n>"),
]


def masked(event):
    text = " ".join(x for x in (event.get("level"), event.get("src"), event["text"]) if x)
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


class Log:
    """Events in order, split in the middle; texts masked once for all peers."""

    def __init__(self, name, events, labels):
        self.name, self.events, self.labels = name, events, labels
        self.half = len(events) // 2
        began = time.perf_counter()
        self.texts = [masked(e) for e in events]
        self.mask_seconds = time.perf_counter() - began
        self.distinct = {}
        self.row = np.array([self.distinct.setdefault(t, len(self.distinct)) for t in self.texts])
        self.vectors = None  # [len(distinct)][dimension], filled by watch_bench
        self.sessions = {}
        for at, event in enumerate(events):
            if event.get("session"):
                self.sessions.setdefault(event["session"], []).append(at)
        done = [s for s, at in self.sessions.items() if at[-1] < self.half]
        late = [s for s, at in self.sessions.items() if at[-1] >= self.half]
        self.session_names = done, late


def by_session(log, scores):
    """Highest event of each session, history and judged; events of the judged half only."""
    done, late = log.session_names
    first = [max(scores[i] for i in log.sessions[s]) for s in done]
    rest = [max(scores[i] for i in log.sessions[s] if i >= log.half) for s in late]
    return np.array(first), np.array(rest)


def drain(log):
    from drain3 import TemplateMiner
    from drain3.template_miner_config import TemplateMinerConfig

    began = time.perf_counter()
    miner = TemplateMiner(config=TemplateMinerConfig())
    ids = [miner.add_log_message(t)["cluster_id"] for t in log.texts]
    half = log.half
    counts = np.bincount(ids[:half], minlength=max(ids) + 1)
    scores = -np.log((counts[ids] + 0.5) / (half + 1))
    return scores[:half], scores[half:], log.mask_seconds + time.perf_counter() - began


def pyod(kind):
    def run(log):
        from pyod.models.ecod import ECOD
        from pyod.models.iforest import IForest
        from pyod.models.knn import KNN

        made = {
            "IForest": lambda: IForest(random_state=0),
            "ECOD": lambda: ECOD(),
            "KNN": lambda: KNN(n_neighbors=5, method="mean"),
        }[kind]()
        began = time.perf_counter()
        half, rows = log.half, log.row
        history = log.vectors[rows[:half]]
        if len(history) > 20000:  # as many as their memory bears
            history = history[np.linspace(0, half - 1, 20000).astype(int)]
        made.fit(history)
        each = made.decision_function(log.vectors)  # distinct texts: one look each
        scores = each[rows]
        spent = time.perf_counter() - began + log.mask_seconds + log.embed_seconds
        return scores[:half], scores[half:], spent

    return run


def river(log):
    from river.anomaly import HalfSpaceTrees
    from sklearn.decomposition import PCA

    began = time.perf_counter()
    parts = min(16, len(log.vectors))
    low = PCA(parts, random_state=0).fit(log.vectors[log.row[: log.half]]).transform(log.vectors)
    least, most = low.min(0), low.max(0)
    low = (low - least) / np.maximum(most - least, 1e-9)
    points = [dict(enumerate(row.tolist())) for row in low]
    trees = HalfSpaceTrees(n_trees=10, height=8, window_size=250, seed=0)
    scores = np.empty(len(log.row))
    for at, row in enumerate(log.row):
        scores[at] = trees.score_one(points[row])
        trees.learn_one(points[row])
    spent = time.perf_counter() - began + log.mask_seconds + log.embed_seconds
    return scores[: log.half], scores[log.half :], spent


def tfidf(log):
    """Squared error of what PCA leaves, of sessions by their kinds or of events by their words."""
    from sklearn.decomposition import PCA
    from sklearn.feature_extraction.text import TfidfVectorizer

    began = time.perf_counter()
    if log.sessions:
        documents = [
            [" ".join("k%d" % log.row[i] for i in log.sessions[s]) for s in names]
            for names in log.session_names
        ]
    else:
        documents = [log.texts[: log.half], log.texts[log.half :]]
    maker = TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True)
    history = maker.fit_transform(documents[0])
    history = history.toarray()
    pca = PCA(0.95, random_state=0, svd_solver="full").fit(history)

    def left_over(matrix):
        return ((matrix - pca.inverse_transform(pca.transform(matrix))) ** 2).sum(1)

    scores = left_over(history), left_over(maker.transform(documents[1]).toarray())
    return scores + (log.mask_seconds + time.perf_counter() - began,)


EVENT_PEERS = {
    "Drain3, rarity": drain,
    "PyOD IForest": pyod("IForest"),
    "PyOD ECOD": pyod("ECOD"),
    "PyOD KNN": pyod("KNN"),
    "River HalfSpaceTrees": river,
}
EMBEDDED = ("PyOD IForest", "PyOD ECOD", "PyOD KNN", "River HalfSpaceTrees")
