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
root=$(cd "$here/../.." && pwd)
work=$root/build/peers-search
export PYTHONDONTWRITEBYTECODE=1

say() { echo "search: $*" >&2; }

# Installs once per state of the requirements; one package that fails does not stop the others.
install() {
    local stamp mark=$work/installed
    stamp=$(sha256sum <"$here/requirements-search.txt")
    if [ "$stamp" = "$(cat "$mark" 2>/dev/null)" ]; then return; fi
    [ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
    say "installing the peers from PyPI into build/peers-search/venv (1.5 GB, once)"
    local pip=("$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps)
    if ! "${pip[@]}" -r "$here/requirements-search.txt" 2>"$work/pip.log"; then
        grep -v '^#' "$here/requirements-search.txt" | while read -r package; do
            "${pip[@]}" "$package" 2>>"$work/pip.log" || say "$package: could not be installed"
        done
    fi
    echo "$stamp" >"$mark"
}

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
    command -v python3 >/dev/null ||
        { say "python3 is missing (apt-get install python3 python3-venv)"; exit 1; }
    install
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
