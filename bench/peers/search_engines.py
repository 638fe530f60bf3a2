"""The engines that are compared, one class each, all alike: built once into files, loaded afresh
for every round, and asked with a setting of their sweep. Inner product of vectors of length 1.

    build(base, path, masks)    makes the index's files under the folder `path`
    load(base_path, path, threads)
    settings                    the sweep: a list of dicts, {} where there is nothing to choose
    search(queries, k, setting, threads) -> ids
    filtered(query, k, name, setting) -> ids     one query among the rows that pass; where offered
"""

import ctypes
import os

import numpy as np

import search_data


class Engine:
    exact = False       # every answer is meant to be exact
    package = None      # the version of it, and `recipe`, are part of the key of a kept index:
    recipe = ""         # change it with build()
    filters = []        # settings for filtered search; [] where it is not offered

    def __init__(self, shape, quick):
        self.rows, self.dim = shape
        self.settings = self.thinned(quick)

    def thinned(self, quick):
        return self.sweep()[:: 3 if quick else 1]

    def sweep(self):
        return [{}]

    def threads(self, count):
        pass


class Akin(Engine):
    """libakin through search_akin.c; `exact` and one setting for each recall target."""

    kind = "auto"

    def __init__(self, shape, quick):
        self.lib = ctypes.CDLL(os.environ["AKIN_SEARCH_HELPER"])
        self.lib.sa_open.restype = self.lib.sa_kind.restype = ctypes.c_void_p
        self.lib.sa_search.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t,
                                       ctypes.c_size_t, ctypes.c_float, ctypes.c_int,
                                       ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p,
                                       ctypes.c_char_p]
        self.message, self.handle = ctypes.create_string_buffer(1024), None
        super().__init__(shape, quick)
        self.filters = [{"exact": 1}, {"recall": 0.95}]

    def sweep(self):
        targets = [0.9, 0.95, 0.955, 0.96, 0.97, 0.98, 0.987, 0.99, 0.995, 0.998, 0.999]
        exact = [{"exact": 1}] if self.kind in ("auto", "flat") else []  # the same for every kind
        return exact + [{"recall": r} for r in targets]

    def check(self, failed):
        if failed:
            raise RuntimeError(self.message.value.decode())

    def build(self, base, path, masks):
        base = np.ascontiguousarray(base, np.float32)
        selected = None if masks is None else masks.ctypes.data_as(ctypes.c_void_p)
        self.check(self.lib.sa_build(
            os.path.join(path, "x.akx").encode(), self.kind.encode(),
            base.ctypes.data_as(ctypes.c_void_p), selected, ctypes.c_size_t(len(base)),
            ctypes.c_size_t(base.shape[1]), 0, self.message))

    def insert(self, base, path, batch, sync):
        base = np.ascontiguousarray(base, np.float32)
        self.check(self.lib.sa_insert(
            os.path.join(path, "x.akx").encode(), base.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_size_t(len(base)), ctypes.c_size_t(base.shape[1]), ctypes.c_size_t(batch), 0,
            int(sync), self.message))

    def live(self, base, queries, path, rate, seconds):
        """Searches at recall 0.95 in an index that grows meanwhile."""
        self.build(base, path, None)
        base = np.ascontiguousarray(base, np.float32)
        out = (ctypes.c_double * 6)()
        self.check(self.lib.sa_live(
            os.path.join(path, "x.akx").encode(), base.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_size_t(len(base)), ctypes.c_size_t(base.shape[1]),
            queries.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(queries)),
            ctypes.c_float(0.95), ctypes.c_double(rate), ctypes.c_double(seconds), out,
            self.message))
        names = ("idle_p50_us", "idle_p99_us", "p50_us", "p99_us", "rows_s", "slowest_add_us")
        return dict(zip(names, out))

    def load(self, base_path, path, threads):
        self.path = os.path.join(path, "x.akx").encode()
        self.handle = None
        self.threads(threads)

    def threads(self, count):
        """An engine has its threads for life, so another number is another engine."""
        self.lib.sa_close(ctypes.c_void_p(self.handle))
        self.handle = self.lib.sa_open(self.path, count, self.message)
        self.check(not self.handle)

    def ask(self, queries, k, setting, text):
        ids = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        self.check(self.lib.sa_search(
            self.handle, queries.ctypes.data, len(queries), k, setting.get("recall", 0),
            setting.get("exact", 0), text, ids.ctypes.data, scores.ctypes.data, self.message))
        return ids

    def search(self, queries, k, setting):
        return self.ask(queries, k, setting, None)

    def filtered(self, query, k, name, setting):
        return self.ask(query, k, setting, b"%s=1" % name.encode())


