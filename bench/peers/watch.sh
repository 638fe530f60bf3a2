#!/usr/bin/env bash
# Compares akin watch with its peers on labelled logs, the same split in the same run: Drain3 and how
# rare its templates are, PyOD (IForest, ECOD, KNN on embeddings), River's HalfSpaceTrees, TF-IDF with
# PCA. The first half of each log, by seq, is history without labels; the rest is judged.
#
#   bench/peers/watch.sh --events DIR            each folder in DIR with an events.jsonl is a log
#   bench/peers/watch.sh --events DIR --quick    the first 4,000 events of each: does everything work?
#   bench/peers/watch.sh --help                  everything else
#   bench/peers/watch.sh --install-only          only sets up
#
# Sets up a virtual environment in build/peers-watch (0.9 GB) from PyPI at the versions of
# requirements-watch.txt; --python PROGRAM uses that one instead and installs nothing. What cannot be
# installed costs its rows, not the run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/build/peers-watch
export PYTHONDONTWRITEBYTECODE=1

say() { echo "watch: $*" >&2; }

install() {
    local stamp mark=$work/installed
    stamp=$(sha256sum <"$here/requirements-watch.txt")
    if [ "$stamp" = "$(cat "$mark" 2>/dev/null)" ]; then return; fi
    [ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
    say "installing the peers from PyPI into build/peers-watch/venv (0.9 GB, once)"
    local pip=("$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps)
    if ! "${pip[@]}" -r "$here/requirements-watch.txt" 2>"$work/pip.log"; then
        grep -v '^#' "$here/requirements-watch.txt" | while read -r package; do
            "${pip[@]}" "$package" 2>>"$work/pip.log" || say "$package: could not be installed"
        done
    fi
    echo "$stamp" >"$mark"
}

python=
only_install=no
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --install-only) only_install=yes ;;
    --python) python=$2; shift ;;
    --python=*) python=${1#*=} ;;
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
exec "$python" "$here/watch_bench.py" --work "$work" ${arguments[@]+"${arguments[@]}"}
