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
comparison=watch
# shellcheck source=bench/peers/environment.sh
. "$here/environment.sh"

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
    install_once "the peers" "0.9 GB" install_each
    python=$work/venv/bin/python
fi
if [ $only_install = yes ]; then exit 0; fi
exec "$python" "$here/watch_bench.py" --work "$work" ${arguments[@]+"${arguments[@]}"}