class Faiss(Engine):
    package, factory, refine = "faiss-cpu", "Flat", [0]

    def __init__(self, shape, quick):
        import faiss

        self.faiss = faiss
        super().__init__(shape, quick)
        self.factory = self.factory.replace("PQ?", "PQ%d" % (self.dim // 4)).replace(
            "IVF?", "IVF%d" % max(4, min(1024, self.rows // 40)))

    def sweep(self):
        return [{"refine": r} for r in self.refine]

    def build(self, base, path, masks):
        base = np.ascontiguousarray(base, np.float32)
        index = self.faiss.index_factory(self.dim, self.factory, self.faiss.METRIC_INNER_PRODUCT)
        index.train(base[:: max(1, self.rows // 200000)])
        index.add(base)
        self.faiss.write_index(index, os.path.join(path, "index.faiss"))

    def load(self, base_path, path, threads):
        self.index = self.base = self.faiss.read_index(os.path.join(path, "index.faiss"))
        if max(self.refine):
            self.flat = self.faiss.IndexFlatIP(self.dim)
            self.flat.add(np.load(base_path))
            self.index = self.faiss.IndexRefine(self.base, self.flat)
        self.threads(threads)

    def threads(self, count):
        self.faiss.omp_set_num_threads(count)

    def search(self, queries, k, setting):
        index = self.index if setting.get("refine") else self.base
        if setting.get("refine"):
            index.k_factor = setting["refine"] / k
        if "nprobe" in setting:
            self.faiss.extract_index_ivf(self.base).nprobe = setting["nprobe"]
        if "ef" in setting:
            self.base.hnsw.efSearch = setting["ef"]
        return index.search(queries, k)[1]


class FaissFlat(Faiss):
    exact, filters = True, [{}]

    def load(self, base_path, path, threads):
        super().load(base_path, path, threads)
        self.chosen = {}
        masks = np.load(os.path.join(os.path.dirname(base_path), "masks.npy"))
        for bit, name in enumerate(search_data.SELECTIVITIES):
            bits = np.packbits(masks >> bit & 1, bitorder="little")
            selector = self.faiss.IDSelectorBitmap(bits)
            self.chosen[name] = (self.faiss.SearchParameters(sel=selector), selector, bits)

    def filtered(self, query, k, name, setting):
        return self.base.search(query, k, params=self.chosen[name][0])[1]


class FaissHnsw(FaissFlat):
    factory, exact = "HNSW32,SQ8", False
    filters = [{"ef": 64}, {"ef": 256}]

    def sweep(self):
        return [{"ef": e} for e in (64, 128, 256, 400, 800, 1600)]

    def filtered(self, query, k, name, setting):
        parameters = self.faiss.SearchParametersHNSW(sel=self.chosen[name][1],
                                                     efSearch=setting["ef"])
        return self.base.search(query, k, params=parameters)[1]


class FaissPq(Faiss):
    factory, refine = "PQ?x4fs", [0, 50, 100, 200, 400, 1000]


class FaissRabitq(Faiss):
    factory, refine = "RaBitQfs", [50, 100, 200, 400]


class FaissIvf(Faiss):
    factory, refine = "IVF?,PQ?x4fs", [100, 200, 400]

    def sweep(self):
        return [{"nprobe": n, "refine": r} for n in (16, 64, 256) for r in self.refine]


class FaissIvfPq32(FaissIvf):
    factory, refine = "IVF?,PQ32", [0, 200, 400]


class Hnswlib(Engine):
    package, recipe = "hnswlib", "M=16 efC=200"
    filters = [{"ef": 64}]

    def sweep(self):
        return [{"ef": e} for e in (80, 192, 400, 800)]

    def make(self):
        import hnswlib

        return hnswlib.Index(space="ip", dim=self.dim)

    def build(self, base, path, masks):
        index = self.make()
        index.init_index(max_elements=self.rows, M=16, ef_construction=200, random_seed=1)
        index.add_items(base, num_threads=os.cpu_count())
        index.save_index(os.path.join(path, "index.hnsw"))

    def load(self, base_path, path, threads):
        self.index = self.make()
        self.index.load_index(os.path.join(path, "index.hnsw"), max_elements=self.rows)
        self.masks = np.load(os.path.join(os.path.dirname(base_path), "masks.npy"))
        self.threads(threads)

    def threads(self, count):
        self.index.set_num_threads(count)

    def search(self, queries, k, setting):
        self.index.set_ef(max(setting["ef"], k))
        return self.index.knn_query(queries, k)[0].astype(np.int64)

    def filtered(self, query, k, name, setting):
        bit, masks = list(search_data.SELECTIVITIES).index(name), self.masks
        self.index.set_ef(max(setting["ef"], k))
        found = self.index.knn_query(query, k, num_threads=1,
                                     filter=lambda row: bool(masks[row] >> bit & 1))
        return found[0].astype(np.int64)


class Usearch(Engine):
    package, recipe = "usearch", "f16 M=16 add=128"

    def sweep(self):
        return [{"ef": e} for e in (128, 256, 512)]

    def build(self, base, path, masks):
        from usearch.index import Index

        index = Index(ndim=self.dim, metric="ip", dtype="f16", connectivity=16, expansion_add=128)
        index.add(np.arange(self.rows), np.asarray(base), threads=os.cpu_count())
        index.save(os.path.join(path, "index.usearch"))

    def load(self, base_path, path, threads):
        from usearch.index import Index

        self.index = Index.restore(os.path.join(path, "index.usearch"))
        self.count = threads

    def threads(self, count):
        self.count = count

    def search(self, queries, k, setting):
        self.index.expansion_search = setting["ef"]
        found = self.index.search(queries, k, threads=self.count)
        return found.keys.reshape(-1, k).astype(np.int64)


class SymphonyQg(Engine):
    package, recipe = "rabitqlib", "R=32 ef=200"

    def sweep(self):
        return [{"ef": e} for e in (128, 256, 400, 600, 1200, 2000, 3000, 6000)]

    def build(self, base, path, masks):
        import rabitqlib

        index = rabitqlib.SymqgIndex(self.dim, 32, "ip")
        index.build(np.ascontiguousarray(base), 200, os.cpu_count())
        index.save(os.path.join(path, "index.symqg"))

    def load(self, base_path, path, threads):
        import rabitqlib

        self.index = rabitqlib.SymqgIndex.load(os.path.join(path, "index.symqg"))
        self.count = threads

    def threads(self, count):
        self.count = count

    def search(self, queries, k, setting):
        found = self.index.search_batch(queries, k, max(setting["ef"], k), self.count)
        ids = next(part for part in found if np.asarray(part).dtype.kind in "iu")
        return np.asarray(ids).reshape(-1, k).astype(np.int64)


class Scann(Engine):
    package, recipe, tree = "scann", "AH2 0.2", 0

    def sweep(self):
        return [{"reorder": r} for r in (30, 50, 100, 200)]

    def build(self, base, path, masks):
        import scann

        b = scann.scann_ops_pybind.builder(np.ascontiguousarray(base), 10, "dot_product")
        if self.tree:
            b = b.tree(num_leaves=self.leaves(), num_leaves_to_search=self.leaves() // 2,
                       training_sample_size=min(self.rows, 250000))
        s = self.score(b).build()
        s.serialize(path)

    def score(self, b):
        return b.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)

    def leaves(self):
        return max(4, int(self.rows**0.5))

    def load(self, base_path, path, threads):
        import scann

        self.index = scann.scann_ops_pybind.load_searcher(path)
        self.threads(threads)

    def threads(self, count):
        self.count = count
        if hasattr(self.index, "set_num_threads"):
            self.index.set_num_threads(count)

    def search(self, queries, k, setting):
        more = {"final_num_neighbors": k, "pre_reorder_num_neighbors": setting.get("reorder")}
        if self.tree:
            more["leaves_to_search"] = setting["leaves"]
        if len(queries) == 1:
            return self.index.search(queries[0], **more)[0].reshape(1, -1).astype(np.int64)
        many = self.index.search_batched_parallel if self.count > 1 else self.index.search_batched
        return np.asarray(many(queries, **more)[0]).astype(np.int64)


class ScannTree(Scann):
    recipe, tree = "tree AH2 0.2", 1

    def sweep(self):
        shares = (0.15, 0.25, 0.4, 0.6, 1)
        return [{"leaves": max(1, int(s * self.leaves())), "reorder": r}
                for s in shares for r in (60, 200)]


class ScannInt8(Scann):
    recipe = "int8"

    def sweep(self):
        return [{"reorder": 30}]

    def score(self, b):
        return b.score_brute_force(True).reorder(30)


ENGINES = {
    "akin auto": type("AkinAuto", (Akin,), {"kind": "auto"}),
    "akin flat": type("AkinFlat", (Akin,), {"kind": "flat"}),
    "akin ivfpq": type("AkinIvfpq", (Akin,), {"kind": "ivfpq"}),
    "akin graph": type("AkinGraph", (Akin,), {"kind": "graph"}),
    "faiss flat": FaissFlat,
    "faiss PQ fast-scan + refine": FaissPq,
    "faiss RaBitQ fast-scan + refine": FaissRabitq,
    "faiss IVF,PQ fast-scan + refine": FaissIvf,
    "faiss IVF,PQ32": FaissIvfPq32,
    "faiss HNSW32,SQ8": FaissHnsw,
    "hnswlib": Hnswlib,
    "usearch f16": Usearch,
    "SymphonyQG": SymphonyQg,
    "scann flat": Scann,
    "scann tree": ScannTree,
    "scann int8": ScannInt8,
}


def settings(name, rows, quick):
    """The sweep of an engine without loading its library."""
    e = object.__new__(ENGINES[name])
    e.rows = rows
    return e.thinned(quick)
