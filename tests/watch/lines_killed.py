"""`akin watch` follows a file and is killed with -9, again and again, while lines are written and the
file is renamed or cut: at the end every line is stored exactly once, and in order.

    lines_killed.py AKIN STORE_READER [ROUNDS]
"""
import os
import random
import subprocess
import sys
import tempfile
import time

SECONDS = 240


class Writer:
    def __init__(self, path):
        self.path, self.lines = path, 0

    def write(self, count):
        with open(self.path, "a") as f:
            for _ in range(count):
                self.lines += 1
                f.write(f"line {self.lines} of a service that says the same\n")

    def rotate(self):
        os.rename(self.path, self.path + ".1")


def texts(reader, store):
    done = subprocess.run([reader, "texts", store], capture_output=True, text=True)
    return done.stdout.splitlines()


def wait_for(reader, store, count, deadline):
    while len(texts(reader, store)) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"FAILED: {len(texts(reader, store))} of {count} lines stored")
        time.sleep(0.05)


def run(akin, reader, rounds, folder):
    path, store, kills = f"{folder}/log", f"{folder}/store", 0
    writer, deadline = Writer(path), time.monotonic() + SECONDS
    watcher = None

    def watch():
        return subprocess.Popen(
            [akin, "watch", "--source", "text", "--file", path, "--follow", "--no-model", "--store",
             store, "--learn", "100"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    try:
        for n in range(rounds):
            watcher = watch()
            writer.write(random.randint(1, 3000))
            if n == 0:              # of a file of which nothing was stored, nothing is known
                wait_for(reader, store, 1, deadline)
            if n % 3 == 1:          # renamed while it reads
                writer.rotate()
                writer.write(500)
            time.sleep(random.uniform(0, 0.3))
            watcher.kill()
            watcher.communicate()
            kills += 1
            if n % 3 == 2:          # renamed while nobody reads
                writer.write(200)
                writer.rotate()
                writer.write(300)
            if n % 3 == 0:          # as after a rename it has to catch up before the next one
                continue
            watcher = watch()
            wait_for(reader, store, writer.lines, deadline)
            if n % 3 == 1:          # cut when all is read, as copytruncate does
                os.truncate(path, 0)
                writer.write(700)
                wait_for(reader, store, writer.lines, deadline)
            watcher.terminate()
            if watcher.wait(timeout=240):
                raise SystemExit(f"FAILED: ended with {watcher.returncode} on SIGTERM: "
                                 f"{watcher.communicate()[1]}")
        watcher = watch()
        wait_for(reader, store, writer.lines, deadline)
    finally:
        if watcher and watcher.poll() is None:
            watcher.kill()
            watcher.communicate()
    numbers = [int(text.split()[1]) for text in texts(reader, store)]
    if numbers != list(range(1, writer.lines + 1)):
        raise SystemExit(f"FAILED: {writer.lines} lines, {len(numbers)} stored, "
                         f"{len(set(numbers))} of them different; first out of place: "
                         f"{next(i for i, x in enumerate(numbers, 1) if x != i)}")
    print(f"{writer.lines} lines, each stored once and in order, over {kills} kills")


def main():
    random.seed(int(os.environ.get("SEED", "1")))
    with tempfile.TemporaryDirectory(prefix="akin_lines_") as folder:
        run(*map(os.path.abspath, sys.argv[1:3]), int(sys.argv[3]) if len(sys.argv) > 3 else 9,
            folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
