"""What the tests of the program from outside share: counting checks, and a program's environment."""
import os
import sys

checks = failures = 0


def check(what, good, seen=""):
    global checks, failures
    checks += 1
    if not good:
        failures += 1
        print(f"FAIL {what}: {str(seen)[:600]}", flush=True)
    return good


def environment(folder, model, **settings):
    """Nothing of the caller's settings; what the program keeps is in `folder`."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("AKIN_")}
    return {**keep, "NO_COLOR": "1", "AKIN_HOME": os.path.join(folder, "home"), "AKIN_MODEL": model,
            "XDG_CONFIG_HOME": os.path.join(folder, "config"), **settings}


def finish(name):
    print(f"{name}: {checks} checks, {failures} failed")
    sys.exit(failures > 0)
