#!/usr/bin/env python3
"""scripts/gpu-check without a GPU: what its steps ask for exists, and its summary is right.

Usage: gpu_check_test.py ROOT AKIN CHECKS
CHECKS is the folder of the programs of the tests. First the steps of --dry-run, by the help of the
programs that they start; then runs in a folder with a made-up nvidia-smi and made-up programs, which
fail, hang, are skipped or are not there. Needs nothing but Python and bash.
"""
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

failures = checks = 0

CHECKED = ("train_devicecheck train_truth_test encode_devicecheck encode_modelcheck "
           "search_devicecheck ivf_devicecheck personal_devicecheck user_devicecheck "
           "graph_devicecheck bandit_devicecheck encode_contextcheck cardmemory").split()
# What a made-up program does, by its name.
DEEDS = {"akin": 'echo "akin $*"', "search_devicecheck": "echo 17 checks; exit 1",
         "bandit_devicecheck": "exit 77",
         "ivf_devicecheck": "echo begun; [ -z \"${HANGS:-}\" ] || sleep 60"}


def check(what, ok, told=""):
    global failures, checks
    checks += 1
    if not ok:
        failures += 1
        print(f"FAILED {what}: {told}")


def put(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write("#!/bin/sh\n" + text + "\n")
    os.chmod(path, 0o755)


def make_machine(root, here):
    """A copy of the script with made-up programs to run; no compiler, a GPU."""
    for name in ("gpu-check", "common.sh", "gpu_data.py", "make-model"):
        os.makedirs(f"{here}/scripts", exist_ok=True)
        shutil.copy(f"{root}/scripts/{name}", f"{here}/scripts/{name}")
    for name in CHECKED:
        put(f"{here}/tests/{name}.c", "")
    put(f"{here}/bin/nvidia-smi", 'case "$*" in *compute_cap*) echo 9.0 ;; *) echo "GPU 0: made up" ;; esac')
    for name in ("nvcc", "cmake"):          # what the machine has of these does not count
        put(f"{here}/bin/{name}", "exit 1")
    put(f"{here}/bin/pkg-config", "exit 1")
    packed = f"{here}/build/gpu-check/pack"
    os.makedirs(packed)
    with open(f"{packed}/commit", "w") as file:
        file.write("c0ffee\n")
    with tarfile.open(f"{packed}/programs.tar.xz", "w:xz") as pack:
        for name in ["akin"] + CHECKED:
            body = ("#!/bin/sh\n" + DEEDS.get(name, f'echo "{name} $*"') + "\n").encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), 0o755
            pack.addfile(entry, io.BytesIO(body))


def environment(here, **more):
    known = {k: v for k, v in os.environ.items() if k not in ("OUT", "PYTHON", "AKIN_MOVIES")}
    return {**known, "PATH": f"{here}/bin:{os.environ['PATH']}", "AKIN_HOME": f"{here}/home",
            "PYTHON": sys.executable, **more}


def gpu_check(here, *parts, **more):
    return subprocess.run([f"{here}/scripts/gpu-check", *parts], capture_output=True, text=True, timeout=60,
                          env=environment(here, **more))


def result_of(here):
    with open(f"{here}/build/gpu-check/gpu-check.json") as file:
        return json.load(file)


def steps_of(here, part):
    return {s["name"]: s for s in result_of(here)["steps"] if s["part"] == part}


def summary(root):
    with tempfile.TemporaryDirectory() as here:
        make_machine(root, here)
        done = gpu_check(here, "conformance")
        steps = steps_of(here, "conformance")
        check("a failed step is the run's", done.returncode == 1, (done.returncode, done.stderr))
        check("ten steps", len(steps) == 10, list(steps))
        check("fine", steps["ivf"]["result"] == "fine" and steps["ivf"]["said"] == ["begun"], steps["ivf"])
        check("failed, and what it said", steps["search"]["result"] == "failed" and steps["search"]["exit"] == 1
              and steps["search"]["said"] == ["17 checks"], steps["search"])
        check("skipped", steps["bandit"]["result"] == "skipped", steps["bandit"])
        check("the carried commit", result_of(here)["commit"] in ("c0ffee", None), result_of(here)["commit"])
        os.remove(f"{here}/tests/graph_devicecheck.c")
        done = gpu_check(here, "recommend")
        steps = steps_of(here, "recommend")
        check("a part that only skips is fine", done.returncode == 0, done.stdout + done.stderr)
        check("a program that is not there", steps["GraphSAGE, 62,423 items"]["result"] == "skipped", steps)
        check("memory of the card is told", any("memory of the card" in line for line in
                                               steps["personal requests, and memory"]["said"]), steps)
        done = gpu_check(here, "peers", "train")
        steps = result_of(here)["steps"]
        check("no PyTorch", done.returncode == 0 and
              {"skipped"} == {s["result"] for s in steps if s["part"] == "peers"}, steps)
        check("training without it", len([s for s in steps if s["part"] == "train"]) == 5, steps)
        put(os.path.join(here, "build", "gpu-check", "work", "reports", "half.json"), '{"half')
        put(f"{here}/bin/compute-sanitizer", "echo no device; exit 255")
        done = gpu_check(here, "sanitize", "truth")
        check("another tool fails", done.returncode == 1 and
              steps_of(here, "sanitize")["memcheck, search"]["exit"] == 255, done.stdout)
        check("the next part runs", steps_of(here, "truth")["fp32, fp16, bf16"]["result"] == "fine", done.stdout)
        check("no such part", gpu_check(here, "nothing").returncode == 2)
        put(f"{here}/bin/nvidia-smi", "exit 9")
        check("no GPU", gpu_check(here, "conformance").returncode == 77)


