"""What the tests of the program from outside share: counting checks, and a program's environment."""
import os
import sys
import time

checks = failures = 0


def check(what, good, seen=""):
    global checks, failures
    checks += 1
    if not good:
        failures += 1
        print(f"FAIL {what}: {str(seen)[:600]}", flush=True)
    return good


def wait_for(what, condition, seconds=120):
    """Until it is so: how fast a machine is decides nothing."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return check(f"waited for: {what}", False)
        time.sleep(0.01)
    return True


def heeds(process, number):
    """Whether it has said what is to be done on this signal; one that has ended needs none."""
    if process.poll() is not None:
        return True
    with open(f"/proc/{process.pid}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def environment(folder, model, **settings):
    """Nothing of the caller's settings; what the program keeps is in `folder`."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("AKIN_")}
    return {**keep, "NO_COLOR": "1", "AKIN_HOME": os.path.join(folder, "home"), "AKIN_MODEL": model,
            "XDG_CONFIG_HOME": os.path.join(folder, "config"), **settings}


def finish(name):
    print(f"{name}: {checks} checks, {failures} failed")
    sys.exit(failures > 0)
