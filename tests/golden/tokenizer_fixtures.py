#!/usr/bin/env python3
"""Writes tests/fixtures/tokenizers: small tokenizer.json files of our own making, and beside each what
the Hugging Face `tokenizers` package makes of a few hundred strings (NAME.expected.jsonl, one
{"text", "tokens_max", "ids", "offsets"} a line; offsets count bytes of UTF-8).

    tokenizer_fixtures.py FOLDER"""
import base64
import json
import math
import os
import sys
import unicodedata

import tokenizers

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from charsmap import charsmap  # noqa: E402
from tokenizer_fuzz import Maker, WORDS, byte_offsets  # noqa: E402

LETTERS = [chr(c) for c in range(0x21, 0x7F)] + list("àéöüßñçабвгдежзиклмнопрстуαβγδεζабв東京タワー한국어日本ا")
PREFIX = "\u2581"
HAND = ["", " ", "  ", "a", "Hello  World", "\0", "a\0b", "x\u200by", "na\u00efve nai\u0308ve", "\r\n a\r\nb",
        "\u4e2d\u6587 mixed\u4e2dtext", "\u0130stanbul \u1e9e", "e" + "\u0301" * 40, "e\u0323\u0301\u0327",
        "\uff8a\uff9f\uff76\uff9e \uff21\uff11", "\u1100\u1161\u11a8 \uac01\u11a8", "f\ufb01\ufb03 \u00bd",
        "[SEP] a[SEP]b [sep]", "<s>x</s> <mask> <mask>y", "  [MASK]  a", "cat cats [cat] cat", "New Word new word",
        "NEW WORD newword", "\u00c9clair \u00e9clair e\u0301clair", "<r>   b <r>b", "a" * 120, "ab " * 60,
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\U0001f1eb", "\u0e40\u0e01\u0e33",
        "\u0915\u094d\u0937\u0915\u0300", "a\u0300b a\u0301", "\u2028\u2029\u0085\u00a0x\u3000y", "``quoted''",
        # Indic conjuncts, emoji sequences, controls and prepends, each before a mark of two bytes
        "\u0915\u094d\u0937\u0300", "\u0915\u200c\u094d\u0937\u0300", "\u0915\u093c\u094d\u200d\u0937\u0300",
        "\u2764\u200d\u2764\u0300 \u2605\u200d\u2764\u0300 \u2764\u200d\u200d\u2764\u0300",
        "\U000e0742\u0341\ufe02", "\u0600a\u0300", "\u1100\u11a8\u0300", "\r\u0300\n",
        "e\u0305\u0301 e\u0323\u0301 e\u0301\u0301", " <mask>", "  <mask> x", "a <mask>  b", " <mask> <mask>"]


def pieces():
    """Letters, and the pieces of our words with scores that fall with length and rarity."""
    counts = {}
    for word in WORDS * 2 + ["Hello", "World", "cat", "new", "word", "istanbul"]:
        for begin in range(len(word)):
            for end in range(begin + 1, min(begin + 6, len(word)) + 1):
                counts[word[begin:end]] = counts.get(word[begin:end], 0) + 1
    frequent = sorted((p for p in counts if len(p) > 1), key=lambda p: (-counts[p], p))[:260]
    return frequent, counts


def token(content, id_, **flags):
    entry = dict(id=id_, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False,
                 special=True)
    entry.update(flags)
    return entry


