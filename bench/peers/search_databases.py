"""Embedded databases, each with its durability on: all rows go in by batches of 10,000, and each
batch is on disk before the next one. Then single queries, exact where the database can.

    insert(base, path)
    settings
    search(query [1][dim], k, setting) -> ids [1][k]
"""

import os
import sqlite3

import numpy as np

BATCH = 10000


def batches(base):
    for at in range(0, len(base), BATCH):
        yield at, base[at : at + BATCH]


class Akin:
    """A flat index, synced after each batch."""

    sync, settings = True, [{"exact": 1}, {"recall": 0.998}, {"recall": 0.999}]

    def __init__(self, dim):
        import search_engines

        self.index = search_engines.ENGINES["akin flat"]((BATCH, dim), True)

    def insert(self, base, path):
        self.index.insert(base, path, BATCH, self.sync)
        self.index.load(None, path, 1)

    def search(self, query, k, setting):
        return self.index.search(query, k, setting)


class AkinSyncedOnce(Akin):
    """The same, synced after the last batch only."""

    sync = False


class Lancedb:
    """No index: its flat scan, the fastest exact answer that it has. It never syncs a file."""

    settings = [{}]

    def __init__(self, dim):
        self.dim = dim

    def insert(self, base, path):
        import lancedb
        import pyarrow

        def table(at, rows):
            flat = pyarrow.array(rows.reshape(-1), pyarrow.float32())
            vectors = pyarrow.FixedSizeListArray.from_arrays(flat, self.dim)
            ids = pyarrow.array(np.arange(at, at + len(rows)))
            return pyarrow.table({"id": ids, "vector": vectors})

        db, self.table = lancedb.connect(path), None
        for at, rows in batches(base):
            if self.table is None:
                self.table = db.create_table("rows", table(at, rows))
            else:
                self.table.add(table(at, rows))

    def search(self, query, k, setting):
        found = self.table.search(query[0]).distance_type("dot").select(["id"]).limit(k).to_arrow()
        return found["id"].to_numpy().reshape(1, -1)


class SqliteVec:
    """vec0, float32, in WAL mode with synchronous=FULL."""

    settings = [{}]

    def __init__(self, dim):
        self.dim = dim
        try:  # a Python whose own sqlite3 cannot load extensions
            import pysqlite3 as module
        except ImportError:
            module = sqlite3
        self.module = module

    def insert(self, base, path):
        import sqlite_vec

        self.db = self.module.connect(os.path.join(path, "x.db"))
        self.db.enable_load_extension(True)
        sqlite_vec.load(self.db)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=full")
        self.db.execute("create virtual table rows using vec0(vector float[%d])" % self.dim)
        for at, rows in batches(base):
            with self.db:
                self.db.executemany("insert into rows(rowid, vector) values (?, ?)",
                                    ((at + i, row.tobytes()) for i, row in enumerate(rows)))

    def search(self, query, k, setting):
        found = self.db.execute("select rowid from rows where vector match ? and k = ?",
                                (query[0].tobytes(), k)).fetchall()
        return np.array([[row[0] for row in found]], np.int64)


class QdrantEdge:
    """Qdrant's engine in process with its write-ahead log, exact search."""

    settings = [{}]

    def __init__(self, dim):
        self.dim = dim

    def insert(self, base, path):
        import qdrant_edge as q

        self.q = q
        config = q.EdgeConfig(vectors=q.EdgeVectorParams(self.dim, q.Distance.Dot))
        self.shard = q.EdgeShard.create(path, config)
        for at, rows in batches(base):
            points = [q.Point(at + i, row.tolist(), {}) for i, row in enumerate(rows)]
            self.shard.update(q.UpdateOperation.upsert_points(points))
            self.shard.flush()
        self.parameters = q.SearchParams(exact=True)

    def search(self, query, k, setting):
        request = self.q.SearchRequest(query=self.q.Query.Nearest(query[0].tolist()), limit=k,
                                       params=self.parameters)
        return np.array([[hit.id for hit in self.shard.search(request)]], np.int64)


DATABASES = {
    "akin": Akin,
    "akin, one sync": AkinSyncedOnce,
    "lancedb": Lancedb,
    "sqlite-vec": SqliteVec,
    "qdrant-edge": QdrantEdge,
}
