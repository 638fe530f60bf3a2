#!/usr/bin/env python3
"""What PyTorch and sentence-transformers do on the same card with the jobs that akin does there:
encoding, exact search with and without masks, personal requests, users' updates, lists of
neighbours, GraphSAGE, Thompson sampling.

    bench/peers/gpu_serve.py [--part NAME]... [--model DIR] [--wide DIR] [--films FILE]
        [--events FILE] [--out FILE.json] [--device cuda] [--small]

Each figure is a median: "us" by the wall clock, from host memory to host memory; "device_us"
between two CUDA events around the same work; "graph_us" and "graph_device_us" the same with the
device's part played back as a CUDA graph, where PyTorch can record it. The file is written after
each part, so that what is stopped leaves what it has. --small: sizes for trying this without a
card.
"""
import argparse
import json
import os
import statistics
import sys
import time

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error",
                  TOKENIZERS_PARALLELISM="true")

import numpy as np  # noqa: E402  (the settings above must be there before)
import torch  # noqa: E402

ROWS, DIM = 62423, 384


class Machine:
    """Where the work is done, how long it takes, and how large it is."""

    def __init__(self, options):
        self.device = torch.device(options.device)
        self.cuda = self.device.type == "cuda"
        self.small = options.small
        self.half = torch.float16 if self.cuda else torch.float32
        self.rng = torch.Generator(self.device).manual_seed(options.seed)

    def size(self, count):
        return max(count // 50, 20) if self.small else count

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.rng, device=self.device)

    def uniform(self, *shape):
        return torch.rand(*shape, generator=self.rng, device=self.device)

    def integers(self, low, high, count):
        return torch.randint(low, high, (count,), generator=self.rng, device=self.device)

    def unit_rows(self, count, centres=2000):
        """Around centres, as vectors of texts are."""
        rows = self.normal(centres, DIM)[self.integers(0, centres, count)]
        rows += self.normal(count, DIM)
        return torch.nn.functional.normalize(rows, dim=1)

    def put(self, tensor, dtype=None):
        return tensor.to(self.device, dtype)

    def pinned(self, tensor):
        return tensor.pin_memory() if self.cuda else tensor

    def took(self, work, turns=15, warm=3):
        """Medians of the wall clock's and the events' microseconds."""
        for _ in range(warm):
            work()
        walls, devices = [], []
        for _ in range(turns):
            if self.cuda:
                first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self.wait()
            began = time.perf_counter()
            if self.cuda:
                first.record()
            work()
            if self.cuda:
                last.record()
            self.wait()
            walls.append(1e6 * (time.perf_counter() - began))
            if self.cuda:
                devices.append(1e3 * first.elapsed_time(last))
        found = {"us": statistics.median(walls)}
        if devices:
            found["device_us"] = statistics.median(devices)
        return found

    def job(self, inputs, compute, turns=15, warm=3):
        """compute(*inputs on the device) -> tensors; timed with copies in and out, as asked and,
        where that works, as a recorded graph."""
        held = [self.pinned(x.cpu()) for x in inputs]

        def plain():
            given = [x.to(self.device, non_blocking=True) for x in held]
            return [y.cpu() for y in compute(*given)]

        found = self.took(plain, turns, warm)
        if not self.cuda:
            return found
        try:
            given = [x.to(self.device) for x in held]
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    compute(*given)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                made = compute(*given)

            def played():
                for to, source in zip(given, held):
                    to.copy_(source, non_blocking=True)
                graph.replay()
                return [y.cpu() for y in made]

            again = self.took(played, turns, warm)
            found["graph_us"], found["graph_device_us"] = again["us"], again["device_us"]
        except RuntimeError as error:
            found["graph"] = str(error).splitlines()[0][:120]
            self.wait()
        return found


def rated(found, count, name="per_second"):
    """With the best of the two ways as a rate."""
    best = min(found["us"], found.get("graph_us", found["us"]))
    return {**found, name: 1e6 * count / best}


# ---- encoding ----------------------------------------------------------------------------------


