"""An index file, or the folder of an audit log or a store of events, that is written to while the
writer is killed, its system calls fail, or the power goes. After each blow a fresh process looks: it opens, nothing that was
acknowledged is missing, and what it holds is exactly what some number of operations make.

    crash_test.py kill   DRIVER --trials 25
    crash_test.py faults DRIVER --shim SHIM      every call, every kind of failure
    crash_test.py power  DRIVER --shim SHIM --trials 30       (ten losses each)
    crash_test.py control DRIVER --shim SHIM --trials 30      with fdatasync, fsync or syncfs left
                                                  out: a power loss that nobody survives must be found
    crash_test.py readers DRIVER                  readers while it is written to, no blow

Model of a power loss: of the writes since the last fdatasync of a file any subset is on the disk, a
write torn at multiples of 512 bytes; lengths likewise, zeros or garbage where data did not arrive; of
what happened to the names in a folder since its last fsync the first few. Python's standard library
only."""
import argparse
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

SECTOR = 512


def fail(text):
    sys.exit("crash_test: " + text)


def last_ack(output):
    """The number of the last whole line "synced N"; 0 before the first."""
    acked = 0
    for line in output.decode().split("\n")[:-1]:
        if line.startswith("synced "):
            acked = int(line.split()[1])
    return acked


def verify(driver, path, acked, what):
    done = subprocess.run([driver, "verify", path, str(acked)], capture_output=True, text=True)
    if done.returncode:
        kept = tempfile.mkdtemp(prefix="akin_crash_")
        shutil.copytree(os.path.dirname(path), kept, dirs_exist_ok=True)
        fail(f"{what}: {acked} operations acknowledged: {done.stderr.strip()} (kept in {kept})")


def clear(folder):
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def kill(args, folder):
    """Random kills of one growing file, begun anew every tenth time. Every third time the writer is
    killed a moment after its first acknowledgement, however long a slow machine takes to it."""
    path, rng, acked, most, kills = os.path.join(folder, args.name), random.Random(args.seed), 0, 0, 0
    for trial in range(args.trials):
        if trial % 10 == 0:
            clear(folder)
            acked = 0
        command = [args.driver, "write", path, "100000000", str(rng.choice([1, 1, 2, 7]))]
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
                   for _ in range(args.writers)]
        if trial % 3 == 2:
            acked = max(acked, last_ack(writers[0].stdout.readline()))
        for writer in writers:          # the others go on for a while
            time.sleep(rng.choice([0.002, 0.02, 0.1, 0.3]) * rng.random())
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            output, errors = writer.communicate()
            kills += writer.returncode == -signal.SIGKILL
            if writer.returncode != -signal.SIGKILL:
                fail(f"trial {trial}: the writer ended by itself: {errors.decode().strip()}")
            acked = max(acked, last_ack(output))
        most = max(most, acked)
        verify(args.driver, path, acked, f"trial {trial}")
        left = [name for name in os.listdir(folder) if name != args.name]
        if len(left) > 1:
            fail(f"trial {trial}: files that nobody removes: {left}")
    if args.trials > 2 and most == 0:
        fail("no writer acknowledged anything")
    print(f"{kills} kills, up to {most} operations acknowledged")


def faults(args, folder):
    """Each call in turn fails, until a run meets no fault."""
    path, runs, sync = os.path.join(folder, args.name), 0, "2"
    for kind in ["EIO", "ENOSPC", "EINTR", "SHORT", "FULL", "KILL_BEFORE", "KILL_AFTER"]:
        nth = 0
        while True:
            nth += 1
            clear(folder)
            env = dict(os.environ, LD_PRELOAD=args.shim, FAULT_NTH=str(nth), FAULT_KIND=kind)
            done = subprocess.run([args.driver, "write", path, args.operations, sync], env=env,
                                  capture_output=True, timeout=240)
            what = f"{kind} at call {nth} ({done.stderr.decode().strip()})"
            killed = kind.startswith("KILL") and done.returncode == -signal.SIGKILL
            if done.returncode not in (0, 1) and not killed:
                fail(f"{what}: exit {done.returncode}")
            if kind in ("EINTR", "SHORT") and (done.returncode or b"failed" in done.stderr):
                fail(f"{what}: should have been gone on with")
            if b"fault fired" not in done.stderr:
                break
            acked = last_ack(done.stdout)
            if done.returncode == 0 and acked < int(args.operations):
                fail(f"{what}: ended well after {acked} operations")
            verify(args.driver, path, acked, what)
            runs += 1
    print(f"{runs} runs, each with one fault")


