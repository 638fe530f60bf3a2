#!/usr/bin/env python3
"""Every file that akin writes, read by numpy and json; and what numpy writes, read by akin.

Usage: numpy_roundtrip.py AKIN      (exit 77 without numpy: skipped)
A model of one layer with random weights and a catalogue of five films are made in a scratch folder.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("numpy_roundtrip: skipped, this python has no numpy")
    sys.exit(77)

HIDDEN = 32
RATINGS = np.dtype([("user", "<u4"), ("item", "<u4"), ("rating", "<f4"), ("timestamp", "<i8")])
FILMS = """movieId,title,genres
1,Toy Story (1995),Adventure|Animation|Children
7,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Drama
20,Untitled,(no genres listed)
300,"Quote ""Unquote"" (2001)",Comedy
4000,Heat (1995),Action|Crime
"""
# of user 12 the later row is the earlier one; nobody rated film 20
VOTES = """userId,movieId,rating,timestamp
12,4000,2.5,900
12,1,5.0,100
3,7,0.5,5000000000
3,300,4.0,50
800,1,3.0,7
"""
checks = failures = 0


def check(what, good, seen=""):
    global checks, failures
    checks += 1
    if not good:
        failures += 1
        print(f"FAIL {what}: {seen}")


def akin(*arguments, status=0):
    done = subprocess.run([AKIN, *map(str, arguments)], capture_output=True, timeout=60,
                          env={**os.environ, "NO_COLOR": "1", "AKIN_HOME": "home", "AKIN_DATA": "data"})
    if done.returncode != status:
        sys.exit(f"FAIL akin {' '.join(map(str, arguments))}: exit {done.returncode}, expected {status}\n"
                 + done.stderr.decode(errors="replace"))
    return done


def strict(text):
    """JSON as other languages read it: without NaN and Infinity."""
    def refuse(name):
        raise ValueError(f"{name} is not JSON")
    return json.loads(text, parse_constant=refuse)


def json_lines(path):
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    check(f"{path} ends each line with a newline", text.endswith("\n") and "\r" not in text)
    return [strict(line) for line in text.splitlines()]


def load(path, dtype, shape):
    array = np.load(path, allow_pickle=False)
    check(f"{path} dtype", array.dtype == dtype, array.dtype)
    check(f"{path} shape", array.shape == shape, array.shape)
    check(f"{path} order", array.flags.c_contiguous)
    with open(path, "rb") as file:
        file.seek(8)
        check(f"{path} data on a 64-byte boundary", (10 + struct.unpack("<H", file.read(2))[0]) % 64 == 0)
    return array


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(value, file)


def make_model(folder):
    rng = np.random.default_rng(1)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789().,:'\"-")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *("##" + c for c in letters)]
    tensors = {}

    def put(name, *shape):
        tensors[name] = rng.normal(0, 0.3, shape).astype("<f4")

    def norm(name):
        tensors[name + ".weight"] = np.ones(HIDDEN, "<f4")
        put(name + ".bias", HIDDEN)

    def dense(name, rows, cols):
        put(name + ".weight", rows, cols)
        put(name + ".bias", rows)

    put("embeddings.word_embeddings.weight", len(words), HIDDEN)
    put("embeddings.position_embeddings.weight", 64, HIDDEN)
    put("embeddings.token_type_embeddings.weight", 2, HIDDEN)
    norm("embeddings.LayerNorm")
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        dense("encoder.layer.0.attention." + part, HIDDEN, HIDDEN)
    norm("encoder.layer.0.attention.output.LayerNorm")
    dense("encoder.layer.0.intermediate.dense", 2 * HIDDEN, HIDDEN)
    dense("encoder.layer.0.output.dense", HIDDEN, 2 * HIDDEN)
    norm("encoder.layer.0.output.LayerNorm")

    header, end = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    os.makedirs(folder)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())
    write_json(f"{folder}/config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": HIDDEN,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 2 * HIDDEN,
        "vocab_size": len(words), "max_position_embeddings": 64, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "pad_token_id": 0, "position_embedding_type": "absolute"})
    write_json(f"{folder}/modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.models." + kind}
        for i, (path, kind) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")))])
    write_json(f"{folder}/1_Pooling/config.json", {
        "word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False})
    write_json(f"{folder}/sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    special = [{"id": i, "content": words[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in range(4)]
    write_json(f"{folder}/tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [at], "tokens": [name]}
                               for at, name in ((2, "[CLS]"), (3, "[SEP]"))}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: i for i, word in enumerate(words)}}})


def catalogue():
    os.mkdir("movielens")
    for name, text in (("movies.csv", FILMS), ("ratings.csv", VOTES)):
        with open(f"movielens/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    report = strict(akin("data", "import", "movielens", "movielens", "--json").stdout)
    check("import counts", (report["films"], report["ratings"], report["users"]) == (5, 5, 3), report)

    films = json_lines("data/movies.jsonl")
    check("film ids", [f["media_id"] for f in films] == ["ml_1", "ml_7", "ml_20", "ml_300", "ml_4000"], films)
    check("quoted and accented titles", films[1]["title"].endswith("(Cité des enfants perdus, La) (1995)")
          and films[3]["title"] == 'Quote "Unquote" (2001)', films)
    check("film text", films[0]["text"].startswith("Toy Story (1995). Genres: Adventure, Animation"), films[0])
    check("no year, no genres", not films[2].get("year") and films[2]["genres"] == [], films[2])

    votes = load("data/ratings.npy", RATINGS, (5,))
    check("ratings sorted by user, then time",
          list(zip(votes["user"].tolist(), votes["timestamp"].tolist()))
          == [(3, 50), (3, 5000000000), (12, 100), (12, 900), (800, 7)], votes)
    check("rating values", votes["rating"].tolist() == [4.0, 0.5, 5.0, 2.5, 3.0], votes)

    akin("data", "embed", "--model", "model")
    vectors = load("data/embeddings/media/content_vectors.npy", "<f4", (5, HIDDEN))
    check("vectors have length 1", np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6)
    meta = json_lines("data/embeddings/media/metadata.jsonl")
    check("metadata order", [m["media_id"] for m in meta] == [f["media_id"] for f in films], meta)
    check("metadata keys", all({"media_id", "title", "year", "genres", "themes"} <= set(m) for m in meta), meta)

    with open("data/embeddings/users/user_ids.json", encoding="utf-8") as file:
        users = strict(file.read())
    check("user ids are strings", sorted(users) == ["12", "3", "800"], users)
    tastes = load("data/embeddings/users/preference_vectors.npy", "<f4", (3, HIDDEN))
    rows = {f["media_id"]: i for i, f in enumerate(films)}
    for user, taste in zip(users, tastes):
        seen = [line.split(",") for line in VOTES.splitlines()[1:] if line.startswith(user + ",")]
        weight = np.array([float(v[2]) for v in seen])
        want = weight @ vectors[[rows["ml_" + v[1]] for v in seen]].astype(np.float64) / weight.sum()
        check(f"vector of user {user}", np.abs(taste - want).max() < 1e-6, np.abs(taste - want).max())

    said = strict(akin("recommend", "--similar", "toy story", "-k", 3, "--json").stdout)["results"]
    scores = vectors @ vectors[0]
    scores[0] = -9
    check("recommend", [r["media_id"] for r in said] == [films[i]["media_id"] for i in np.argsort(-scores)[:3]], said)
    return films


def vectors_and_indexes(films):
    with open("texts.txt", "w", encoding="utf-8") as file:
        file.writelines(f["text"] + "\n" for f in films)
    report = strict(akin("embed", "--model", "model", "-i", "texts.txt", "-o", "v.npy", "--json").stdout)
    vectors = load("v.npy", "<f4", (5, HIDDEN))
    check("embed report", report["texts"] == 5 and report["dimension"] == HIDDEN and report["nan_inf"] == 0, report)
    check("the same text has the same bits in a catalogue",
          vectors.tobytes() == np.load("data/embeddings/media/content_vectors.npy").tobytes())

    rng = np.random.default_rng(2)
    base = rng.normal(size=(50, HIDDEN)).astype(np.float32)
    queries = rng.normal(size=(4, HIDDEN)).astype(np.float32)
    np.save("base.npy", base)
    with open("queries.npy", "wb") as file:
        np.lib.format.write_array(file, queries, version=(2, 0))
    names = np.arange(50, dtype=np.int64)[::-1] * 10**12
    np.save("names.npy", names)
    inner = queries.astype(np.float64) @ base.T.astype(np.float64)
    lengths = np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(base, axis=1))
    squares = ((queries[:, None].astype(np.float64) - base) ** 2).sum(axis=2)
    for metric, exact, more, ids_of in (("inner-product", inner, (), np.arange(50)),
                                        ("cosine", inner / lengths, ("--ids", "names.npy"), names),
                                        ("l2", -squares, (), np.arange(50))):
        akin("index", "build", "-i", "base.npy", "-o", "base.akx", "--kind", "flat", "--metric", metric, *more)
        akin("index", "check", "base.akx")
        report = strict(akin("search", "--index", "base.akx", "--vectors", "queries.npy", "-k", 7,
                             "-o", "ids.npy", "--json").stdout)
        ids, scores = load("ids.npy", "<i8", (4, 7)), load("ids.scores.npy", "<f4", (4, 7))
        order = np.argsort(-exact, axis=1)[:, :7]
        check(f"{metric}: nearest", np.array_equal(ids, ids_of[order]), ids)
        check(f"{metric}: scores", np.allclose(scores, np.take_along_axis(exact, order, 1), atol=1e-4), scores)
        check(f"{metric}: report", report["queries"] == 4 and report["kind"] == "flat", report)

    akin("search", "--index", "base.akx", "--vectors", "queries.npy", "-k", 60, "-o", "ids.npy")
    ids = load("ids.npy", "<i8", (4, 60))
    check("fewer than k", (ids[:, 50:] == -1).all() and (np.sort(ids[:, :50]) == np.arange(50)).all(), ids)

    for name, array in (("fortran", np.asfortranarray(base)), ("float64", base.astype(np.float64)),
                        ("bytes", np.array([b"ab"])), ("flat", base[0]), ("big", base.astype(">f4"))):
        np.save(f"{name}.npy", array)
        done = akin("index", "build", "-i", f"{name}.npy", "-o", "never.akx", status=1)
        check(f"{name} is refused in one line that names it",
              done.stderr.count(b"\n") == 1 and f"{name}.npy".encode() in done.stderr, done.stderr)
        check(f"{name} leaves nothing", not os.path.exists("never.akx"))


def main():
    global AKIN
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    AKIN = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        make_model("model")
        vectors_and_indexes(catalogue())
        os.chdir("/")
    print(f"numpy_roundtrip: {checks} checks, {failures} failed")
    sys.exit(failures > 0)


main()
