#!/bin/sh
# tidy_test.sh TIDY: makes a small tree that is tidy, then breaks it in one way at a time and
# expects tidy to name exactly that.
set -eu
tidy=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0 cases=0

fresh() {
    rm -rf "$tree"
    mkdir -p "$tree/src/base" "$tree/src/text" "$tree/src/cli" "$tree/include/akin" "$tree/tests/unit"
    cd "$tree"
    printf 'base:\ntext: base\ncli: base\n' > src/LAYERS
    printf '# exceptions\n' > tests/tidy.allow
    printf 'akin_module(base SOURCES memory.c\n  clock.c)\n' > src/base/CMakeLists.txt
    printf 'akin_module(text SOURCES words.c USES akin_base)\n' > src/text/CMakeLists.txt
    printf 'add_executable(akin main.c)\n' > src/cli/CMakeLists.txt
    printf '#pragma once\n#include <stddef.h>\n' > include/akin/status.h
    printf '#pragma once\n#include "akin/status.h"\n' > include/akin/model.h
    printf '#include "akin/model.h"\n' > include/akin/akin.h
    printf '#pragma once\n#include "akin/status.h"\n' > src/base/memory.h
    printf '#include <stdlib.h>\n#include "base/memory.h"\nvoid *memory(void)\n{\n    return malloc(1);\n}\n' \
        > src/base/memory.c
    printf '#include <time.h>\nlong now(void)\n{\n    return time(NULL);\n}\n' > src/base/clock.c
    printf '#pragma once\n' > src/text/words.h
    printf '#include "text/words.h"\n#include "base/memory.h"\n/* malloc( in a comment */\n' > src/text/words.c
    printf 'const char *words = "free(x) // \\" printf(";\nint n(struct l *l)\n{\n    return l->free(1);\n}\n' \
        >> src/text/words.c
    printf '#include <akin/akin.h>\n#include <stdio.h>\nint main(void)\n{\n    printf("x");\n}\n' > src/cli/main.c
    printf '#include "text/words.h"\n#include "base/memory.h"\n' > tests/unit/text_test.c
}

# expect WHAT: tidy must fail, and with one complaint only, which holds WHAT.
expect() {
    cases=$((cases + 1))
    if "$tidy" "$tree" > "$tree/said"; then
        echo "tidy let pass: $1"
        failed=$((failed + 1))
    elif ! grep -qF -- "$1" "$tree/said" || [ "$(wc -l < "$tree/said")" != 2 ]; then
        echo "expected only '$1', but tidy said:"
        cat "$tree/said"
        failed=$((failed + 1))
    fi
    fresh
}

add() { printf "$2" >> "$1"; }
repeat() { i=0; while [ $i -lt "$1" ]; do printf "$2"; i=$((i + 1)); done; }

fresh
if ! "$tidy" "$tree" > said; then
    echo "tidy complains about a tidy tree:"
    cat said
    exit 1
fi

add src/base/clock.c '#include "text/words.h"\n';     expect 'src/base/clock.c:6: base may not include text/words.h'
add src/cli/main.c '#include "text/words.h"\n';       expect 'cli may not include text/words.h'
add tests/unit/base_test.c '#include "text/words.h"\n'; expect 'tests/unit/base_test.c:1: base may not include'
add src/base/clock.c '#include "akin/model.h"\n';     expect 'base may not include akin/model.h'
add src/text/words.c '#include "words.h"\n';          expect 'names no module'
add include/akin/model.h '#include "base/memory.h"\n'; expect 'public header includes "base/memory.h"'
add include/akin/model.h '#include <stdio.h>\n';      expect 'public header includes <stdio.h>'
printf 'text: base\nbase:\ncli: base\n' > src/LAYERS; expect 'src/LAYERS:1: text names base'
printf 'base:\ncli: base\ntext: base cli\nhub: base model\n' > src/LAYERS
                                                      expect 'src/LAYERS:4: hub names model'
add src/text/words.h '#include "text/other.h"\n'
add src/text/other.h '#include "text/words.h"\n';     expect 'cycle of includes'
add src/text/lonely.h '#pragma once\n';               expect 'src/text/lonely.h:1: nobody includes it'
add src/text/lost.c 'int lost;\n';                    expect 'src/text/lost.c:1: not built'
printf '#pragma once\n' > src/cli/words.h
add src/cli/main.c '#include "cli/words.h"\n';        expect 'same name as'
mkdir src/new; add src/new/x.h '#pragma once\n'; add src/cli/main.c '#include "new/x.h"\n'
printf 'new:\n' >> src/LAYERS; sed -i 's/^cli:.*/cli: base/' src/LAYERS
                                                      expect 'cli may not include new/x.h'

add src/text/words.c 'void f(void) { free (0); }\n';  expect 'src/text/words.c:9: free() lives in src/base/memory.c'
add src/text/words.c 'int p = pthread_self();\n';     expect 'pthread_self() lives in src/base/thread.c'
add src/text/words.c 'int p = getenv("A") != 0;\n';   expect 'getenv() lives in src/engine/settings.c'
add src/text/words.c 'int p = printf("A");\n';        expect 'printf() lives in src/cli/*'
add src/text/words.c 'int p = mmap(0);\n';            expect 'mmap() lives in'
add src/cli/main.c 'int p = clock_gettime(0, 0);\n';  expect 'clock_gettime() lives in src/base/clock.c'
add src/base/clock.c 'int p = abort();\n';            expect 'abort() lives in'
add src/text/words.c '#include <immintrin.h>\n';      expect '<immintrin.h> lives in src/compute/cpu/kernels_*.c'
add src/cli/main.c 'char *p = strcpy(a, b);\n';       expect 'strcpy() is banned: use snprintf'
add tests/unit/text_test.c 'int p = rand();\n';       expect 'tests/unit/text_test.c:3: rand() is banned'

add src/text/words.c "/* $(repeat 99 x) */\n";        expect 'src/text/words.c:9: 105 columns'
add src/text/words.cu "// $(repeat 98 x)\n";           expect 'src/text/words.cu:1: 101 columns'
add src/text/words.c '\tint p;\n';                    expect 'tab'
add src/text/words.c 'int p; \n';                     expect 'trailing blank'
add src/text/words.c 'int p;\r\n';                    expect 'trailing blank'
add src/text/words.c 'int p;';                        expect 'no newline at the end'
repeat 800 '\n' >> src/text/words.c;                  expect '808 lines: split the file'
add src/text/words.c "static int\nlong_one(int a,\n    int b)\n{\n$(repeat 69 '    b;\\n')}\n"
                                                      expect 'src/text/words.c:12: long_one has 71 lines'
add src/text/words.c 'int f(void) {\n}\n';            expect 'brace of a function'

add tests/tidy.allow 'src/text/words.c free because\n'; expect 'tests/tidy.allow:2: nothing in src/text/words.c needs free'
add tests/tidy.allow 'src/text/words.c free\n';       expect 'tests/tidy.allow:2: not an exception'
add tests/tidy.allow 'src/text/words.c free the library asks for it\n'
add src/text/words.c 'void f(void) { free(0); }\n'
cases=$((cases + 1))
"$tidy" "$tree" > said || { echo "an exception is not honoured:"; cat said; failed=$((failed + 1)); }

echo "tidy_test: $cases cases, $failed failed"
[ "$failed" = 0 ]
