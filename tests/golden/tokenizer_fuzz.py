#!/usr/bin/env python3
"""Differential fuzz of the tokenizers: makes strings, and compares the ids (and, where the program
prints them, the offsets) of `PROGRAM tokenize --model MODEL -i FILE` with those of the Hugging Face
`tokenizers` package on the same tokenizer.json.

    tokenizer_fuzz.py --model MODEL [--count N] [--seed S] [--tokens-max T] PROGRAM
    tokenizer_fuzz.py --model MODEL ... --command 'driver {tokenizer} {input} {tokens_max} --offsets'

Prints the seed and each difference; exit 1 when there is one, 77 when something needed is missing."""
import argparse
import json
import os
import random
import shlex
import subprocess
import sys
import tempfile

try:
    import tokenizers
except ImportError:
    print("skipped: the Python package tokenizers is not installed")
    sys.exit(77)

SPACES = [chr(c) for c in list(range(9, 14)) + [0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F,
                                                0x3000, 0x200B, 0xFEFF, 0x180E] + list(range(0x2000, 0x200B))]
CONTROLS = [chr(c) for c in list(range(0, 32)) + list(range(0x7F, 0xA0)) +
            [0xAD, 0x600, 0x61C, 0x6DD, 0x8E2, 0x110CD, 0x200C, 0x200D, 0x2060, 0xFFF9, 0xFFFD, 0xFFFE,
             0xE0001, 0xE0041, 0xE000, 0xF0000, 0x10FFFF]]
MARKS = [chr(c) for a, b in ((0x300, 0x36F), (0x483, 0x489), (0x591, 0x5BD), (0x610, 0x61A), (0x64B, 0x65F),
                             (0x8CA, 0x902), (0x93A, 0x94D), (0x9BC, 0x9CD), (0xE31, 0xE3A), (0xF71, 0xF84),
                             (0x135D, 0x135F), (0x1AB0, 0x1ACE), (0x1DC0, 0x1DFF), (0x20D0, 0x20F0),
                             (0x302A, 0x302F), (0x3099, 0x309A), (0xA674, 0xA67D), (0xFE00, 0xFE0F),
                             (0xFE20, 0xFE2F), (0x11938, 0x11943), (0x1D165, 0x1D172), (0xE0100, 0xE0105))
         for c in range(a, b + 1)]
EMOJI = ["\U0001F600", "\U0001F468\u200D\U0001F469\u200D\U0001F467", "\U0001F1E9\U0001F1EA", "\u2764\uFE0F",
         "\U0001F44D\U0001F3FD", "\U0001F3F4\U000E0067\U000E0062\U000E007F", "1\uFE0F\u20E3", "\u263A",
         "\U0001F9D1\U0001F3FB\u200D\U0001F4BB", "\U0001F1E6", "\u00A9\uFE0F", "\U0001F636\u200D\U0001F32B\uFE0F"]
BLOCKS = [(0x21, 0x7E), (0xA1, 0x17F), (0x180, 0x24F), (0x250, 0x2FF), (0x370, 0x3FF), (0x400, 0x52F),
          (0x530, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF), (0xE00, 0xE7F), (0xF00, 0xFFF),
          (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF),
          (0x2000, 0x206F), (0x2070, 0x20CF), (0x2100, 0x214F), (0x2150, 0x218F), (0x2460, 0x24FF),
          (0x2500, 0x27BF), (0x2E80, 0x2FDF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3130, 0x318F),
          (0x3200, 0x33FF), (0x3400, 0x34FF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xA720, 0xA7FF),
          (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE30, 0xFE6F), (0xFF00, 0xFFEF),
          (0x10000, 0x100FF), (0x10400, 0x1044F), (0x11000, 0x1194F), (0x12000, 0x1203F), (0x1D400, 0x1D7FF),
          (0x1E900, 0x1E95F), (0x1F100, 0x1F2FF), (0x1F300, 0x1F6FF), (0x20000, 0x2A6DF), (0x2B820, 0x2CEAF),
          (0x2F800, 0x2FA1F), (0x30000, 0x3134F)]
