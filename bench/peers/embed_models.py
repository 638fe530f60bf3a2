"""Makes each peer's best form of a Hugging Face model folder, once, under a cache folder.

plain.onnx      torch's own export (also what OpenVINO reads)
fused.onnx      after onnxruntime.transformers' optimizer (fused attention, LayerNorm, GELU)
int8.onnx       dynamic quantisation of fused.onnx, signed 8-bit weights per channel
ov.xml          OpenVINO IR; bf16 or fp32 is chosen when it is compiled
ov_int8.xml     NNCF static post-training quantisation, calibrated on texts that are not measured
model-*.gguf    llama.cpp's format (F16, Q8_0), written directly with token ids only

Usage: embed_models.py MODEL_DIR OUT_DIR CALIBRATION.jsonl [--llama]
Writes OUT_DIR/status.json: {file: "ok" or one line saying why not}.
"""

import argparse
import json
import logging
import os
import sys
import time
import warnings

CALIBRATION_TEXTS = 300


def quiet():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def read_json(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return json.load(f)


def export_plain(model, target):
    import torch
    from transformers import AutoModel

    network = AutoModel.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager"
    ).eval()

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.network(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state

    ids = torch.arange(5, 23).reshape(2, 9)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch", 1: "token"} for name in names + ["hidden"]}
    torch.onnx.export(
        Hidden(),
        (ids, mask, torch.zeros_like(ids)),
        target,
        input_names=names,
        output_names=["hidden"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )


def fuse(model, source, target):
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    config = read_json(model, "config.json")
    fused = optimizer.optimize_model(
        source,
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
        opt_level=0,
        use_gpu=False,
        optimization_options=FusionOptions("bert"),
    )
    counts = fused.get_fused_operator_statistics()
    if counts["Attention"] != config["num_hidden_layers"]:
        raise RuntimeError(
            "onnxruntime's optimizer fused %d of %d attention blocks"
            % (counts["Attention"], config["num_hidden_layers"])
        )
    fused.save_model_to_file(target)


def quantize_onnx(source, target):
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Shape inference knows no fused operator, hence the type that it falls back to.
    quantize_dynamic(
        source,
        target,
        per_channel=True,
        reduce_range=False,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Attention"],
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
    )


def to_openvino(source, target):
    import openvino

    openvino.save_model(openvino.Core().read_model(source), target, compress_to_fp16=False)


def quantize_openvino(model, source, target, calibration):
    import nncf
    import numpy as np
    import openvino
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()

    def feed(text):
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        return {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }

    quantized = nncf.quantize(
        openvino.Core().read_model(source),
        nncf.Dataset(calibration, feed),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(calibration),
    )
    openvino.save_model(quantized, target, compress_to_fp16=False)


def to_gguf(model, target, q8):
    """BertModel as llama.cpp's "bert" architecture. The vocabulary is left out: the harness feeds
    token ids, so that tokenising is the same for every engine."""
    import gguf
    from safetensors import safe_open

    config = read_json(model, "config.json")
    layers = config["num_hidden_layers"]
    writer = gguf.GGUFWriter(target, "bert")
    writer.add_name(os.path.basename(model))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(layers)
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, layers)
    with safe_open(os.path.join(model, "model.safetensors"), "np") as weights:
        for key in weights.keys():
            if key.endswith("position_ids") or "pooler" in key:
                continue
            tensor = weights.get_tensor(key).astype("float32")
            name = names.get_name(key, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise RuntimeError("llama.cpp has no name for " + key)
            kind = gguf.GGMLQuantizationType.F32
            if tensor.ndim == 2 and "position" not in name and "token_types" not in name:
                kind = gguf.GGMLQuantizationType.Q8_0 if q8 else gguf.GGMLQuantizationType.F16
                tensor = gguf.quants.quantize(tensor, kind)
            writer.add_tensor(name, tensor, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("calibration")
    parser.add_argument("--llama", action="store_true")
    a = parser.parse_args()
    os.makedirs(a.out, exist_ok=True)
    with open(a.calibration, encoding="utf-8") as f:
        calibration = [json.loads(line)["text"] for line in f][:CALIBRATION_TEXTS]
    at = lambda name: os.path.join(a.out, name)
    steps = [
        ("plain.onnx", lambda: export_plain(a.model, at("plain.onnx"))),
        ("fused.onnx", lambda: fuse(a.model, at("plain.onnx"), at("fused.onnx"))),
        ("int8.onnx", lambda: quantize_onnx(at("fused.onnx"), at("int8.onnx"))),
        ("ov.xml", lambda: to_openvino(at("plain.onnx"), at("ov.xml"))),
        (
            "ov_int8.xml",
            lambda: quantize_openvino(a.model, at("ov.xml"), at("ov_int8.xml"), calibration),
        ),
    ]
    if a.llama:
        steps += [
            ("model-f16.gguf", lambda: to_gguf(a.model, at("model-f16.gguf"), False)),
            ("model-q8_0.gguf", lambda: to_gguf(a.model, at("model-q8_0.gguf"), True)),
        ]
    status_file, status = at("status.json"), {}
    if os.path.exists(status_file):
        status = read_json(a.out, "status.json")
    if all(status.get(name) == "ok" for name, _ in steps):
        return
    quiet()
    for name, step in steps:
        if status.get(name) == "ok":
            continue
        begin = time.monotonic()
        try:
            step()
            status[name] = "ok"
        except Exception as e:  # a peer that cannot be made is a row that says so
            status[name] = ("%s: %s" % (type(e).__name__, " ".join(str(e).split())))[:200]
        print(
            "embed_models: %s %s (%.0f s)" % (name, status[name], time.monotonic() - begin),
            file=sys.stderr,
        )
        with open(status_file, "w", encoding="utf-8") as f:
            json.dump(status, f, indent=1)


if __name__ == "__main__":
    main()
