#!/usr/bin/env bash
# Compares akin's vector search with its peers on the same work in the same run, interleaved: faiss,
# hnswlib, usearch, ScaNN, SymphonyQG (rabitqlib), and the embedded databases lancedb, sqlite-vec and
# Qdrant's engine.
#
#   bench/peers/search.sh --quick                       a smoke run of some minutes
#   bench/peers/search.sh --movielens DIR --build-only  makes the indexes, an hour, and keeps them
#   bench/peers/search.sh --movielens DIR               measures; reports go to docs/results
#   bench/peers/search.sh --help                        everything else
#   bench/peers/search.sh --install-only                only sets up
#
# Sets up a virtual environment in build/peers-search (1.5 GB) from PyPI at the versions of
# requirements-search.txt; --python PROGRAM uses that one instead and installs nothing. What cannot
# be installed costs its rows, not the run. Data and indexes take 30 GB there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
comparison=search
# shellcheck source=bench/peers/environment.sh
. "$here/environment.sh"

python=
only_install=no
akin=$root/build/release/akin
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --install-only) only_install=yes ;;
    --python) python=$2; shift ;;
    --akin) akin=$2; arguments+=("$1" "$2"); shift ;;
    --akin=*) akin=${1#*=}; arguments+=("$1") ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

mkdir -p "$work"
if [ -z "$python" ]; then
    install_once "the peers" "1.5 GB" install_each
    python=$work/venv/bin/python
fi
if [ $only_install = yes ]; then exit 0; fi

library=$(dirname "$akin")
helper=$work/libsearch_akin.so
if [ ! -e "$library/libakin.so" ]; then
    say "no libakin.so beside the program: akin is not measured"
elif ${CC:-cc} -std=gnu11 -O2 -shared -fPIC -fvisibility=hidden "$here/search_akin.c" -o "$helper" \
    -I"$root/include" -L"$library" -Wl,-rpath,"$(cd "$library" && pwd)" -lakin 2>"$work/helper.log"
then
    export AKIN_SEARCH_HELPER=$helper
else
    say "search_akin.c does not compile: $(grep -m1 error "$work/helper.log" ||
        tail -1 "$work/helper.log")"
fi

home=${AKIN_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/akin}
extra=(--work "$work")
case " ${arguments[*]-} " in *" --home"*) ;; *) extra+=(--home "$home") ;; esac
exec "$python" "$here/search_bench.py" "${extra[@]}" ${arguments[@]+"${arguments[@]}"}
