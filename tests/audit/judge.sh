#!/usr/bin/env bash
# Builds judge.go in a folder, offline, and lets it judge.
#
#   judge.sh BUILD_FOLDER LOG_DRIVER                    a log of four keys, then the same damaged
#   judge.sh BUILD_FOLDER tamper LOG_TAMPER TRIALS SEED
#
# Without Go or golang.org/x/mod the first is skipped (77), and the second goes without a judge.
set -eu
here=$(cd -- "$(dirname -- "$0")" && pwd)
build=$(cd -- "$1" && pwd)
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

judge=$build/judge
library=/usr/share/gocode
if ! command -v go >/dev/null || [ ! -d "$library/src/golang.org/x/mod/sumdb/tlog" ]; then
    echo "no Go with golang.org/x/mod: nobody else judges our logs" >&2
    judge=''
elif [ "$here/judge.go" -nt "$judge" ]; then
    env GO111MODULE=off GOFLAGS= GOPROXY=off CGO_ENABLED=0 GOCACHE="$build/go-cache" \
        GOPATH="$build/go:$library" go build -o "$judge" "$here/judge.go"
fi

if [ "$1" = tamper ]; then
    "$2" "$work/tamper" "$3" "$4" $judge
    exit
fi
[ -n "$judge" ] || exit 77

# The driver changes the key every 56 records: none is missed.
log=$work/log
keys=()
for records in $(seq 50 50 600); do
    "$1" write "$log" "$records" 2 >/dev/null
    cp "$log/key.pub" "$work/key.$records"
    cp "$log/checkpoint" "$work/kept.$records"
    keys+=("$work/key.$records")
done
mapfile -t keys < <(sort -u "${keys[@]}" | split -l 1 - "$work/public." && ls "$work"/public.*)

# expect WORD FOLDER [CHECKPOINT]: what the judge should say
expect() {
    local said
    said=$("$judge" "${keys[@]}" <<< "${*:2}")
    case $said in
    "$1"*) echo "$said" ;;
    *) echo "the judge says '$said' of ${*:2}, where '$1' should be" >&2; exit 1 ;;
    esac
}
expect ok "$log" "$work/kept.100"
cp -r "$log" "$work/other"
printf x | dd of="$work/other/tile/entries/000" bs=1 seek=1000 conv=notrunc status=none
expect bad "$work/other"
"$1" write "$work/another" 100 2 >/dev/null
expect bad "$work/another"              # by other keys
expect bad "$log" "$work/another/checkpoint"
