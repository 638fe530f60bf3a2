#!/usr/bin/env python3
"""akin watch from outside, under what happens to it: kill -9, SIGTERM in a burst, a full disk, lines that
are no events, thousands of new kinds, several sources, labels while it runs.

    watch_live.py AKIN MODEL [GROUP]        GROUP: kill stop full odd sources labels (all)
"""
import ctypes
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

AKIN, MODEL, GROUP = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "all"
ENVIRONMENT = dict(os.environ, AKIN_HOME=os.path.join(tempfile.gettempdir(), "no-akin-home"))


def check(what, fine, shown=""):
    if not fine:
        raise SystemExit(f"FAILED: {what}: {str(shown)[-1500:]}")


def start(*arguments, **more):
    return subprocess.Popen([AKIN, "watch", *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=ENVIRONMENT, **more)


def watch(*arguments, input=b"", code=0):
    done = subprocess.run([AKIN, "watch", *map(str, arguments)], input=input, capture_output=True,
                          env=ENVIRONMENT, timeout=280)
    check(f"exit code {code} of {arguments}", done.returncode == code, done.stderr)
    return done


def report_of(stderr):
    return next(json.loads(line) for line in stderr.splitlines() if line.startswith(b'{"report":"final"'))


def stored(folder):
    """Texts in the order of coming."""
    done = subprocess.run([AKIN, "watch", "search", "--store", folder, "-k", "1000000", "--json"],
                          capture_output=True, env=ENVIRONMENT)
    check("the store can be read", done.returncode == 0, done.stderr)
    return [e["text"] for e in json.loads(done.stdout)["results"]][::-1]


def records(folder):
    done = subprocess.run([AKIN, "audit", "export", folder], capture_output=True, env=ENVIRONMENT)
    check("the trail can be read", done.returncode == 0, done.stderr)
    return [json.loads(json.loads(line)["record"]) for line in done.stdout.splitlines()]


def trail(folder):
    return [r for r in records(folder) if r["watch"] == "event"]


def kinds_of(folder):
    return [r["watch"] for r in records(folder)]


def verify(folder):
    done = subprocess.run([AKIN, "audit", "verify", folder], capture_output=True, env=ENVIRONMENT)
    check("the trail verifies", done.returncode == 0, done.stderr)


def lines(first, last):
    return "".join(json.dumps({"text": f"request {i} took {i % 97} ms", "level": "info"}) + "\n"
                   for i in range(first, last)).encode()


def texts(first, last):
    return [f"request {i} took {i % 97} ms" for i in range(first, last)]


def wait_for(what, condition, seconds=120):
    for _ in range(int(seconds * 20)):
        if condition():
            return
        time.sleep(0.05)
    raise SystemExit(f"FAILED: waited for: {what}")


class Told:
    """What a process says on its standard error, from when on it says it."""
    def __init__(self, process):
        self.text = b""
        self.thread = threading.Thread(target=self.read, args=(process.stderr,))
        self.thread.start()

    def read(self, stream):
        while part := os.read(stream.fileno(), 65536):
            self.text += part

    def all(self):
        self.thread.join()
        return self.text


def mounts_of_our_own():
    """What is mounted from here on is gone with this process, however that ends."""
    NEWNS, PRIVATE_BELOW = 0x20000, 0x44000
    libc = ctypes.CDLL(None)
    return libc.unshare(NEWNS) == 0 and libc.mount(b"none", b"/", None, PRIVATE_BELOW, None) == 0


def kill():
    """Nothing is lost and nothing doubled, in the store and but for marked ones in the trail."""
    rng, count = random.Random(7), 0
    options = ["--no-model", "--source", "jsonl", "--file", "log.jsonl", "--learn", 100, "--store", "store",
               "--audit", "trail"]
    open("log.jsonl", "w").close()
    for trial in range(15):
        process = start(*options, "--follow")
        with open("log.jsonl", "ab") as log:
            for _ in range(rng.randrange(1, 6)):
                log.write(lines(count, count + 400))
                log.flush()
                count += 400
                time.sleep(rng.uniform(0, 0.04))
        process.kill()
        process.communicate()
    watch(*options)
    check("each event is stored once", stored("store") == texts(0, count), count)
    events = trail("trail")
    fresh = [e["text"] for e in events if not e.get("again")]
    check("each event is in the trail once", sorted(fresh) == sorted(texts(0, count)), len(fresh))
    verify("trail")


def bytes_below(folder):
    total = 0
    for at, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.path.getsize(os.path.join(at, name))
            except FileNotFoundError:       # a temporary one, renamed meanwhile
                pass
    return total


def stop():
    """SIGTERM in a burst: a file goes on where it was, and what is in a pipe is taken first."""
    BURST = 60000       # more than a fast machine takes in before the last stop
    with open("log.jsonl", "wb") as log:
        log.write(lines(0, BURST))
    options = ["--no-model", "--source", "jsonl", "--file", "log.jsonl", "--store", "store", "--audit", "trail"]
    stops = 0
    for trial in range(15):
        before = bytes_below("store")
        process = start(*options)
        if trial % 3 == 2:      # on a slow machine too, some are in the middle
            wait_for("something is stored", lambda: bytes_below("store") > before or process.poll() is not None)
        else:
            time.sleep(0.04 + 0.01 * trial)
        process.terminate()
        out, errors = process.communicate(timeout=240)
        check("it ends well", process.returncode in (0, 130, -15), (process.returncode, errors))  # not 0: before it began
        have = len(stored("store")) if os.path.exists("store/store") else 0
        stops += 0 < have < BURST
        if have == BURST:
            break
    watch(*options)
    check("some stops were in the middle", stops > 0)
    check("a stopped file is gone on with", stored("store") == texts(0, BURST))
    check("and so is the trail", [e["text"] for e in trail("trail")] == texts(0, BURST))
    verify("trail")

    process = start("--no-model", "--source", "jsonl", "--store", "piped", stdin=subprocess.PIPE)
    process.stdin.write(lines(0, 30000))
    process.stdin.flush()
    process.terminate()
    wait_for("the end", lambda: process.poll() is not None)
    process.stdin.close()
    check("what was in the pipe is stored", stored("piped") == texts(0, 30000), process.stderr.read())


def full():
    """A small file system: told once, waited for, gone on with."""
    os.mkdir("small")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", "small"]
    if mounts_of_our_own() and subprocess.run(mount, capture_output=True).returncode == 0:
        try:
            with open("small/ballast", "wb") as f:
                f.write(bytes(1_500_000))
            process = start("--no-model", "--source", "jsonl", "--store", "small/store", "--audit", "small/trail",
                            stdin=subprocess.PIPE)
            told = Told(process)
            process.stdin.write(lines(0, 2000))
            process.stdin.flush()
            wait_for("a full disk is told", lambda: b"nothing is acknowledged" in told.text or process.poll() is not None)
            time.sleep(2.5)         # it is tried again, and not told again
            check("it waits", process.poll() is None)
            os.remove("small/ballast")
            process.stdin.close()
            process.wait(240)
            errors = told.all()
            check("it is told once", errors.count(b"nothing is acknowledged") == 1, errors)
            check("and when it is over", errors.count(b"the disk takes events again") == 1, errors)
            check("all is stored", stored("small/store") == texts(0, 2000))
            check("and in the trail", [e["text"] for e in trail("small/trail")] == texts(0, 2000))
            verify("small/trail")
        finally:
            subprocess.run(["umount", "small"])
    else:
        print("no file system may be mounted here: that part is skipped")

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    with open("log.jsonl", "wb") as log:
        log.write(lines(0, 20000))
    options = ["--no-model", "--source", "jsonl", "--file", "log.jsonl", "--store", "store"]
    process = start(*options, preexec_fn=small_files)
    told = Told(process)
    wait_for("a file that may not grow is told", lambda: b"nothing is acknowledged" in told.text or process.poll() is not None)
    time.sleep(2)
    check("it goes on trying", process.poll() is None)
    process.terminate()
    errors = told.all()
    process.wait(240)
    check("it says that it failed", process.returncode == 1 or process.returncode == 130, errors)
    check("and why, once", errors.count(b"nothing is acknowledged") == 1, errors)
    watch(*options)
    check("nothing is lost or doubled", stored("store") == texts(0, 20000))


def odd():
    """Lines of any kind are events, or counted; kinds are bounded."""
    long, longer = "x" * 1_000_000, "y" * 1_100_000
    odd_lines = [json.dumps({"text": long}).encode(), json.dumps({"text": longer}).encode(), b'{"text":"a\\u0000b"}',
                 b"{broken", b"[]", b'{"text":5}', b"\xff\xfe", b"", b'{"text":"dup","id":"1"}',
                 b'{"text":"dup","id":"1"}', b'{"text":"later","time":"2026-01-01T00:00:09Z"}',
                 b'{"text":"earlier","time":"2026-01-01T00:00:01Z"}', b"[" * 5000, b'{"text":"last"}']
    done = watch("--no-model", "--source", "jsonl", "--field", "id=id", "--store", "store", "--audit", "trail",
                 "--report", 100, input=b"\n".join(odd_lines) + b"\n")
    report = report_of(done.stderr)
    check("what is no event is counted", report["bad"] == 6, report)
    check("the same id is stored once", report["again"] == 1, report)
    check("the rest is there", stored("store") == [long, "a\0b", "dup", "later", "earlier", "last"], report)
    verify("trail")
    done = watch("--no-model", "--source", "text", "--store", "plain", "--report", 100,
                 input=b"a\0b\n\xff\xfe end\nlast without an end")
    check("plain lines are events", stored("plain") == ["a\0b", "\ufffd\ufffd end", "last without an end"])
    # A clock that goes backwards keeps nobody waiting.
    with open("back.jsonl", "w") as f:
        for i in range(100):
            f.write(json.dumps({"text": f"n {i}", "time": f"2026-01-01T00:{59 - i // 2:02}:00Z"}) + "\n")
    began = time.time()
    watch("--no-model", "--replay", "back.jsonl", "--speed", 1)
    check("times that go back do not wait", time.time() - began < 120)
    # 100 kinds a second, for five minutes, as fast as it goes.
    many = "".join(f"alpha{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676 % 26)}{chr(97 + i // 17576)} "
                   f"beta{chr(97 + i * 7 % 26)}{chr(97 + i // 26 * 5 % 26)}{chr(97 + i // 676 % 26)} gone\n"
                   for i in range(30000))
    report = report_of(watch("--no-model", "--source", "text", "--report", 100, input=many.encode()).stderr)
    check("kinds are bounded", report["received"] == 30000 and 1000 < report["kinds"] <= 8192, report)
    check("and memory", report["rss_bytes"] < (200e6, 800e6)[SANITIZED], report)
    # What is known costs no memory, however much of it comes.
    report = report_of(watch("--no-model", "--source", "jsonl", "--report", 100, input=lines(0, 150000)).stderr)
    check("memory stays", report["received"] == 150000 and report["rss_bytes"] < (80e6, 800e6)[SANITIZED], report)


def sources():
    """Two sources at once, one of them a socket; a report when asked."""
    with open("log.jsonl", "wb") as log:
        log.write(lines(0, 500))
    process = start("--model", MODEL, "--source", "jsonl", "--file", "log.jsonl", "--follow", "--source", "socket",
                    "--listen", "s.sock", "--format", "text", "--store", "store", "--learn", 100)
    wait_for("the socket", lambda: os.path.exists("s.sock"))
    client = socket.socket(socket.AF_UNIX)
    client.connect("s.sock")
    for i in range(500):
        client.sendall(f"user {i} came in\n".encode())
    client.close()
    wait_for("all of it", lambda: os.path.exists("store/store") and len(stored("store")) == 1000)
    told = Told(process)
    process.send_signal(signal.SIGUSR1)
    wait_for("a report", lambda: b'{"report":"now"' in told.text)
    process.terminate()
    errors = told.all()
    process.wait(240)
    check("it ended well", process.returncode == 0, errors)
    report = next(json.loads(line) for line in errors.splitlines() if line.startswith(b'{"report":"now"'))
    check("both are counted", [s["received"] for s in report["sources"]] == [500, 500], report)
    check("each in order", [t for t in stored("store") if t.startswith("user")] == [f"user {i} came in" for i in range(500)])
    found = subprocess.run([AKIN, "watch", "search", "somebody came in", "--store", "store", "-k", "1", "--json",
                            "--model", MODEL], capture_output=True, env=ENVIRONMENT)
    check("they can be searched", found.returncode == 0 and len(json.loads(found.stdout)["results"]) == 1, found.stderr)
    done = watch("--source", "jsonl", "--bus", "system", code=2)
    check("an option of another source", b"--bus" in done.stderr, done.stderr)


def labels():
    """A false alarm that was labelled is not raised again; not by the running one, nor after a restart."""
    alarm = b'{"text":"kernel panic","level":"fatal"}\n'
    process = start("--no-model", "--source", "jsonl", "--store", "store", "--audit", "trail", "--learn", 500,
                    "--repeat", 0, stdin=subprocess.PIPE)
    process.stdin.write(lines(0, 1000) + alarm)
    process.stdin.flush()
    first = json.loads(process.stdout.readline())
    check("an alarm", first["text"] == "kernel panic" and first["id"] == 1001, first)
    subprocess.run([AKIN, "watch", "label", "1001", "normal", "--store", "store"], check=True, capture_output=True,
                   env=ENVIRONMENT)
    wait_for("the label is heeded", lambda: kinds_of("trail").count("label") == 1)
    process.stdin.write(alarm)
    process.stdin.flush()
    wait_for("the alarm was judged", lambda: kinds_of("trail").count("event") == 1002)
    process.terminate()
    out, errors = process.communicate(timeout=240)
    check("it is heeded at once", out == b"", out + errors)
    done = watch("--no-model", "--source", "jsonl", "--store", "store", "--audit", "trail", "--learn", 500,
                 input=alarm)
    check("and after a restart", done.stdout == b"", done.stdout)
    kinds = kinds_of("trail")
    check("the trail has it", kinds.count("label") == 1 and kinds.count("start") == 2 and kinds.count("stop") == 2,
          [k for k in kinds if k != "event"])
    verify("trail")


SANITIZED = b"__asan_init" in open(AKIN, "rb").read()
groups = {f.__name__: f for f in (kill, stop, full, odd, sources, labels)}
AKIN, MODEL = os.path.abspath(AKIN), os.path.abspath(MODEL)
for name, function in groups.items():
    if GROUP in (name, "all"):
        folder = tempfile.mkdtemp(prefix="akin_watch_live_")
        os.chdir(folder)
        try:
            function()
            print(f"{name}: fine")
        finally:
            os.chdir("/")
            shutil.rmtree(folder, ignore_errors=True)