WORDS = ("the of and Movie Matrix (1999). Genres: Action, Drama. naïve façade Ångström Straße İstanbul ŒUVRE "
         "don't e-mail 3.14 $5.00 #tag @me C++ Привет мир здравствуйте Ελλάδα Σίσυφος 東京 タワー ﾊﾟﾋﾟ 한국어 "
         "מזל العربية हिन्दी ภาษาไทย Việt café ﬁnance ½ ㈱ ℡ １２３ ＡＢＣ … — « » ª º ² ǆ ŉ ß ẞ").split()


class Maker:
    def __init__(self, seed, vocabulary, added):
        self.random = random.Random(seed)
        self.vocabulary = vocabulary
        self.added = added

    def code(self, low, high):
        while True:
            c = self.random.randint(low, high)
            if not 0xD800 <= c <= 0xDFFF:
                return chr(c)

    def any_code(self):
        plane = self.random.choice((0, 0, 0, 0, 1, 1, 2, 3, 14, 15, 16, self.random.randint(4, 13)))
        return self.code(plane << 16, plane << 16 | 0xFFFF)

    def block_text(self):
        low, high = self.random.choice(BLOCKS)
        return "".join(self.code(low, high) for _ in range(self.random.randint(1, 12)))

    def marked(self):
        r = self.random
        return "".join(self.atom_letter() + "".join(r.choice(MARKS) for _ in range(r.randint(0, 4)))
                       for _ in range(r.randint(1, 6)))

    def atom_letter(self):
        r = self.random
        return r.choice((r.choice("abcxyzABC"), self.code(*r.choice(BLOCKS)), r.choice(EMOJI), self.any_code()))

    def broken(self):
        """What a decoder makes of bytes that are not UTF-8."""
        r = self.random
        raw = bytearray(" ".join(r.choice(WORDS) for _ in range(3)).encode())
        for _ in range(r.randint(1, 6)):
            raw[r.randrange(len(raw))] = r.choice((0x80, 0xC0, 0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0xF8, 0xFF))
        return raw.decode("utf-8", errors="replace")

    def long_word(self):
        r = self.random
        kind = r.randrange(4)
        if kind == 0:
            return r.choice("abz0") * r.choice((99, 100, 101, 10240))
        if kind == 1:
            return "".join(r.choice(self.vocabulary).replace(" ", "") for _ in range(1500))[:10240]
        if kind == 2:
            return "".join(self.any_code() for _ in range(r.choice((100, 101, 2500))))
        return "e" + "".join(r.choice(MARKS) for _ in range(r.choice((31, 32, 33, 98, 99, 100, 3000))))

    def added_token(self):
        """One that is in the text as it is, or nearly."""
        r = self.random
        token = r.choice(self.added) if self.added else "[SEP]"
        return r.choice((token, token, token.lower(), token[:-1], token + token, " %s " % token, "x%sy" % token))

    def atom(self):
        r = self.random
        makers = (
            (10, lambda: r.choice(WORDS)), (6, lambda: r.choice(self.vocabulary)), (4, self.block_text),
            (3, self.any_code), (3, self.marked), (2, lambda: r.choice(EMOJI)),
            (4, lambda: "".join(r.choice(SPACES) for _ in range(r.randint(1, 4)))),
            (2, lambda: " " * r.randint(1, 6)), (2, lambda: r.choice(CONTROLS)), (2, self.added_token),
            (1, self.broken), (1, lambda: r.choice("\u2581\u0301\u200d\r\n")), (2, lambda: r.choice(MARKS)))
        return r.choices([m for _, m in makers], [w for w, _ in makers])[0]()

    def long_text(self, atoms):
        return "".join(self.atom() + self.random.choice(("", " ", " ")) for _ in range(atoms))

    def string(self, index):
        r = self.random
        if index % 400 == 399:
            return "".join((r.choice(WORDS), r.choice(("", " ")), self.long_word(), r.choice(("", " ")),
                            r.choice(WORDS)))
        count = r.choice((0, 1, 1, 2, 3, 4, 6, 8, 12, 20, 60)) if index % 50 else 400
        separator = r.choice(("", "", " ", " ", " ", "  "))
        return separator.join(self.atom() for _ in range(count))


def every_code_point():
    """Eight to a string, each between letters, alone and under a mark."""
    codes = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    for at in range(0, len(codes), 8):
        yield " ".join("a%sb %s e%s\u0301" % (c, c, c) for c in codes[at:at + 8])