def cut_off(root):
    """Stopped from outside in the middle of a step."""
    with tempfile.TemporaryDirectory() as here:
        make_machine(root, here)
        run = subprocess.Popen([f"{here}/scripts/gpu-check", "truth", "conformance"], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, env=environment(here, HANGS="1"))
        log = f"{here}/build/gpu-check/gpu-check.log"
        for _ in range(300):
            if os.path.exists(log) and "=== conformance: ivf" in open(log).read():
                break
            time.sleep(0.1)
        time.sleep(0.3)
        check("a part that ended is written", steps_of(here, "truth")["fp32, fp16, bf16"]["result"] == "fine")
        began = time.monotonic()
        run.send_signal(signal.SIGTERM)
        said = run.communicate(timeout=30)[0]
        check("it stops at once", time.monotonic() - began < 10 and run.returncode == 1, (run.returncode, said))
        steps = steps_of(here, "conformance")
        check("what was done stays", steps["search"]["result"] == "failed", steps)
        check("what had been said stays", steps["ivf"]["result"] == "stopped" and
              steps["ivf"]["said"] == ["begun"], steps["ivf"])


def changed(here, old, new):
    """The script with shorter limits."""
    path = f"{here}/scripts/gpu-check"
    with open(path) as file:
        text = file.read()
    check("what is changed is there", old in text, old)
    with open(path, "w") as file:
        file.write(text.replace(old, new))


def limits(root):
    with tempfile.TemporaryDirectory() as here:
        make_machine(root, here)
        changed(here, 'check conformance "$name" 15', 'check conformance "$name" 5')
        gpu_check(here, "conformance", HANGS="1")
        steps = steps_of(here, "conformance")
        check("stopped at its time", steps["ivf"]["result"] == "too slow" and steps["ivf"]["said"] == ["begun"]
              and 4 < steps["ivf"]["seconds"] < 20, steps["ivf"])
        check("those after it run", steps["graph"]["result"] == "fine", steps["graph"])
        changed(here, "SECONDS + 540", "SECONDS + 4")
        done = gpu_check(here, "truth")
        step = steps_of(here, "truth")["fp32, fp16, bf16"]
        check("no time is left", step["result"] == "too slow" and step["seconds"] == 0, step)
        check("that is a failure", done.returncode == 1, done.stdout)


def usage(program):
    """What it says of its options: of akin's commands their help, of tests what they say when used wrongly."""
    if program[0].endswith("/akin"):
        words = [word for word in program[1:3] if re.fullmatch("[a-z]+", word)]
        told = subprocess.run([AKIN, *words, "--help"], capture_output=True, text=True, timeout=30)
        return told.stdout
    name = os.path.basename(program[0])
    path = os.path.join(CHECKS, name)
    if name in CHECKED and name not in ("cardmemory", "train_truth_test"):
        told = subprocess.run([path, *"abcdefgh"], capture_output=True, text=True, timeout=30)
        check(f"{name} refuses what it does not know", told.returncode == 2, told)
        return told.stdout + told.stderr
    return None


def options(root):
    """Every option of every step is one that its program tells of."""
    with tempfile.TemporaryDirectory() as here:
        make_machine(root, here)
        shutil.copytree(f"{root}/bench/peers", f"{here}/bench/peers",
                        ignore=lambda folder, names: [n for n in names if "." not in n])
        done = gpu_check(here, "--dry-run")
        check("--dry-run", done.returncode == 0, done.stdout + done.stderr)
        lines = [line for line in done.stdout.splitlines() if re.search(r"until \d+ s\): ", line)]
        check("there are steps", len(lines) > 40, len(lines))
        for line in lines:
            words = line.split(" s): ", 1)[1].split()
            at = [i for i, word in enumerate(words) if os.path.basename(word) in ["akin"] + CHECKED]
            if at and words[at[0] - 1] != "--akin":
                words = words[at[0]:]
                text = usage(words)
            else:
                peer = next(word for word in words if "bench/peers/" in word)
                source = {"train.sh": ("train.sh", "train_bench.py")}.get(os.path.basename(peer),
                                                                          (os.path.basename(peer),))
                text = "".join(open(f"{root}/bench/peers/{name}").read() for name in source)
                words = words[words.index(peer):]
            for word in words[1:]:
                if text is not None and word.startswith("--"):
                    check(f"{word} of {shlex.join(words)[:60]}", re.search(re.escape(word) + r"\b", text), "no such option")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    ROOT, AKIN, CHECKS = map(os.path.abspath, sys.argv[1:])
    options(ROOT)
    summary(ROOT)
    cut_off(ROOT)
    limits(ROOT)
    print(f"gpu_check_test: {checks} checks, {failures} failed")
    sys.exit(failures > 0)
