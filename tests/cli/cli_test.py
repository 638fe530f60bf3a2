#!/usr/bin/env python3
"""The program from outside: what it prints, what it writes, how it fails and how it is stopped.

Usage: cli_test.py AKIN MODEL [GROUP]      GROUP: use embed stop catalogue rate index bench precision train
                                 compare audit watch (all)
MODEL is the folder of a small model. Needs nothing but Python; works in a scratch folder.
"""
import csv
import io
import json
import math
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import rig
from rig import check

COMMANDS = """doctor|config|model list|model pull|model info|model check|model quantize|tokenize|embed|
data import movielens|data import jsonl|data embed|data info|index build|index create|index add|
index update|index delete|index info|index check|index compact|index export|search|recommend|rate|
fit|evaluate|watch|watch search|watch label|watch info|watch snapshot|audit init|audit append|audit checkpoint|audit verify|audit prove|audit verify-proof|
audit export|audit report|audit rotate-key|audit cosign|bench embed|bench search|bench recommend|
bench personalize|bench train|bench compare|bench bandits|bench audit|bench numa|
bench watch""".replace("\n", "").split("|")
FILMS = """movieId,title,genres
1,Toy Story (1995),Adventure|Animation|Children|Comedy
2,Toy Story 2 (1999),Adventure|Animation|Children|Comedy
3,Heat (1995),Action|Crime
4,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Drama
5,千と千尋の神隠し (2001),Animation|Fantasy
6,Untitled,(no genres listed)
"""
RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{film},{(user * film) % 5 + 1}.0,{1000 * user + film}\n"
    for user in range(1, 8) for film in range(1, 6) if (user + film) % 3)
REPORT_KEYS = "akin_version commit timestamp hostname cpu threads kernels device".split()
EMBED_KEYS = """texts texts_computed dimension seconds texts_per_second ms_per_text
tokenize_texts_per_second encode_texts_per_second lanes tokens mean_norm std_norm nan_inf peak_rss_mb precision kernels model threads output""".split()
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def near(value, expected):
    return value is not None and abs(value - expected) <= 1e-6 * abs(expected)


def environment():
    return rig.environment(SCRATCH, MODEL)


# Root reads every folder, unless it gives up the capability to.
AS_A_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search",
             "--inh-caps=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def akin(*arguments, status=0, before=(), **settings):
    done = subprocess.run([*before, AKIN, *map(str, arguments)], capture_output=True, timeout=300,
                          env={**environment(), **settings.pop("env", {})}, **settings)
    check(f"akin {' '.join(map(str, arguments))[:120]} exits {status}", done.returncode == status,
          (done.returncode, done.stderr[-400:]))
    return done


def answer(*arguments, **settings):
    out = akin(*arguments, "--json", **settings).stdout

    def refuse(name):
        raise ValueError(f"{name} is not JSON")
    return json.loads(out, parse_constant=refuse)


def refused(name, *arguments, status=1, words="", **settings):
    """Fails with one line on standard error that says `words`, and with nothing on standard output."""
    done = akin(*arguments, status=status, **settings)
    text = done.stderr.decode(errors="replace")
    check(f"{name}: one line that begins with akin:", text.startswith("akin: ") and text.count("\n") == 1, text)
    check(f"{name}: says {words!r}", words in text, text)
    check(f"{name}: prints no result", done.stdout == b"", done.stdout)


def seconds_of(call):
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def write(path, data):
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    return path


def matrix(path):
    """shape and bytes of a float32 or int64 .npy file"""
    with open(path, "rb") as file:
        blob = file.read()
    size = struct.unpack("<H", blob[8:10])[0]
    header = eval(blob[10:10 + size], {"__builtins__": {}})
    body = blob[10 + size:]
    kind = {"<f4": 4, "<i8": 8}[header["descr"]]
    check(f"{path} is as long as its header says", len(body) == kind * math.prod(header["shape"]))
    check(f"{path} is in C order", header["fortran_order"] is False)
    return header["shape"], body


def rows(path):
    shape, body = matrix(path)
    width = len(body) // shape[0] if shape[0] else 0
    return [body[i * width:(i + 1) * width] for i in range(shape[0])]


def nothing_left(name, *files):
    left = [f for f in os.listdir(".") if f in files or f.endswith(".part") or ".part" in f]
    check(f"{name}: nothing is left behind", not left, left)


# ---------------------------------------------------------------- help and wrong use
def use():
    for command in COMMANDS:
        for words in ([*command.split(), "--help"], ["help", *command.split()]):
            done = akin(*words)
            text = done.stdout.decode()
            check(f"{command}: help has an example", "Example" in text and f"akin {command}" in text.split("Example")[1], text)
            check(f"{command}: help is about it", f"Usage: akin {command}" in text and not done.stderr, text)
    for words in (["--help"], ["help"], ["index", "--help"], ["data", "import", "--help"]):
        check(f"help of {words}", b"Example" in akin(*words).stdout)
    overview = akin("--help").stdout.decode()
    check("help lists every command", all(f"  {c} " in overview for c in COMMANDS), overview)
    version = akin("--version").stdout.decode()
    check("version", re.fullmatch(r"akin \d+\.\d+\.\d+ \(.+\)\n", version), version)

    refused("no command", status=2, words="embed")
    refused("unknown command", "frobnicate", status=2, words="index build")
    refused("near command", "recomend", status=2, words="did you mean 'recommend'")
    for later in ("serve", "watch"):
        refused(later, later, status=2, words=later)
    refused("a group alone", "index", status=2, words="index check")
    refused("unknown in a group", "model", "polish", status=2, words="model info")
    refused("unknown option", "embed", "--no-such-flag", status=2, words="--no-such-flag")
    refused("near option", "embed", "--inptu", "x", status=2, words="--input")
    refused("missing value", "embed", "-i", status=2, words="--input needs a value")
    refused("no value but an option", "embed", "-i", "--json", status=2, words="--input needs a value")
    refused("value for a flag", "embed", "--json=1", status=2, words="takes no value")
    refused("missing input", "embed", "-o", "x.npy", status=2, words="--input")
    refused("missing output", "embed", "-i", "x.txt", status=2, words="--output")
    refused("k of 0", "search", "--query", "x", "-k", "0", status=2, words="0")
    refused("argument too many", "doctor", "now", status=2, words="now")
    refused("argument missing", "index", "check", status=2, words="X.akx")
    refused("bad precision", "embed", "-i", "a", "-o", "b", "--precision", "fp99", status=2, words="fp99")
    refused("bad threads", "config", "--threads", "-3", status=2, words="--threads")
    refused("nothing to recommend", "recommend", status=2, words="--similar")
    refused("nothing to search", "search", status=2, words="--query")
    refused("both to search", "search", "--query", "a", "--vectors", "b", status=2, words="--query")

    settings = answer("config", "--threads", "2", env={"AKIN_PRECISION": "fp32"})
    check("origin of a flag", settings["threads"] == {"value": "2", "origin": "--threads"}, settings)
    check("origin of the environment", settings["precision"]["origin"] == "AKIN_PRECISION", settings)
    check("origin of a default", settings["device"]["origin"] == "default", settings)
    before = answer("--threads", "1", "config")
    check("common options before the command", before["threads"]["value"] == "1", before)
    os.makedirs("config/akin", exist_ok=True)
    write("config/akin/akin.ini", "[akin]\nthreads = 3\n")
    check("akin.ini", answer("config")["threads"]["value"] == "3")
    write("config/akin/akin.ini", "threads = 1\ncolour = red\n")
    refused("bad akin.ini", "config", words="akin.ini:2")
    shutil.rmtree("config")
    check("config for people", b"AKIN_MODEL" in akin("config").stdout)

    health = answer("doctor")
    check("doctor", health["ok"] and health["kernels"] and health["threads"] >= 1, health)
    map_ = health["numa"]
    check("doctor tells the topology", map_["cores"] >= 1 and len(map_["nodes"]) == health["numa_nodes"]
          and sum(n["memory_bytes"] for n in map_["nodes"]) > 0 and all("L" in c["name"] for c in map_["caches"])
          and health["gpus"] == [{k: d[k] for k in ("bus", "name", "known_as", "node")} for d in map_["devices"] if d["kind"] == "gpu"]
          and b"node %d " % map_["nodes"][0]["number"] in akin("doctor").stdout, map_)
    here = str(map_["nodes"][0]["number"])
    for origin, got in (("--numa", answer("config", "--numa", here)["numa"]), ("AKIN_NUMA", answer("config", env={"AKIN_NUMA": here})["numa"])):
        check(f"{origin}", got == {"value": here, "origin": origin}, got)
    place = answer("doctor", "--numa", here)["placement"]
    check("on a node of its own, or the only one", place["node"] == (int(here) if len(map_["nodes"]) > 1 else -1), place)
    check("nodes not looked at", answer("doctor", "--numa", "off")["placement"]["numa_nodes"] == 1)
    refused("a node that is none", "config", "--numa", "left", status=2, words="--numa")
    refused("a node that is none, by environment", "doctor", words="AKIN_NUMA", env={"AKIN_NUMA": "-3"})
    check("doctor sends for data", any("data import" in p["fix"] for p in health["problems"]), health)
    check("doctor for people", b"kernels" in akin("doctor").stdout)
    check("doctor tells where threads run", health["placement"]["threads"] == health["threads"] and b"placement " in akin("doctor").stdout
          and answer("doctor", env={"AKIN_PIN": "off"})["placement"]["why_not"] == "switched off", health["placement"])
    refused("a way to pin that is none", "doctor", words="AKIN_PIN", env={"AKIN_PIN": "tightly"})
    refused("a kernel level that is none", "doctor", words="AKIN_CPU", env={"AKIN_CPU": "z80"})
    health = akin("doctor", "--model", "nowhere").stdout.decode()
    check("doctor tells how to get a model", "model pull" in health, health)


