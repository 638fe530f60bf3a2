#!/bin/sh
# symbols.sh LIBAKIN.SO LIBAKIN.A: what the library shows and keeps.
#   - it exports akin_* and nothing else
#   - it has no global state that can change, but for the names in `state`
#   - nothing runs when it is loaded
set -eu
# memory.c counts allocations, so that a test can prove that a hot path makes none
state='allocations'
failed=0

others=$(nm -D --defined-only "$1" | awk '{print $NF}' | grep -v '^akin_' || true)
if [ -n "$others" ]; then
    echo "$1 exports names without akin_: mark them AKIN_API or let them be hidden:" $others
    failed=1
fi
count=$(nm -D --defined-only "$1" | grep -c ' T akin_' || true)
if [ "$count" -lt 20 ]; then
    echo "$1 exports $count functions only: is AKIN_API missing?"
    failed=1
fi
# Sections .data.rel.ro hold constant tables of pointers; a sanitizer adds names of its own.
written=$(objdump -t "$2" | grep -E ' [ O] \.(bss|data|tbss|tdata)(\.[^r][^ ]*)?[[:space:]]' | awk '{print $NF}' \
    | grep -vE "^($state)$|^__|^\.L|san_|ubsan" || true)
if [ -n "$written" ]; then
    echo "$2 has global state: pass it as a parameter, or name it in $0 with a reason:" $written
    failed=1
fi
if objdump -h "$2" | grep -qE ' \.(init_array|ctors)' && ! nm "$2" | grep -q '__asan_init'; then
    echo "$2 runs code when it is loaded: remove the constructor"
    failed=1
fi
echo "symbols: $count exported"
exit $failed
