#!/usr/bin/env python3
"""A model hub on the loopback interface, for tests: serves a folder with the Hugging Face layout and
misbehaves when asked to. Standard library only.

Usage: hub_server.py FOLDER [--log FILE] [--fault KIND=PATH[:NUMBER[:TIMES]] ...]

FOLDER holds OWNER/NAME/...; the listing is made from it. Prints the port, then serves until its
standard input ends (so it cannot outlive the test) or it is killed. The log has one line per request:
METHOD PATH RANGE STATUS.

Faults, for the file PATH (as in the listing; "listing" for the listing itself), the first TIMES
times (default 1; 0: always):
  drop     the connection ends after NUMBER bytes of this response
  stall    nothing more is sent after NUMBER bytes
  wrong    the bytes are not those of the file
  status   HTTP NUMBER
  norange  Range is ignored
  redirect to another path (NUMBER 0), to a file:// URL (1) or to itself for ever (2)
  longer   NUMBER more bytes than the file has
  path     the listing names ../PATH too
"""
import argparse
import hashlib
import http.server
import json
import pathlib
import sys
import threading
import time
import urllib.parse


class Fault:
    def __init__(self, text):
        self.kind, rest = text.split("=", 1)
        self.path, *numbers = rest.split(":")
        self.number = int(numbers[0]) if numbers else 0
        self.times = int(numbers[1]) if len(numbers) > 1 else 1
        self.always = self.times == 0


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, root, faults, log):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.faults, self.log, self.lock = root, faults, log, threading.Lock()

    def handle_error(self, request, client_address):
        pass                    # connections that the client closes

    def fault(self, kind, path):
        """The number of a fault that applies to this request, or None."""
        with self.lock:
            for f in self.faults:
                if f.kind == kind and f.path == path and (f.always or f.times > 0):
                    f.times -= 1
                    return f.number
        return None

    def note(self, line):
        if self.log:
            with self.lock, open(self.log, "a") as f:
                f.write(line + "\n")


def listing_entry(root, file):
    data = file.read_bytes()
    path = file.relative_to(root).as_posix()
    sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry = {"type": "file", "oid": sha1, "size": len(data), "path": path}
    if path.endswith((".safetensors", ".bin", ".onnx")) or path == "tokenizer.json":
        sha256 = hashlib.sha256(data).hexdigest()
        pointer = b"version https://git-lfs.github.com/spec/v1\n"
        entry["oid"] = hashlib.sha1(pointer + sha256.encode()).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 134}
    return entry


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", headers=()):
        self.server.note(f"{self.command} {self.path} {self.headers.get('Range', '-')} {status}")
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        if "Content-Length" not in dict(headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        parts = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) == 6 and parts[4] == "tree":
            self.list_model(parts[2], parts[3])
        elif len(parts) > 4 and parts[2] == "resolve":
            self.send_file(parts[0], parts[1], "/".join(parts[4:]))
        elif len(parts) > 3 and parts[0] == "elsewhere":
            self.send_body(parts[1], parts[2], "/".join(parts[3:]))
        else:
            self.answer(404)

    def list_model(self, owner, name):
        status = self.server.fault("status", "listing")
        if status:
            return self.answer(status)
        root = self.server.root / owner / name
        if not root.is_dir():
            return self.answer(404)
        files = sorted(p for p in root.rglob("*") if p.is_file())
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": p.name}
                   for p in sorted(root.iterdir()) if p.is_dir()]
        entries += [listing_entry(root, f) for f in files]
        for f in self.server.faults:
            if f.kind == "path":
                entries.append({**entries[-1], "path": "../" + f.path})
        self.answer(200, json.dumps(entries).encode(), [("Content-Type", "application/json")])

    def send_file(self, owner, name, path):
        status = self.server.fault("status", path)
        if status:
            return self.answer(status)
        kind = self.server.fault("redirect", path)
        if kind is not None:
            target = [f"/elsewhere/{owner}/{name}/{path}", "file:///etc/hostname", self.path][kind]
            return self.answer(302, headers=[("Location", target)])
        self.send_body(owner, name, path)

    def send_body(self, owner, name, path):
        file = self.server.root / owner / name / path
        if not file.is_file():
            return self.answer(404)
        data = file.read_bytes()
        if self.server.fault("wrong", path) is not None:
            data = bytes(b ^ 0x55 for b in data)
        extra = self.server.fault("longer", path)
        if extra:
            data += b"x" * extra
        start, status, headers = 0, 200, []
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and self.server.fault("norange", path) is None:
            start = int(asked[6:].split("-")[0])
            if start >= len(data):
                return self.answer(416, headers=[("Content-Range", f"bytes */{len(data)}")])
            status = 206
            headers = [("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")]
        body = data[start:]
        headers.append(("Content-Length", str(len(body))))
        cut = self.server.fault("drop", path)
        if cut is not None:
            self.close_connection = True
            return self.answer(status, body[:cut], headers)
        cut = self.server.fault("stall", path)
        if cut is not None:
            self.close_connection = True
            self.answer(status, body[:cut], headers)
            self.wfile.flush()
            time.sleep(60)
            return None
        return self.answer(status, body, headers)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--log")
    parser.add_argument("--fault", action="append", default=[], type=Fault)
    a = parser.parse_args()
    server = Server(a.folder, a.fault, a.log)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
