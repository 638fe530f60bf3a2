#!/usr/bin/env bash
# Compares training with akin and with PyTorch (eager and torch.compile, fp32 and bf16) on the same
# model in the same run, interleaved.
#
#   bench/peers/train.sh --quick                     one short round: does everything work?
#   bench/peers/train.sh                             batch 8, 16 and 64; reports go to docs/results
#   bench/peers/train.sh --device cuda --python PY   on a GPU: fp16 with a loss scale, and bf16
#   bench/peers/train.sh --help                      everything else
#   bench/peers/train.sh --install-only              only sets up
#
# Sets up a virtual environment in build/peers-train (1.4 GB) from PyPI at the versions of
# requirements-train.txt, for CPUs; --python PROGRAM uses that one (with torch, numpy and
# safetensors) instead and installs nothing. torch.compile needs a C++ compiler and Python's
# headers; what cannot be run costs its rows, not the run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
comparison=train
# shellcheck source=bench/peers/environment.sh
. "$here/environment.sh"

install_torch() {
    local torch
    "${pip[@]}" -r "$requirements"
    torch=$(echo "$work"/venv/lib/python3*/site-packages/torch/lib)
    "$work/venv/bin/python" "$here/embed_stubs.py" "$torch" >&2
    "$work/venv/bin/python" -c 'import torch' 2>"$work/torch.log" ||
        { say "torch does not load: $(tail -1 "$work/torch.log")"; exit 1; }
}

python=
only_install=no
cuda=no
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --install-only) only_install=yes ;;
    --python) python=$2; shift ;;
    --python=*) python=${1#*=} ;;
    --device) [ "$2" = cuda ] && cuda=yes; arguments+=("$1" "$2"); shift ;;
    --device=cuda) cuda=yes; arguments+=("$1") ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

mkdir -p "$work"
if [ -z "$python" ]; then
    if [ $cuda = yes ]; then
        say "--device cuda needs --python PROGRAM, one whose torch sees the GPU"
        exit 2
    fi
    install_once torch "1.4 GB" install_torch "$here/embed_stubs.py"
    python=$work/venv/bin/python
fi
if [ $only_install = yes ]; then exit 0; fi

extra=(--work "$work")
if ${CC:-cc} -std=gnu11 -O2 "$here/embed_peak.c" -o "$work/embed_peak" -pthread 2>"$work/peak.log"
then
    extra+=(--peak-program "$work/embed_peak")
else
    say "embed_peak.c does not compile: shares of the peak are not given"
fi
exec "$python" "$here/train_bench.py" "${extra[@]}" ${arguments[@]+"${arguments[@]}"}
