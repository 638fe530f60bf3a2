#!/usr/bin/env python3
"""Writes src/text/unicode_differences.inc: where the Hugging Face `tokenizers` package reads another
Unicode than utf8proc. Asks the package about every code point through its normalizers and
pre-tokenizers, asks utf8proc the same through ctypes, and lists what differs.

    tokenizer_unicode.py [--check] FILE     --check compares instead of writing (exit 1: differs)

Run it where utf8proc is the version that the lists are made against (2.8, Unicode 15.0)."""
import argparse
import ctypes
import ctypes.util
import os
import sys

import tokenizers
from tokenizers import normalizers, pre_tokenizers

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from charsmap import charsmap  # noqa: E402

UTF8PROC = ctypes.CDLL(ctypes.util.find_library("utf8proc") or "libutf8proc.so.2")
UTF8PROC.utf8proc_unicode_version.restype = ctypes.c_char_p
UTF8PROC.utf8proc_tolower.restype = ctypes.c_int32
CODES = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
LU, NL, MN, MC, ME, PC, PO, CC, CF, CO = 1, 10, 6, 7, 8, 12, 18, 26, 27, 29
ASCII_PUNCTUATION = set(map(ord, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"))
DECOMPOSE, COMPAT = 1 << 4, 1 << 2
BOUND_CONTROL, BOUND_EXTEND, BOUND_SPACING, BOUND_PREPEND, BOUND_PICTOGRAPHIC = 4, 5, 12, 13, 19


class Property(ctypes.Structure):
    _fields_ = [("category", ctypes.c_uint16), ("combining_class", ctypes.c_uint16),
                ("others", ctypes.c_uint16 * 8), ("flags", ctypes.c_uint16)]     # bits 8-15: boundclass


UTF8PROC.utf8proc_get_property.restype = ctypes.POINTER(Property)
PROPERTY = {c: UTF8PROC.utf8proc_get_property(c).contents for c in CODES}
CATEGORY = {c: PROPERTY[c].category for c in CODES}
COMBINING = {c: PROPERTY[c].combining_class for c in CODES}


def decompose(code, options):
    parts = (ctypes.c_int32 * 32)()
    count = UTF8PROC.utf8proc_decompose_char(code, parts, 32, options, None)
    return "".join(chr(parts[i]) for i in range(count))


def bert(**changes):
    settings = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**settings, **changes}).normalize_str


def asked():
    """name -> the package's set of code points, and utf8proc's"""
    nfd, nfkd = normalizers.NFD().normalize_str, normalizers.NFKD().normalize_str
    clean, strip = bert(clean_text=True), bert(strip_accents=True)
    accents = normalizers.StripAccents().normalize_str
    split, words = pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Whitespace()
    sets = {}
    sets["control"] = ({c for c in CODES if clean(chr(c)) == "" and c != 0xFFFD},
                       {c for c in CODES if CATEGORY[c] in (CC, CF, CO) and c not in (9, 10, 13)})
    sets["punctuation"] = ({c for c in CODES if len(split.pre_tokenize_str("a%sb" % chr(c))) == 3},
                           {c for c in CODES if PC <= CATEGORY[c] <= PO} | ASCII_PUNCTUATION)
    # A mark's decomposition, where it has one, is of marks: stripped, nothing is left.
    sets["nonspacing"] = ({c for c in CODES if strip(chr(c)) == ""},
                          {c for c in CODES if CATEGORY[c] == MN})
    sets["mark"] = ({c for c in CODES if accents(chr(c)) == ""},
                    {c for c in CODES if CATEGORY[c] in (MN, MC, ME)})
    letter_symbols = {c for a, b in ((0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169),
                                     (0x1F170, 0x1F189)) for c in range(a, b + 1)}
    sets["word"] = ({c for c in CODES if len(words.pre_tokenize_str("a%sb" % chr(c))) == 1},
                    {c for c in CODES if LU <= CATEGORY[c] <= NL or CATEGORY[c] == PC} |
                    letter_symbols | {0x200C, 0x200D})
    sets["decomposition"] = (
        {c for c in CODES if nfd(chr(c)) == decompose(c, DECOMPOSE) and
         nfkd(chr(c)) == decompose(c, DECOMPOSE | COMPAT)}, set(CODES))
    # Does it move past a mark of class 1, or before one of class 240?
    sets["combining"] = (
        {c for c in CODES if COMBINING[c] and (nfd("a%s\u0334" % chr(c)) != "a%s\u0334" % chr(c) or
                                               nfd("a\u0345" + chr(c)) != "a\u0345" + chr(c))},
        {c for c in CODES if COMBINING[c]})
    return sets


