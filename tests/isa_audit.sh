#!/bin/sh
# Wide registers may appear only in the file of their instruction set, and such a file may export
# only its one entry, define no weak (inline, shared) symbol and run no code at load: else code
# for a newer processor runs on an older one.
# Usage: isa_audit.sh LIB.a ...
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
seen=0
fail() {
    echo "isa_audit: $*" >&2
    bad=1
}

audit_object() {
    object=$1
    case $(basename "$object") in
        *_pq_avx2.c.o)   wide='%zmm|%k[1-7]|%tmm' entry=kernels_use_pq_avx2 ;;
        *_pq_avx512.c.o) wide='%tmm' entry=kernels_use_pq_avx512 ;;
        *_beta_avx2.c.o) wide='%zmm|%k[1-7]|%tmm' entry=kernels_use_beta_avx2 ;;
        *_beta_avx512.c.o) wide='%tmm' entry=kernels_use_beta_avx512 ;;
        *_avx2.c.o)   wide='%zmm|%k[1-7]|%tmm' entry=kernels_use_avx2 ;;
        *_avx512.c.o) wide='%tmm' entry=kernels_use_avx512 ;;
        *_avx512vnni.c.o) wide='%tmm' entry=kernels_use_avx512vnni ;;
        *_avx512bf16.c.o) wide='%tmm' entry=kernels_use_avx512bf16 ;;
        *_avx512vbmi.c.o) wide='%tmm' entry=kernels_use_avx512vbmi ;;
        *_amx.c.o)    wide='' entry=kernels_use_amx ;;
        *)            wide='[yz]mm|%k[1-7]|%tmm' entry='' ;;
    esac
    case $(basename "$object") in
        peak_*) entry=${entry:+peak_${entry#kernels_}} ;;
        kernels_train_rows_*) entry=${entry:+train_rows_${entry#kernels_}} ;;
        kernels_train_*) entry=${entry:+train_kernels_${entry#kernels_}} ;;
    esac
    objdump -d --no-show-raw-insn "$object" > "$work/code"
    if [ -n "$wide" ]; then
        found=$(grep -Eo "$wide" "$work/code" | sort -u | head -n 3 | tr '\n' ' ')
        [ -z "$found" ] || fail "$(basename "$object") uses $found"
    fi
    [ -n "$entry" ] || return 0
    seen=$((seen + 1))
    exported=$(nm --defined-only --extern-only "$object" | awk 'NF == 3 { print $3 }' | tr '\n' ' ')
    [ "$exported" = "$entry " ] || fail "$(basename "$object") exports: $exported(only $entry may be)"
    if objdump -h "$object" | grep -qE '\.(init_array|fini_array|ctors|dtors|preinit_array)'; then
        fail "$(basename "$object") runs code at load"
    fi
}

for lib in "$@"; do
    folder="$work/$(basename "$lib")"
    mkdir "$folder"
    lib=$(realpath "$lib")
    duplicates=$(ar t "$lib" | sort | uniq -d)
    [ -z "$duplicates" ] || fail "$(basename "$lib") has several members of one name: $duplicates"
    (cd "$folder" && ar x "$lib")
    for object in "$folder"/*.o; do
        audit_object "$object"
    done
done
[ "$seen" -gt 0 ] || fail "no instruction set's file found; were the names changed?"
exit $bad