def template(first, first_id, last, last_id):
    single = [{"SpecialToken": {"id": first, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": last, "type_id": 0}}]
    special = {name: {"id": name, "ids": [id_], "tokens": [name]}
               for name, id_ in ((first, first_id), (last, last_id))}
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": special}


def wordpiece(normalizer, pre_tokenizer, post_processor, lower, prefix="##", codes_max=20, added=()):
    frequent, _ = pieces()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = special + LETTERS + [prefix + c for c in LETTERS] + [
        (prefix if i % 3 == 0 else "") + p for i, p in enumerate(frequent)]
    if lower:
        words = special + [w.lower() for w in words[5:]]
    vocabulary = {w: i for i, w in enumerate(dict.fromkeys(words))}
    model = dict(type="WordPiece", unk_token="[UNK]", continuing_subword_prefix=prefix,
                 max_input_chars_per_word=codes_max, vocab=vocabulary)
    tokens = [token(name, i) for i, name in enumerate(special)]
    tokens += [dict(entry, id=len(vocabulary) + i) for i, entry in enumerate(added)]
    return dict(version="1.0", truncation=None, padding=None, added_tokens=tokens, normalizer=normalizer,
                pre_tokenizer=pre_tokenizer, post_processor=post_processor, decoder=None, model=model)


def unigram(normalizer, pre_tokenizer, post_processor, byte_fallback=False, mask=None):
    frequent, counts = pieces()
    total = sum(counts.values())
    vocabulary = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], [PREFIX, -2.5]]
    seen = {entry[0] for entry in vocabulary}
    for i, piece in enumerate(LETTERS + frequent):
        score = round(math.log(counts.get(piece, 1) / total) + 0.7 * len(piece), 6)
        for form in (piece, PREFIX + piece) if i % 2 else (piece,):
            if form not in seen:
                seen.add(form)
                vocabulary.append([form, score])
    if byte_fallback:
        vocabulary += [["<0x%02X>" % b, -12.0] for b in range(256)]
    tokens = [token(name, i) for i, name in enumerate(("<s>", "<pad>", "</s>", "<unk>"))]
    tokens.append(token("<mask>", len(vocabulary), **(mask or {})))
    model = dict(type="Unigram", unk_id=3, vocab=vocabulary, byte_fallback=byte_fallback)
    return dict(version="1.0", truncation=None, padding=None, added_tokens=tokens, normalizer=normalizer,
                pre_tokenizer=pre_tokenizer, post_processor=post_processor, decoder=None, model=model)


def small_charsmap():
    """NFKC of a few blocks, spaces of all kinds, some code points that vanish, one pair of code
    points and one prefix that shadows what follows it in a cluster."""
    rows = {}
    for a, b in ((0xA0, 0x180), (0x2000, 0x206F), (0x2100, 0x2189), (0xFB00, 0xFB07), (0xFF01, 0xFFBF), (0x3000, 0x3001)):
        for c in range(a, b):
            form = unicodedata.normalize("NFKC", chr(c))
            if form != chr(c):
                rows[chr(c).encode()] = form.encode()
    for c in (0x09, 0x0A, 0x0D, 0x200B, 0x2028, 0x2029, 0xFEFF, 0xFFFD):
        rows[chr(c).encode()] = b" "
    for c in (0x01, 0x7F, 0x200E, 0xAD):
        rows[chr(c).encode()] = b""
    for base, mark, whole in (("e", "\u0301", "é"), ("a", "\u0300", "à"), ("n", "\u0303", "ñ"), ("ハ", "\u309a", "パ")):
        rows[(base + mark).encode()] = whole.encode()
    rows[b"\xef\xac\x81"] = "fi".encode()
    rows["\u00bd".encode()] = "1\u20442".encode()
    rows["\u0439".encode()] = "\u0438\u0306".encode()
    return rows


def fixtures():
    bert = dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None)
    pre = {"type": "BertPreTokenizer"}
    squeeze = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}

    # Every lead byte is a key: each grapheme cluster of fewer than six bytes becomes one X.
    clusters = {bytes([b]): b"X" for b in [ord("a"), ord("\r"), ord("\n")] + list(range(0xC2, 0xF5))}

    def precompiled(rows):
        return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(rows)).decode()}

    def metaspace(**more):
        return dict(type="Metaspace", replacement=PREFIX, **more)

    def sequence(key, *items):
        return {"type": "Sequence", key: list(items)}

    def form(name):
        return {"type": name}

    yield "wordpiece_uncased", wordpiece(dict(bert, lowercase=True), pre, template("[CLS]", 2, "[SEP]", 3), True)
    yield "wordpiece_added", wordpiece(
        dict(bert, lowercase=False), pre, {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}, False,
        added=[token("[MASKED]", 0, lstrip=True), token("New Word", 0, normalized=True, special=False),
               token("cat", 0, single_word=True, special=False), token("<r>", 0, rstrip=True),
               token("\u00e9clair", 0, normalized=True, lstrip=True, rstrip=True, special=False)])
    yield "wordpiece_folded", wordpiece(
        dict(bert, lowercase=True, clean_text=False, handle_chinese_chars=False, strip_accents=False), pre, None, True,
        added=[token("\u00c9clair", 0, normalized=True, special=False),
               token("New Word", 0, normalized=True, single_word=True, special=False)])
    yield "wordpiece_words", wordpiece(sequence("normalizers", form("NFC"), form("NFKD"), form("StripAccents")),
                                       {"type": "Whitespace"}, None, False, prefix="", codes_max=9)
    yield "unigram_xlmr", unigram(
        sequence("normalizers", precompiled(small_charsmap()), squeeze),
        metaspace(add_prefix_space=True), template("<s>", 0, "</s>", 2), mask={"lstrip": True})
    yield "unigram_clusters", unigram(precompiled(clusters), metaspace(), None)
    yield "unigram_bytes", unigram(
        sequence("normalizers", form("Nmt"), form("NFKC"),
                 {"type": "Replace", "pattern": {"String": "``"}, "content": '"'}, form("Lowercase"),
                 {"type": "Strip", "strip_left": True, "strip_right": True}),
        sequence("pretokenizers", form("WhitespaceSplit"), metaspace(prepend_scheme="first")),
        {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True,
         "add_prefix_space": True}, byte_fallback=True, mask={"lstrip": True, "rstrip": True})
    yield "unigram_whole", unigram(
        sequence("normalizers", form("NFD"), form("NFC"), {"type": "Strip", "strip_left": False, "strip_right": True},
                 {"type": "Prepend", "prepend": PREFIX},
                 {"type": "Replace", "pattern": {"String": " "}, "content": PREFIX}),
        metaspace(prepend_scheme="never", split=False), None)


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for number, (name, settings) in enumerate(fixtures()):
        path = os.path.join(folder, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(settings, file, ensure_ascii=False, separators=(",", ":"))
            file.write("\n")
        tokenizer = tokenizers.Tokenizer.from_file(path)
        vocabulary = [t.replace(PREFIX, " ").removeprefix("##") for t in sorted(tokenizer.get_vocab())]
        maker = Maker(1000 + number, [t for t in vocabulary if t], [t["content"] for t in settings["added_tokens"]])
        texts = HAND + ["".join(maker.atom() + maker.random.choice(("", " ", "  "))
                                for _ in range(maker.random.randint(1, 5))) for _ in range(110)]
        with open(os.path.join(folder, name + ".expected.jsonl"), "w", encoding="utf-8") as file:
            for i, text in enumerate(texts):
                tokens_max = (512, 512, 2, 3, 7)[i % 5]
                tokenizer.enable_truncation(tokens_max)
                encoding = tokenizer.encode(text)
                row = dict(text=text, tokens_max=tokens_max, ids=encoding.ids,
                           offsets=byte_offsets(text, encoding.offsets))
                file.write(json.dumps(row, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