def graphemes():
    """Grapheme classes through a charsmap in which every lead byte is a key: a cluster of fewer than
    six bytes then becomes one X and a longer one an X for each code point, so that the package shows
    its clusters. Returns name -> the package's set, and utf8proc's."""
    leads = [ord("a"), ord("\r"), ord("\n")] + list(range(0xC2, 0xF5))
    probe = normalizers.Precompiled(charsmap({bytes([b]): b"X" for b in leads})).normalize_str
    high = [c for c in CODES if c >= 0x80]

    def showing(form, count):
        return {c for c in high if len(probe(form.replace("?", chr(c)))) == count}

    def classed(*classes):
        return {c for c in high if PROPERTY[c].flags >> 8 in classes}

    control = showing("?\u0300\u0301", 2)
    prepend = showing("?a", 1)
    joins = showing("a?", 1) - {0x200D}
    # Behind a consonant and a virama, only Extend (but for ZWNJ) lets a consonant join.
    conjoins = showing("\u0915\u094d?\u0915\u0300", 5)
    extend = joins & (conjoins | {0x200C})
    linkers = showing("\u0915?\u0915\u0300", 4) & joins
    consonants = showing("?\u094d\u0915\u0300", 4)
    return dict(control=(control, classed(BOUND_CONTROL)), prepend=(prepend, classed(BOUND_PREPEND)),
                extend=(extend, classed(BOUND_EXTEND)), spacing=(joins - extend, classed(BOUND_SPACING)),
                pictographic=(showing("?\u200d\u2764\u0300", 4), classed(BOUND_PICTOGRAPHIC)),
                consonant=(consonants, set()), linker=(linkers, set()))


def lower_differences():
    lower, rows = normalizers.Lowercase().normalize_str, []
    for c in CODES:
        peer = lower(chr(c))
        if c == 0x130 or peer == chr(UTF8PROC.utf8proc_tolower(c)):
            continue
        delta = ord(peer) - c
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == delta:
            rows[-1][1] = c
        else:
            rows.append([c, c, delta])
    return rows


def ranges(codes):
    rows = []
    for c in sorted(codes):
        if rows and rows[-1][1] == c - 1:
            rows[-1][1] = c
        else:
            rows.append([c, c])
    return rows


def table(name, rows, kind="code_range"):
    out, line = ["static const struct %s %s[] = {" % (kind, name)], "   "
    for row in rows or [[0xFFFFFFFF] * 2 + [0] * (kind == "lower_range")]:
        item = " { " + ", ".join(hex(v) if i < 2 else str(v) for i, v in enumerate(row)) + " },"
        if len(line + item) > 98:
            out.append(line)
            line = "   "
        line += item
    return "\n".join(out + [line, "};", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("file")
    arguments = parser.parse_args()
    sets, clusters = asked(), graphemes()
    out = ["/* Written by tests/golden/tokenizer_unicode.py from tokenizers %s and utf8proc's Unicode %s:\n"
           " * where the two differ, with the values of the former. Not to be edited. */" %
           (tokenizers.__version__, UTF8PROC.utf8proc_unicode_version().decode())]
    for name in ("control", "punctuation", "nonspacing", "mark", "word"):
        peer, ours = sets[name]
        out.append(table(name + "_added", ranges(peer - ours)))
        out.append(table(name + "_removed", ranges(ours - peer)))
    peer, ours = sets["decomposition"]
    out.append(table("decomposition_removed", ranges(ours - peer)))
    peer, ours = sets["combining"]
    out.append(table("combining_class_zero", ranges(ours - peer)))
    classes = ("control", "prepend", "extend", "spacing", "pictographic")
    for name in classes:
        peer, ours = clusters[name]
        out.append(table("grapheme_%s_differs" % name, ranges(peer - ours)))
    every = set().union(*(clusters[name][0] for name in classes))
    out.append(table("grapheme_other_differs", ranges(
        set().union(*(clusters[name][1] for name in classes)) - every)))
    out.append(table("grapheme_consonants", ranges(clusters["consonant"][0])))
    out.append(table("grapheme_linkers", ranges(clusters["linker"][0])))
    out.append(table("lower_differs", lower_differences(), "lower_range"))
    text = "\n".join(out)
    if arguments.check:
        with open(arguments.file, encoding="utf-8") as file:
            same = file.read() == text
        print("same" if same else "differs")
        return 0 if same else 1
    with open(arguments.file, "w", encoding="utf-8") as file:
        file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
