"""One process of one engine: loads a model, then does what its standard input asks, a JSON object
per line, and answers each with one.

{"do": "run", "corpus": NAME, "batch": 32, "save": PATH or null, "first": N or null}
    embeds its part of a corpus (all or the first N), answers {"seconds", "texts"}
{"do": "latency", "count": N}   embeds one short text N times, answers {"ms": [...]}
{"do": "quit"}                  answers {"rss_mb": peak resident memory} and ends

Every engine does the same work: tokenise, sort by length, pad each batch to its longest text,
infer, mean-pool over real tokens, normalise. The clock stops when the vectors are in order.

Usage: embed_worker.py '{"engine", "precision", "model", "artifacts", "texts": {corpus: file},
"short", "part", "parts", "cpus", "streams"}'
"""

import json
import os
import sys
import time

SETTINGS = json.loads(sys.argv[1])
os.sched_setaffinity(0, SETTINGS["cpus"])
THREADS = len(SETTINGS["cpus"])
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = str(THREADS)
os.environ.update(
    TOKENIZERS_PARALLELISM="true" if THREADS > 1 else "false",
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
)

import numpy as np  # noqa: E402  (the thread counts above must be set before)


def normalized(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def sequence_max(model):
    with open(os.path.join(model, "sentence_bert_config.json"), encoding="utf-8") as f:
        return json.load(f)["max_seq_length"]


class Tokens:
    """Hugging Face's fast tokenizer without its padding."""

    def __init__(self, model):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
        self.tokenizer.enable_truncation(sequence_max(model))
        self.tokenizer.no_padding()

    def of(self, texts):
        return [e.ids for e in self.tokenizer.encode_batch_fast(texts)]

    def batches(self, texts, size):
        """Yields (rows, ids [b][t], mask [b][t]), longest texts first."""
        tokens = self.of(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(tokens[i]))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            width = len(tokens[rows[0]])
            ids = np.zeros((len(rows), width), np.int64)
            mask = np.zeros((len(rows), width), np.int64)
            for at, row in enumerate(rows):
                ids[at, : len(tokens[row])] = tokens[row]
                mask[at, : len(tokens[row])] = 1
            yield rows, ids, mask


def pooled(hidden, mask):
    """Mean over real tokens, then length 1: the division by the count cancels out."""
    return normalized(np.matmul(mask[:, None, :].astype(np.float32), hidden)[:, 0])


class SentenceTransformers:
    def __init__(self, s):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(THREADS)
        self.model = SentenceTransformer(s["model"], device="cpu", local_files_only=True)
        if s["precision"] == "bf16":
            self.model = self.model.to(torch.bfloat16)

    def embed(self, texts, batch):
        vectors = self.model.encode(
            texts,
            batch_size=batch,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, np.float32)


class Padded:
    """What ONNX Runtime and OpenVINO share."""

    def __init__(self, s):
        self.tokens = Tokens(s["model"])

    def infer(self, ids, mask):
        raise NotImplementedError

    def embed(self, texts, batch):
        vectors = None
        for rows, ids, mask in self.tokens.batches(texts, batch):
            part = pooled(self.infer(ids, mask), mask)
            if vectors is None:
                vectors = np.empty((len(texts), part.shape[1]), np.float32)
            vectors[rows] = part
        return vectors


class OnnxRuntime(Padded):
    def __init__(self, s):
        super().__init__(s)
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        path = os.path.join(
            s["artifacts"], {"fp32": "fused.onnx", "int8": "int8.onnx"}[s["precision"]]
        )
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {i.name for i in self.session.get_inputs()}

    def infer(self, ids, mask):
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feed = {
            name: value.astype(np.int32) if self.int32(name) else value
            for name, value in feed.items()
            if name in self.inputs
        }
        return self.session.run(None, feed)[0]

    def int32(self, name):
        return any(i.name == name and i.type == "tensor(int32)" for i in self.session.get_inputs())


class OpenVino(Padded):
    def __init__(self, s):
        super().__init__(s)
        import openvino

        self.openvino, self.streams = openvino, s["streams"]
        path = os.path.join(
            s["artifacts"], "ov_int8.xml" if s["precision"].startswith("int8") else "ov.xml"
        )
        half = s["precision"] in ("bf16", "int8+bf16")
        self.compiled = openvino.Core().compile_model(
            path,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
                "INFERENCE_NUM_THREADS": THREADS,
                "NUM_STREAMS": self.streams,
            },
        )
        self.request = self.compiled.create_infer_request()

    def infer(self, ids, mask):
        return self.request.infer(
            [ids, mask, np.zeros_like(ids)], share_inputs=True, share_outputs=True
        )[0]

    def embed(self, texts, batch):
        if self.streams == 1:
            return super().embed(texts, batch)
        vectors = np.empty(
            (len(texts), self.compiled.output(0).get_partial_shape()[2].get_length()), np.float32
        )

        def take(request, user):
            rows, mask = user
            vectors[rows] = pooled(request.get_output_tensor().data, mask)

        queue = self.openvino.AsyncInferQueue(self.compiled, 2 * self.streams)
        queue.set_callback(take)
        for rows, ids, mask in self.tokens.batches(texts, batch):
            queue.start_async([ids, mask, np.zeros_like(ids)], (rows, mask))
        queue.wait_all()
        return vectors