def read_texts(path, most):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line)["text"] for _, line in zip(range(most), f)]


def load_encoder(machine, folder):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device=str(machine.device), local_files_only=True)
    return (model.half() if machine.cuda else model).eval()


def encode_file(machine, folder, path):
    """From the JSON lines to the .npy file, as `akin embed` does it."""
    model = load_encoder(machine, folder)
    most = 200 if machine.small else 100000
    sample = read_texts(path, 200 if machine.small else 16384)
    rates = {}
    for batch in (32,) if machine.small else (128, 256, 512, 1024):
        model.encode(sample[:2 * batch], batch_size=batch)
        began = time.perf_counter()
        model.encode(sample, batch_size=batch, show_progress_bar=False)
        rates[batch] = len(sample) / (time.perf_counter() - began)
    best = max(rates, key=rates.get)
    machine.wait()
    began = time.perf_counter()
    texts = read_texts(path, most)
    vectors = model.encode(texts, batch_size=best, show_progress_bar=False,
                           normalize_embeddings=True)
    np.save("/dev/null" if not os.path.isdir("/dev/shm") else "/dev/shm/gpu_serve.npy",
            vectors.astype(np.float32))
    seconds = time.perf_counter() - began
    return {"texts": len(texts), "batch": best, "texts_per_second": len(texts) / seconds,
            "seconds": seconds, "sample_rates": rates}


class Padded(torch.nn.Module):
    """Tokens to vectors: the model's transformer, mean over real tokens, length 1."""

    def __init__(self, model):
        super().__init__()
        self.bert = model[0].auto_model

    def forward(self, ids, mask):
        hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(2).to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return torch.nn.functional.normalize(mean.float(), dim=1)


def one_text(machine, folder):
    """A text of the length of a request, by the library's call and as a recorded graph."""
    model = load_encoder(machine, folder)
    text = "a film about love and war in a lost city"
    found = {"encode": machine.took(lambda: model.encode(text), 30)}
    tokens = model.tokenizer(text, return_tensors="pt")
    padded = Padded(model)
    with torch.inference_mode():
        found["from tokens"] = machine.job(
            [tokens["input_ids"], tokens["attention_mask"]],
            lambda ids, mask: [padded(ids, mask)], 30)
    found["tokens"] = int(tokens["input_ids"].shape[1])
    return found


def device_rate(machine, folder, path):
    """The device's part alone: tokens are there, batches sorted by length."""
    model = load_encoder(machine, folder)
    texts = read_texts(path, 200 if machine.small else 20000)
    rows = sorted(model.tokenizer(texts, truncation=True, max_length=256)["input_ids"], key=len)
    padded, best = Padded(model), {}
    for batch in (32,) if machine.small else (256, 512, 1024):
        batches = []
        for start in range(0, len(rows), batch):
            part = rows[start:start + batch]
            ids = torch.zeros(len(part), len(part[-1]), dtype=torch.int64)
            for at, row in enumerate(part):
                ids[at, :len(row)] = torch.tensor(row)
            mask = torch.arange(ids.shape[1]) < torch.tensor([len(r) for r in part]).unsqueeze(1)
            batches.append((machine.put(ids), machine.put(mask.long())))

        def work():
            with torch.inference_mode():
                for ids, mask in batches:
                    padded(ids, mask)

        found = machine.took(work, 3, 1)
        rate = 1e6 * len(texts) / found.get("device_us", found["us"])
        if rate > best.get("texts_per_second", 0):
            best = {"texts_per_second": rate, "batch": batch, "texts": len(texts),
                    "tokens": sum(map(len, rows)), **found}
    return best


def encode(machine, options):
    found = {}
    for name, folder, path in (("L12 films", options.wide, options.films),
                               ("L6 events", options.model, options.events)):
        if folder and path:
            found[name] = encode_file(machine, folder, path)
            found[f"{name}, device"] = device_rate(machine, folder, path)
    if options.model:
        found["L6 one text"] = one_text(machine, options.model)
    return found


# ---- search ------------------------------------------------------------------------------------