def default_tokens_max(model):
    path = os.path.join(model, "sentence_bert_config.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)["max_seq_length"]
    return 512


def peer_rows(path, tokens_max, texts):
    tokenizer = tokenizers.Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.enable_truncation(tokens_max)
    for text in texts:
        encoding = tokenizer.encode(text)
        yield encoding.ids, encoding.offsets


def byte_offsets(text, offsets):
    """Code point offsets to offsets in UTF-8."""
    at, starts = 0, []
    for c in text:
        starts.append(at)
        at += len(c.encode())
    starts.append(at)
    return [[starts[a], starts[b]] for a, b in offsets]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", nargs="?")
    parser.add_argument("--model", required=True, help="folder with tokenizer.json, or that file")
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--tokens-max", type=int, default=None)
    parser.add_argument("--command", help="instead of PROGRAM; {tokenizer} {model} {input} {tokens_max} are filled in")
    parser.add_argument("--every", action="store_true", help="every code point instead of made strings")
    parser.add_argument("--atoms", type=int, help="make long texts of so many parts")
    parser.add_argument("--texts", help="JSON lines to use instead of made strings")
    arguments = parser.parse_args()
    if not os.path.exists(arguments.model):
        print("skipped: no model at %s" % arguments.model)
        return 77
    path = arguments.model
    if os.path.isdir(path):
        path = os.path.join(path, "tokenizer.json")
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    tokens_max = arguments.tokens_max or default_tokens_max(os.path.dirname(path))
    with open(path, encoding="utf-8") as file:
        settings = json.load(file)
    vocabulary = settings["model"]["vocab"]
    vocabulary = sorted(vocabulary) if isinstance(vocabulary, dict) else [entry[0] for entry in vocabulary]
    vocabulary = [token[2:] if token.startswith("##") else token.replace("\u2581", " ") for token in vocabulary]
    added = [token["content"] for token in settings.get("added_tokens") or []]
    if arguments.texts:
        with open(arguments.texts, encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in file]
    else:
        maker = Maker(seed, [token for token in vocabulary if token], added)
        texts = (list(every_code_point()) if arguments.every else
                 [maker.long_text(arguments.atoms) for _ in range(arguments.count)] if arguments.atoms else
                 [maker.string(i) for i in range(arguments.count)])
    print("tokenizers %s, %s, %d strings, seed %d, tokens_max %d" %
          (tokenizers.__version__, path, len(texts), seed, tokens_max), flush=True)
    different = offsets_different = offsets_seen = 0
    with tempfile.TemporaryDirectory() as folder:
        given = os.path.join(folder, "texts.jsonl")
        with open(given, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        words = dict(tokenizer=path, model=os.path.dirname(path), input=given, tokens_max=tokens_max)
        command = ([word.format(**words) for word in shlex.split(arguments.command)] if arguments.command
                   else [arguments.program, "tokenize", "--model", arguments.model, "-i", given])
        run = subprocess.run(command, capture_output=True, text=True)
        lines = run.stdout.splitlines()
        if run.returncode != 0 or len(lines) != len(texts):
            print("%s: exit %d after %d lines: %s" % (command[0], run.returncode, len(lines), run.stderr[-500:]))
            return 1
        for i, (ids, offsets) in enumerate(peer_rows(path, tokens_max, texts)):
            row = json.loads(lines[i])
            if row["ids"] != ids:
                different += 1
                if different <= 10:
                    at = next((k for k, (a, b) in enumerate(zip(ids, row["ids"])) if a != b),
                              min(len(ids), len(row["ids"])))
                    print("string %d: %s\n  from token %d: expected %s, got %s" %
                          (i, ascii(texts[i][:200]), at, ids[at:at + 8], row["ids"][at:at + 8]))
            elif "offsets" in row:
                offsets_seen += 1
                if row["offsets"] != byte_offsets(texts[i], offsets):
                    offsets_different += 1
                    if offsets_different <= 10:
                        wanted = byte_offsets(texts[i], offsets)
                        at = next(k for k, (a, b) in enumerate(zip(wanted, row["offsets"])) if a != b)
                        print("string %d: %s\n  offsets from token %d: expected %s, got %s" %
                              (i, ascii(texts[i][:200]), at, wanted[at:at + 6], row["offsets"][at:at + 6]))
    print("%d of %d strings differ in ids, %d of %d in offsets" %
          (different, len(texts), offsets_different, offsets_seen))
    return 1 if different or offsets_different else 0


if __name__ == "__main__":
    sys.exit(main())
