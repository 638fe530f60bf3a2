"""One turn of PyTorch on the training benchmark's model: checks or trains, prints one JSON line.

    train_peer.py --verify FOLDER        loads init.safetensors there and compares the first loss
    train_peer.py '{"compile": ..., }'   trains, see `train`
"""

import json
import os
import resource
import sys
import time

import torch
from torch import nn


class Seq2Seq(nn.Module):
    """The model of docs/training.md: one embedding for both sides, learned positions, no scale."""

    def __init__(self, d, heads, encoder, decoder, feed_forward, vocab, length, dropout):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d)
        self.pos_embedding = nn.Embedding(length, d)
        self.transformer = nn.Transformer(
            d, heads, encoder, decoder, feed_forward, dropout, batch_first=True
        )
        self.output_proj = nn.Linear(d, vocab)
        self.register_buffer("positions", torch.arange(length), persistent=False)
        mask = nn.Transformer.generate_square_subsequent_mask(length - 1)
        self.register_buffer("mask", mask, persistent=False)

    def embed(self, tokens):
        return self.embedding(tokens) + self.pos_embedding(self.positions[: tokens.shape[1]])

    def forward(self, source, target):
        out = self.transformer(
            self.embed(source), self.embed(target), tgt_mask=self.mask, tgt_is_causal=True
        )
        return self.output_proj(out)


def loss_of(model, source, target):
    logits = model(source, target[:, :-1])
    labels = target[:, 1:]
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def verify(folder):
    import numpy as np
    from safetensors.torch import load_file

    def read(name):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            return json.load(f)

    c = read("config.json")
    model = Seq2Seq(
        c["d_model"], c["nhead"], c["enc"], c["dec"], c["ffn"], c["vocab"], c["seq_len"], 0.0
    )
    model.load_state_dict(load_file(os.path.join(folder, "init.safetensors")))
    source, target = (
        torch.from_numpy(np.load(os.path.join(folder, "batch_%s.npy" % side))[0].astype("int64"))
        for side in ("src", "tgt")
    )
    with torch.no_grad():
        loss = loss_of(model, source, target).item()
    expected = read("expected.json")["loss_step0_f64"]
    return {"loss": loss, "expected": expected, "right": abs(loss - expected) <= 1e-6}


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def train(o):
    """Warm-up steps, then timed ones; nothing waits for the device in between."""
    device, shape = o["device"], o["shape"]
    torch.set_num_threads(o["threads"])
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("highest")
    model = Seq2Seq(
        shape["d_model"],
        shape["nhead"],
        shape["encoder_layers"],
        shape["decoder_layers"],
        shape["feed_forward"],
        shape["vocab"],
        shape["seq_len"],
        o["dropout"],
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    narrow = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(o["precision"])
    scaler = torch.amp.GradScaler(device, enabled=o["precision"] == "fp16")
    run = torch.compile(model) if o["compile"] else model
    batches = [
        torch.randint(0, shape["vocab"], (2, o["batch"], shape["seq_len"]), device=device)
        for _ in range(4)
    ]

    def step(number):
        source, target = batches[number % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=narrow, enabled=narrow is not None):
            loss = loss_of(run, source, target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    began = time.perf_counter()
    losses = [step(n) for n in range(o["warmup"])]
    synchronize(device)
    warm = time.perf_counter()
    losses += [step(n) for n in range(o["steps"])]
    synchronize(device)
    seconds = time.perf_counter() - warm
    result = {
        "samples_per_s": o["steps"] * o["batch"] / seconds,
        "step_ms": 1e3 * seconds / o["steps"],
        "warmup_s": warm - began,
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses": [round(x.item(), 5) for x in (losses[0], losses[-1])],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if device == "cuda":
        result["gpu"] = torch.cuda.get_device_name()
        result["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
        result["cuda"] = torch.version.cuda
    return result


if __name__ == "__main__":
    if sys.argv[1] == "--verify":
        print(json.dumps(verify(sys.argv[2])))
    else:
        print(json.dumps(train(json.loads(sys.argv[1]))))
