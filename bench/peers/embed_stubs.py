"""Lets the CUDA build of torch, the only one on PyPI for Linux x86-64, run on CPUs alone.

Its libraries name two dozen CUDA libraries (3 GB as wheels) that the dynamic
linker wants to see at load time although nothing of them is called on a CPU.
This writes a small shared library for each name that torch itself does not ship,
next to torch's own, whose functions all return "no device" (error 100). Nothing
on the CPU path changes.

Usage: embed_stubs.py TORCH_LIB_DIRECTORY
"""

import collections
import glob
import os
import re
import subprocess
import sys
import tempfile

CUDA_NAME = re.compile(r"^(lib(cu|nv|nccl)[A-Za-z0-9_]*)\.so")
CUDA_SYMBOL = re.compile(r"^(__cuda|cu|nccl|nv)[A-Za-z0-9_]+$")


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def needed(path):
    return re.findall(r"\(NEEDED\).*\[(.*?)\]", output_of("readelf", "-d", "-W", path))


def library_of_tag(path):
    """{version tag: library} as this file's version needs say."""
    found, library = {}, None
    for line in output_of("readelf", "-V", "-W", path).splitlines():
        match = re.search(r"File: (\S+)", line)
        library = match.group(1) if match else library
        match = re.search(r"Name: (\S+)\s+Flags", line)
        if match and library:
            found[match.group(1)] = library
    return found


def write_stub(folder, soname, versions):
    """versions: {version tag or "": {function names}}"""
    names = sorted(set().union(*versions.values())) if versions else []
    source = ["int stub_of_%s(void) { return 100; }" % re.sub(r"\W", "_", soname)]
    for name in names:
        if name.endswith(("ErrorString", "ErrorName", "StatusString", "StatusName")):
            source.append('const char *%s(void) { return "no CUDA here"; }' % name)
        else:
            source.append("int %s(void) { return 100; }" % name)
    script = []
    for tag, members in sorted(versions.items()):
        if tag:
            script.append("%s { global: %s };" % (tag, " ".join(m + ";" for m in sorted(members))))
    with tempfile.TemporaryDirectory() as scratch:
        c_file, map_file = os.path.join(scratch, "stub.c"), os.path.join(scratch, "stub.map")
        with open(c_file, "w") as f:
            f.write("\n".join(source) + "\n")
        with open(map_file, "w") as f:
            f.write("\n".join(script) + "\n")
        command = [
            "gcc",
            "-shared",
            "-fPIC",
            "-fno-builtin",
            "-w",
            "-Wl,-soname," + soname,
            c_file,
            "-o",
            os.path.join(folder, soname),
        ]
        if script:
            command.append("-Wl,--version-script," + map_file)
        subprocess.run(command, check=True)
    return len(names)


def main():
    folder = sys.argv[1]
    shipped = [p for p in glob.glob(os.path.join(folder, "*.so*")) if not os.path.islink(p)]
    wanted, symbols = set(), collections.defaultdict(lambda: collections.defaultdict(set))
    unversioned = set()
    for path in shipped:
        if os.path.getsize(path) < 4096:
            continue
        wanted.update(name for name in needed(path) if CUDA_NAME.match(name))
        library = library_of_tag(path)
        for line in output_of("nm", "-D", "--undefined-only", path).splitlines():
            symbol = line.split()[-1]
            name, _, tag = symbol.replace("@@", "@").partition("@")
            if not CUDA_SYMBOL.match(name):
                continue
            if tag:
                symbols[library.get(tag, tag)][tag].add(name)
            else:
                unversioned.add(name)
    wanted = sorted(n for n in wanted if not os.path.exists(os.path.join(folder, n)))
    # One library answers for the names without a version: the search is global.
    home = "libnccl.so.2" if "libnccl.so.2" in wanted else (wanted[0] if wanted else None)
    for soname in wanted:
        versions = {tag: set(m) for tag, m in symbols.get(soname, {}).items()}
        if soname == home:
            versions.setdefault("", set()).update(unversioned)
        write_stub(folder, soname, versions)
    print("embed_stubs: %d stand-ins for CUDA libraries in torch/lib" % len(wanted))


if __name__ == "__main__":
    main()
