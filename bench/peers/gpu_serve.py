#!/usr/bin/env python3
"""What PyTorch does on the same card with the jobs of akin's encoder and search: an encoder of
MiniLM's shape in fp16 over batches sorted by length and padded, and exact top-10 over 62,423 rows
of 384 by product and topk. Host to host; medians. Prints one JSON object.

    bench/peers/gpu_serve.py [--layers 6|12] [--texts 20000] [--seed 5]
"""
import argparse
import json
import statistics
import time

import torch

VOCABULARY, HIDDEN, HEADS, WIDE, POSITIONS = 30522, 384, 12, 1536, 512


class Encoder(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.word = torch.nn.Embedding(VOCABULARY, HIDDEN)
        self.position = torch.nn.Embedding(POSITIONS, HIDDEN)
        self.norm = torch.nn.LayerNorm(HIDDEN, eps=1e-12)
        layer = torch.nn.TransformerEncoderLayer(HIDDEN, HEADS, WIDE, dropout=0.0,
                                                 activation="gelu", layer_norm_eps=1e-12,
                                                 batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=True)

    def forward(self, ids, padding):
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.layers(self.norm(self.word(ids) + self.position(places)),
                        src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(2)
        mean = (x * kept).sum(1) / kept.sum(1)
        return torch.nn.functional.normalize(mean.float(), dim=1)


def median_seconds(work, turns, warm=3):
    for _ in range(warm):
        work()
    took = []
    for _ in range(turns):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def encode(options):
    """Lengths as the texts that akin's check makes up have them: 9 to 60 tokens."""
    generator = torch.Generator().manual_seed(options.seed)
    model = Encoder(options.layers).half().cuda().eval()
    words = torch.where(torch.arange(options.texts) % 10 > 0,
                        torch.randint(1, 13, (options.texts,), generator=generator),
                        torch.randint(1, 41, (options.texts,), generator=generator))
    lengths = (words * 1.6).long() + 2
    order = lengths.sort(descending=True).indices
    batches = []
    for rows in order.split(512):
        size = int(lengths[rows].max())
        ids = torch.randint(0, VOCABULARY, (len(rows), size), generator=generator)
        padding = torch.arange(size).unsqueeze(0) >= lengths[rows].unsqueeze(1)
        batches.append((ids.pin_memory(), padding.pin_memory()))

    def all_texts():
        with torch.inference_mode():
            for ids, padding in batches:
                model(ids.cuda(non_blocking=True), padding.cuda(non_blocking=True)).cpu()

    def one_text():
        ids, padding = batches[-1]
        with torch.inference_mode():
            model(ids[:1, :16].cuda(), padding[:1, :16].cuda()).cpu()

    return {"layers": options.layers, "texts": options.texts, "tokens": int(lengths.sum()),
            "texts_per_second": options.texts / median_seconds(all_texts, 5),
            "one_text_us": 1e6 * median_seconds(one_text, 50)}


def search():
    rows = torch.nn.functional.normalize(torch.randn(62423, 384), dim=1).cuda()
    found = {}
    for name, table in (("float32", rows), ("fp16", rows.half())):
        for batch in (1, 10, 100, 1000):
            queries = torch.nn.functional.normalize(torch.randn(batch, 384), dim=1).pin_memory()

            def work():
                scores = queries.cuda(non_blocking=True).to(table.dtype) @ table.T
                best = scores.topk(10)
                return best.values.cpu(), best.indices.cpu()

            seconds = median_seconds(work, 15)
            found[f"{name} batch {batch}"] = {"us": 1e6 * seconds, "qps": batch / seconds}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--texts", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    print(json.dumps({"peer": f"torch {torch.__version__}",
                      "gpu": torch.cuda.get_device_name(), "encode": encode(options),
                      "search": search()}, indent=1))


if __name__ == "__main__":
    main()
