#!/bin/sh
# check.sh INCLUDE COMPILER...: compiles every INCLUDE/akin/*.h alone, twice in one file, with the
# compiler command given, such as: cc -x c -std=c11
set -eu
include=$1
shift
count=0 failed=0
for header in "$include"/akin/*.h; do
    name=akin/$(basename -- "$header")
    count=$((count + 1))
    printf '#include <%s>\n#include <%s>\nint used;\n' "$name" "$name" \
        | "$@" -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I "$include" - \
        || failed=$((failed + 1))
done
echo "headers: $count compiled alone, $failed failed"
[ "$count" -gt 0 ] && [ "$failed" = 0 ]