# ---------------------------------------------------------------- tokenize, embed
def embed():
    texts = ["toy story (1995)", "", "a dark film", "toy story (1995)", 'quote " and \\ back', "naïve café"]
    write("t.txt", "".join(t + "\n" for t in texts))
    write("t.jsonl", "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts)))
    write("t.csv", "id,body\r\n" + "".join('%d,"%s"\r\n' % (i, t.replace('"', '""')) for i, t in enumerate(texts)))
    report = answer("embed", "-i", "t.txt", "-o", "txt.npy")
    check("embed report keys", set(EMBED_KEYS) <= set(report), sorted(report))
    check("embed report", report["texts"] == 6 and report["texts_computed"] == 5 and report["nan_inf"] == 0
          and report["output"] == "txt.npy" and report["peak_rss_mb"] > 1, report)
    shape, body = matrix("txt.npy")
    check("embed shape", shape == (6, report["dimension"]), shape)
    want = rows("txt.npy")
    check("equal texts, equal bits", want[0] == want[3] and want[0] != want[2])
    akin("embed", "-i", "t.jsonl", "-o", "jsonl.npy", "--batch", "1", "--no-dedup", "--threads", "1")
    akin("embed", "-i", "t.csv", "--field", "body", "-o", "csv.npy", "--batch=3")
    akin("embed", "-i", "-", "-o", "stdin.npy", input=open("t.txt", "rb").read())
    akin("embed", "-i", "-", "-o", "pipe.npy", "--format", "jsonl", input=open("t.jsonl", "rb").read())
    # several windows: read, computed and written at the same time
    picks = [i * 7 % 11 % 6 for i in range(40000)]
    write("many.txt", "".join(texts[i] + "\n" for i in picks))
    many = answer("embed", "-i", "many.txt", "-o", "many.npy")
    found = rows("many.npy")
    check("many windows", many["texts"] == len(found) == 40000 and all(f == want[i] for f, i in zip(found, picks)), many)
    write("late.jsonl", '{"text": "a"}\n' * 20000 + '{"text": 3}\n')
    refused("a bad line in the second window", "embed", "-i", "late.jsonl", "-o", "late.npy", words="late.jsonl:20001")
    check("nothing is left of it", not os.path.exists("late.npy"))
    os.mkfifo("fifo.txt")
    feeder = subprocess.Popen(["sh", "-c", "cat t.txt > fifo.txt"])
    akin("embed", "-i", "fifo.txt", "-o", "fifo.npy")
    feeder.wait()
    for name in ("jsonl", "csv", "stdin", "pipe", "fifo"):
        check(f"{name} gives the same bits", rows(f"{name}.npy") == want)

    def norms(*arguments):
        akin("embed", "-i", "t.txt", "-o", "n.npy", *arguments)
        return [sum(x * x for x in struct.unpack(f"<{len(r) // 4}f", r)) ** 0.5 for r in rows("n.npy")]
    check("normalised", all(abs(n - 1) < 1e-5 for n in norms("--normalize")))
    check("not normalised", not all(abs(n - 1) < 1e-5 for n in norms("--no-normalize")))
    refused("both", "embed", "-i", "t.txt", "-o", "n.npy", "--normalize", "--no-normalize", status=2, words="contradict")
    write("prompted.txt", "".join("film: " + t + "\n" for t in texts))
    akin("embed", "-i", "prompted.txt", "-o", "a.npy")
    akin("embed", "-i", "t.txt", "-o", "b.npy", "--prompt", "film: ")
    check("a prompt stands before the text", rows("a.npy") == rows("b.npy"))
    info = answer("model", "info")
    if info["prompts"]:
        name, text = next(iter(info["prompts"].items()))
        akin("embed", "-i", "t.txt", "-o", "a.npy", "--prompt-name", name)
        akin("embed", "-i", "t.txt", "-o", "b.npy", f"--prompt={text}")
        check("a prompt by name", rows("a.npy") == rows("b.npy"))
    refused("unknown prompt", "embed", "-i", "t.txt", "-o", "x.npy", "--prompt-name", "zzz", status=2, words="zzz")
    text = akin("embed", "-i", "t.txt", "-o", "a.npy").stdout.decode()
    check("report for people", "texts/s" in text and "norms" in text, text)
    check("quiet", akin("embed", "-i", "t.txt", "-o", "a.npy", "--quiet").stderr == b"")

    lines = [json.loads(l) for l in akin("tokenize", "-i", "t.jsonl", "--offsets").stdout.splitlines()]
    check("tokenize: a line per text", len(lines) == 6 and all(len(l["ids"]) == len(l["offsets"]) for l in lines), lines)
    check("tokenize: offsets are in the text", all(b <= e <= len(t.encode()) for l, t in zip(lines, texts) for b, e in l["offsets"]))
    plain = [json.loads(l) for l in akin("tokenize", input=open("t.txt", "rb").read()).stdout.splitlines()]
    check("tokenize standard input", [l["ids"] for l in lines] == [l["ids"] for l in plain] and list(plain[0]) == ["ids"], plain)

    bad = [
        ("absent", "absent.txt", None, "absent.txt"), ("folder", ".", None, "file"),
        ("empty", "empty.txt", "", "no texts"), ("type", "type.jsonl", '{"text": "a"}\n{"text": 5}\n', "type.jsonl:2: text"),
        ("field", "field.jsonl", '{"txt": "a"}\n', "field.jsonl:1: text"), ("cut", "cut.jsonl", '{"text": "a"}\n{"text": "c', "cut.jsonl:2"),
        ("array", "array.jsonl", "[]\n", "array.jsonl:1"), ("column", "column.csv", "id,name\n1,a\n", "text"),
        ("quote", "quote.csv", 'id,text\n1,"a\n', "quote.csv:2"), ("row", "row.csv", "id,text\n1\n", "row.csv:2")]
    for name, path, data, words in bad:
        if data is not None:
            write(path, data)
        refused(name, "embed", "-i", path, "-o", "never.npy", words=words)
    refused("no model", "embed", "-i", "t.txt", "-o", "never.npy", "--model", "nowhere/at/all", words="nowhere")
    refused("no folder", "embed", "-i", "t.txt", "-o", "no/such/folder/never.npy", words="no/such/folder")
    refused("output is a folder", "embed", "-i", "t.txt", "-o", "..", words="..")
    refused("output is standard output", "embed", "-i", "t.txt", "-o", "-", status=2, words="file")
    os.mkdir("locked", 0)
    refused("unreadable folder", "embed", "-i", "locked/t.txt", "-o", "never.npy", words="locked",
            before=AS_A_USER)
    refused("unwritable folder", "embed", "-i", "t.txt", "-o", "locked/never.npy", words="locked",
            before=AS_A_USER)
    nothing_left("refusals", "never.npy")

    write("odd.txt", b"ok\n\xff\xfe\x80 broken \xc0\xaf\na\0b\n" + b"x" * 5_000_000 + b"\n\n")
    check("invalid UTF-8, NUL, 5 MB", answer("embed", "-i", "odd.txt", "-o", "odd.npy")["texts"] == 5)
    write("long.txt", b"word " * 20_000_000)
    report = answer("embed", "-i", "long.txt", "-o", "long.npy")
    check("a line of 100 MB", report["texts"] == 1 and matrix("long.npy")[0][0] == 1, report)
    os.remove("long.txt")


# ---------------------------------------------------------------- stopping, full disks, broken pipes
def stop():
    write("many.jsonl", "".join(json.dumps({"text": f"film {i} about the number {i * 7919}"}) + "\n" for i in range(400_000)))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process = subprocess.Popen([AKIN, "embed", "-i", "many.jsonl", "-o", "many.npy", "--threads", "1"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        rig.wait_for("the first vectors", lambda: process.poll() is not None or any("part" in f for f in os.listdir(".")))
        time.sleep(0.2)
        process.send_signal(number)
        out, error = process.communicate(timeout=240)
        check(f"{number.name} exits 130", process.returncode == 130, (process.returncode, error))
        check(f"{number.name} says so", error.decode().strip().splitlines()[-1:] == ["akin: interrupted"] and out == b"", error)
        nothing_left(number.name, "many.npy")
    for delay in (0, 0.2, 1.5):     # opening models in a process of their own; measuring
        process = subprocess.Popen([AKIN, "bench", "embed", "-i", "many.jsonl", "--threads", "1", "--precisions", "fp32"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        rig.wait_for("a handler", lambda: rig.heeds(process, signal.SIGINT))
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=240)
        check("a benchmark is interrupted", process.returncode == 130 and out == b"" and not os.path.exists("results")
              and error.decode().strip().splitlines()[-1:] == ["akin: interrupted"], (process.returncode, out, error))
    process = subprocess.Popen([AKIN, "embed", "-i", "-", "-o", "many.npy"], stdin=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=environment())
    rig.wait_for("a handler", lambda: rig.heeds(process, signal.SIGINT))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=240)
    check("Ctrl-C while it waits for input", process.returncode == 130, process.returncode)
    process.stdin.close()
    process.stderr.close()

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    write("few.txt", "".join(f"text {i}\n" for i in range(2000)))
    refused("files may not grow", "embed", "-i", "few.txt", "-o", "few.npy", "--quiet", words="few.npy", preexec_fn=small_files)
    nothing_left("files may not grow", "few.npy")
    write("few.npy", "what was there")
    refused("over an old file", "embed", "-i", "few.txt", "-o", "few.npy", "--quiet", words="few.npy", preexec_fn=small_files)
    check("the old file is as it was", open("few.npy").read() == "what was there")
    os.remove("few.npy")
    if os.path.exists("/dev/full"):
        for words in (["config"], ["tokenize", "-i", "few.txt"], ["config", "--json"], ["--help"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([AKIN, *words], stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=240)
            check(f"full disk behind {words}", done.returncode == 1 and done.stderr.startswith(b"akin: standard output:"), done)
    done = subprocess.run(f'"{AKIN}" config >&-', shell=True, stderr=subprocess.PIPE, env=environment(), timeout=240)
    check("closed standard output", done.returncode == 1 and done.stderr.startswith(b"akin: "), done)
    done = subprocess.run(f'"{AKIN}" tokenize -i many.jsonl | head -n 1', shell=True, capture_output=True, env=environment(), timeout=240)
    check("head ends it quietly", done.stdout.count(b"\n") == 1 and done.stderr == b"", done)
    begin = time.time()
    process = subprocess.Popen([AKIN, "tokenize", "-i", "many.jsonl"], stdout=subprocess.PIPE, env=environment())
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=240)
    check("a reader that leaves is no crash", process.returncode == 1, process.returncode)
    check("and ends the work", time.time() - begin < 120)


# ---------------------------------------------------------------- catalogue
def make_catalogue():
    if not os.path.isdir("films"):
        os.mkdir("ml")
        write("ml/movies.csv", FILMS)
        write("ml/ratings.csv", RATINGS)
        akin("data", "import", "movielens", "ml", "--data", "films")
        akin("data", "embed", "--data", "films")


def catalogue():
    refused("no catalogue yet", "data", "info", "--data", "films", words="films")
    make_catalogue()
    report = answer("data", "import", "movielens", "ml", "--data", "other")
    check("import report", report["films"] == 6 and report["users"] == 7 and report["films_with_year"] == 5
          and report["films_with_genres"] == 5 and report["ratings"] == RATINGS.count("\n") - 1
          and report["first_rating"].startswith("1970-01-01T") and set(report["skipped"].values()) == {0}, report)
    refused("not a folder of MovieLens", "data", "import", "movielens", "films/embeddings", "--data", "other2", words="films/embeddings")
    refused("not embedded", "recommend", "--data", "other", "--similar", "heat", words="data embed")
    info = answer("data", "info", "--data", "films")
    check("data info", info["items"] == 6 and info["embedded"] and info["users_with_vector"] == 7, info)
    check("data info for people", b"films" in akin("data", "info", "--data", "films").stdout)

    got = answer("recommend", "--data", "films", "--similar", "toy story", "-k", "3")
    check("recommend", [r["rank"] for r in got["results"]] == [1, 2, 3] and got["found"] == got["requested"] == 3
          and all(set(r) == {"rank", "media_id", "title", "similarity", "genres"} for r in got["results"])
          and got["timing"]["total_ms"] > 0, got)
    got = answer("recommend", "--data", "films", "--similar", "Toy Story (1995)", "--filter", "genre=Animation", "-k", "10")
    check("filter, fewer than k", got["found"] == 2 and all("Animation" in r["genres"] for r in got["results"]), got)
    text = akin("recommend", "--data", "films", "--similar", "toy story", "--filter", "genre=Animation").stdout.decode()
    check("says that there are fewer", "Only 2 of the 10" in text, text)
    text = akin("recommend", "--data", "films", "--similar", "toy story").stdout.decode().splitlines()
    starts = {re.search(r"(Action|Adventure|Animation), ", l).start() + sum(ord(c) > 0x2e80 for c in l[:45])
              for l in text[2:] if re.search(r"(Action|Adventure|Animation), ", l)}
    check("columns are aligned, wide characters too", len(starts) == 1, text)
    seen = {f"ml_{r.split(',')[1]}" for r in RATINGS.splitlines()[1:] if r.startswith("1,")}
    got = answer("recommend", "--data", "films", "--user", "1")
    check("what was seen is left out", not seen & {r["media_id"] for r in got["results"]} and got["found"], got)
    got = answer("recommend", "--data", "films", "--user", "1", "--include-seen")
    check("or not", seen < {r["media_id"] for r in got["results"]}, got)
    got = answer("recommend", "--data", "films", "--query", "toys", "--user", "1", "--similar", "heat", "--query-weight", "0.5")
    check("all together", got["found"] > 0, got)
    refused("unknown title", "recommend", "--data", "films", "--similar", "Toy Storry (1995)", words="Toy Story")
    new = akin("recommend", "--data", "films", "--user", "nobody", "--json")
    check("an unknown user is new", json.loads(new.stdout)["found"] == 6 and b"nobody is new" in new.stderr, new)
    refused("without a vector", "recommend", "--data", "films", "--user", "nobody", "--rank", "vectors", words="nobody")
    refused("bad filter", "recommend", "--data", "films", "--similar", "heat", "--filter", "genre==", status=2, words="column")
    recommend_options()
    got = answer("search", "--data", "films", "--query", "toys", "--filter", "year>=1999", "-k", "2")
    check("search the catalogue", got["found"] == 2 and {r["media_id"] for r in got["results"]} == {"ml_2", "ml_5"}, got)
    refused("vectors need an index", "search", "--data", "films", "--vectors", "q.npy", status=2, words="--index")

    refused("no split", "evaluate", status=2, words="--split")
    rows = RATINGS.splitlines()[1:]
    parts = ["test" if i + 1 == len(rows) or rows[i + 1].split(",")[0] != row.split(",")[0] else "train" for i, row in enumerate(rows)]
    split = write("split.csv", "userId,movieId,rating,timestamp,split\n" + "".join(f"{r},{p}\n" for r, p in zip(rows, parts)))
    got = answer("evaluate", "--data", "films", "--split", split, "--recs", "recs.jsonl", "--chart", "rows.svg")
    names = [r["name"] for r in got["rows"]]
    check("evaluate", got["judged"] == 7 and names[0] == "popularity" and names[-1] == "blended" and "text only" in names
          and got["ndcg_at_10"] == got["rows"][-1]["ndcg_at_10"]["mean"] and 0 < got["ndcg_at_10"] <= 1, got)
    recs = {r["user"]: r["items"] for r in map(json.loads, open("recs.jsonl"))}
    had = {(r.split(",")[0], r.split(",")[1]) for r, p in zip(rows, parts) if p == "train"}
    check("recs", len(recs) == 7 and all(items and len(set(items)) == len(items) and not any((u, i) in had for i in items)
                                         for u, items in recs.items()), recs)
    check("chart", open("rows.svg").read().startswith("<svg"))
    text = akin("evaluate", "--data", "films", "--split", split, "--replay").stdout.decode()
    refused("no such catalogue", "evaluate", "--data", "nowhere", "--split", split, words="nowhere")
    check("replay for people", "blended" in text and "events" in text, text)
    got = answer("evaluate", "--data", "films", "--split", split, "--context")
    told = {r["name"]: r for r in got["rows"] if "context" in r["name"]}
    check("evaluate situations", got["protocol"] == "replay" and got["rows"][-1]["name"] == "blended" and set(told) == {"+ context",
          "context: hour", "context: others, later", "context: told, by hand", "context: told", "context: exactly, by hand", "context: told exactly"}
          and all(r["ndcg_over_last_row"]["interval_95"][0] <= r["ndcg_over_last_row"]["mean"] for r in told.values()), got)
    refused("recs of situations", "evaluate", "--data", "films", "--split", split, "--context", "--recs", "r", status=2, words="--recs")
    refused("unknown genre", "recommend", "--data", "films", "--user", "1", "--context", '{"genre_prefs": {"Sci-Fy": 1}}', status=2, words="Sci-Fy")
    refused("recs of a replay", "evaluate", "--data", "films", "--split", split, "--replay", "--recs", "r", status=2, words="--recs")
    refused("bad split", "evaluate", "--data", "films", "--split", write("bad.csv", "userId,movieId,rating,timestamp,split\n1,2,x,4,test\n"),
            words="bad.csv:2: rating")
    got = answer("fit", "--data", "films")
    check("fit", got["learned_items"] == 5 and got["events"] == len(rows) and "model.json" in os.listdir("films/taste"), got)
    check("fit for people", b"learned from" in akin("fit", "--data", "films").stdout)
    check("too little for a graph", b"at least 256" in akin("fit", "--data", "films", "--graph", status=1).stderr)
    check("what was learned is still there", "model.json" in os.listdir("films/taste"))
    found = [got["goes_on"], got["comes_back"], got["query_weight"]]
    check("weights found", all(not f["learned"] or f["gain"]["interval_95"][0] > 0 for f in found)
          and "local" in found[0]["score"] and "recent" in found[1]["score"] and got["live_events"] == 0, found)

    write("songs.jsonl", "".join(json.dumps({"key": f"s{i}", "name": f"Song {i}", "styles": ["Pop"]}) + "\n" for i in range(4)))
    write("plays.jsonl", "".join(json.dumps({"who": "ann", "song": f"s{i}"}) + "\n" for i in (0, 1, 9)))
    report = answer("data", "import", "jsonl", "songs.jsonl", "--interactions", "plays.jsonl", "--id", "key", "--title", "name",
                    "--genres", "styles", "--user", "who", "--item", "song", "--data", "songs")
    check("import jsonl", report["items"] == 4 and report["users"] == 1 and report["skipped"]["ratings_of_unknown_items"] == 1
          and report["first_problem"], report)
    akin("data", "embed", "--data", "songs")
    got = answer("recommend", "--data", "songs", "--user", "ann")
    check("recommend songs", {r["title"] for r in got["results"]} == {"Song 2", "Song 3"}, got)


def recommend_options():
    films = ["recommend", "--data", "films"]

    def titles(*arguments):
        return [r["title"] for r in answer(*films, *arguments)["results"]]
    check("by parts", titles("--similar", "toy story", "--rank", "parts", "-k", "1") == ["Toy Story 2 (1999)"])
    got = answer(*films, "--similar", "toy story", "--rank", "parts", "--explain")
    one = got["results"][0]
    check("explained", set(one) == {"rank", "media_id", "title", "similarity", "score", "genres", "explain"}
          and abs(sum(one["explain"]["parts"].values()) - one["score"]) < 1e-4
          and set(one["explain"]["parts"]) == {"text", "title", "taste", "popularity", "context", "graph"}
          and one["explain"]["because"][0]["title"] == "Toy Story (1995)" and "Animation" in one["explain"]["genres"]
          and set(got["list"]) == {"novelty_bits", "popular_share", "diversity"}, got)
    text = akin(*films, "--user", "1", "--explain").stdout.decode()
    check("explained to people", "Why\n   1  text" in text and "because of" in text and "novelty" in text, text)
    some = titles("--history", "toy story 2, Heat (1995)")
    check("a history", some and not {"Toy Story 2 (1999)", "Heat (1995)"} & set(some), some)
    check("a history as JSON", titles("--history", '["toy story 2", "ml_3"]') == some)
    check("and what was in it", "Heat (1995)" in titles("--history", "ml_2,ml_3", "--include-seen"))
    check("nothing of it is kept", not os.path.exists("films/akin.db"))
    check("excluded", not {"ml_2", "ml_3"} & {r["media_id"] for r in answer(*films, "--similar", "toy story", "--exclude", "ml_2, heat")["results"]})
    got = titles("--similar", "toy story", "--rank", "parts", "--context", '{"genre_prefs": {"action": 1}}', "-k", "6")
    check("a situation", got != titles("--similar", "toy story", "--rank", "parts", "-k", "6") or got[0].startswith("Toy"), got)
    check("diversity", len(set(titles("--user", "1", "--include-seen", "--diversity", "0.8"))) == 6)
    check("no near duplicates", titles("--similar", "toy story", "--rank", "parts", "--no-near-duplicates"))
    check("popularity", answer(*films, "--user", "1", "--popularity", "9", "--explain")["results"][0]["explain"]["parts"]["popularity"] > 1)
    for what, arguments, words in [
            ("context", ["--context", '{"genre_prefs": {"Drama": 2}}'], "genre_prefs: Drama"),
            ("context field", ["--context", '{"mood": 1}'], "mood"),
            ("context JSON", ["--context", "{"], "context"),
            ("empty item", ["--history", "heat,,heat"], "item 2 is empty"),
            ("empty exclusion", ["--exclude", ""], "item 1 is empty"),
            ("history JSON", ["--history", '["heat", 3]'], "item 2"),
            ("history JSON text", ["--history", '["heat"'], "--history"),
            ("weight", ["--popularity", "-1"], "popularity"),
            ("diversity", ["--diversity", "2"], "diversity"),
            ("rank", ["--rank", "magic"], "rank")]:
        refused(f"bad {what}", *films, "--similar", "toy story", *arguments, status=2, words=words)
    refused("unknown history", *films, "--history", "heat, no such film", words="history, item 2")
    refused("unknown exclusion", *films, "--user", "1", "--exclude", "no such film", words="exclude, item 1")


# ---------------------------------------------------------------- live ratings
def rate():
    make_catalogue()
    films = ["recommend", "--data", "films"]

    def ids(*arguments):
        return [r["media_id"] for r in answer(*films, *arguments)["results"]]
    before = ids("--user", "1")
    check("nobody rated: no database", not os.path.exists("films/akin.db"), os.listdir("films"))
    done = akin("rate", "1", "untitled", "1", "--data", "films")
    check("acknowledged", done.stdout == b"acknowledged 1\n" and b"Untitled" in done.stderr, done)
    after = ids("--user", "1")
    check("what was just rated is left out of the next answer", "ml_6" in before and "ml_6" not in after, (before, after))
    check("or not", "ml_6" in ids("--user", "1", "--include-seen"))
    check("a new user gets what is popular", len(ids("--user", "zoë")) == 6)
    got = answer("rate", "zoë", "ml_3", "0.5", "--time", "1700000000", "--data", "films")
    check("rate as JSON", got == {"acknowledged": 1, "user": "zoë", "media_id": "ml_3", "title": "Heat (1995)",
          "rating": 0.5, "timestamp": 1700000000}, got)
    seen = answer(*films, "--user", "zoë", "--include-seen")["results"]
    check("until rating something", [r["media_id"] for r in seen if r["similarity"] > 0.999] == ["ml_3"], seen)

    # rows of the journal, from outside
    import sqlite3

    def events():
        with sqlite3.connect("films/akin.db") as db:
            found = db.execute("SELECT e.seq, u.name, i.name, e.rating, e.timestamp FROM events e JOIN users u ON u.id = e.user "
                               "JOIN items i ON i.id = e.item ORDER BY e.seq").fetchall()
        db.close()
        return found
    check("events are in the database", [e[1:4] for e in events()] == [("1", "ml_6", 1), ("zoë", "ml_3", 0.5)], events())

    feedback = [{"user": f"u{i % 7}", "item": f"ml_{i % 6 + 1}", "rating": i % 3 / 2, "timestamp": 1000 + i} for i in range(25)]
    write("f.jsonl", "".join(json.dumps(f) + "\n" for f in feedback) + "\n")
    done = akin("rate", "-i", "f.jsonl", "--batch", "10", "--data", "films")
    check("acknowledged batch by batch", done.stdout == b"acknowledged 10\nacknowledged 20\nacknowledged 25\n", done.stdout)
    check("all are kept, in order", [e[1:] for e in events()[2:]] == [tuple(f.values()) for f in feedback], events())
    write("f.csv", "timestamp,user,media_id,rating\r\n5,7,ml_1,5\r\n6,\"a \"\"b\"\"\",ml_2,2.5\r\n")
    got = answer("rate", "-i", "f.csv", "--rating-max", "5", "--data", "films")
    check("CSV of stars", got["acknowledged"] == 2 and [e[1:] for e in events()[-2:]] == [("7", "ml_1", 1, 5), ('a "b"', "ml_2", 0.5, 6)], events())
    done = akin("rate", "-i", "-", "--format", "csv", "--no-sync", "--data", "films", input=b"user,item,rating\n8,ml_1,0\n")
    check("standard input, not flushed", done.stdout == b"acknowledged 1\n" and abs(events()[-1][4] - time.time()) < 3600, events()[-1])
    check("an empty file", akin("rate", "-i", "-", "--data", "films", input=b"").stdout == b"")

    count = len(events())
    for name, words, status, say in [
            ("unknown item", ["1", "Toy Storry", "1"], 1, "Toy Story"), ("rating above 1", ["1", "heat", "1.5"], 2, "rating"),
            ("NaN", ["1", "heat", "nan"], 2, "rating"), ("no number", ["1", "heat", "good"], 2, "rating"),
            ("no user", ["", "heat", "1"], 2, "user"), ("too few", ["1", "heat"], 2, "USER ITEM RATING"),
            ("too long a name", ["n" * 257, "heat", "1"], 2, "user"), ("bad time", ["1", "heat", "1", "--time", "-5"], 2, "--time"),
            ("file and words", ["1", "heat", "1", "-i", "f.jsonl"], 2, "not both"), ("no file", ["-i", "absent.jsonl"], 1, "absent.jsonl")]:
        refused(name, "rate", *words, "--data", "films", status=status, words=say)
    good = '{"user": "x", "item": "ml_1", "rating": 1}\n'
    for name, line, say in [
            ("item", '{"user": "x", "item": "ml_99", "rating": 1}', "item"), ("rating", '{"user": "x", "item": "ml_1", "rating": 7}', "rating"),
            ("type", '{"user": "x", "item": "ml_1", "rating": "1"}', "rating"), ("user", '{"item": "ml_1", "rating": 1}', "user"),
            ("user's type", '{"user": [], "item": "ml_1", "rating": 1}', "user"), ("array", "[1]", "object"), ("cut", '{"user": "x"', "bad.jsonl:3"),
            ("milliseconds", '{"user": "x", "item": "ml_1", "rating": 1, "timestamp": 1700000000000}', "timestamp")]:
        write("bad.jsonl", good * 2 + line + "\n" + good)
        done = akin("rate", "-i", "bad.jsonl", "--data", "films", status=1)
        check(f"bad {name}: what came before is taken, the rest is not", done.stdout == b"acknowledged 2\n", done)
        check(f"bad {name}: the line and the field", b"bad.jsonl:3" in done.stderr and say.encode() in done.stderr, done.stderr)
    check("so much was taken", len(events()) == count + 16, len(events()))
    for name, text, say in [("column", "user,rating\n", "item"), ("number", "user,item,rating\n1,ml_1,x\n", "bad.csv:2: rating"),
                            ("fields", "user,item,rating\n1,ml_1\n", "bad.csv:2"), ("quote", 'user,item,rating\n"1,ml_1,1\n', "bad.csv")]:
        write("bad.csv", text)
        refused(f"CSV without a good {name}", "rate", "-i", "bad.csv", "--data", "films", words=say)

    # killed while it rates: all that was acknowledged is there
    count = len(events())
    write("many.jsonl", "".join(json.dumps({"user": f"k{i % 900}", "item": "ml_2", "rating": 1, "timestamp": i}) + "\n" for i in range(200000)))
    rater = subprocess.Popen([AKIN, "rate", "-i", "many.jsonl", "--batch", "50", "--data", "films"], stdout=subprocess.PIPE, env=environment())
    for _ in range(5):
        rater.stdout.readline()
    rater.send_signal(signal.SIGKILL)
    acknowledged = int(rater.communicate()[0].decode().rsplit("acknowledged ", 1)[-1].split("\n")[0] or 0) or 250
    kept = events()[count:]
    check("a kill takes nothing that was acknowledged", acknowledged <= len(kept) < 200000 and [e[4] for e in kept] == list(range(len(kept))),
          (acknowledged, len(kept)))
    check("and the next query works", akin(*films, "--user", "k1").returncode == 0)

    for name, change, say in [("a newer database", "PRAGMA user_version = 9", "newer akin"), ("another's", "PRAGMA application_id = 1", "another program")]:
        shutil.copytree("films", "other")
        with sqlite3.connect("other/akin.db") as db:
            db.execute(change)
        db.close()
        refused(name, "recommend", "--user", "1", "--data", "other", words=say)
        refused(name, "rate", "1", "heat", "1", "--data", "other", words=say)
        shutil.rmtree("other")
    shutil.copytree("films", "other")
    for left in ("akin.db-wal", "akin.db-shm"):
        if os.path.exists("other/" + left):
            os.remove("other/" + left)
    write("other/akin.db", b"rubbish" * 1000)
    refused("a damaged database", "rate", "1", "heat", "1", "--data", "other", words="akin.db")


# ---------------------------------------------------------------- exploring
def explore():
    make_catalogue()
    ask = ["recommend", "--data", "films", "--user", "1"]
    plain = answer(*ask)["results"]
    none = akin("bandits", "--data", "films")
    check("nothing was explored", none.stdout == b"" and b"--explore" in none.stderr and not os.path.exists("films/akin.db"), none)
    check("nor as JSON", answer("bandits", "--data", "films") == {"arms": []})
    shown = answer(*ask, "--explore", "-k", "2", "--request", "12")["results"]
    tried = shown[1]
    check("one place is a bandit's", "arm" not in shown[0] and tried["arm"] in "blend text taste popular new".split()
          and 0 < tried["propensity"] <= 1, shown)
    check("the same number, the same draw", answer(*ask, "--explore", "-k", "2", "--request", "12")["results"] == shown)
    text = akin(*ask, "--explore", "-k", "2", "--request", "12").stdout.decode()
    check("and for people", f"Explored: 2 by {tried['arm']}, drawn with probability" in text, text)
    check("without it nothing changes", answer(*ask)["results"] == plain)

    def arm(segment):
        got = answer("bandits", "--segment", segment, "--data", "films")["arms"]
        check("shares of a segment", len(got) == 5 and abs(sum(a["share"] for a in got) - 1) < 1e-5, got)
        return next(a for a in got if a["arm"] == tried["arm"])
    before = arm("all")
    check("a choice, and no reward", (before["choices"], before["rewards"], before["mean_reward"]) == (1, 0, None), before)
    akin("rate", "1", tried["media_id"], "0.5", "--data", "films")
    after = arm("all")
    check("the reward is the rating", (after["choices"], after["rewards"], after["mean_reward"]) == (1, 1, 0.5), after)
    check("and is learned", after["alpha"] > before["alpha"] and after["beta"] > before["beta"]
          and near(after["posterior_mean"], 0.5), (before, after))
    akin("rate", "1", tried["media_id"], "1", "--data", "films")
    check("it is paid once", arm("all") == after)
    segments = {a["segment"] for a in answer("bandits", "--data", "films")["arms"]}
    check("people of a kind", len(segments) == 2 and any(s.startswith("few/") for s in segments), segments)
    check("arms for people", b"believed" in akin("bandits", "--data", "films").stdout)
    refused("exploring for nobody", "recommend", "--data", "films", "--query", "x", "--explore", status=2, words="--user")
    refused("by vectors", *ask, "--explore", "--rank", "vectors", status=2, words="parts")
    refused("a number of nothing", *ask, "--explore", "--request", "0", status=2, words="--request")
    refused("no such segment", "bandits", "--segment", "few/Opera", "--data", "films", words="few/Opera")
    refused("bandits of no catalogue", "bandits", "--data", "nowhere", words="nowhere")


# ---------------------------------------------------------------- index files
def npy(path, descr, shape, body):
    head = repr({"descr": descr, "fortran_order": False, "shape": shape})
    head += " " * (-(len(head) + 11) % 64) + "\n"
    write(path, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + body)


def index_rows(vectors):
    """Rows come, change and go; everything is found at once and after compaction."""
    npy("one.npy", "<f4", (1, 8), struct.pack("<8f", *vectors[3]))
    npy("two.npy", "<f4", (2, 8), b"".join(struct.pack("<8f", *v) for v in vectors[3:5]))
    npy("two_ids.npy", "<i8", (2,), struct.pack("<2q", 7, 9))
    write("keys.txt", "west\neast\n")
    write("meta.txt", '{"year": 1999, "genres": ["Drama"]}\n{"year": 2005}\n')
    find = lambda *more: [[h["id"] for h in r] for r in answer("search", "--index", "n.akx", "--vectors", "one.npy", "-k", "9", *more)["results"]]
    made = answer("index", "create", "n.akx", "--dimension", "8", "--kind", "flat")
    check("index create", made["count"] == 0 and made["asked"] == "flat" and made["segments"] == 0, made)
    refused("create over a file", "index", "create", "n.akx", "--dimension", "8", words="n.akx")
    refused("create without a dimension", "index", "create", "m.akx", status=2, words="--dimension")
    check("nothing is found in nothing", find() == [[]])
    said = akin("index", "add", "n.akx", "-i", "v.npy", "--sync-every", "7").stdout.decode()
    check("index add", said.split() == "synced 7 synced 14 synced 21 synced 28 synced 30".split(), said)
    check("added is found", find()[0][0] == 3)
    refused("ids that are there", "index", "add", "n.akx", "-i", "two.npy", "--ids", "two_ids.npy", words="id 7")
    check("index update", akin("index", "update", "n.akx", "-i", "two.npy", "--ids", "two_ids.npy").stdout == b"synced 30\n")
    check("updated is found, ties by id", find()[0][:2] == [3, 7], find())
    check("add by key", akin("index", "add", "n.akx", "-i", "two.npy", "--keys", "keys.txt", "--metadata", "meta.txt").stdout == b"synced 32\n")
    check("filter", find("--filter", "year>2000") == [[31]] and find("--filter", "genres=drama AND year=1999") == [[30]], find("--filter", "year>2000"))
    refused("keys that are there", "index", "add", "n.akx", "-i", "two.npy", "--keys", "keys.txt", words="west")
    refused("keys for other rows", "index", "add", "n.akx", "-i", "v.npy", "--keys", "keys.txt", words="2 lines")
    refused("metadata that is none", "index", "add", "n.akx", "-i", "two.npy", "--metadata", "keys.txt", words="row 0")
    refused("update without names", "index", "update", "n.akx", "-i", "two.npy", status=2, words="--ids")
    refused("names twice over", "index", "update", "n.akx", "-i", "two.npy", "--ids", "two_ids.npy", "--keys", "keys.txt", status=2, words="--keys")
    gone = answer("index", "delete", "n.akx", "--ids", "two_ids.npy")
    check("index delete", (gone["deleted"], gone["missing"], gone["count"]) == (2, 0, 30), gone)
    gone = answer("index", "delete", "n.akx", "--id", "7")
    check("delete what is gone", (gone["deleted"], gone["missing"], gone["count"]) == (0, 1, 30), gone)
    check("delete a key", answer("index", "delete", "n.akx", "--key", "west")["deleted"] == 1)
    check("delete keys", answer("index", "delete", "n.akx", "--keys", "keys.txt")["missing"] == 1)
    refused("delete nothing", "index", "delete", "n.akx", status=2, words="--keys")
    refused("delete a word", "index", "delete", "n.akx", "--id", "seven", status=2, words="seven")
    before = answer("index", "info", "n.akx")
    check("index info", before["count"] == 28 and before["dead"] == 6 and before["tail_rows"] == 28, before)
    after = answer("index", "compact", "n.akx")
    check("index compact", after["count"] == 28 and after["dead"] == 0 and after["segments"] == 1 and after["tail_rows"] == 0
          and after["dead_bytes"] == 0, after)
    check("compacted is found", find()[0][0] == 3 and len(find()[0]) == 9)
    check("info for people", "1 segment, 0 in the tail, 0 dead" in akin("index", "info", "n.akx").stdout.decode())
    check("check after all", answer("index", "check", "n.akx")["ok"])
    for kind in ("graph", "ivfpq"):
        built = answer("index", "build", "-i", "v.npy", "-o", "k.akx", "--kind", kind)
        check("small " + kind, built["kind"] == "flat" and built["asked"] == kind and "too few" in built["why"], built)
    refused("no rows to add to", "index", "add", "none.akx", "-i", "v.npy", words="none.akx")
    refused("other dimension to add", "index", "add", "n.akx", "-i", "t.npy", words="t.npy")


def index():
    import random
    random.seed(3)
    vectors = [[random.gauss(0, 1) for _ in range(8)] for _ in range(30)]
    npy("v.npy", "<f4", (30, 8), b"".join(struct.pack("<8f", *v) for v in vectors))
    npy("q.npy", "<f4", (5, 8), b"".join(struct.pack("<8f", *v) for v in vectors[:5]))
    npy("ids.npy", "<i8", (30,), b"".join(struct.pack("<q", 1000 - i) for i in range(30)))
    built = answer("index", "build", "-i", "v.npy", "-o", "v.akx", "--metric", "l2")
    check("index build", built["count"] == 30 and built["dimension"] == 8 and built["kind"] == "flat", built)
    check("index info", answer("index", "info", "v.akx")["metric"] == built["metric"])
    check("index check", answer("index", "check", "v.akx")["ok"])
    got = answer("search", "--index", "v.akx", "--vectors", "q.npy", "-k", "40", "--batch", "1", "--exact", "--recall", "0.9", "-o", "r.npy")
    check("search report", got["queries"] == 5 and got["p99_us"] >= got["p50_us"] > 0 and got["elapsed_ms"] > 0
          and got["kind"] == "flat" and "results" not in got, got)
    shape, body = matrix("r.npy")
    ids = [struct.unpack_from("<40q", body, 320 * i) for i in range(5)]
    check("nearest is itself, then -1 where there are no more", shape == (5, 40) and [r[0] for r in ids] == list(range(5))
          and all(r[30:] == (-1,) * 10 for r in ids), ids)
    check("scores beside", matrix("r.scores.npy")[0] == (5, 40))
    akin("index", "build", "-i", "v.npy", "--ids", "ids.npy", "-o", "w.akx")
    got = answer("search", "--index", "w.akx", "--vectors", "q.npy", "-k", "1")
    check("own ids", got["p50_us"] is None and len(got["results"]) == 5 and all(975 < r[0]["id"] <= 1000 for r in got["results"]), got)
    text = akin("search", "--index", "w.akx", "--vectors", "q.npy", "-k", "1").stdout.decode()
    check("search for people", "5 queries in" in text, text)
    write("t.txt", "one\ntwo\n")
    akin("embed", "-i", "t.txt", "-o", "t.npy")
    akin("index", "build", "-i", "t.npy", "-o", "t.akx")
    got = answer("search", "--index", "t.akx", "--query", "two", "-k", "1")
    check("search for a text", got["results"][0][0]["id"] == 1 and abs(got["results"][0][0]["score"] - 1) < 1e-5, got)

    refused("other dimension", "search", "--index", "v.akx", "--query", "a", words="dimensions")
    refused("other dimension", "search", "--index", "v.akx", "--vectors", "t.npy", words="t.npy")
    refused("filter that is none", "search", "--index", "v.akx", "--vectors", "q.npy", "--filter", "a=", words="filter")
    index_rows(vectors)
    refused("no such index", "search", "--index", "none.akx", "--vectors", "q.npy", words="none.akx")
    refused("no such kind", "index", "build", "-i", "v.npy", "-o", "x.akx", "--kind", "magic", status=2, words="magic")
    refused("no such metric", "index", "build", "-i", "v.npy", "-o", "x.akx", "--metric", "taxi", status=2, words="taxi")
    refused("ids of another type", "index", "build", "-i", "v.npy", "--ids", "q.npy", "-o", "x.akx", words="q.npy")
    refused("not an npy", "index", "build", "-i", "t.txt", "-o", "x.akx", words="t.txt")
    nan = struct.pack("<f", float("nan"))
    npy("nan.npy", "<f4", (2, 8), b"\0" * 60 + nan)
    refused("NaN", "index", "build", "-i", "nan.npy", "-o", "x.akx", words="1")
    blob = bytearray(open("v.akx", "rb").read())
    blob[len(blob) // 2] ^= 4
    write("damaged.akx", bytes(blob))
    refused("damage", "index", "check", "damaged.akx", words="damaged.akx")
    nothing_left("refusals", "x.akx")


def forms():
    """What rows are kept as, every form that vectors come in, and export back to files."""
    import random
    random.seed(5)
    vectors = [[random.randrange(256) for _ in range(8)] for _ in range(200)]
    npy("v.npy", "<f4", (200, 8), b"".join(struct.pack("<8f", *v) for v in vectors))
    write("v.fvecs", b"".join(struct.pack("<i8f", 8, *v) for v in vectors))
    write("v.bvecs", b"".join(struct.pack("<i8B", 8, *v) for v in vectors))
    files = {}
    for form in ("npy", "fvecs", "bvecs"):
        answer("index", "build", "-i", f"v.{form}", "-o", "f.akx", "--metric", "l2", "--kind", "flat")
        files[form] = open("f.akx", "rb").read()
        made = answer("search", "--index", "f.akx", "--vectors", f"v.{form}", "-k", "3", "-o", f"{form}_found.npy")
        check(f"{form} searched", made["queries"] == 200 and matrix(f"{form}_found.npy") == matrix("npy_found.npy"), made)
        answer("index", "create", "g.akx", "--dimension", "8", "--metric", "l2")
        said = akin("index", "add", "g.akx", "-i", f"v.{form}", "--sync-every", "90").stdout.decode()
        check(f"{form} added", said.split() == "synced 90 synced 180 synced 200".split(), said)
        os.remove("g.akx")
    check("one index, whatever its rows came from", files["npy"] == files["fvecs"] == files["bvecs"])
    write("cut.fvecs", open("v.fvecs", "rb").read()[:-2])
    write("nan.fvecs", struct.pack("<i2fi2f", 2, 1, 2, 2, float("nan"), 2))
    answer("index", "create", "g.akx", "--dimension", "2")
    for words, status, *line in (("cut.fvecs", 1, "index", "build", "-i", "cut.fvecs", "-o", "x.akx"),
                                 ("row 1, column 0", 1, "index", "build", "-i", "nan.fvecs", "-o", "x.akx"),
                                 ("row 1, column 0", 1, "index", "add", "g.akx", "-i", "nan.fvecs"),
                                 ("leave out", 1, "index", "build", "-i", "v.npy:train", "-o", "x.akx"),
                                 ("cut.fvecs", 1, "search", "--index", "f.akx", "--vectors", "cut.fvecs"),
                                 ("dimensions", 1, "search", "--index", "f.akx", "--vectors", "nan.fvecs")):
        refused(f"{line[1]} of {line[-1]}", *line, status=status, words=words)
    check("a refused batch adds nothing", answer("index", "info", "g.akx")["count"] == 0)

    sizes = {}
    for storage in ("fp32", "fp16", "int8"):
        made = answer("index", "build", "-i", "v.npy", "-o", f"{storage}.akx", "--metric", "l2", "--storage", storage)
        sizes[storage] = os.path.getsize(f"{storage}.akx")
        check(f"{storage} is said", made["storage"] == answer("index", "info", f"{storage}.akx")["storage"] == storage
              and storage in akin("index", "info", f"{storage}.akx").stdout.decode(), made)
        check(f"{storage} is checked", answer("index", "check", f"{storage}.akx")["ok"])
        told = answer("index", "export", f"{storage}.akx", f"{storage}.npy")
        check(f"{storage} exported", told["count"] == 200 and told["dimension"] == 8, told)
        shape, body = matrix(f"{storage}.npy")
        kept = [struct.unpack_from("<8f", body, 32 * i) for i in range(200)]
        off = max(abs(a - b) / max(v) for k, v in zip(kept, vectors) for a, b in zip(k, v))
        check(f"{storage} keeps what it says", shape == (200, 8) and off <= {"fp32": 0, "fp16": 0, "int8": 1.001 / 254}[storage], off)
    check("less is kept in less", sizes["fp32"] - 200 * 8 >= sizes["fp16"] >= sizes["int8"], sizes)
    refused("storage that is none", "index", "build", "-i", "v.npy", "-o", "x.akx", "--storage", "fp8", status=2, words="fp8")
    refused("int8 graphs", "index", "build", "-i", "v.npy", "-o", "x.akx", "--storage", "int8", "--kind", "graph", words="graph")
    refused("int8 graphs, empty", "index", "create", "x.akx", "--dimension", "8", "--storage", "int8", "--kind", "ivfpq", words="ivfpq")
    npy("large.npy", "<f4", (2, 1), struct.pack("<2f", 1, 1e6))
    refused("too large for halves", "index", "build", "-i", "large.npy", "-o", "x.akx", "--metric", "l2", "--storage", "fp16", words="row 1")

    npy("ids.npy", "<i8", (200,), b"".join(struct.pack("<q", 900 - 3 * i) for i in range(200)))
    write("meta.jsonl", "".join('{"year": %d, "title": "Film %d"}\n' % (1990 + i % 9, i) for i in range(200)))
    akin("index", "build", "-i", "v.npy", "-o", "a.akx", "--metric", "l2", "--ids", "ids.npy", "--metadata", "meta.jsonl")
    akin("index", "export", "a.akx", "b.npy", "--ids", "b_ids.npy", "--metadata", "b.jsonl")
    check("ids ascend", matrix("b_ids.npy")[0] == (200,) and struct.unpack("<200q", matrix("b_ids.npy")[1]) == tuple(range(303, 903, 3)))
    akin("index", "build", "-i", "b.npy", "-o", "b.akx", "--metric", "l2", "--ids", "b_ids.npy", "--metadata", "b.jsonl")
    check("there and back: the same index", open("a.akx", "rb").read() == open("b.akx", "rb").read())
    write("keys.txt", "".join(f"film {i}\n" for i in range(200)))
    akin("index", "build", "-i", "v.npy", "-o", "k.akx", "--keys", "keys.txt")
    akin("index", "export", "k.akx", "k.npy", "--keys", "k.txt")
    check("keys and ids beside", open("k.txt").read() == open("keys.txt").read() and matrix("k.ids.npy")[0] == (200,))
    answer("index", "create", "e.akx", "--dimension", "8")
    check("nothing to export", answer("index", "export", "e.akx", "e.npy")["count"] == 0 and matrix("e.npy") == ((0, 8), b""))
    refused("export of nothing", "index", "export", "none.akx", "x.npy", words="none.akx")
    refused("export to nowhere", "index", "export", "a.akx", "no/x.npy", words="no/x.npy")
    refused("export to the output", "index", "export", "a.akx", "-", status=2, words="-")
    refused("export without a name", "index", "export", "a.akx", status=2, words="export")
    nothing_left("refusals", "x.akx", "x.npy", "x.ids.npy")

    hint = akin("search", "--index", "a.akx", "--vectors", "v.npy", "-k", "1", "--filter", "yeer=1990").stderr.decode()
    check("a slip is told", "did you mean 'year'" in hint and hint.count("\n") == 1, hint)
    hint = akin("search", "--index", "a.akx", "--vectors", "v.npy", "-k", "1", "--filter", "title<5").stderr.decode()
    check("a type is told", "'title' holds texts" in hint, hint)
    quiet = akin("search", "--index", "a.akx", "--vectors", "v.npy", "-k", "1", "--filter", "year<1995").stderr
    check("nothing else is", quiet == b"", quiet)


def memory():
    """A file larger than all memory that the program may take is opened and searched. With
    AKIN_TEST_INDEX_ROWS=1000000 as `make test-slow` does: opened in 50 ms, too."""
    import random
    count, dim = int(os.environ.get("AKIN_TEST_INDEX_ROWS", "12000")), 256
    with open("m.bvecs", "wb") as file:
        generator = random.Random(3)
        for _ in range(count):
            file.write(struct.pack("<i", dim) + generator.randbytes(dim))
    with open("m.bvecs", "rb") as file:
        write("q.bvecs", file.read(40 * (dim + 4)))
    limit = 12 << 20
    less = ["prlimit", f"--data={limit}"]
    for storage in ("fp32", "fp16"):
        akin("index", "build", "-i", "m.bvecs", "-o", "m.akx", "--metric", "l2", "--kind", "flat", "--storage", storage)
        size = os.path.getsize("m.akx")
        check(f"{storage}: the file is larger than the memory", storage != "fp32" or size > limit, size)
        seconds = min(seconds_of(lambda: answer("index", "info", "m.akx", before=less)) for _ in range(5))
        check(f"{storage}: it opens at once", seconds < (0.05 if count >= 1000000 else 1), seconds)
        got = answer("search", "--index", "m.akx", "--vectors", "q.bvecs", "-k", "1", "--exact", "--threads", "1", before=less)
        check(f"{storage}: searched in less memory than it has bytes", [r[0]["id"] for r in got["results"]] == list(range(40)), got)
    told = akin("index", "compact", "m.akx", before=["prlimit", f"--data={4 << 20}"], status=1).stderr.decode()
    check("too little memory is told", told.startswith("akin: ") and told.count("\n") == 1, told)
    check("and harms nothing", answer("index", "check", "m.akx")["ok"])


# ---------------------------------------------------------------- benchmarks
def bench_embed():
    """The report of six texts and a tiny model: its figures must follow from one another."""
    got = answer("bench", "embed", "--data", "films", "--threads", "1,2", "--batch-sizes", "2,4", "--precisions", "fp32",
                 "--cost", "0.5,3.67", "--latency", "7", "--rounds", "2", "--output-dir", "out/results")
    runs = got["runs"]
    check("a run each", [(r["precision"], r["threads"], r["batch_size"]) for r in runs] == [
        ("fp32", threads, batch) for threads in (1, 2) for batch in (2, 4)], runs)
    check("report keys", set(REPORT_KEYS) | set(EMBED_KEYS) - {"output"} <= set(got) and got["texts"] == got["texts_computed"] == 6
          and got["rounds"] == 2 and got["unavailable"] == [] and got["latency_texts"] == 7 and got["cosine_texts"] == 6, sorted(got))
    # hidden 32, intermediate 64, 2 layers
    tokens = [len(json.loads(line)["ids"]) for line in akin("tokenize", "-i", "films/movies.jsonl").stdout.splitlines()]
    flops = sum(2 * (2 * t * (4 * 32 ** 2 + 2 * 32 * 64) + 4 * t * t * 32) for t in tokens)
    check("operations", len(tokens) == 6 and sum(tokens) == got["tokens"] and near(got["flops_per_text"] * 6, flops)
          and near(got["tokens_per_text"] * 6, sum(tokens)), (tokens, got["flops_per_text"]))
    for r in runs:
        base = next(b for b in runs if b["threads"] == 1 and b["batch_size"] == r["batch_size"])
        rounds = r["seconds_of_rounds"]
        check("a run's figures", len(rounds) == 2 and near(r["seconds"], sum(rounds) / 2) and rounds[0] <= rounds[1]
              and near(r["texts_per_second"], 6 / r["seconds"]) and near(r["ms_per_text"], 1000 * r["seconds"] / 6)
              and near(r["gflops"], flops / r["seconds"] / 1e9) and near(r["share_of_peak"], r["gflops"] / r["peak_gflops"])
              and 0 < r["share_of_peak"] < 1 and r["memory_mb"] > 1 and 0 < r["latency_p50_ms"] <= r["latency_p99_ms"]
              and near(r["scaling_efficiency"], r["texts_per_second"] / r["threads"] / base["texts_per_second"])
              and abs(r["cosine_mean"] - 1) < 1e-6 and abs(r["cosine_min"] - 1) < 1e-6, r)
        check("a run's costs", [c["dollars_per_hour"] for c in r["cost_per_million_texts"]] == [0.5, 3.67] and all(
            near(c["dollars"], c["dollars_per_hour"] * 1e6 / r["texts_per_second"] / 3600) for c in r["cost_per_million_texts"]), r)
    best = max(runs, key=lambda r: r["texts_per_second"])
    check("the fastest run leads", all(got[k] == best[k] for k in ("texts_per_second", "threads", "batch_size", "precision")), got)
    check("estimates", [e["texts"] for e in got["estimates"]] == [10 ** 6, 10 ** 7, 10 ** 8] and all(
        near(e["seconds"], e["texts"] / best["texts_per_second"]) and near(e["cost"][1]["dollars"], 3.67 * e["seconds"] / 3600)
        for e in got["estimates"]), got["estimates"])
    one, two = (max(r["texts_per_second"] for r in runs if r["threads"] == n) for n in (1, 2))
    cores = got["estimates_64_cores"][0]
    places = got["placement"]
    check("placement", [p["threads"] for p in places] == [1, 2] and all(
        1 <= p["cores"] <= p["cpus"] and p["numa_nodes"] >= 1 and p["pinned"] < p["threads"]
        and bool(p["pinned"]) == bool(p["pinned_to"]) != bool(p["why_not"]) for p in places), places)
    usable = min(places[0]["cores"], places[0]["quota"] or 1024)
    if usable >= 2:
        check("64 cores", cores["estimate"] is True and near(cores["measured_efficiency"], two / 2 / one)
              and near(cores["texts_per_second"], 64 * two / 2) and len(got["estimates_64_cores"]) == 1, cores)
    check("no GPU", got["comparison"]["gpu"] is None and got["comparison"]["gpu_speedup"] is None, got["comparison"])
    check("the file is the report", json.load(open("out/results/" + os.listdir("out/results")[0])) == got)
    # Threads that share cores are measured, and say nothing about more cores.
    got = answer("bench", "embed", "--data", "films", "--threads", f"{usable + 3},0", "--precisions", "fp32", "--rounds", "1",
                 "--latency", "0", "--output-dir", "out/shared")
    cores, runs = got["estimates_64_cores"][0], got["runs"]
    check("threads over cores", [r["threads"] for r in runs] == [usable + 3, got["placement"][1]["threads"]]
          and got["placement"][0]["pinned"] == 0 and got["placement"][0]["why_not"], got["placement"])
    if got["placement"][1]["threads"] >= usable:
        check("64 cores from shared ones", cores["base_threads"] == cores["efficiency_threads"] == usable
              and cores["measured_efficiency"] is None and cores["estimate"] is True and near(
                  cores["texts_per_second"], 64 / usable * max(r["texts_per_second"] for r in runs)), cores)

    write("gpu.json", json.dumps({"device": "cuda", "gpu_name": "Made-up 100", "model": got["model"], "texts_per_second": 1234567.5}))
    got = answer("bench", "embed", "--data", "films", "--compare", "gpu.json", "--precisions", "fp32", "--rounds", "1", "--latency", "0")
    both = got["comparison"]
    check("with a GPU", both["gpu"]["device"] == "Made-up 100" and both["same_model"] is True and both["gpu"]["precision"] is None
          and near(both["gpu_speedup"], 1234567.5 / got["texts_per_second"]) and [s["runs"] for s in both["gpu_time_saved"]] == [1, 10, 100]
          and all(near(s["seconds"], s["runs"] * (got["seconds"] - 6 / 1234567.5)) for s in both["gpu_time_saved"]), both)
    check("one thread count, no efficiency", got["runs"][0]["scaling_efficiency"] is None and got["runs"][0]["latency_p50_ms"] is None
          and got["estimates_64_cores"][0]["measured_efficiency"] is None and got["runs"][0]["cost_per_million_texts"] == [], got)
    for name, text, words in (("no.json", None, "no.json"), ("list.json", "[1]", "list.json"), ("slow.json", '{"device": "x"}', "texts_per_second"),
                              ("zero.json", '{"device": "x", "texts_per_second": 0}', "more than 0")):
        if text:
            write(name, text)
        refused(f"--compare {name}", "bench", "embed", "--data", "films", "--compare", name, words=words)

    # Every precision is either measured or said to be missing, in one line.
    done = akin("bench", "embed", "--data", "films", "--limit", "3", "--batch-sizes", "1,2", "--rounds", "1", "--compare", "gpu.json",
                "--cost", "2", "--output-dir", "out2")
    text = done.stdout.decode()
    check("bench embed for people", all(w in text for w in (
        "Hardware:", "texts/s", "of peak", "one text, p50", "cosine, mean", "memory", "Cost of a million", "100M texts",
        "64 such cores (estimate, not measured)", "Made-up 100", "time saved")), text)
    for precision in ("fp32", "bf16", "int8"):
        lines = [line for line in text.splitlines() if line.startswith(f"  {precision}: not available here: ")]
        check(f"{precision} is measured or missing", len(lines) == 0 if re.search(rf"^  {precision} +\w+ +\d+ +1 ", text, re.M)
              else len(lines) == 1, text)
    check("bench embed file", re.fullmatch(r"embed_cpu_\d{8}T\d{6}Z\.json", os.listdir("out2")[0]), os.listdir("out2"))
    got = answer("bench", "embed", "--data", "films", "--precision", "fp32", "--rounds", "1", "--warmup", "0", env={"AKIN_CPU": "ref"})
    check("--precision alone, reference kernels", {r["precision"] for r in got["runs"]} == {"fp32"} and got["kernels"] == "ref"
          and got["runs"][0]["peak_gflops"] > 0, got)
    refused("no precision opens", "bench", "embed", "--data", "films", "--precisions", "fp16", words="fp16")


def bench_search():
    """Indexes of made vectors: what is exact finds all, and the figures follow from one another."""
    got = answer("bench", "search", "--sizes", "1k,1500", "--threads", "1,2", "--batches", "1,50,2k", "--recalls", "0.9",
                 "--kinds", "flat,auto,nonsense", "--limit", "60", "-k", "5", "--seconds", "0.002", "--output-dir", "out/search")
    runs = got["runs"]
    check("a run each", [(r["rows"], r["kind"], r["threads"], r["recall_target"]) for r in runs] == [
        (rows, kind, threads, target) for rows in (1000, 1500) for kind in ("flat", "auto") for threads in (1, 2)
        for target in (None, 0.9)], runs)
    check("report keys", set(REPORT_KEYS) | {"runs", "sizes", "unavailable", "k", "queries", "dimension", "queries_made",
          "rows_made", "seconds_per_figure"} == set(got) and got["k"] == 5 and got["queries"] == 60 and got["dimension"] == 384
          and got["queries_made"] and got["rows_made"], sorted(got))
    for r in runs:
        check("a run's figures", r["exact"] is (r["recall_target"] is None) and r["chosen"] in ("flat", "ivfpq", "graph")
              and (r["recall"] == 1 if r["exact"] else 0.5 < r["recall"] <= 1) and 0 < r["p50_us"] <= r["p99_us"]
              and r["qps"]["batch_1"] > 0 and r["qps"]["batch_50"] > 0 and r["qps"]["batch_2000"] is None
              and r["build_s"] > 0 and r["open_ms"] > 0 and r["file_bytes"] > r["rows"] * 384 and r["memory_bytes"] >= 0, r)
    check("what cannot be built is named", [(u["kind"], u["rows"]) for u in got["unavailable"]] == [
        ("nonsense", 1000), ("nonsense", 1500)] and all("nonsense" in u["reason"] for u in got["unavailable"]), got["unavailable"])
    check("beside the reference", [s["rows"] for s in got["sizes"]] == [1000] and near(
        got["sizes"][0]["speedup"], 8 / got["sizes"][0]["ms"]), got["sizes"])
    check("only the report is left", all(f.endswith(".json") for f in os.listdir("out/search")), os.listdir("out/search"))
    check("the file is the report", json.load(open("out/search/" + os.listdir("out/search")[0])) == got)

    rows = [[(7 * i + j * j) % 11 - 5 for j in range(8)] for i in range(40)]
    write("b.fvecs", b"".join(struct.pack("<i8f", 8, *row) for row in rows))
    write("q.bvecs", b"".join(struct.pack("<i8B", 8, *(abs(x) for x in row)) for row in rows[:9]))
    got = answer("bench", "search", "-i", "b.fvecs", "--queries", "q.bvecs", "--kinds", "flat", "--recalls", "1", "--batches", "1",
                 "--seconds", "0.002", "--output-dir", "out/search2")
    check("own vectors", got["dimension"] == 8 and got["queries"] == 9 and not got["rows_made"] and not got["queries_made"]
          and [r["rows"] for r in got["runs"]] == [40, 40] and all(r["recall"] == 1 for r in got["runs"]), got)
    write("v.npy", b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (40, 8), }".ljust(117)
          + b"\n" + b"".join(struct.pack("<8f", *row) for row in rows))
    akin("index", "build", "-i", "v.npy", "-o", "v.akx", "--kind", "flat")
    got = answer("bench", "search", "--index", "v.akx", "--queries", "q.bvecs", "--recalls", "0.9", "--batches", "1",
                 "--seconds", "0.002", "--output-dir", "out/search5")
    check("a finished index", [(r["rows"], r["kind"], r["build_s"]) for r in got["runs"]] == [(40, "flat", None)] * 2
          and got["runs"][0]["recall"] == 1 and os.path.exists("v.akx"), got["runs"])
    text = akin("bench", "search", "-i", "b.fvecs", "--batches", "1,10", "--seconds", "0.002", "--limit", "20",
                "--output-dir", "out/search3").stdout.decode()
    check("text", "40 rows" in text and "QPS b10" in text and "queries made from rows" in text, text)
    for words, status, arguments in (
            ("--index needs --queries", 2, ["--index", "x.akx"]), ("leave out", 2, ["--index", "x.akx", "-i", "b.fvecs"]),
            ("--sizes: '1.5'", 2, ["--sizes", "1.5"]), ("--batches: '0'", 2, ["--batches", "0"]),
            ("--recalls: '1.1'", 2, ["--recalls", "0.9,1.1"]), ("is no kind", 2, ["--kinds", "flat,,auto"]),
            ("q.bvecs: queries of 8", 1, ["-i", "six.fvecs", "--queries", "q.bvecs"]),
            ("row 1, column 0: NaN", 1, ["-i", "nan.fvecs"]), ("cut short", 1, ["-i", "cut.fvecs"])):
        write("six.fvecs", struct.pack("<i6f", 6, *range(6)))
        write("nan.fvecs", struct.pack("<i2fi2f", 2, 1, 2, 2, float("nan"), 2))
        write("cut.fvecs", struct.pack("<i2fi", 2, 1, 2, 2))
        refused("bad " + words, "bench", "search", *arguments, status=status, words=words)


def bench_personalize():
    got = answer("bench", "personalize", "--data", "films", "--queries", "30", "--lists", "4", "--ratings", "5000",
                 "--output-dir", "out6")
    parts = got["benchmarks"]
    latency, cache, made = parts["latency"], parts["cache"], parts["made_up_people"]
    check("personalize keys", set(parts) >= {"latency", "throughput", "memory", "cache", "quality"}
          and set(latency) >= {"mean_ms", "median_ms", "p95_ms", "p99_ms", "cold_start_ms", "warm_ms", "stages"}
          and set(latency["stages"]) >= {"encode_ms", "fuse_ms", "search_ms", "rerank_ms"}
          and set(cache) >= {"hit_rate_pct", "avg_hit_ms", "avg_miss_ms", "speedup", "rebuild_s"}, got)
    check("personalize times", 0 < latency["stages"]["encode_ms"] < latency["median_ms"] <= latency["p99_ms"], latency)
    check("personalize batches", all(parts["throughput"][f"batch_{n}_qps"] > 0 for n in (10, 100, 1000)), parts)
    rates = cache["hit_rates"]
    names = ["akin", "lru", "lfu", "w_tinylfu", "s3_fifo", "window_7d", "belady"]
    check("personalize hit rates", len(rates) == 8 and rates[-1]["share_pct"] == 100
          and all(0 <= row[n] <= row["belady"] <= 1 for row in rates for n in names if n != "window_7d"), rates)
    check("all kept: only the first request of an item is missed", all(
        near(rates[-1][n], 1 - rates[-1]["slots"] / cache["requests_replayed"]) for n in names if n != "window_7d"), rates)
    check("nothing is held on a GPU", parts["memory"]["gpus"] == {}, parts["memory"])
    check("made-up people", made["ratings"] >= 5000 and made["users"] == 32 and made["import_s"] > 0
          and made["updates_per_s"] > 0 and made["durable_updates_per_s"] > 0, made)
    check("personalize files", sorted(re.sub(r"\d{8}T\d{6}Z", "T", f) for f in os.listdir("out6"))
          == ["personalize_cache.svg", "personalize_cpu_T.json", "personalize_latency.svg"], os.listdir("out6"))
    check("the catalogue is only read", not os.path.exists("films/akin.db"))
    text = akin("bench", "personalize", "--data", "films", "--queries", "5", "--ratings", "0", "--without-model",
                "--output-dir", "out7").stdout.decode()
    check("personalize for people", all(w in text for w in ("without encode", "Belady", "Neighbour cache", "Targets"))
          and "Made-up" not in text and "  encode" not in text, text)


def bench_numa():
    got = answer("bench", "numa", "--mebibytes", "32", "--repeats", "1", "--output-dir", "out_numa")
    nodes = got["numa"]["nodes"]
    readers = [n for n in nodes if n["cpus"]]
    check("pairs of nodes", len(got["pairs"]) == len(readers) * len(nodes) and set(REPORT_KEYS) <= set(got)
          and all(p["latency_ns"] > 0 and p["read_gb_s"] > 0 and p["local"] == (p["reader"] == p["memory"]) for p in got["pairs"]), got)
    check("remote only where there is one", got["remote"] == (len(nodes) > 1)
          and (got["latency_remote_per_local"] is None) == (len(nodes) == 1) and got["latency_ns_local"] > 0, got)
    check("its report", os.listdir("out_numa")[0].startswith("numa_"))
    if len(nodes) == 1:
        text = akin("bench", "numa", "--mebibytes", "32", "--repeats", "1", "--output-dir", "out_numa").stdout.decode()
        check("says that nothing is remote", "nothing is remote" in text, text)
    refused("a node to measure", "bench", "numa", "--numa", "0", status=2, words="all nodes")
    refused("no repeats", "bench", "numa", "--repeats", "0", status=2, words="repeats")


def bench():
    bench_search()
    bench_numa()
    refused("no texts", "bench", "embed", "--data", "nowhere", words="-i FILE")
    for option, bad in (("--batch-sizes", "1,x"), ("--threads", "1,-2"), ("--threads", "1,,2"), ("--cost", "1,free"),
                        ("--cost", "-1"), ("--precisions", "fp32,fp31"), ("--precisions", "auto"), ("--precisions", "fp32,fp32"),
                        ("--batch-sizes", ",".join("1" * 17)), ("--rounds", "0")):
        refused(f"bad {option} {bad}", "bench", "embed", "--data", "nowhere", f"{option}={bad}", status=2, words=bad)
    make_catalogue()
    bench_embed()
    help_text = akin("bench", "embed", "--help").stdout.decode()
    check("own --threads in the help", help_text.count("--threads N") == 1, help_text)
    got = answer("bench", "recommend", "--data", "films", "--repeats", "3", "--output-dir", "out3")
    item = {"rank", "title", "similarity", "genres"}
    check("report keys", set(got) == {"test_1_similarity", "test_2_personalization", "test_3_batch", "test_4_filtering",
                                      "test_5_memory", "targets", "inputs", *REPORT_KEYS}, sorted(got))
    one, two, four = got["test_1_similarity"], got["test_2_personalization"], got["test_4_filtering"]
    check("test 1", got["inputs"]["query"] == "Toy Story (1995)" and one["gpu_time_ms"] > 0 and len(one["results"]) == 5
          and all(item <= set(r) for r in one["results"]), one)
    check("test 2", two["avg_gpu_time_ms"] > 0 and len(two["user_results"]) == 5
          and all(set(u) == {"user_id", "gpu_time_ms", "recommendations"} for u in two["user_results"])
          and all(set(r) == {"title", "similarity"} for u in two["user_results"] for r in u["recommendations"]), two)
    check("test 3", set(got["test_3_batch"]) == {"batch_10", "batch_100", "batch_1000"}
          and all(set(b) == {"total_time_ms", "time_per_query_ms", "throughput_qps"} for b in got["test_3_batch"].values())
          and all(abs(b["time_per_query_ms"] * n - b["total_time_ms"]) < 1e-6 * b["total_time_ms"]
                  for b, n in zip(got["test_3_batch"].values(), (10, 100, 1000))), got["test_3_batch"])
    check("test 4", four["filtered_count"] == 3 and len(four["results"]) == 2 and set(four) == {"gpu_time_ms", "filtered_count", "results"}
          and all("Adventure" in r["genres"] for r in four["results"]), four)
    check("test 5", set(got["test_5_memory"]) == {"allocated_gb", "reserved_gb", "total_gb", "free_gb", "peak_allocated_gb",
                                                  "peak_reserved_gb"}, got["test_5_memory"])
    check("targets", len(got["targets"]) >= 10 and all(
        t["pass"] == (t["value"] < t["limit"] if t["comparison"] == "<" else t["value"] >= t["limit"])
        for t in got["targets"] if t["value"] is not None), got["targets"])
    check("device", got["device"] == "cpu" and os.listdir("out3")[0].startswith("recommend_cpu_"), got["device"])
    text = akin("bench", "recommend", "--data", "films", "--repeats", "3", "--output-dir", "out4").stdout.decode()
    check("report for people", all(f"Test {i}" in text for i in range(1, 6)) and "Targets" in text, text)
    bench_personalize()
    write("bare.jsonl", '{"id": 1, "title": "One"}\n{"id": 2, "title": "Two"}\n')
    akin("data", "import", "jsonl", "bare.jsonl", "--data", "bare")
    akin("data", "embed", "--data", "bare")
    got = answer("bench", "recommend", "--data", "bare", "--repeats", "1", "--output-dir", "out5")
    check("neither users nor genres", got["test_2_personalization"] == {"avg_gpu_time_ms": None, "user_results": []}
          and got["test_4_filtering"]["gpu_time_ms"] is None
          and any(t["pass"] is None and t["reason"] for t in got["targets"]), got)
    got = answer("bench", "personalize", "--data", "bare", "--queries", "2", "--ratings", "0", "--output-dir", "out8")
    check("nobody asked for anything", got["benchmarks"]["cache"]["hit_rate_pct"] is None
          and got["benchmarks"]["cache"]["hit_rates"] == [] and got["benchmarks"]["made_up_people"] == {}, got)


# ---------------------------------------------------------------- precisions
def precision():
    # A copy: measuring and quantising write beside the model.
    shutil.copytree(MODEL, "home/models/own")
    own = ["--model", "own"]
    write("t.txt", "a dark film\nnaïve café\ntoy story (1995)\n")
    kept = "home/models/own/akin-precision.json"

    check("exact unless asked otherwise", answer("config")["precision"] == {"value": "fp32", "origin": "default"})
    check("and embeds so", answer("embed", *own, "-i", "t.txt", "-o", "exact.npy")["precision"] == "fp32")
    check("which measures nothing", not os.path.exists(kept))
    check("doctor: not measured yet", answer("doctor", *own)["precisions"] is None
          and b"not measured yet" in akin("doctor", *own).stdout)

    auto = ["embed", *own, "-i", "t.txt", "--precision", "auto", "-o"]
    done = akin(*auto, "auto.npy", "--json")
    first, notes = json.loads(done.stdout)["precision"], done.stderr.decode()
    check("the first time it is measured, and says so", "measuring" in notes and f"precision auto: {first}" in notes, notes)
    check("it is kept", os.path.exists(kept) and first in ("fp32", "bf16", "int8"), first)
    done = akin(*auto, "again.npy", "--json")
    notes = done.stderr.decode()
    check("then it is known", "measuring" not in notes and json.loads(done.stdout)["precision"] == first, notes)
    check("the same bits", rows("auto.npy") == rows("again.npy"))
    akin("embed", *own, "-i", "t.txt", "-o", "named.npy", "--precision", first)
    check("as by its name", rows("auto.npy") == rows("named.npy"))
    check("quiet", akin(*auto, "again.npy", "--quiet").stderr == b"")
    verdict = answer("doctor", *own)["precisions"]
    check("doctor knows it", verdict["auto"] == first and verdict["precisions"][0]["precision"] == "fp32", verdict)
    write(kept, "{\"format\": 1, ")
    notes = akin(*auto, "again.npy").stderr.decode()
    check("a damaged file is named and measured anew", "akin-precision.json" in notes and "measuring" in notes, notes)
    verdict = answer("model", "check", "own")["verdict"]
    check("check shows it", {"precision", "texts_per_second", "cosine_mean", "cosine_min", "neighbours_kept", "passes"}
          == set(verdict["precisions"][-1]) and verdict["kept_in"].endswith(kept), verdict)

    akin("embed", *own, "-i", "t.txt", "-o", "before.npy", "--precision", "int8")
    made = answer("model", "quantize", "own")
    check("int8 weights beside the model", made["precision"] == "int8" and made["bytes"] == os.path.getsize(made["path"])
          and made["path"].endswith("own/akin-int8.safetensors"), made)
    akin("embed", *own, "-i", "t.txt", "-o", "after.npy", "--precision", "int8")
    check("change no bit", rows("before.npy") == rows("after.npy"))
    info = answer("model", "info", "own", "--precision", "int8")
    check("info knows them", info["from_quantized"] and info["quantized"][0]["usable"], info)
    check("and for people", b"int8 weights kept" in akin("model", "info", "own").stdout)
    check("list knows them", b"int8" in akin("model", "list").stdout)
    with open(made["path"], "r+b") as file:
        file.truncate(made["bytes"] - 9)
    done = akin("embed", *own, "-i", "t.txt", "-o", "after.npy", "--precision", "int8")
    check("a cut file is named and left aside", b"not used" in done.stderr and rows("before.npy") == rows("after.npy"), done.stderr)
    check("list says so", b"not usable" in akin("model", "list").stdout)
    refused("check finds it", "model", "check", "own", "--quiet", words="akin-int8.safetensors")
    answer("model", "quantize", "own", "-o", "elsewhere.safetensors")
    check("elsewhere", os.path.getsize("elsewhere.safetensors") == made["bytes"])
    refused("fp32 is there already", "model", "quantize", "own", "--precision", "fp32", status=2, words="int8 and bf16")
    refused("nowhere to write", "model", "quantize", "own", "-o", "absent/x", words="absent/x")
    nothing_left("quantize")

    write("items.jsonl", '{"id": 1, "title": "Alpha"}\n{"id": 2, "title": "Beta film"}\n')
    akin("data", "import", "jsonl", "items.jsonl", "--data", "shop")
    check("embedded", "embedded" in akin("data", "embed", "--data", "shop", *own).stdout.decode())
    check("the precision is on record", answer("data", "info", "--data", "shop")["precision"] == "fp32")
    ask = ["recommend", "--data", "shop", *own, "--query", "alpha", "-k", "1"]
    check("alike: no word", akin(*ask).stderr == b"")
    notes = akin(*ask, "--precision", "int8").stderr
    check("a query of another precision is answered, and said", b"embedded in fp32" in notes, notes)
    check("another precision embeds again", answer("data", "embed", "--data", "shop", *own, "--precision", "int8")["texts"] == 2)
    check("and once", answer("data", "embed", "--data", "shop", *own, "--precision", "int8")["texts"] == 0)


# ---------------------------------------------------------------- training
TINY = """--d-model 16 --nhead 2 --num-encoder-layers 1 --num-decoder-layers 1 --dim-feedforward 32
--seq-len 8 --vocab-size 23 --batch-size 4""".split()
PLAIN = [*TINY, "--num-samples", "16", "--dropout", "0", "--no-amp", "--device", "cpu"]
SCRIPT_KEYS = {
    "metadata": "timestamp hostname gpu_name gpu_count cuda_version pytorch_version python_version platform",
    "config": """model_params d_model nhead num_encoder_layers num_decoder_layers dim_feedforward batch_size_per_gpu
        effective_batch_size seq_len vocab_size num_samples dataset_size_gb data_source num_shards amp num_workers
        warmup_epochs measured_epochs""",
    "summary": """avg_wall_time_per_epoch_s avg_throughput_samples_per_s peak_gpu_memory_mb
        avg_gpu_utilisation_pct"""}


def token_npy(path, shape, values, descr="<i4", code="i"):
    npy(path, descr, tuple(shape), struct.pack(f"<{len(values)}{code}", *values))


def train_report():
    got = answer("bench", "train", *PLAIN, "--epochs", "2")
    for part, keys in SCRIPT_KEYS.items():
        check(f"{part}: exactly the script's keys", set(got[part]) == set(keys.split()), sorted(got[part]))
    check("epochs", [e["epoch"] for e in got["epochs"]] == [1, 2] and all(set(e) == {
        "epoch", "wall_time_s", "total_samples", "throughput_samples_per_s", "avg_loss"}
        and e["total_samples"] == 16 and 2 < e["avg_loss"] < 4 for e in got["epochs"]), got["epochs"])
    check("ours beside them", set(REPORT_KEYS) | {"tokens_per_s", "model_tflops", "mfu_pct", "mfu_peak_tflops", "step_ms",
          "data_wait_pct", "comm_pct", "expected_allreduce_ms", "energy_j", "devices"} <= set(got), sorted(got))
    check("sizes", got["config"]["model_params"] > 1000 and got["config"]["amp"] is False and got["run"]["precision"] == "fp32"
          and got["config"]["data_source"] == "memory" and got["step_ms"]["count"] == 8, got["config"])
    check("tokens of source and target", near(got["tokens_per_s"], got["summary"]["avg_throughput_samples_per_s"] * 16), got)
    names = os.listdir("results")
    check("the name of the file", len(names) == 1 and re.fullmatch(r"bench_\w+_1cpu_\d{8}T\d{6}Z\.json", names[0]), names)
    text = akin("bench", "train", *PLAIN, "--epochs", "1", "--steps", "2", "--output-dir", "out").stdout.decode()
    check("for people", all(w in text for w in ("warm-up", "samples/s", "of 2 steps", "peak memory", "Report: out/bench_")), text)
    one = answer("bench", "train", *PLAIN, "--epochs", "1", "--threads", "1", "--slice", "1", "--recompute")
    check("threads, slices and recomputing change no loss", one["epochs"][0]["avg_loss"] == got["epochs"][0]["avg_loss"], one["epochs"])
    check("another seed does", answer("bench", "train", *PLAIN, "--epochs", "1", "--seed", "2")["epochs"][0]["avg_loss"]
          != got["epochs"][0]["avg_loss"])
    mixed = answer("bench", "train", *TINY, "--num-samples", "8", "--epochs", "1")
    check("--amp is bf16 where there is bf16", (mixed["config"]["amp"], mixed["run"]["precision"]) in ((True, "bf16"), (False, "fp32")), mixed["run"])
    return got


def train_disk(memory):
    got = answer("bench", "train", *PLAIN, "--epochs", "2", "--disk", "--num-shards", "3")
    check("the same from disk", [e["avg_loss"] for e in got["epochs"]] == [e["avg_loss"] for e in memory["epochs"]], got["epochs"])
    check("three shards", got["config"]["num_shards"] == 3 and got["config"]["data_source"] == "disk"
          and sorted(f for f in os.listdir("data") if f.endswith(".bin")) == [f"shard_000{i}.bin" for i in range(3)], os.listdir("data"))
    written = os.stat("data/shard_0001.bin").st_mtime_ns
    answer("bench", "train", *PLAIN, "--epochs", "1", "--data-dir", "data", "--num-shards", "3")
    check("written once", os.stat("data/shard_0001.bin").st_mtime_ns == written)
    narrow = answer("bench", "train", *PLAIN, "--epochs", "2", "--data-dir", "narrow", "--token-type", "u16")
    check("u16 is a quarter", os.path.getsize("narrow/shard_0000.bin") == 16 * 2 * 8 * 2
          and narrow["epochs"][0]["avg_loss"] == memory["epochs"][0]["avg_loss"], narrow["epochs"])
    with open("data/shard_0002.bin", "r+b") as file:
        file.truncate(9)
    refused("a short shard", "bench", "train", *PLAIN, "--data-dir", "data", "--num-shards", "3", "--quiet", words="shard_0002.bin")
    refused("the disk is full", "bench", "train", *PLAIN, "--data-dir", "big", "--num-samples", str(10**11), "--steps", "1",
            "--quiet", words="big")


def train_given():
    tokens = [(7 * i * i + 3 * i) % 23 for i in range(2 * 4 * 8)]
    token_npy("s.npy", (2, 4, 8), tokens)
    token_npy("t.npy", (2, 4, 8), tokens[::-1], "<i8", "q")
    given = ["bench", "train", *TINY, "--dropout", "0", "--no-amp", "--batch-src", "s.npy", "--batch-tgt", "t.npy"]
    got = answer(*given, "--save", "w.safetensors", "--dump-grads", "g.safetensors")
    check("two losses", len(got["losses"]) == 2 and all(2 < x < 4 for x in got["losses"]), got)
    with open("g.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    check("PyTorch's names", header["transformer.decoder.layers.0.multihead_attn.in_proj_weight"]["shape"] == [48, 16], header)
    again = answer(*given, "--init", "w.safetensors", "--lr", "0", "--save", "same.safetensors")
    with open("w.safetensors", "rb") as one, open("same.safetensors", "rb") as two:
        check("a rate of 0 learns nothing", one.read() == two.read())
    check("what was saved has learned", again["losses"][0] < got["losses"][0], again)
    token_npy("r.npy", (40, 4, 8), tokens[:32] * 40)
    fall = answer("bench", "train", *TINY, "--dropout", "0", "--no-amp", "--batch-src", "r.npy", "--batch-tgt", "r.npy", "--lr", "0.01")["losses"]
    check("a repeated batch is learned", fall[-1] < 0.5 * fall[0], (fall[0], fall[-1]))
    plain = answer(*given, "--device", "reference")["losses"]
    check("as the plain device has it", all(abs(a - b) < 1e-5 for a, b in zip(plain, got["losses"])), (plain, got["losses"]))
    half = [str(2) if a == "4" else a for a in given]
    ranks = answer(*half, "--processes", "2")["losses"]
    check("two processes are one", all(abs(a - b) < 1e-6 for a, b in zip(ranks, got["losses"])), (ranks, got["losses"]))
    with open("w.safetensors", "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(struct.pack("<f", math.nan))
    refused("weights that are no number", *given, "--init", "w.safetensors", "--quiet", words="w.safetensors: tensor output_proj.bias")
    wild = ["--lr", "1e6", "--weight-decay", "1e6", "--quiet"]
    refused("a loss that is no number", *given[:-4], "--batch-src", "r.npy", "--batch-tgt", "r.npy", *wild, words="step ")
    refused("and in the benchmark", "bench", "train", *PLAIN, *wild, "--epochs", "9", "--json", words=": step ")
    token_npy("b.npy", (2, 4, 8), [*tokens[:-1], 23])
    refused("a token too large", *given[:-1], "b.npy", "--quiet", words="sample 3")
    token_npy("b.npy", (2, 4, 8), [*tokens[:-1], -1])
    refused("a token below 0", *given[:-1], "b.npy", "--quiet", words="b.npy")
    token_npy("b.npy", (2, 3, 8), tokens[:48])
    refused("another shape", *given[:-1], "b.npy", "--quiet", words="--batch-size 4")
    token_npy("b.npy", (1, 4, 8), tokens[:32])
    refused("fewer steps", *given[:-1], "b.npy", "--quiet", words="b.npy has 1")
    refused("half of it", *given[:-2], status=2, words="--batch-tgt")


def train():
    for option in ("epochs", "batch-size", "vocab-size", "num-samples", "d-model", "nhead", "dim-feedforward", "steps", "num-workers"):
        for bad in ("0", "-1", "x"):
            refused(f"--{option} {bad}", "bench", "train", f"--{option}={bad}", status=2, words=f"--{option}")
    for words, option, bad in (("nhead 3", "nhead", "3"), ("--seq-len", "seq-len", "1"), ("--dropout", "dropout", "1"),
                               ("--optimizer", "optimizer", "lion"), ("--token-type", "token-type", "u16"),
                               ("--num-shards", "num-shards", "3"), ("--batch-size", "num-samples", "5"),
                               ("--steps", "steps", "99999"), ("--device", "device", "tpu"), ("--dump-grads", "dump-grads", "g")):
        refused(f"--{option} {bad}", "bench", "train", f"--{option}={bad}", status=2, words=words)
    refused("amp and not", "bench", "train", "--amp", "--no-amp", status=2, words="--no-amp")
    refused("amp in fp32", "bench", "train", "--amp", "--precision", "fp32", status=2, words="fp32")
    refused("single and many", "bench", "train", "--single", "--processes", "2", status=2, words="--single")
    refused("fp16 on a CPU", "bench", "train", "--precision", "fp16", "--device", "cpu", words="bf16")
    if not any(os.path.exists("/dev/" + name) for name in ("nvidiactl", "nvidia0", "dxg")):
        refused("no GPU", "bench", "train", "--device", "cuda", words="no GPU can be used")
    write("file", "x")
    refused("a folder that cannot be", "bench", "train", *PLAIN, "--output-dir", "file/results", words="file/results")
    os.makedirs("locked")
    os.chmod("locked", 0o500)
    refused("a folder that cannot be written", "bench", "train", *PLAIN, "--output-dir", "locked", words="locked", before=AS_A_USER)
    refused("a model that does not fit", "bench", "train", "--d-model", "16384", "--dim-feedforward", "65536", "--num-encoder-layers",
            "100", "--no-amp", words="bytes")
    refused("weights that are not there", "bench", "train", *PLAIN, "--init", "none.safetensors", words="none.safetensors")
    check("nothing was written", not os.path.exists("results") or not os.listdir("results"), os.listdir("."))
    shutil.rmtree("results", ignore_errors=True)
    train_disk(train_report())
    train_given()
    run = os.path.join(ROOT, "run_benchmark.sh")
    done = subprocess.run([run, "--single", *PLAIN, "--epochs", "1", "--json"], capture_output=True, timeout=300,
                          env={**environment(), "PATH": os.path.dirname(AKIN) + ":" + os.environ["PATH"]})
    check("run_benchmark.sh", done.returncode == 0 and json.loads(done.stdout)["config"]["measured_epochs"] == 1, done.stderr)


# ---------------------------------------------------------------- comparing
def compare():
    folder = os.path.join(ROOT, "tests/fixtures/training")
    got = answer("bench", "compare", folder, "--cost", "0.1", "3.00", "3.00")
    check("three runs", [r["devices"] for r in got["runs"]] == [1, 1, 8] and got["differences"] == [], got)
    check("costs", near(got["runs"][2]["cost_per_million_samples"], 24 / 3600 / 51200 * 1e6)
          and near(got["runs"][1]["cost_per_epoch"], 3 / 3600 * 468.75), got["runs"])
    check("scaling", got["runs"][2]["scaling_efficiency_pct"] == 80 and got["runs"][0]["mfu_pct"] == 49.3, got["runs"])
    check("commas are as good", answer("bench", "compare", folder, "--cost", "0.1,3,3") == got)
    table = akin("bench", "compare", folder, "--cost", "3").stdout.decode()
    check("a table, the best marked", "51200.0 *" in table and "scaling %" in table and " - " in table, table)
    lines = akin("bench", "compare", folder, "--csv").stdout.decode().splitlines()
    check("CSV", len(lines) == 4 and len({line.count(",") for line in lines}) == 1, lines)
    akin("bench", "compare", folder, "--html", "page.html")
    with open("page.html", encoding="utf-8") as file:
        page = file.read()
    check("a page of its own", page.count("<svg") == 4 and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
          and "src=" not in page, page[:400])
    with open(os.path.join(folder, "bench_script_1gpu.json"), encoding="utf-8") as file:
        other = json.load(file)
    other["config"]["d_model"] = 256
    write("other.json", json.dumps(other))
    refused("different work", "bench", "compare", folder, "other.json", words="config.d_model is 128")
    forced = answer("bench", "compare", folder, "other.json", "--force")
    check("unless told to", len(forced["runs"]) == 4 and "d_model" in forced["differences"][0], forced["differences"])
    refused("prices for others", "bench", "compare", folder, "--cost", "1", "2", status=2, words="2 prices for 3")
    refused("no price", "bench", "compare", folder, "--cost", "free", status=2, words="free")
    refused("both forms", "bench", "compare", folder, "--json", "--csv", status=2, words="--csv")
    refused("nothing there", "bench", "compare", words="results")
    refused("no reports", "bench", "compare", ".", words="akin bench train")
    write("bad.json", '{"metadata": {}, "config": {}, "summary": {"peak_gpu_memory_mb": "much"}}')
    refused("a field of another type", "bench", "compare", "bad.json", words="bad.json: summary: peak_gpu_memory_mb")
    refused("a page that cannot be", "bench", "compare", folder, "--html", "none/page.html", words="none/page.html")


def watch():
    """Replay and live: a kind that never was raises an alarm, bad lines are told."""
    for command in (["info"], ["search"], ["label", 1, "normal"]):
        refused("no store", "watch", *command, "--store", "nothing", words="nothing: no such folder" if command[0] != "label" else "nothing: no store")
        refused("no --store", "watch", *command, status=2, words="--store")
    refused("no moment", "watch", "search", "--store", "nothing", "--since", "yesterday", status=2, words="yesterday")
    refused("no number", "watch", "label", "x", "normal", "--store", "nothing", status=2, words="'x'")
    refused("no label", "watch", "label", 1, "odd", "--store", "nothing", status=2, words="'odd'")
    refused("no store for a snapshot", "watch", "snapshot", "snaps", "--store", "nothing", words="nothing: no store")
    check("no half of a snapshot is left", os.listdir("snaps") == [], os.listdir("snaps"))
    lines = [{"seq": i, "text": f"took {i} s", "level": "INFO", "session": f"s{i // 4}"} for i in range(400)]
    lines.append({"seq": 400, "text": "kernel panic", "level": "FATAL", "session": "s100"})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write("e.jsonl", text)
    akin("watch", "--replay", "e.jsonl", "--train-until", 390, "--scores", "s.jsonl")
    events = [json.loads(line) for line in open("s.jsonl")]
    check("one verdict per event", [e["seq"] for e in events] == list(range(390, 401)), events)
    check("the last one is the strangest", max(events, key=lambda e: e["score"])["seq"] == 400 and events[-1]["alert"], events)
    sessions = [json.loads(line) for line in open("s.sessions.jsonl")]
    check("sessions have verdicts", {"s99", "s100"} <= {s["session"] for s in sessions}, sessions)
    live = akin("watch", "--source", "jsonl", "--learn", 390, "--explain", input=(text + "no event\n").encode())
    alerts = [json.loads(line) for line in live.stdout.splitlines()]
    check("alerts are lines", any(a["alert"] == "event" and a["text"] == "kernel panic" and a["parts"]["severity"] > 0 for a in alerts), live.stdout)
    check("bad lines are counted", b"1 lines were no events" in live.stderr, live.stderr)
    write("bad.jsonl", "{\n")
    refused("a bad line in a file", "watch", "--replay", "bad.jsonl", words="bad.jsonl:1")
    refused("no source", "watch", status=2, words="--source")
    refused("an option before its source", "watch", "--bus", "system", "--source", "dbus", status=2, words="--bus")
    refused("an option of no source", "watch", "--source", "jsonl", "--stream", "s", status=2, words="--stream")
    refused("a socket without a path", "watch", "--source", "socket", status=2, words="--listen")
    refused("a field of no name", "watch", "--source", "jsonl", "--field", "what=f", status=2, words="--field")
    refused("scores of a live watch", "watch", "--source", "jsonl", "--scores", "x", status=2, words="--scores")
    refused("a time that is none", "watch", "--source", "jsonl", "--learn", "5x", status=2, words="--learn")
    refused("a size that is none", "watch", "--source", "jsonl", "--store", "st", "--keep-bytes", "5Q", status=2,
            words="--keep-bytes")
    refused("to keep nothing", "watch", "--source", "jsonl", "--keep", "5d", status=2, words="--store")
    refused("one name twice", "watch", "--source", "jsonl", "--file", "e.jsonl", "--source", "jsonl", "--file",
            "e.jsonl", words="e.jsonl")
    live = akin("watch", "--source", "jsonl", "--file", "e.jsonl", "--learn", 390, "--store", "st", "--audit", "au",
                "--alert-file", "alarms", "--severity", "critical", "--report", 9)
    alarms = [json.loads(line) for line in open("alarms")]
    check("the alarm has a number", [a["id"] for a in alarms] == [401] and alarms[0]["severity"] == "critical", alarms)
    report = json.loads(next(line for line in live.stderr.splitlines() if line.startswith(b"{")))
    check("the report counts", (report["received"], report["stored"], report["learned"]) == (401, 401, 390), report)
    akin("audit", "verify", "au")
    again = akin("watch", "--source", "jsonl", "--file", "e.jsonl", "--store", "st", "--report", 9)
    report = json.loads(next(line for line in again.stderr.splitlines() if line.startswith(b"{")))
    check("a second run goes on behind", (report["received"], report["relearned"]) == (0, 401), report)
    akin("watch", "--replay", "e.jsonl", "--speed", 1000, "--no-model")


def audit():
    made = answer("audit", "init", "log", "--origin", "example.com/log")
    check("the key names the log", made["public_key"].startswith("example.com/log+"), made)
    check("the secret is secret", os.stat("log/key").st_mode & 0o777 == 0o600)
    write("key.pub", made["public_key"] + "\n")
    lines = [json.dumps({"user": f"u{i % 3}", "action": "read", "n": i}) for i in range(700)]
    write("lines", "\n".join(lines) + "\n")
    told = akin("audit", "append", "log", "-i", "lines", "--source", "web").stdout.decode().splitlines()
    counts = [int(line.removeprefix("acknowledged ")) for line in told]
    check("acknowledged rises to the end", counts == sorted(counts) and counts[-1] == 700, told)
    shutil.copy("log/checkpoint", "kept")
    akin("audit", "append", "log", input=b"a\0b\n\n\xff\nlast without an end")
    write("large", bytes(range(256)) * 800)
    made = answer("audit", "append", "log", "-i", "large", "--whole")
    check("a whole file is one record", made["acknowledged"] == 1 and made["records"] == 705, made)

    exported = [json.loads(line) for line in akin("audit", "export", "log").stdout.splitlines()]
    check("text as text", [r["record"] for r in exported[:700]] == lines)
    check("numbers and sources", [(r["index"], r["source"]) for r in exported[:700]] == [(i, "web") for i in range(700)])
    check("the rest as base64 where it must be", [r.get("record_base64", r.get("record")) for r in exported[700:704]] == ["YQBi", "", "/w==", "last without an end"])
    csv.field_size_limit(1 << 20)
    table = list(csv.reader(io.StringIO(akin("audit", "export", "log", "--format", "csv").stdout.decode(), newline="")))
    check("CSV: the same", [row[6] for row in table[1:701]] == lines and len(table) == 706, table[:2])

    good = answer("audit", "verify", "log", "--public-key", "key.pub", "--since", "kept")
    check("verified", good["ok"] and good["records"] == 705 and good["since"] == 700, good)
    for index in (0, 255, 256, 704):
        akin("audit", "prove", "log", index, "-o", "p.json")
        proof = answer("audit", "verify-proof", "p.json", "--public-key", "key.pub")
        check("proven", proof["ok"] and proof["index"] == index and proof["size"] == 705, proof)
    akin("audit", "verify-proof", "p.json", "--public-key", "key.pub", "--record", "large")
    refused("another record", "audit", "verify-proof", "p.json", "--public-key", "key.pub", "--record", "lines", words="not the record")
    akin("audit", "prove", "log", "--since", "kept", "-o", "c.json")
    check("continued", answer("audit", "verify-proof", "c.json", "--public-key", "key.pub")["from"] == 700)
    refused("no such record", "audit", "prove", "log", 705, words="705")
    refused("no number", "audit", "prove", "log", "x", status=2, words="INDEX")

    akin("audit", "rotate-key", "log")
    check("two keys", answer("audit", "verify", "log", "--public-key", "key.pub")["keys"] == 2)
    report = answer("audit", "report", "log", "--html", "r.html")
    check("who", [(r["name"], r["records"]) for r in report["who"]] == [("u0", 234), ("u1", 233), ("u2", 233)], report["who"])
    check("what", report["what"] == [{"name": "read", "records": 700}], report["what"])
    check("a page of its own", b"The log verifies" in open("r.html", "rb").read())
    refused("a time", "audit", "report", "log", "--from", "soon", status=2, words="--from")

    with subprocess.Popen([AKIN, "audit", "append", "log"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as other:
        other.stdin.write(b"one\n")
        other.stdin.flush()
        check("a line is acknowledged while the next is waited for", other.stdout.readline() == b"acknowledged 1\n")
        refused("two writers", "audit", "append", "log", "-i", "lines", words="one may write")
        check("verified while it is written", answer("audit", "verify", "log")["writer"])
        other.kill()
    akin("audit", "checkpoint", "log")
    check("killed: the record is there", answer("audit", "verify", "log")["records"] == 707)

    with open("log/tile/entries/001", "r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))
    refused("a changed record", "audit", "verify", "log", "--quiet", words="record 257")
    refused("no log", "audit", "verify", ".", words="not an audit log")
    refused("not empty", "audit", "init", "log", words="not empty")
    os.chmod("log/key", 0o644)
    refused("a key for everybody", "audit", "append", "log", "-i", "lines", words="chmod 600")
    nothing_left("audit")


def main():
    global AKIN, MODEL, SCRATCH
    groups = {g.__name__: g for g in (use, embed, stop, catalogue, rate, explore, index, forms, memory, bench,
                                      precision, train, compare, audit, watch)}
    if len(sys.argv) not in (3, 4) or (len(sys.argv) == 4 and sys.argv[3] not in groups):
        sys.exit(__doc__)
    AKIN, MODEL = map(os.path.abspath, sys.argv[1:3])
    for name in sys.argv[3:] or groups:
        with tempfile.TemporaryDirectory() as SCRATCH:
            os.chdir(SCRATCH)
            groups[name]()
            os.chdir("/")
    rig.finish("cli_test")


main()
