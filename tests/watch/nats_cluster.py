"""A JetStream cluster of three servers on this machine; two `akin watch` share a durable consumer and
a store. One of them and then the server that leads the stream are killed with -9 while events are
published: at the end every event is stored exactly once, and nothing is left at the servers.

    nats_cluster.py AKIN NATS_CLIENT STORE_READER [EVENTS]
"""
import collections
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SECONDS = 240
SKIPPED = 77


def free_ports(count):
    """Below those that the kernel hands out by itself, where it can be had: none of these is taken
    by somebody's connection before a server listens."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first = int(file.read().split()[0])
    sockets = []
    while len(sockets) < count:
        s = socket.socket()
        try:
            s.bind(("127.0.0.1", random.randrange(10000, first) if first > 12000 else 0))
            sockets.append(s)
        except OSError:
            s.close()
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Cluster:
    def __init__(self, program, folder):
        self.folder, self.program, self.servers = folder, program, {}
        ports = free_ports(6)
        self.ports, self.routes = ports[:3], ports[3:]
        self.urls = ",".join(f"nats://127.0.0.1:{p}" for p in self.ports)
        for i in range(3):
            routes = ", ".join(f'"nats://127.0.0.1:{p}"' for p in self.routes)
            with open(f"{folder}/s{i}.conf", "w") as f:
                f.write(f"""server_name: s{i}
listen: "127.0.0.1:{self.ports[i]}"
jetstream {{ store_dir: "{folder}/s{i}", max_memory_store: 64MB, max_file_store: 1GB }}
cluster {{ name: test, listen: "127.0.0.1:{self.routes[i]}", routes: [{routes}] }}
""")
            self.start(f"s{i}")

    def start(self, name):
        log = open(f"{self.folder}/{name}.log", "a")
        self.servers[name] = subprocess.Popen(
            [self.program, "-c", f"{self.folder}/{name}.conf"], stdout=log, stderr=log)

    def kill(self, name):
        self.servers[name].send_signal(signal.SIGKILL)
        self.servers[name].wait()

    def close(self):
        for server in self.servers.values():
            if server.poll() is None:
                server.kill()
                server.wait()


def ask(client, *arguments, tries=1):
    for _ in range(tries):
        done = subprocess.run([client, *arguments], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
        time.sleep(0.2)
    raise SystemExit(f"FAILED: {arguments[0]}: {done.stderr}")


def wait_until(what, condition, deadline):
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"FAILED: too late: {what}")
        time.sleep(0.02)


def run(akin, client, reader, cluster, store, count, processes):
    began = time.monotonic()
    deadline = began + SECONDS
    ask(client, "stream", cluster.urls, "EVENTS", "3", tries=150)
    ask(client, "consumer", cluster.urls, "EVENTS", "akin", "2000", tries=20)
    ready = time.monotonic()

    def begin(*command):
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return processes[-1]

    def watch():
        return begin(akin, "watch", "--source", "nats", "--server", cluster.urls, "--stream",
                     "EVENTS", "--consumer", "akin", "--format", "text", "--no-model", "--store",
                     store)

    def stored():
        return int(ask(reader, "count", store))

    first, second = watch(), watch()
    wait_until("there is a store", lambda: os.path.exists(f"{store}/store"), deadline)
    publishers = [begin(client, "publish", cluster.urls, "EVENTS", str(1 + i * count // 4),
                        str((i + 1) * count // 4)) for i in range(4)]
    wait_until("a third is stored", lambda: stored() > count // 3, deadline)
    first.kill()
    first.wait()
    print(f"akin killed with -9 at {stored()} of {count} events stored")
    wait_until("half is stored", lambda: stored() > count // 2, deadline)
    leader = ask(client, "stream", cluster.urls, "EVENTS", "3", tries=20)
    cluster.kill(leader)
    killed = time.monotonic()
    print(f"server {leader}, the leader, killed with -9 at {stored()} events stored")
    third = watch()
    for p in publishers:
        if p.wait(timeout=max(1, deadline - time.monotonic())):
            raise SystemExit("FAILED: a publisher could not go on")
    wait_until("all are stored", lambda: stored() >= count, deadline)
    wait_until("all are acknowledged", lambda: ask(client, "left", cluster.urls, "EVENTS", "akin",
                                                   tries=20) == "0 0", deadline)
    print(f"all stored and acknowledged {time.monotonic() - killed:.1f} s after that; cluster up in "
          f"{ready - began:.1f} s, {time.monotonic() - began:.1f} s in all")
    for w in (second, third):
        w.send_signal(signal.SIGTERM)
        if w.wait(timeout=120):
            raise SystemExit(f"FAILED: akin ended with {w.returncode} on SIGTERM")
    ids = collections.Counter(ask(reader, "ids", store).split())
    wanted = {f"event-{i}" for i in range(1, count + 1)}
    lost, foreign = wanted - set(ids), set(ids) - wanted
    twice = [i for i, n in ids.items() if n > 1]
    if lost or foreign or twice:
        raise SystemExit(f"FAILED: {len(lost)} lost, {len(twice)} twice, {len(foreign)} foreign: "
                         f"{sorted(lost)[:5]} {twice[:5]} {sorted(foreign)[:5]}")
    print(f"{count} events, each stored exactly once")


def main():
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/sbin")
    if not program:
        print("skipped: no nats-server here (Debian's package nats-server)")
        return SKIPPED
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 4000
    processes = []
    with tempfile.TemporaryDirectory(prefix="akin_nats_") as folder:
        cluster = Cluster(program, folder)
        try:
            run(*map(os.path.abspath, sys.argv[1:4]), cluster, f"{folder}/events", count, processes)
        finally:
            for p in processes:
                if p.poll() is None:
                    p.kill()
                    p.wait()
            cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