def best_of(scores, count):
    best = scores.topk(count)
    return [best.values, best.indices.int()]


def exact(machine, _):
    count, found = machine.size(ROWS), {}
    rows = machine.unit_rows(count)
    masks = machine.uniform(8, count) < 0.25
    for name, dtype in (("float32", torch.float32), ("fp16", machine.half)):
        table = machine.put(rows, dtype)
        for batch in (1, 10, 100, 1000):
            queries = machine.unit_rows(batch)
            of = torch.arange(batch) % 8
            found[f"{name}, batch {batch}"] = rated(machine.job(
                [queries], lambda q: best_of(q.to(dtype) @ table.T, 10)), batch)
            found[f"{name}, batch {batch}, a mask each"] = rated(machine.job(
                [queries, of], lambda q, m: best_of(
                    (q.to(dtype) @ table.T).masked_fill_(~masks[m], -torch.inf), 10)), batch)
    return found


def million(machine, _):
    """All rows, since PyTorch has no such index: recall 1."""
    count = machine.size(1000000)
    table, found = machine.put(machine.unit_rows(count), machine.half), {}
    for batch in (1, 10, 100):
        found[f"exact, fp16, batch {batch}"] = rated(machine.job(
            [machine.unit_rows(batch)], lambda q: best_of(q.to(machine.half) @ table.T, 10)), batch)
    return found


def cache(machine, _):
    """The 200 nearest of 10,000 rows among all, in the pieces that are fastest."""
    count, lists, found = machine.size(ROWS), machine.size(10000), {}
    kept = min(201, count)
    table = machine.put(machine.unit_rows(count), machine.half)
    for piece in (500, 1000, 2000, 5000):
        def work():
            for start in range(0, lists, piece):
                scores = table[start:min(start + piece, lists)] @ table.T
                for each in best_of(scores, kept):
                    each.cpu()

        found[f"pieces of {piece}"] = machine.took(work, 5, 1)
    return found


# ---- requests of people ------------------------------------------------------------------------


def personal(machine, options):
    """Query and taste mixed, 50 candidates, their scores mixed with what is known of the items."""
    count, people, found = machine.size(ROWS), machine.size(100000), {}
    table = machine.put(machine.unit_rows(count), machine.half)
    users = machine.put(machine.unit_rows(people), machine.half)
    known = machine.uniform(count)

    def answer(queries, who):
        mixed = 0.7 * queries.to(machine.half) + 0.3 * users[who]
        mixed = torch.nn.functional.normalize(mixed.float(), dim=1).to(machine.half)
        scores, rows = (mixed @ table.T).topk(min(50, count))
        again = (0.8 * scores.float() + 0.2 * known[rows]).topk(10)
        return [again.values, rows.gather(1, again.indices).int()]

    for batch in (1, 10, 100, 1000):
        who = machine.integers(0, people, batch)
        found[f"vectors given, batch {batch}"] = rated(
            machine.job([machine.unit_rows(batch), who], answer), batch)
    if options.model:
        model = load_encoder(machine, options.model)
        padded, text = Padded(model), "a film about love and war in a lost city"
        with torch.inference_mode():
            found["from tokens"] = machine.job(
                [*(model.tokenizer(text, return_tensors="pt")[name]
                   for name in ("input_ids", "attention_mask")), torch.tensor([7])],
                lambda ids, mask, who: answer(padded(ids, mask), who), 30)
        found["tokenizing one text"] = machine.took(
            lambda: model.tokenizer(text, return_tensors="pt"), 30)
    return found


def users(machine, _):
    """Sums of what each rated, which is less than one rating after the other."""
    people, count, ratings = machine.size(100000), machine.size(ROWS), machine.size(1 << 20)
    found = {}
    for name, dtype in (("float32", torch.float32), ("fp16", machine.half)):
        vectors = torch.zeros(people, DIM, dtype=dtype, device=machine.device)
        items = machine.put(machine.unit_rows(count), dtype)
        who = machine.integers(0, people, ratings)
        what = machine.integers(0, count, ratings)
        how = machine.uniform(ratings)

        def apply(who, what, how):
            vectors.index_add_(0, who, items[what] * (0.05 * how).to(dtype).unsqueeze(1))
            return [vectors[:1]]

        found[f"{name}, {ratings} ratings"] = rated(machine.job([who, what, how], apply, 5, 1),
                                                    ratings)
    return found


