#!/usr/bin/env python3
"""A server on the loopback interface that alarms are posted to, for tests. Standard library only.

Usage: webhook_server.py LOG ANSWER...

Request i gets answer i; those beyond get the last. Prints the port, then serves until its standard
input ends. LOG has a line per request: SECONDS METHOD PATH TYPE ANSWER BODY.

Answers:
  200, 503, ...   that status; 503:2 with "Retry-After: 2"; 302:/x with "Location: /x"
  drop            the connection ends without an answer
  stall           no answer for a minute
"""
import http.server
import sys
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            answers = self.server.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            with open(self.server.log, "ab") as f:
                f.write(b"%.3f %s %s %s %s " % (time.monotonic(), self.command.encode(),
                        self.path.encode(), self.headers.get("Content-Type", "-").encode(),
                        answer.encode()) + body + b"\n")
        if answer == "stall":
            time.sleep(60)
        if answer in ("drop", "stall"):
            self.close_connection = True
            return
        status, _, more = answer.partition(":")
        self.send_response(int(status))
        if more:
            self.send_header("Location" if status[0] == "3" else "Retry-After", more)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET = do_PUT = answer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass                    # connections that the client closes


server = Server(("127.0.0.1", 0), Handler)
server.log, server.answers, server.lock = sys.argv[1], sys.argv[2:], threading.Lock()
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
