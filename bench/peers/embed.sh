#!/usr/bin/env bash
# Compares akin's embedding with its peers on the same work in the same run, interleaved:
# sentence-transformers (torch), ONNX Runtime, OpenVINO and, with --llama, llama.cpp.
#
#   bench/peers/embed.sh --quick                     a smoke run of some minutes
#   bench/peers/embed.sh --movielens DIR             the full run; reports go to docs/results
#   bench/peers/embed.sh --help                      everything else
#   bench/peers/embed.sh --install-only [--llama]    only sets up
#
# Sets up a virtual environment in build/peers (2.1 GB) from PyPI at the versions of
# requirements-embed.txt. torch's wheel there is the CUDA build; it is installed without its CUDA
# libraries (3 GB more), see embed_stubs.py. What cannot be installed costs its rows, not the run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
comparison=embed
# shellcheck source=bench/peers/environment.sh
. "$here/environment.sh"
work=$root/build/peers
llama_version=0.3.36
export HF_HUB_DISABLE_TELEMETRY=1 NNCF_TELEMETRY=0

install_peers() {
    install_each
    local torch
    torch=$(echo "$work"/venv/lib/python3*/site-packages/torch/lib)
    if [ -d "$torch" ]; then
        "$work/venv/bin/python" "$here/embed_stubs.py" "$torch" >&2 ||
            say "torch: its CUDA stand-ins could not be made"
    fi
    "$work/venv/bin/python" -c 'import torch' 2>"$work/torch.log" ||
        say "torch does not load: $(tail -1 "$work/torch.log")"
}

# PyPI has no llama.cpp wheel that fits: the library alone is built from the source package, for
# this very CPU, and its Python binding is used where it was unpacked.
install_llama() {
    local source=$work/llama_cpp_python-$llama_version
    export PYTHONPATH=$source LLAMA_CPP_LIB_PATH=$source/build/bin
    if "$work/venv/bin/python" -c 'import llama_cpp' 2>/dev/null; then return; fi
    say "building llama.cpp of llama-cpp-python $llama_version (minutes)"
    if ! {
        [ -d "$source" ] || {
            "$work/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
                --no-binary llama-cpp-python "llama-cpp-python==$llama_version" -d "$work" &&
                tar -xzf "$work/llama_cpp_python-$llama_version.tar.gz" -C "$work"
        } &&
            cmake -S "$source/vendor/llama.cpp" -B "$source/build" -DCMAKE_BUILD_TYPE=Release \
                -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=ON -DLLAMA_BUILD_COMMON=OFF \
                -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
                -DLLAMA_BUILD_SERVER=OFF &&
            cmake --build "$source/build" --target llama -j "$(nproc)" &&
            "$work/venv/bin/python" -c 'import llama_cpp'
    } >"$work/llama.log" 2>&1; then
        say "llama.cpp could not be built: $(grep -m1 -i error "$work/llama.log" ||
            tail -1 "$work/llama.log")"
        return 1
    fi
}

# compile OUTPUT SOURCE FLAGS...: prints OUTPUT where it could be made.
compile() {
    local out=$1 source=$2
    shift 2
    if ${CC:-cc} -std=gnu11 -O2 "$source" -o "$out" "$@" 2>"$out.log"; then
        echo "$out"
    else
        say "$(basename "$source") does not compile:" \
            "$(grep -m1 error "$out.log" || tail -1 "$out.log")"
    fi
}

llama=no
only_install=no
akin=$root/build/release/akin
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --install-only) only_install=yes ;;
    --llama) llama=yes ;;
    --akin) akin=$2; arguments+=("$1" "$2"); shift ;;
    --akin=*) akin=${1#*=}; arguments+=("$1") ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

install_once "the peers" "2.1 GB" install_peers "$here/embed_stubs.py"
if [ $llama = yes ] && install_llama; then arguments+=(--llama); fi
if [ $only_install = yes ]; then exit 0; fi

home=${AKIN_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/akin}
extra=(--work "$work")
peak=$(compile "$work/embed_peak" "$here/embed_peak.c" -pthread)
if [ -n "$peak" ]; then extra+=(--peak-program "$peak"); fi
library=$(dirname "$akin")
if [ -e "$library/libakin.so" ]; then
    helper=$(compile "$work/embed_akin" "$here/embed_akin.c" -I"$root/include" \
        -L"$library" -Wl,-rpath,"$(cd "$library" && pwd)" -lakin)
    if [ -n "$helper" ]; then extra+=(--akin-helper "$helper"); fi
elif [ -x "$akin" ]; then
    say "no libakin.so beside the program: akin is not measured"
fi

case " ${arguments[*]-} " in *" --home"*) ;; *) extra+=(--home "$home") ;; esac
exec "$work/venv/bin/python" "$here/embed_bench.py" "${extra[@]}" "${arguments[@]}"