class Tower(torch.nn.Module):
    """x -> norm(x + down(relu(up(x))))"""

    def __init__(self):
        super().__init__()
        self.up, self.down = torch.nn.Linear(DIM, DIM), torch.nn.Linear(DIM, DIM)
        self.norm = torch.nn.LayerNorm(DIM)

    def forward(self, x):
        return self.norm(x + self.down(torch.relu(self.up(x))))


def lists(machine, count, mean, members):
    """Where each list begins, what is in it, whose each member is, and 1 / its length."""
    length = machine.integers(1, 2 * mean, count)
    ends = length.cumsum(0)
    owner = torch.repeat_interleave(torch.arange(count, device=machine.device), length)
    return ends - length, machine.integers(0, members, int(ends[-1])), owner, 1.0 / length


def graph(machine, _):
    """Two hops (compute/graph_device.h): people are means of their items, items of their people."""
    items, people, found = machine.size(ROWS), machine.size(100000), {}
    of_people, of_items = lists(machine, people, 20, items), lists(machine, items, 5, people)
    for name, dtype in (("float32", torch.float32), ("fp16", machine.half)):
        texts = machine.put(machine.unit_rows(items), dtype)
        near, item = (Tower().to(machine.device, dtype) for _ in range(2))

        def bags(x, where):
            return torch.nn.functional.embedding_bag(where[1], x, where[0], mode="mean")

        def added(x, where):
            sums = torch.zeros(len(where[0]), DIM, dtype=x.dtype, device=x.device)
            return sums.index_add_(0, where[2], x[where[1]]) * where[3].to(x.dtype).unsqueeze(1)

        for way in (bags, added):
            def work():
                with torch.inference_mode():
                    middle = near(way(texts, of_people))
                    return [item(texts + way(middle, of_items))[:1]]

            found[f"{name}, {way.__name__}"] = machine.job([], work, 10)
    return found


def bandits(machine, _):
    count, found = machine.size(1000), {}
    alpha = 1 + 50 * machine.uniform(count, count)
    beta = 1 + 500 * machine.uniform(count, count)
    drawn = torch.distributions.Beta(alpha, beta)

    def gammas():
        x, y = torch._standard_gamma(alpha), torch._standard_gamma(beta)
        return [(x / (x + y)).argmax(1).int()]

    found["Beta.sample, argmax"] = machine.job([], lambda: [drawn.sample().argmax(1).int()], 20)
    found["two gammas, argmax"] = machine.job([], gammas, 20)
    return found


PARTS = {"exact": exact, "personal": personal, "encode": encode, "cache": cache, "users": users,
         "graph": graph, "bandits": bandits, "million": million}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--model", help="folder of a model of 6 layers")
    parser.add_argument("--wide", help="folder of a model of 12 layers")
    parser.add_argument("--films", help="JSON lines for --wide")
    parser.add_argument("--events", help="JSON lines for --model")
    parser.add_argument("--out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    machine = Machine(options)
    result = {"peer": f"torch {torch.__version__}", "small": options.small,
              "gpu": torch.cuda.get_device_name() if machine.cuda else None}
    failed = False
    for name in options.part or PARTS:
        began = time.perf_counter()
        try:
            result[name] = PARTS[name](machine, options)
            result[name]["took_seconds"] = round(time.perf_counter() - began, 1)
        except (RuntimeError, ImportError, OSError, ValueError) as error:
            result[name] = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
            failed = True
        text = json.dumps({name: result[name]}, indent=1)
        print(text, flush=True)
        if options.out:
            with open(options.out + ".part", "w", encoding="utf-8") as f:
                json.dump(result, f, indent=1)
            os.replace(options.out + ".part", options.out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