def readers(args, folder):
    """Two processes look on while a third one writes, seals, merges and compacts."""
    path = os.path.join(folder, args.name)
    following = [subprocess.Popen([args.driver, "follow", path, args.operations],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                 for _ in range(2)]
    done = subprocess.run([args.driver, "write", path, args.operations, "1"], capture_output=True)
    said = [reader.communicate(timeout=240) for reader in following]
    if done.returncode or any(reader.returncode for reader in following):
        fail(f"{done.stderr.decode()} {said}")
    print("; ".join(output.strip() for output, _ in said))


class Inode:
    """What a disk may hold of one file: what is durable, and what was asked for since."""
    def __init__(self):
        self.durable, self.pending = bytearray(), []

    def apply(self, image, event, keep=None):
        what, offset, data = event
        if what == "trunc":
            image[offset:] = b"" if offset <= len(image) else bytes(offset - len(image))
            return
        if len(image) < offset:
            image.extend(bytes(offset - len(image)))
        if keep is None:
            image[offset:offset + len(data)] = data
            return
        at = offset
        while at < offset + len(data):
            end = min((at // SECTOR + 1) * SECTOR, offset + len(data))
            if keep():
                if len(image) < at:
                    image.extend(bytes(at - len(image)))
                image[at:end] = data[at - offset:end - offset]
            at = end

    def sync(self):
        for event in self.pending:
            self.apply(self.durable, event)
        self.pending = []

    def crash(self, rng):
        """One of the images that a power loss may leave."""
        image, style = bytearray(self.durable), rng.randrange(6)
        length = rng.random() < 0.3     # the new length is there, whatever of the data is
        fill = rng.choice([bytes, rng.randbytes])
        for event in self.pending:
            whole = [True, False, rng.random() < 0.5, None, None, rng.random() < 0.5][style]
            if event[0] == "write" and length and len(image) < event[1] + len(event[2]):
                image.extend(fill(event[1] + len(event[2]) - len(image)))
            if whole is True or (whole is None and event[0] == "trunc" and rng.random() < 0.5):
                self.apply(image, event)
            elif whole is None and event[0] == "write":
                share = rng.choice([0.1, 0.5, 0.9])
                self.apply(image, event, lambda: rng.random() < share)
        return image


FOLDER = 0      # stands for the inode of one


class Disk:
    def __init__(self):
        self.inodes, self.names, self.durable_names, self.pending = {}, {}, {}, []
        self.acked = 0

    @staticmethod
    def rename(names, what, name, other):
        """One change of the names that are on the disk."""
        if what == "add":
            names[name] = other
        elif what == "drop":
            names.pop(name, None)
        else:                           # what lies in a folder moves with it
            names.update({other + path[len(name):]: names.pop(path) for path in list(names)
                          if path == name or path.startswith(name + "/")})

    def change(self, what, name, other):
        self.rename(self.names, what, name, other)
        self.pending.append((what, name, other))
        if what == "move":              # the folder may be moved before its names are durable
            self.pending = [(w, other + n[len(name):] if n.startswith(name + "/") else n,
                             other + o[len(name):] if w == "move" and o.startswith(name + "/") else o)
                            for w, n, o in self.pending]

    def step(self, what, inode, offset, data):
        """True for an event that a power loss may come behind."""
        if what == "open":
            name = data.decode()
            if inode not in self.inodes or self.names.get(name) != inode:
                self.inodes[inode] = Inode()
                self.change("add", name, inode)
        elif what == "ack":
            self.acked = max(self.acked, last_ack(data))
        elif what == "mkdir":
            self.change("add", data.decode(), FOLDER)
        elif what == "rename":
            self.change("move", *data.decode().split("\n"))
        elif what == "unlink":
            self.change("drop", data.decode(), None)
        elif what == "dirsync":
            self.sync_names(lambda name: os.path.dirname(name) == data.decode())
        elif what == "syncall":
            self.sync_names(lambda name: True)
            for file in self.inodes.values():
                file.sync()
        elif inode in self.inodes and what == "sync":
            self.inodes[inode].sync()
        elif inode in self.inodes:
            self.inodes[inode].pending.append((what, offset, data))
        else:
            return False                # a file without a name
        return True

    def sync_names(self, chosen):
        for change in self.pending:
            if chosen(change[1]):
                self.rename(self.durable_names, *change)
        self.pending = [change for change in self.pending if not chosen(change[1])]

    def crash(self, rng):
        """Names and images after a power loss; each folder's journal keeps its order."""
        names, folders = dict(self.durable_names), {}
        for change in self.pending:
            folders.setdefault(os.path.dirname(change[1]), []).append(change)
        for changes in folders.values():
            for change in changes[:rng.randint(0, len(changes))]:
                if change[0] != "move" or change[1] in names:
                    self.rename(names, *change)
        return {name: None if inode == FOLDER else self.inodes[inode].crash(rng)
                for name, inode in names.items()}


def read_trace(path):
    raw, at = open(path, "rb").read(), 0
    while at < len(raw):
        what, inode, offset, count = struct.unpack_from("<8sQQQ", raw, at)
        at += 32
        yield what.rstrip(b"\0").decode(), inode, offset, raw[at:at + count]
        at += count


def build(names, root, after):
    """Files and folders below `root` as they are after a power loss, in folder `after`. What lies in
    a folder that is not there is not there."""
    clear(after)
    for name in sorted(names):
        path = os.path.join(after, os.path.relpath(name, root))
        if not os.path.isdir(os.path.dirname(path)):
            continue
        if names[name] is None:
            os.mkdir(path)
        else:
            with open(path, "wb", opener=private) as file:
                file.write(names[name])


def private(path, flags):
    return os.open(path, flags, 0o600)


def record(args, folder, skip):
    """The events of a run that is opened four times, each time with a tail to cut."""
    written, trace = os.path.join(folder, "written"), os.path.join(folder, "trace")
    clear(folder)
    os.mkdir(written)
    env = dict(os.environ, LD_PRELOAD=args.shim, FAULT_TRACE=trace, FAULT_SKIP=skip)
    for part in range(1, 5):
        done = subprocess.run([args.driver, "write", os.path.join(written, args.name),
                               str(int(args.operations) * part // 4), "3"],
                              env=env, capture_output=True)
        if done.returncode:
            fail(done.stderr.decode())
    return written, list(read_trace(trace))


def losses(args, events, rng):
    """(names, acknowledged operations, what happened) of power losses at random moments."""
    disk, cuts = Disk(), [rng.randrange(len(events)) for _ in range(10 * args.trials)]
    for number, event in enumerate(events):
        if not disk.step(*event):
            continue
        for _ in range(cuts.count(number)):
            yield (disk.crash(rng), disk.acked,
                   f"power lost behind event {number} of {len(events)}, {event[0]}")
    if disk.acked < int(args.operations):
        fail(f"the run acknowledged {disk.acked} operations only")


def power(args, folder):
    """Power losses at random moments of a recorded run."""
    written, events = record(args, folder, "")
    after, states = os.path.join(folder, "after"), 0
    os.mkdir(after)
    for names, acked, what in losses(args, events, random.Random(args.seed)):
        build(names, written, after)
        verify(args.driver, os.path.join(after, args.name), acked, what)
        states += 1
    print(f"{states} power losses in {len(events)} events")


def control(args, folder):
    """The same where one of the calls that make things durable is left out: that must be found."""
    for skip in args.skip.split(","):
        written, events = record(args, folder, skip)
        after, states, lost = os.path.join(folder, "after"), 0, 0
        os.mkdir(after)
        for names, acked, _ in losses(args, events, random.Random(args.seed)):
            build(names, written, after)
            path = os.path.join(after, args.name)
            lost += subprocess.run([args.driver, "verify", path, str(acked)],
                                   capture_output=True).returncode != 0
            states += 1
        if lost == 0:
            fail(f"{states} power losses without {skip}, and none did harm: the test sees nothing")
        print(f"without {skip} {lost} of {states} power losses do harm")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["kill", "faults", "power", "control", "readers"])
    parser.add_argument("driver")
    parser.add_argument("--shim")
    parser.add_argument("--name", default="x.akx", help="of the file or folder that is written")
    parser.add_argument("--skip", default="fdatasync,fsync", help="what control leaves out")
    parser.add_argument("--trials", type=int, default=25)
    parser.add_argument("--writers", type=int, default=1, help="that kill starts at once")
    parser.add_argument("--operations", default="336")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    # What fails by plan does so on any disk: a fast one will do.
    slow = args.mode in ("kill", "readers") or not os.access("/dev/shm", os.W_OK)
    fast = None if slow else "/dev/shm"
    with tempfile.TemporaryDirectory(prefix="akin_crash_", dir=fast) as folder:
        {"kill": kill, "faults": faults, "power": power, "control": control,
         "readers": readers}[args.mode](args, folder)


main()
