#!/bin/sh
# run_benchmark.sh [--single] [--full] [--disk] [flags of akin bench train]: the training benchmark.
# Runs the program that is built here, else the one on PATH, else builds it first. Reports go to
# results/ under the folder that it is called from; `akin bench compare results/` shows them.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
akin=$root/build/release/akin
if [ ! -x "$akin" ]; then
    if found=$(command -v akin); then
        akin=$found
    else
        echo "run_benchmark.sh: build/release/akin is not there and akin is not on PATH: building it" >&2
        make -C "$root" build >&2
    fi
fi
exec "$akin" bench train "$@"
