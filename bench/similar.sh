#!/usr/bin/env bash
# How many films of a franchise `akin recommend --similar` finds, and how long requests take.
#
#   bench/similar.sh DATA [FRANCHISES.csv]
#       DATA: a catalogue that is embedded; FRANCHISES.csv: "franchise,movieId,title"
#   bench/similar.sh --make DATA MOVIES RATINGS MODEL [FRANCHISES.csv]
#       makes DATA first: the movies.csv of one MovieLens folder, the ratings.csv of another
#
# Needs `make build`. docs/recommend.md shows what it printed where.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${AKIN_BUILD:-$root/build/release}
akin=$(find "$build" -name akin -type f -perm -u+x | head -n 1)
bench=$build/tests/similarbench
[ -x "$bench" ] || { echo "similar: $bench is missing: run make build" >&2; exit 1; }

if [ "${1:-}" = --make ]; then
    [ $# -ge 5 ] || { sed -n '2,10p' "$0" >&2; exit 2; }
    data=$2 folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    cp "$3/movies.csv" "$4/ratings.csv" "$folder"
    "$akin" data import movielens "$folder" --data "$data"
    "$akin" data embed --data "$data" --model "$5"
    shift 5
    set -- "$data" "$@"
fi
[ $# -ge 1 ] || { sed -n '2,10p' "$0" >&2; exit 2; }
exec "$bench" "$@"