class LlamaCpp:
    """llama.cpp over its C API: sequences of one decode share a ubatch without padding."""

    UBATCH_TOKENS = 512

    def __init__(self, s):
        import ctypes
        import llama_cpp

        self.c, self.ctypes = llama_cpp, ctypes
        self.tokens = Tokens(s["model"])
        self.tokens.tokenizer.enable_truncation(min(sequence_max(s["model"]), self.UBATCH_TOKENS))
        self.silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silence, None)
        llama_cpp.llama_backend_init()
        path = os.path.join(s["artifacts"], "model-%s.gguf" % s["precision"])
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise RuntimeError("llama.cpp cannot load " + os.path.basename(path))
        p = llama_cpp.llama_context_default_params()
        p.n_ctx = p.n_batch = p.n_ubatch = self.UBATCH_TOKENS
        p.n_seq_max, p.kv_unified, p.embeddings = 64, True, True
        p.n_threads = p.n_threads_batch = THREADS
        self.context = llama_cpp.llama_init_from_model(self.model, p)
        if not self.context:
            raise RuntimeError("llama.cpp cannot make a context")
        self.dimension = llama_cpp.llama_model_n_embd(self.model)
        self.batch = llama_cpp.llama_batch_init(self.UBATCH_TOKENS, 0, 1)

    def decode(self, rows, tokens, vectors):
        b, n = self.batch, 0
        for sequence, row in enumerate(rows):
            for position, token in enumerate(tokens[row]):
                b.token[n], b.pos[n], b.n_seq_id[n], b.logits[n] = token, position, 1, 1
                b.seq_id[n][0] = sequence
                n += 1
        b.n_tokens = n
        if self.c.llama_encode(self.context, b) != 0:
            raise RuntimeError("llama_encode failed on %d tokens" % n)
        for sequence, row in enumerate(rows):
            found = self.c.llama_get_embeddings_seq(self.context, sequence)
            vectors[row] = np.ctypeslib.as_array(found, (self.dimension,))

    def embed(self, texts, batch):
        tokens = self.tokens.of(texts)
        vectors = np.empty((len(texts), self.dimension), np.float32)
        rows, filled = [], 0
        for row in sorted(range(len(texts)), key=lambda i: -len(tokens[i])):
            if rows and (
                filled + len(tokens[row]) > self.UBATCH_TOKENS or len(rows) == min(batch, 64)
            ):
                self.decode(rows, tokens, vectors)
                rows, filled = [], 0
            rows.append(row)
            filled += len(tokens[row])
        if rows:
            self.decode(rows, tokens, vectors)
        return normalized(vectors)


ENGINES = {
    "sentence-transformers": SentenceTransformers,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "llama.cpp": LlamaCpp,
}


def read_texts(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line)["text"] for line in f]


def peak_rss_mb():
    with open("/proc/self/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:")) / 1024


def run(engine, texts, request):
    texts = texts[: request["first"]] if request.get("first") else texts
    begin = time.perf_counter()
    vectors = engine.embed(texts, request["batch"])
    seconds = time.perf_counter() - begin
    if request.get("save"):
        np.save(request["save"], vectors)
    return {"seconds": seconds, "texts": len(texts)}


def latency(engine, shorts, request):
    # As embed_akin.c: by time and not by number, or the fastest is timed before it is warm.
    begin, i = time.perf_counter(), 0
    while i < 20 or time.perf_counter() - begin < 0.5:
        engine.embed([shorts[i % len(shorts)]], 1)
        i += 1
    times = []
    for i in range(request["count"]):
        begin = time.perf_counter()
        engine.embed([shorts[i % len(shorts)]], 1)
        times.append(1e3 * (time.perf_counter() - begin))
    return {"ms": times}


def main():
    # Libraries print to standard output as they like; the answers go to a copy of it.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    s = SETTINGS
    texts = {name: read_texts(path)[s["part"] :: s["parts"]] for name, path in s["texts"].items()}
    shorts = read_texts(s["short"])
    engine = ENGINES[s["engine"]](s)
    engine.embed(shorts, 8)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            print(json.dumps({"rss_mb": peak_rss_mb()}), file=answers)
            return
        if request["do"] == "run":
            answer = run(engine, texts[request["corpus"]], request)
        else:
            answer = latency(engine, shorts, request)
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
