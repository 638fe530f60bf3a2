"""Makes tests/fixtures/train from a folder of a small PyTorch reference run: weights, ten batches,
the losses, and of each gradient its norm and four sums under fixed signs, in float64.

    train_fixture.py REFERENCE_FOLDER tests/fixtures/train
"""
import json
import pathlib
import shutil
import struct
import sys

import numpy as np

SUMS = 4


def tensors(path):
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8:end]).items():
        if name != "__metadata__":
            begin, stop = entry["data_offsets"]
            kind = {"F32": "<f4", "F64": "<f8"}[entry["dtype"]]
            yield name, np.frombuffer(data[end + begin:end + stop], kind)


def signed_sums(values):
    """The sign of number i in sum k is the top bit of a hash of both."""
    i = np.arange(values.size, dtype=np.uint64)
    mask = np.uint64(0xFFFFFFFF)
    for k in range(SUMS):
        h = (i + np.uint64(1000003 * k)) * np.uint64(0x9E3779B1) & mask
        h = (h ^ h >> np.uint64(15)) * np.uint64(0x85EBCA77) & mask
        yield float(np.where(h >> np.uint64(31), -values, values).sum())


def main():
    reference, out = map(pathlib.Path, sys.argv[1:])
    expected = json.loads((reference / "expected.json").read_text())
    curves = expected["curves"]
    made = {
        "config": expected["config"],
        "torch": expected["torch"],
        "loss_step0_f64": expected["loss_step0_f64"],
        "curves": {f"{o}_f64": {"loss": curves[f"{o}_f64"]["loss"]}
                   for o in ("adamw", "adam", "sgd")},
        "gradients": {name: {"norm": float(np.linalg.norm(g)), "sums": list(signed_sums(g))}
                      for name, g in tensors(reference / "grads_f64.safetensors")},
    }
    (out / "expected.json").write_text(json.dumps(made, indent=1) + "\n")
    for name in ("config.json", "init.safetensors", "batch_src.npy", "batch_tgt.npy"):
        shutil.copyfile(reference / name, out / name)


main()
