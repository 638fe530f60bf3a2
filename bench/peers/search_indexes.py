"""Built indexes, kept between runs: what is slow and does not change is done once.

An index is kept by the data, the engine, its parameters and its version (akin's by the library
itself), together with what building it cost and with the recall of each setting. A build that
failed is kept too, so that a later run does not wait for the same failure; delete the folder to try
again."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys

import numpy as np

import search_engines
from search_data import say

HERE = os.path.dirname(os.path.abspath(__file__))


class WorkerError(Exception):
    def __init__(self, message, final):
        super().__init__(message)
        self.final = final  # it would fail again


def work(job, limit_s=None):
    """One job of search_worker.py in a process of its own."""
    try:
        done = subprocess.run([sys.executable, os.path.join(HERE, "search_worker.py"),
                               json.dumps(job)], capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired as expired:
        raise WorkerError("not done in %d s" % limit_s, False) from expired
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [""]
        killed = done.returncode in (-2, -9, -15)
        reason = "signal %d" % -done.returncode if done.returncode < 0 else lines[-1][:300]
        raise WorkerError(reason, not killed)
    if not done.stdout.strip():
        raise WorkerError("no answer", False)
    return json.loads(done.stdout.strip().splitlines()[-1])


def setting_key(setting, selection=None):
    return (selection + " " if selection else "") + json.dumps(setting, sort_keys=True)


class Indexes:
    def __init__(self, folder, akin, quick):
        self.folder, self.quick, self.akin_stamp = folder, quick, "no library"
        library = os.path.join(os.path.dirname(akin), "libakin.so")
        if os.path.exists(library):
            with open(library, "rb") as f:
                self.akin_stamp = hashlib.sha256(f.read()).hexdigest()

    def stamp(self, data, name):
        cls, version = search_engines.ENGINES[name], self.akin_stamp
        if cls.package:
            try:
                version = importlib.metadata.version(cls.package)
            except importlib.metadata.PackageNotFoundError:
                version = "none"
        return "|".join([data.stamp, name, cls.recipe, getattr(cls, "factory", ""), version])

    def path(self, data, name):
        clean = "".join(c if c.isalnum() else "_" for c in name)
        return os.path.join(self.folder, data.name, clean)

    def note(self, data, name, kept):
        with open(self.path(data, name) + ".json", "w", encoding="utf-8") as f:
            json.dump(kept, f, indent=1)

    def kept(self, data, name):
        try:
            with open(self.path(data, name) + ".json", encoding="utf-8") as f:
                kept = json.load(f)
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return kept if kept["stamp"] == self.stamp(data, name) else None

    def job(self, do, data, name, **more):
        return {"do": do, "engine": name, "folder": data.folder, "index": self.path(data, name),
                "quick": self.quick, **more}

    def build(self, data, name):
        """{"stamp", "build": figures, "recall": {}} or, with "failed", why not."""
        kept = self.kept(data, name)
        if kept:
            return kept
        shutil.rmtree(self.path(data, name), ignore_errors=True)
        os.makedirs(os.path.dirname(self.path(data, name)), exist_ok=True)
        say("%s: building %s" % (data.name, name))
        kept = {"stamp": self.stamp(data, name), "recall": {}}
        try:
            kept["build"] = work(self.job("build", data, name))
            kept["build"]["load"] = os.getloadavg()[1]
        except WorkerError as error:
            kept["failed"] = str(error)
            say("%s: %s: left out: %s" % (data.name, name, error))
            if not error.final:
                return kept
        self.note(data, name, kept)
        return kept

    def judge(self, data, name, kept):
        """Recall of every setting, once: what an engine answers does not change between rounds."""
        settings = search_engines.settings(name, data.rows, self.quick)
        if "failed" in kept or all(setting_key(s) in kept["recall"] for s in settings):
            return
        say("%s: recall of %s" % (data.name, name))
        ids = self.path(data, name) + ".npz"
        try:
            found = work(self.job("answer", data, name, ids=ids))
        except WorkerError as error:
            kept["failed"] = str(error)
            say("%s: %s: left out: %s" % (data.name, name, error))
            return
        answers, kept["recall"] = np.load(ids), {}
        for n, setting in enumerate(found["settings"]):
            kept["recall"][setting_key(setting)] = data.recall(answers["s%d" % n])
        for n, selection, setting in found["filters"]:
            kept["recall"][setting_key(setting, selection)] = data.recall(
                answers["f%d_%s" % (n, selection)], selection)
        os.remove(ids)
        self.note(data, name, kept)
